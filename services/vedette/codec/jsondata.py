"""The `data` of a V2 tensor in JSON: flat or nested, row-major, one kind of value per datatype.

Rule: nothing is converted that the datatype does not hold: no rounding of integers, no booleans as
numbers, no infinities made by a cast. FP32 and FP16 are written with the shortest text that reads back
as the same value of their own width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import orjson

from vedette.codec import bfloat16
from vedette.codec.binary import object_array
from vedette.codec.checks import check_shape
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Array, Tensor

_FLOATS = ("FP16", "BF16", "FP32", "FP64")
VALUE_TYPES: dict[str, type] = {
    **dict.fromkeys(DATATYPES, int),
    **dict.fromkeys(_FLOATS, float),
    "BOOL": bool,
    "BYTES": str,
}
"""The one type of JSON value that each datatype takes; `float` takes integers too."""

_OPENING = re.compile(rb"\s*((?:\[\s*)*)")
_NO_VALUES = re.compile(rb"\s*\[[\[\],\s]*\]\s*")


@lru_cache(maxsize=256)
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[list[object]]:
    """A decoder of lists `depth` deep around the datatype's values."""
    kind: object = VALUE_TYPES[datatype]
    for _ in range(depth):
        kind = list[kind]  # type: ignore[valid-type]
    return msgspec.json.Decoder(kind)


def decode_text(name: str, datatype: str, shape: Sequence[int], text: msgspec.Raw) -> Tensor:
    """The tensor of a known `datatype` from the text of its `data`, flat or nested as `shape` says.

    Raises:
        InvalidArgument: wrong kind of value, out of the datatype's range, count or nesting against `shape`.
    """
    count = check_shape(name, datatype, shape)
    match = _OPENING.match(text)
    depth = match[1].count(b"[") if match else 0
    if not depth:
        raise InvalidArgument(f"tensor {name!r}: 'data' is not an array")
    if not count and _NO_VALUES.fullmatch(text):
        return Tensor(name, datatype, np.empty(shape, DATATYPES[datatype].dtype))
    if depth not in (1, len(shape)):
        raise InvalidArgument(
            f"tensor {name!r}: 'data' is nested {depth} deep; "
            f"shape {list(shape)} takes a flat array or one nested {len(shape)} deep"
        )
    try:
        values = _decoder(datatype, depth).decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"tensor {name!r}: 'data' for {datatype}: {error}") from error
    if depth == 1:
        return decode_values(name, datatype, shape, values)
    array = _array(name, datatype, values)
    if array.shape != tuple(shape):
        raise InvalidArgument(f"tensor {name!r}: 'data' is nested as {list(array.shape)}, not as {list(shape)}")
    return Tensor(name, datatype, array)


def decode_values(name: str, datatype: str, shape: Sequence[int], values: list[object]) -> Tensor:
    """The tensor of a known `datatype` from flat values of the type in `VALUE_TYPES`.

    Raises:
        InvalidArgument: a value out of the datatype's range, or not as many as `shape` takes.
    """
    count = check_shape(name, datatype, shape)
    if len(values) != count:
        raise InvalidArgument(
            f"tensor {name!r}: 'data' holds {len(values)} values where shape {list(shape)} takes {count}"
        )
    return Tensor(name, datatype, _array(name, datatype, values).reshape(shape))


def _array(name: str, datatype: str, values: list[object]) -> Array:
    """The values, nested as they are, as an array of the datatype."""
    try:
        with np.errstate(over="raise"):  # a finite number that the datatype would turn into infinity
            if datatype == "BYTES":
                return _bytes_array(values)
            if datatype == "BF16":
                return _bfloat16_array(values)
            return np.array(values, DATATYPES[datatype].dtype)
    except (OverflowError, FloatingPointError) as error:
        raise InvalidArgument(f"tensor {name!r}: a value is out of the range of {datatype}") from error
    except (ValueError, AttributeError) as error:
        raise InvalidArgument(f"tensor {name!r}: the rows of 'data' differ in length") from error


def _bytes_array(texts: list[object]) -> Array:
    nested = np.array(texts, object)
    return object_array([text.encode() for text in nested.ravel().tolist()]).reshape(nested.shape)


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
    if datatype in _FLOATS and not np.isfinite(array).all():
        raise InvalidArgument(
            f"tensor {tensor.name!r} holds NaN or infinite values, which JSON cannot carry; "
            "ask for binary (the parameter binary_data_output, or binary_data of the output)"
        )
    return array


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
