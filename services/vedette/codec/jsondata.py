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

_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_OPENING = re.compile(rb"\s*((?:\[\s*)*)")
_NO_VALUES = re.compile(rb"\s*\[[\[\],\s]*\]\s*")


@lru_cache(maxsize=256)
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[list[object]]:
    """A decoder of lists `depth` deep around the one type of value that this datatype takes."""
    kind: object = int
    if datatype in _FLOATS:
        kind = float
    elif datatype in ("BOOL", "BYTES"):
        kind = bool if datatype == "BOOL" else str
    for _ in range(depth):
        kind = list[kind]  # type: ignore[valid-type]
    return msgspec.json.Decoder(kind)


def decode_data(name: str, datatype: str, shape: Sequence[int], data: msgspec.Raw) -> Tensor:
    """The tensor of a known `datatype` whose elements are the JSON text `data`.

    Raises:
        InvalidArgument: wrong kind of value, out of the datatype's range, count or nesting against `shape`.
    """
    count = check_shape(name, datatype, shape)
    match = _OPENING.match(data)
    depth = match[1].count(b"[") if match else 0
    if not depth:
        raise InvalidArgument(f"tensor {name!r}: 'data' is not an array")
    if not count and _NO_VALUES.fullmatch(data):
        return Tensor(name, datatype, np.empty(shape, DATATYPES[datatype].dtype))
    if depth not in (1, len(shape)):
        raise InvalidArgument(
            f"tensor {name!r}: 'data' is nested {depth} deep; "
            f"shape {list(shape)} takes a flat array or one nested {len(shape)} deep"
        )
    try:
        values = _decoder(datatype, depth).decode(data)
        array = _array(datatype, values)
    except (msgspec.MsgspecError, ValueError, OverflowError, FloatingPointError, RecursionError) as error:
        raise InvalidArgument(f"tensor {name!r}: {_reason(error, datatype)}") from error
    if array.shape == tuple(shape):
        return Tensor(name, datatype, array)
    if depth > 1 or len(array) != count:
        raise InvalidArgument(
            f"tensor {name!r}: 'data' holds {list(array.shape)} values where shape {list(shape)} takes {count}"
        )
    return Tensor(name, datatype, array.reshape(shape))


def _array(datatype: str, values: list[object]) -> Array:
    """The values as an array of the datatype; raises what numpy raises for what does not fit."""
    if datatype == "BYTES":
        nested = np.array(values, object)
        texts = nested.ravel().tolist()
        return object_array([text.encode() for text in texts]).reshape(nested.shape)
    with np.errstate(over="raise"):  # a finite number that the datatype would turn into infinity
        if datatype != "BF16":
            return np.array(values, DATATYPES[datatype].dtype)
        patterns = bfloat16.narrow(np.array(values, np.float32))
    if ((patterns & 0x7F80) == 0x7F80).any():
        raise OverflowError
    return patterns


def _reason(error: Exception, datatype: str) -> str:
    """What was wrong, in the words of a caller who knows JSON and not our libraries."""
    if isinstance(error, OverflowError | FloatingPointError):
        return f"a value is out of the range of {datatype}"
    if isinstance(error, msgspec.MsgspecError | RecursionError):
        return f"'data' for {datatype}: {error}"
    return "'data' is ragged, or not valid UTF-8"


def encodable(tensor: Tensor) -> Array | list[str]:
    """The tensor's elements, flat, as something that orjson writes as an array.

    Raises:
        InvalidArgument: JSON has no text for a value: NaN, an infinity, or BYTES that are not UTF-8.
    """
    datatype, array = tensor.datatype, np.ascontiguousarray(tensor.array).reshape(-1)
    if datatype == "BYTES":
        return _texts(tensor.name, array)
    if datatype == "BF16":
        array = bfloat16.widen(array.astype(np.uint16, copy=False))
    if datatype in _FLOATS and not np.isfinite(array).all():
        raise InvalidArgument(
            f"tensor {tensor.name!r} holds NaN or infinite values, which JSON cannot carry; "
            "ask for binary (the parameter binary_data_output, or binary_data of the output)"
        )
    return array


def _texts(name: str, elements: Array) -> list[str]:
    try:
        return [element if isinstance(element, str) else element.decode() for element in elements.tolist()]
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"tensor {name!r} holds bytes that are not UTF-8, which JSON cannot carry; ask for binary"
        ) from error


def to_json(document: object) -> bytes:
    """JSON text of plain values and the arrays that `encodable` gives.

    Raises:
        InvalidArgument: a text is not Unicode (lone surrogates) or an integer does not fit in 64 bits.
    """
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise InvalidArgument(f"this cannot be written as JSON: {error}") from error
