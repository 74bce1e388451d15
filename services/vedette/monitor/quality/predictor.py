"""The model itself, for checks that ask it: columns in, columns of answers out, run in a process of its own.

Rule: the monitor's process loads no ONNX Runtime; a model that crashes, hangs or eats memory costs one check's
answer. The graph was admitted by the registry and its files verified by whoever fetched them.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.rows import cast_values
from vedette.core.errors import DeadlineExceeded, InvalidArgument, ModelFailed, Unavailable
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Array, Tensor, element_count
from vedette.monitor.quality.outcomes import value_text
from vedette.monitor.quality.tensor_frames import BrokenFrame, read_tensors, write_tensors
from vedette.monitor.traffic.tabulation import feature_names, output_names, texts
from vedette.profiles.profile import Columns

_SOURCE_ROOT = Path(__file__).absolute().parents[2]
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")
"""All that the child sees of our environment: what it takes to find its libraries, and no secret."""


@dataclass(frozen=True, slots=True)
class PredictorLimits:
    """What one predictor may use over its whole life."""

    memory_bytes: int = 2 << 30
    """Address space beyond what the libraries themselves take."""
    wall_s: float = 60.0
    """From the first call on; processor time is limited to as much."""


class Predictor:
    """A `Predict` of the model in `folder` (`model.onnx` and its external data).

    The process starts with the first call and ends with `close`. Calls block; one at a time.
    """

    def __init__(self, folder: Path, signature: Signature, limits: PredictorLimits = PredictorLimits()) -> None:
        self._folder = folder.absolute()
        self._signature = signature
        self._limits = limits
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __call__(self, columns: Columns) -> dict[str, Array]:
        """The model's answers to rows of features, named as captured outputs are.

        Raises:
            InvalidArgument: a feature is missing, or its values are none that the model takes.
            ModelFailed: the model failed on them, or its process died.
            DeadlineExceeded: the time of the predictor is over.
            Unavailable: the process could not be started.
        """
        tensors = tensors_of(self._signature, columns)
        if self._child is None:
            self._child = _Child.started(self._folder, self._limits)
        return columns_of(self._signature, self._child.ask(tensors), rows=len(tensors[0].array))

    def close(self) -> None:
        """End the process; idempotent."""
        if self._child is not None:
            self._child.end()


@dataclass(slots=True)
class _Child:
    """The running process and our ends of its pipes."""

    process: subprocess.Popen[bytes]
    questions: BinaryIO
    answers: BinaryIO
    deadline: float
    """On the monotonic clock."""
    late: bool = False

    @classmethod
    def started(cls, folder: Path, limits: PredictorLimits) -> _Child:
        their_questions, questions = os.pipe()
        answers, their_answers = os.pipe()
        arguments = [their_questions, their_answers, folder, limits.memory_bytes, math.ceil(limits.wall_s)]
        try:
            process = subprocess.Popen(
                # -P: the folder of the model never becomes a place to import from
                [sys.executable, "-P", "-m", "vedette.monitor.quality.predictor_child", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(their_questions, their_answers),
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
        except OSError:
            os.close(questions)
            os.close(answers)
            raise Unavailable("the process that runs the model could not be started") from None
        finally:
            os.close(their_questions)
            os.close(their_answers)
        deadline = time.monotonic() + limits.wall_s
        return cls(process, os.fdopen(questions, "wb"), os.fdopen(answers, "rb"), deadline)

    def ask(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.process.returncode is not None:
            raise self._ended()
        watch = threading.Timer(max(0.0, self.deadline - time.monotonic()), self._too_late)
        watch.daemon = True
        watch.start()
        try:
            write_tensors(self.questions, tensors)
            return read_tensors(self.answers)
        except (BrokenFrame, OSError):
            self.end()
            raise self._ended() from None
        finally:
            watch.cancel()

    def _too_late(self) -> None:
        """Kill it: whoever waits for its answer then sees its pipe end."""
        self.late = True
        self._kill()

    def _kill(self) -> None:
        if self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody is left in it

    def _ended(self) -> ModelFailed | DeadlineExceeded:
        if self.late:
            return DeadlineExceeded("the model took longer than the check may take")
        return ModelFailed("the process that ran the model ended: it crashed, or needed more than it was granted")

    def end(self) -> None:
        """Kill the process group and close the pipes; idempotent."""
        if self.process.returncode is None:
            self._kill()
            self.process.wait()
        for pipe in (self.questions, self.answers):
            try:
                pipe.close()
            except OSError:
                pass  # what was not flushed to a dead process


def _environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # The child stands in another folder: it shall find this very package, and what we find by relative paths.
    searched = [str(_SOURCE_ROOT), *(str(Path(entry).absolute()) for entry in sys.path if entry)]
    passed["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(searched))
    return {**passed, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def tensors_of(signature: Signature, columns: Columns) -> list[Tensor]:
    """Feature columns as the model's inputs; names of categories become their numbers again.

    Raises:
        InvalidArgument: a feature is not there, has values that its input cannot hold, or inputs are no rows.
    """
    widths = {spec.name: _width(signature, spec) for spec in signature.inputs}
    names = feature_names(signature, widths)
    if not signature.inputs or set(names) != set(widths):
        raise InvalidArgument("the model's inputs are not rows of features, so it cannot be asked here")
    return [_tensor(signature, spec, names[spec.name], columns) for spec in signature.inputs]


def _width(signature: Signature, spec: TensorSpec) -> int:
    if not spec.shape:
        raise InvalidArgument(f"input {spec.name!r} is a scalar, not rows of features")
    if -1 not in spec.shape[1:]:
        return element_count(spec.shape[1:])
    return len(signature.feature_names) if len(signature.inputs) == 1 else 0


def _tensor(signature: Signature, spec: TensorSpec, names: list[str], columns: Columns) -> Tensor:
    missing = [name for name in names if name not in columns]
    if missing or not names:
        raise InvalidArgument(f"the feature {missing[0][:80] if missing else spec.name!r} is not there")
    made = [_values(spec, name, columns[name], signature.categories.get(name, ())) for name in names]
    values = np.stack(made, axis=1)
    shape = (len(values), *_trailing(spec, len(names)))
    if spec.datatype == "BYTES":
        return Tensor(spec.name, spec.datatype, values.reshape(shape))
    try:
        with np.errstate(invalid="raise"):
            array = cast_values(spec.datatype, values)
    except (OverflowError, FloatingPointError):
        raise InvalidArgument(
            f"input {spec.name!r}: a value is missing or out of the range of {spec.datatype}"
        ) from None
    return Tensor(spec.name, spec.datatype, np.ascontiguousarray(array.reshape(shape)))


def _trailing(spec: TensorSpec, width: int) -> tuple[int, ...]:
    known = element_count([dim for dim in spec.shape[1:] if dim != -1])
    return tuple(width // known if dim == -1 else dim for dim in spec.shape[1:])


def _values(spec: TensorSpec, name: str, column: Array, categories: tuple[str, ...]) -> Array:
    """One feature's values as the input takes them: bytes, or float64 with NaN where missing."""
    if spec.datatype == "BYTES":
        return object_array([_bytes(value) for value in column.tolist()])
    if column.dtype != object:
        return column.astype(np.float64)
    numbers: dict[str | None, float] = {text: float(place) for place, text in enumerate(categories)}
    found = np.empty(len(column))
    for place, value in enumerate(column.tolist()):
        if value not in numbers:
            numbers[value] = _number(name, value)
        found[place] = numbers[value]
    return found


def _bytes(value: object) -> bytes:
    if isinstance(value, float) and math.isnan(value):
        return b""
    return b"" if value is None else value.encode() if isinstance(value, str) else value_text(value).encode()


def _number(name: str, value: str | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except ValueError:
        raise InvalidArgument(
            f"the feature {name[:80]!r} holds the text {str(value)[:80]!r}, which is no number"
        ) from None


def columns_of(signature: Signature, outputs: list[Tensor], *, rows: int) -> dict[str, Array]:
    """The outputs as columns, named as captured ones are; those that are not rows are left out."""
    specs = {spec.name: spec for spec in signature.outputs}
    found: dict[str, Array] = {}
    for tensor in outputs:
        if not tensor.array.ndim or len(tensor.array) != rows:
            continue
        values = tensor.array.reshape(rows, element_count(tensor.array.shape[1:]))
        spec = specs.get(tensor.name, TensorSpec(tensor.name, tensor.datatype, tensor.array.shape))
        for name, column in zip(output_names(signature, spec, values.shape[1], taken=found), values.T):
            found[name] = _readable(tensor.datatype, column)
    return found


def _readable(datatype: str, column: NDArray[np.generic]) -> Array:
    if datatype == "BF16":
        return bfloat16.widen(column.astype(np.uint16))
    return texts(column) if datatype == "BYTES" else np.ascontiguousarray(column)
