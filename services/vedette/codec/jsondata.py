"""The `data` of a V2 tensor in JSON: row-major, one kind of value per datatype.

Rule: nothing is converted that the datatype does not hold: no rounding of integers, no booleans as
numbers, no infinities made by a cast. FP32 and FP16 are written with the shortest text that reads back
as the same value of their own width.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import orjson

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.checks import check_shape
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Array, Tensor

_FLOATS = ("FP16", "BF16", "FP32", "FP64")
_PACKED = {"FP32": "f", "FP64": "d"}
_PACKED_VALUES = 4096
"""Up to here floats become an array by `struct`, which rounds and refuses as numpy does in a third of the time:
30 values 0.6 us against 1.7, 784 values 5.3 against 13 (`python -m loadtests.codec`)."""
VALUE_TYPES: dict[str, type] = {
    **dict.fromkeys(DATATYPES, int),
    **dict.fromkeys(_FLOATS, float),
    "BOOL": bool,
    "BYTES": str,
}
"""The one type of JSON value that each datatype takes; `float` takes integers too."""


def decode_values(name: str, datatype: str, shape: Sequence[int], values: list[object]) -> Tensor:
    """The tensor of a known `datatype` from flat values of the type in `VALUE_TYPES`.

    Raises:
        InvalidArgument: a value out of the datatype's range, or not as many as `shape` takes.
    """
    check_count(name, shape, given=len(values), wanted=check_shape(name, datatype, shape))
    return Tensor(name, datatype, flat_array(name, datatype, values).reshape(shape))


def check_count(name: str, shape: Sequence[int], *, given: int, wanted: int) -> None:
    """Refuse another number of values than `shape` takes.

    Raises:
        InvalidArgument: names the tensor and both numbers.
    """
    if given != wanted:
        raise InvalidArgument(f"tensor {name!r}: 'data' holds {given} values where shape {list(shape)} takes {wanted}")


def flat_array(name: str, datatype: str, values: list[object]) -> Array:
    """Flat values of the type in `VALUE_TYPES` as an array of the datatype.

    Raises:
        InvalidArgument: a value is out of the datatype's range.
    """
    if datatype == "BYTES":
        return object_array([text.encode() for text in values])  # type: ignore[attr-defined]
    try:
        if datatype in _PACKED and len(values) <= _PACKED_VALUES:
            return np.frombuffer(_packing(datatype, len(values)).pack(*values), DATATYPES[datatype].dtype)
        with np.errstate(over="raise"):  # a finite number that the datatype would turn into infinity
            if datatype == "BF16":
                return _bfloat16_array(values)
            return np.array(values, DATATYPES[datatype].dtype)
    except (OverflowError, FloatingPointError) as error:
        raise InvalidArgument(f"tensor {name!r}: a value is out of the range of {datatype}") from error


@lru_cache(maxsize=128)
def _packing(datatype: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{_PACKED[datatype]}")


def _bfloat16_array(values: list[object]) -> Array:
    patterns = bfloat16.narrow(np.array(values, np.float32))
    if ((patterns & 0x7F80) == 0x7F80).any():
        raise OverflowError
    return patterns


def encodable(tensor: Tensor) -> object:
    """The tensor's elements, flat, as something that orjson writes as an array.

    Raises:
        InvalidArgument: JSON has no text for a value: NaN, an infinity, or BYTES that are not UTF-8.
    """
    datatype, array = tensor.datatype, np.ascontiguousarray(tensor.array).reshape(-1)
    if datatype == "BYTES":
        return decoded_texts(tensor.name, array).tolist()
    if datatype == "BF16":
        array = bfloat16.widen(array.astype(np.uint16, copy=False))
    if datatype not in _FLOATS:
        return array
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:  # what is no number is written as null; looking for it costs a fifth of np.isfinite
        raise InvalidArgument(
            f"tensor {tensor.name!r} holds NaN or infinite values, which JSON cannot carry; "
            "ask for binary (the parameter binary_data_output, or binary_data of the output)"
        )
    return orjson.Fragment(text)


def decoded_texts(name: str, elements: Array) -> Array:
    """BYTES elements as str, in an array of the same shape.

    Raises:
        InvalidArgument: an element is not UTF-8.
    """
    try:
        texts = [element if isinstance(element, str) else element.decode() for element in elements.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"tensor {name!r} holds bytes that are not UTF-8, which text cannot carry; ask for binary"
        ) from error
    return object_array(texts).reshape(elements.shape)


def to_json(document: object) -> bytes:
    """JSON text of plain values and the arrays that `encodable` gives.

    Raises:
        InvalidArgument: a text is not Unicode (lone surrogates) or an integer does not fit in 64 bits.
    """
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise InvalidArgument(f"this cannot be written as JSON: {error}") from error
