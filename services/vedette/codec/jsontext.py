"""The `data` of a V2 tensor when it was left as text: nested, wrong, or too large for objects.

Rule: the text is valid JSON already; it becomes an array in pieces, so memory follows the tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

import msgspec
import numpy as np

from vedette.codec.checks import check_shape
from vedette.codec.jsondata import VALUE_TYPES, check_count, decode_values, flat_array
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Tensor

_OPENING = re.compile(rb"\s*((?:\[\s*)*)")
_NO_VALUES = re.compile(rb"\s*\[[\[\],\s]*\]\s*")
_BLANK_BRACKETS = bytes.maketrans(b"[]", b"  ")
_NOT_NESTING = bytes(byte for byte in range(256) if byte not in b"[],")
_PIECE = 1 << 18


def decode_text(name: str, datatype: str, shape: Sequence[int], text: msgspec.Raw) -> Tensor:
    """The tensor of a known `datatype` from the text of its `data`, flat or nested as `shape` says.

    Raises:
        InvalidArgument: wrong kind of value, out of the datatype's range, count or nesting against `shape`.
    """
    count = check_shape(name, datatype, shape)
    if not count and _NO_VALUES.fullmatch(text):
        return Tensor(name, datatype, np.empty(shape, DATATYPES[datatype].dtype))
    depth = _depth(name, shape, text)
    if datatype == "BYTES":
        return _texts(name, shape, text, depth)
    flat = bytes(text)
    if depth > 1:
        _check_nesting(name, shape, flat)
        flat = flat.translate(_BLANK_BRACKETS)
    arrays = [flat_array(name, datatype, _values(name, datatype, piece)) for piece in _pieces(flat)]
    check_count(name, shape, given=sum(map(len, arrays)), wanted=count)
    return Tensor(name, datatype, np.concatenate(arrays).reshape(shape))


def _depth(name: str, shape: Sequence[int], text: msgspec.Raw) -> int:
    """Brackets before the first value: 1, or as many as dimensions."""
    match = _OPENING.match(text)
    depth = match[1].count(b"[") if match else 0
    if not depth:
        raise InvalidArgument(f"tensor {name!r}: 'data' is not an array")
    if depth not in (1, len(shape)):
        raise InvalidArgument(
            f"tensor {name!r}: 'data' is nested {depth} deep; "
            f"shape {list(shape)} takes a flat array or one nested {len(shape)} deep"
        )
    return depth


@lru_cache(maxsize=64)
def _decoder(datatype: str, depth: int = 1) -> msgspec.json.Decoder[list[object]]:
    """A decoder of lists `depth` deep around the datatype's values."""
    kind: object = VALUE_TYPES[datatype]
    for _ in range(depth):
        kind = list[kind]  # type: ignore[valid-type]
    return msgspec.json.Decoder(kind)


def _values(name: str, datatype: str, text: bytes | msgspec.Raw, depth: int = 1) -> list[object]:
    try:
        return _decoder(datatype, depth).decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"tensor {name!r}: 'data' for {datatype}: {error}") from error


def _texts(name: str, shape: Sequence[int], text: msgspec.Raw, depth: int) -> Tensor:
    """BYTES: strings may hold brackets and commas, so that only a parser can tell the nesting."""
    values = _values(name, "BYTES", text, depth)
    if depth == 1:
        return decode_values(name, "BYTES", shape, values)
    level: list[object] = [values]
    for dim in shape:
        if any(len(row) != dim for row in level):  # type: ignore[arg-type]
            raise _misshapen(name, shape)
        level = list(chain.from_iterable(level))  # type: ignore[arg-type]
    return decode_values(name, "BYTES", shape, level)


def _check_nesting(name: str, shape: Sequence[int], text: bytes) -> None:
    """Compare the brackets and commas of the text with those that `shape` makes."""
    structure = text.translate(None, _NOT_NESTING)
    length = 1 + shape[-1]
    for dim in reversed(shape[:-1]):
        length = 1 + dim * (length + 1)
    if length != len(structure):
        raise _misshapen(name, shape)
    expected = b"[" + b"," * (shape[-1] - 1) + b"]"
    for dim in reversed(shape[:-1]):
        expected = b"[" + (expected + b",") * (dim - 1) + expected + b"]"  # a join would take 80 bytes a row
    if structure != expected:
        raise _misshapen(name, shape)


def _misshapen(name: str, shape: Sequence[int]) -> InvalidArgument:
    return InvalidArgument(f"tensor {name!r}: 'data' is not nested as shape {list(shape)} says")


def _pieces(text: bytes) -> Iterator[bytes]:
    """The elements of a flat array, with or without its brackets, as arrays of about `_PIECE` bytes."""
    text = text.strip(b"[] \t\r\n")
    start = 0
    while start <= len(text):
        end = text.find(b",", start + _PIECE)
        if end < 0:
            end = len(text)
        yield b"[%b]" % text[start:end]
        start = end + 1
