"""What is checked of every request before memory is spent on it: text, nesting, shapes.

Rule: exact Python integers, and time and memory in proportion to the bytes that came.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES

MAX_JSON_DEPTH = 64
"""Brackets open at once in any JSON body."""
MAX_RANK = 32
"""Dimensions of a tensor: over what any model uses, and low enough for every library behind."""
MAX_TENSOR_BYTES = 2**62
"""Bound on a shape's size with zeros left out; keeps products of dimensions inside the index type of numpy."""

_CHUNK = 1 << 20
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{}"')


def check_json(body: bytes) -> None:
    """Refuse what a JSON parser should not be shown: invalid UTF-8 and nesting over `MAX_JSON_DEPTH`.

    Costs 0.15 us on a small body and 1 ms on 3 MB of numbers.

    Raises:
        InvalidArgument: says which of the two.
    """
    if not body.isascii():
        _check_utf8(body)
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH:
        _check_depth(body)


def _check_utf8(body: bytes) -> None:
    """Decode in pieces, so that one wide character does not quadruple the memory of a large body."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), _CHUNK):
            decoder.decode(body[start : start + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidArgument("the body is not valid UTF-8") from error


def _check_depth(body: bytes) -> None:
    """Count open brackets outside strings; only when there are enough of them to matter."""
    if b"\\" in body:  # an escaped quote ends no string; pairs of backslashes go first, left to right
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    structure = body.translate(_BRACKETS, _NOT_STRUCTURE)
    depth, in_string = 0, False
    for start in range(0, len(structure), _CHUNK):
        piece = np.frombuffer(structure, np.uint8, min(_CHUNK, len(structure) - start), start)
        inside = np.bitwise_xor.accumulate(piece == ord('"')) ^ in_string
        steps = ((piece == ord("[")).view(np.int8) - (piece == ord("]")).view(np.int8)) * ~inside
        depths = np.cumsum(steps, dtype=np.int32) + depth
        if depths.max() > MAX_JSON_DEPTH:
            raise InvalidArgument(f"the JSON is nested more than {MAX_JSON_DEPTH} deep")
        depth, in_string = int(depths[-1]), bool(inside[-1])


def check_datatype(name: str, datatype: str) -> None:
    """Refuse a datatype that the protocol does not have.

    Raises:
        InvalidArgument: names the tensor and lists the datatypes.
    """
    if datatype not in DATATYPES:
        raise InvalidArgument(f"tensor {name!r}: unknown datatype {datatype[:40]!r}; known are {', '.join(DATATYPES)}")


def check_shape(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Check the dimensions of a known `datatype` and return the exact number of elements.

    Raises:
        InvalidArgument: names the tensor and the dimension: negative, too many, or more than can be addressed.
    """
    if len(shape) > MAX_RANK:
        raise InvalidArgument(f"tensor {name!r}: {len(shape)} dimensions; at most {MAX_RANK} are allowed")
    count, span = 1, DATATYPES[datatype].itemsize or 8
    for dim in shape:
        if dim < 0:
            raise InvalidArgument(f"tensor {name!r}: dimension {dim} in shape {_shown(shape)} is negative")
        count *= dim
        span *= dim or 1
        if span > MAX_TENSOR_BYTES:
            raise InvalidArgument(f"tensor {name!r}: shape {_shown(shape)} is larger than can be addressed")
    return count


def check_unique(names: Iterable[str], what: str) -> None:
    """Refuse a name given twice; `what` is the noun for the error.

    Raises:
        InvalidArgument: names the duplicate.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidArgument(f"{what} {name[:80]!r} is given more than once")
        seen.add(name)


def _shown(shape: Sequence[int]) -> str:
    """The shape for an error, cut where it would fill the answer."""
    text = str(list(shape)[:8])
    return text if len(text) <= 160 else text[:160] + "..."
