"""What ONNX Runtime raises, as errors of ours.

Rule: the library's text reaches callers only through `plain`, which takes out file names, source
positions and C++ signatures.
"""

from __future__ import annotations

import re

from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from vedette.core.errors import InvalidArgument, ModelFailed, VedetteError

_PREFIX = re.compile(
    r"^(Load model .*? failed:|\[ONNXRuntimeError\] : \d+ : [A-Z_]+ :|Exception during \w+:)\s*", re.DOTALL
)
_SOURCE = re.compile(r"\S*/\S*\.(?:cc|h|cpp|hpp|cu|cuh):\d+\s+.*?\)(?=\s)(?:\s+(?:const|noexcept|mutable))*")
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:\.{0,2}/)[^\s'\"]*|\S+/\S+")
_OUT_OF_MEMORY = re.compile(r"bad_alloc|bad allocation|out of memory|failed to allocate memory", re.IGNORECASE)
_LONGEST = 400
_UNKNOWN_CATEGORY = (
    "the input holds a category that the model was not trained on, and its OneHotEncoder has no place for one "
    "(train it with handle_unknown='ignore', which also lets the model run on the zeros it is tried with)"
)


def plain(text: str) -> str:
    """`text` on one line, without positions in source code, without paths, at most 400 characters."""
    while (shorter := _PREFIX.sub("", text)) != text:
        text = shorter
    text = _PATH.sub("...", _SOURCE.sub("", text))
    words = " ".join(text.split())
    printable = "".join(char for char in words if char.isprintable())
    return printable if len(printable) <= _LONGEST else printable[: _LONGEST - 3] + "..."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the library failed for want of memory, however it says so."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def run_failure(error: Exception) -> VedetteError:
    """The error to show for an exception out of an inference: whose fault, and why in plain words."""
    if isinstance(error, VedetteError):
        return error
    if is_out_of_memory(error):
        return ModelFailed("the model needed more memory than there is")
    if "Unknown Category" in str(error):
        return InvalidArgument(_UNKNOWN_CATEGORY)
    if isinstance(error, (ort_errors.InvalidArgument, ValueError, TypeError)):
        return InvalidArgument(f"the model does not take this input: {plain(str(error))}")
    return ModelFailed(f"the model failed on this input: {plain(str(error))}")


def load_failure(error: Exception) -> InvalidArgument:
    """The error to show for an exception while a graph was loaded."""
    if is_out_of_memory(error):
        return InvalidArgument("the model needs more memory than there is")
    return InvalidArgument(f"the model cannot be loaded: {plain(str(error))}")
