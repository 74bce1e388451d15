"""One graph loaded in ONNX Runtime.

Rule: everything that can be decided once is decided in `load`; `run` converts nothing that numpy and ONNX
Runtime both understand. Only text (BYTES) and BF16 pay for a conversion, and only in graphs that have them.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.models import SessionOptions, TensorSpec
from vedette.core.tensors import Array, Tensor, element_count
from vedette.engine import memory
from vedette.engine.cpus import available_cpus
from vedette.engine.datatypes import BF16_ONNX_ELEMENT
from vedette.engine.failures import load_failure, run_failure
from vedette.engine.files import graph_bytes
from vedette.engine.packing import PACKED_GRAPH
from vedette.engine.providers import check_options, ort_options
from vedette.engine.signature import tensor_specs


class Session:
    """A `Runtime` of one graph; made by `Session.load`. One session serves any number of threads."""

    __slots__ = ("_datatypes", "_ort", "_plain", "inputs", "load_time_ms", "memory_bytes", "output_names", "outputs")

    def __init__(self, session: ort.InferenceSession, *, memory_bytes: int = 0, load_time_ms: float = 0.0) -> None:
        self._ort: Any = session
        self.inputs: tuple[TensorSpec, ...] = tensor_specs("input", session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] = tensor_specs("output", session.get_outputs())
        self.output_names: tuple[str, ...] = tuple(spec.name for spec in self.outputs)
        self.memory_bytes = memory_bytes
        self.load_time_ms = load_time_ms
        self._datatypes = {spec.name: spec.datatype for spec in self.outputs}
        takes, gives = {spec.datatype for spec in self.inputs}, set(self._datatypes.values())
        if "BYTES" in takes and "BF16" in gives:
            # ONNX Runtime's Python binding returns BF16 only for inputs given as OrtValue, which text cannot be.
            raise InvalidArgument("a graph that takes text cannot give BF16 here; cast its outputs to FP32")
        self._plain = not {"BYTES", "BF16"} & (takes | gives)

    @classmethod
    def load(cls, path: Path, options: SessionOptions) -> Session:
        """Load the graph at `path`; its external data lies beside it. Blocks for as long as that takes.

        A pack is optimised already: of `options` it takes what is not in the file.

        Raises:
            InvalidArgument: this build cannot do `options`, or the file is not a graph that can be served.
        """
        check_options(options)
        packed = path.name == PACKED_GRAPH
        if packed:
            options = replace(options, graph_optimization="none")
        before, began = memory.resident_bytes(), time.perf_counter()
        size = graph_bytes(path)
        try:
            session = ort.InferenceSession(
                str(path),
                ort_options(options, threads=available_cpus()),
                providers=list(options.providers),
                enable_fallback=0,  # else it prints to stdout and tries other providers in silence
            )
        except Exception as error:  # noqa: BLE001 -- the library raises RuntimeError, ValueError and its own kinds
            raise load_failure(error) from None
        _check_active(session, options.providers)
        took_ms = (time.perf_counter() - began) * 1e3
        memory.release_free_pages()  # of parsing the file: as much again as the weights
        grown = max(memory.resident_bytes() - before, 0 if packed else size)  # what is mapped is not ours alone
        return cls(session, memory_bytes=grown, load_time_ms=took_ms)

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See `Runtime.run`. Adds about 1 us to ONNX Runtime's own call where nothing is converted."""
        names = outputs or self.output_names
        try:
            if self._plain:
                arrays = self._ort.run(names, {name: tensor.array for name, tensor in feeds.items()})
            else:
                arrays = self._run_converted(names, feeds)
            datatypes = self._datatypes
            return [Tensor(name, datatypes[name], array) for name, array in zip(names, arrays)]
        except Exception as error:  # noqa: BLE001 -- whatever the library raises becomes an error of ours
            if self._ort is None:
                raise Unavailable("the model has been unloaded") from None
            raise run_failure(error) from None

    def _run_converted(self, names: Sequence[str], feeds: Mapping[str, Tensor]) -> list[Array]:
        wrapped = any(self._datatypes.get(name) == "BF16" for name in names)
        session, given = self._ort, {name: _to_ort(tensor, wrapped=wrapped) for name, tensor in feeds.items()}
        if wrapped:
            return [_from_ort_value(value) for value in session.run_with_ort_values(list(names), given)]
        return [_utf8(array) if array.dtype == object else array for array in session.run(names, given)]

    def close(self) -> None:
        """Free the session and give its memory back to the system; only after the last `run` has returned."""
        if self._ort is not None:
            self._ort = None
            memory.release_free_pages()


def _check_active(session: ort.InferenceSession, wanted: Sequence[str]) -> None:
    """ONNX Runtime drops a provider that fails to start and goes on without it; we do not."""
    dropped = [name for name in wanted if name not in session.get_providers()]
    if dropped:
        raise InvalidArgument(f"{', '.join(dropped)} is installed but does not start on this machine")


def _to_ort(tensor: Tensor, *, wrapped: bool) -> object:
    if tensor.datatype == "BF16":
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(tensor.array), BF16_ONNX_ELEMENT)
    if tensor.datatype == "BYTES":
        return _text(tensor)
    return ort.OrtValue.ortvalue_from_numpy(tensor.array) if wrapped else tensor.array


def _text(tensor: Tensor) -> Array:
    """The elements as `str`, which is what ONNX Runtime's strings are made from."""
    texts = np.empty(tensor.array.shape, dtype=object)
    try:
        texts.ravel()[:] = [
            element.decode() if isinstance(element, bytes) else element for element in tensor.array.flat
        ]
    except UnicodeDecodeError:
        raise InvalidArgument(f"input {tensor.name!r} holds text that is not valid UTF-8") from None
    return texts


def _utf8(array: NDArray[Any]) -> Array:
    """Text out of the graph as `bytes`."""
    encoded = np.empty(array.shape, dtype=object)
    encoded.ravel()[:] = [element.encode() for element in array.flat]
    return encoded


def _from_ort_value(value: ort.OrtValue) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        array = value.numpy()
        return _utf8(array) if array.dtype == object else array
    shape = tuple(value.shape())
    size = element_count(shape)
    if size == 0:
        return np.empty(shape, dtype="<u2")
    # numpy has no BF16 and the binding no way to say "as bit patterns": copy them from where they lie.
    return np.frombuffer(ctypes.string_at(value.data_ptr(), 2 * size), dtype="<u2").reshape(shape)
