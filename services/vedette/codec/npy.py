"""application/x-npy: one array in numpy's own file format, for models of one input and one output.

Rule: never pickle; the header is read by numpy's literal parser with its size capped, and no memory is
taken that the body does not have.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.lib import format as npy_format

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.checks import check_shape
from vedette.codec.rows import cast_values
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import DATATYPES, Array, Tensor, element_count

_MAX_HEADER = 10_000


def decode(body: bytes, signature: Signature) -> list[Tensor]:
    """The model's only input; cast to its datatype when that loses no range and no fraction.

    A single row without its batch dimension is taken as a batch of one.

    Raises:
        InvalidArgument: not a plain npy file, cut off or too long, or an array that the input cannot hold.
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument(f"application/x-npy carries one tensor; the model takes {len(signature.inputs)}")
    spec = signature.inputs[0]
    array = _fitted(_read(body), spec)
    if len(spec.shape) == array.ndim + 1 and all(dim in (-1, n) for dim, n in zip(spec.shape[1:], array.shape)):
        array = array[np.newaxis]
    return [Tensor(spec.name, spec.datatype, array)]


def _read(body: bytes) -> Array:
    """The array in the file: a view of `body` where it is aligned and in C order."""
    stream = io.BytesIO(body)
    try:
        version = npy_format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise InvalidArgument(f"npy version {version[0]}.{version[1]} is not supported; write 1.0 or 2.0")
        read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream, max_header_size=_MAX_HEADER)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidArgument("the body is not a npy file: its header cannot be read") from error
    if dtype.hasobject or dtype.kind not in "biufSU":
        raise InvalidArgument(f"npy arrays of {str(dtype)[:60]} are not accepted; use numbers, booleans or text")
    check_shape("npy", "FP64", shape)
    start, size = stream.tell(), element_count(shape) * dtype.itemsize
    if len(body) - start != size:
        raise InvalidArgument(f"the npy file holds {len(body) - start} bytes where its header says {size}")
    if not size:
        return np.empty(shape, dtype)
    array: Array = np.frombuffer(body, dtype, offset=start)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _fitted(array: Array, spec: TensorSpec) -> Array:
    """The array in the input's datatype, C-contiguous and aligned."""
    if (spec.datatype == "BYTES") != (array.dtype.kind in "SU"):
        raise InvalidArgument(f"input {spec.name!r} of {spec.datatype} cannot be read from npy {array.dtype}")
    if spec.datatype == "BYTES":
        return _elements(array)
    wanted = DATATYPES[spec.datatype].dtype
    if spec.datatype != "BF16" and array.dtype == wanted:
        if wanted.kind == "b" and array.size and np.ascontiguousarray(array).view(np.uint8).max() > 1:
            raise InvalidArgument(f"input {spec.name!r}: a BOOL byte is neither 0 nor 1")
        return np.require(array, requirements=["C", "A"])
    return _cast(array, spec)


def _cast(array: Array, spec: TensorSpec) -> Array:
    """The array in another datatype, if every value survives as far as the datatype's precision goes."""
    problem = f"input {spec.name!r}: an npy array of {array.dtype} holds a value that is not one of {spec.datatype}"
    wanted = DATATYPES[spec.datatype].dtype
    floating = spec.datatype in ("FP16", "BF16", "FP32", "FP64")
    try:
        if floating:
            return np.ascontiguousarray(cast_values(spec.datatype, array))
        with np.errstate(invalid="raise", over="raise"):
            cast = np.ascontiguousarray(array.astype(wanted))
    except (OverflowError, FloatingPointError) as error:
        raise InvalidArgument(problem) from error
    if not np.array_equal(cast, array):
        raise InvalidArgument(problem)
    return cast


def _elements(array: Array) -> Array:
    try:
        elements = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise InvalidArgument("the npy file holds text that is not Unicode") from error
    return object_array(elements).reshape(array.shape)


def encode(outputs: Sequence[Tensor], signature: Signature | None = None) -> bytes:  # noqa: ARG001 - as all formats
    """The only output as an npy file; BF16 as float32, BYTES as numpy's fixed-length byte strings.

    Raises:
        InvalidArgument: several outputs, or BYTES that end in zeros, which numpy would drop.
    """
    if len(outputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in outputs[:8])
        raise InvalidArgument(f"application/x-npy carries one tensor; the model gives {len(outputs)}: {names}")
    stream = io.BytesIO()
    np.save(stream, _writable(outputs[0]), allow_pickle=False)
    return stream.getvalue()


def _writable(tensor: Tensor) -> Array:
    if tensor.datatype == "BF16":
        return bfloat16.widen(tensor.array.astype(np.uint16, copy=False))
    if tensor.datatype != "BYTES":
        return tensor.array
    elements = [item.encode() if isinstance(item, str) else item for item in tensor.array.ravel().tolist()]
    array = np.array(elements, dtype=np.bytes_).reshape(tensor.array.shape)
    if array.ravel().tolist() != elements:
        raise InvalidArgument(f"output {tensor.name!r} holds bytes that end in zeros, which npy cannot carry")
    return array
