"""Tensors with the datatypes of the Open Inference Protocol, and one inference in and out.

Rule: a tensor's array is C-contiguous and never written after construction; it may be a view of the
bytes that came from the socket. BF16 travels as uint16 bit patterns because numpy has no such type;
BYTES travels as an object array of `bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Parameter = bool | int | float | str
"""What the protocol allows as the value of a parameter."""


@dataclass(frozen=True, slots=True)
class DataType:
    """One datatype: its protocol name, the numpy dtype that holds it and the bytes of an element."""

    name: str
    dtype: np.dtype[np.generic]
    itemsize: int
    """Bytes an element takes on the wire; 0 for BYTES, whose elements carry their own length."""


DATATYPES: dict[str, DataType] = {
    kind.name: kind
    for kind in (
        DataType("BOOL", np.dtype(np.bool_), 1),
        DataType("UINT8", np.dtype(np.uint8), 1),
        DataType("UINT16", np.dtype("<u2"), 2),
        DataType("UINT32", np.dtype("<u4"), 4),
        DataType("UINT64", np.dtype("<u8"), 8),
        DataType("INT8", np.dtype(np.int8), 1),
        DataType("INT16", np.dtype("<i2"), 2),
        DataType("INT32", np.dtype("<i4"), 4),
        DataType("INT64", np.dtype("<i8"), 8),
        DataType("FP16", np.dtype("<f2"), 2),
        DataType("BF16", np.dtype("<u2"), 2),
        DataType("FP32", np.dtype("<f4"), 4),
        DataType("FP64", np.dtype("<f8"), 8),
        DataType("BYTES", np.dtype(object), 0),
    )
}
"""Open Inference Protocol v2, section "Tensor data types"; BF16 is Triton's addition."""

_BY_DTYPE = {kind.dtype: kind.name for kind in DATATYPES.values() if kind.name != "BF16"}


def datatype_of(array: Array) -> str:
    """The protocol name for a numpy array: text and bytes are BYTES.

    Raises:
        KeyError: the protocol has no such type (complex, datetime, ...).
    """
    if array.dtype.kind in "SUO":
        return "BYTES"
    return _BY_DTYPE[array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array with its protocol datatype; `array.shape` is the tensor's shape."""

    name: str
    datatype: str
    array: Array


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the caller wants, and how."""

    name: str
    classification: int = 0
    """When over 0: the top k as BYTES "value:index[:label]" instead of the tensor."""
    binary: bool | None = None
    """None: as the request says as a whole."""


@dataclass(slots=True)
class InferRequest:
    """One inference as both protocols see it."""

    endpoint: str
    inputs: list[Tensor]
    version: str = ""
    """A pinned model version, or empty for the router's choice."""
    id: str = ""
    outputs: list[RequestedOutput] = field(default_factory=list)
    """Empty: every output of the model."""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    target_variant: str = ""
    inference_id: str = ""
    """The id that ground truth will name later; empty: none was given."""
    deadline: float | None = None
    """On the event loop's monotonic clock, seconds; None: only the endpoint's own limit holds."""
    binary_output: bool = False
    """Default for outputs that do not say: binary (HTTP's `binary_data_output`)."""
    content_type: str = ""
    """As the caller gave it; in the response as it was written."""
    custom_attributes: str = ""


@dataclass(slots=True)
class InferResponse:
    """The answer to an `InferRequest`: outputs in the order asked for."""

    endpoint: str
    version: str
    variant: str
    outputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    content_type: str = ""


def element_count(shape: tuple[int, ...] | list[int]) -> int:
    """Number of elements in a shape as an exact Python integer (no overflow); 1 for a scalar."""
    count = 1
    for dim in shape:
        count *= dim
    return count
