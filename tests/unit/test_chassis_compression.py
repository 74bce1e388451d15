"""Content codings in and out, and what they refuse."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from vedette.chassis.compression import choose_encoding, decode_body, encode_body
from vedette.core.errors import InvalidArgument, TooLarge, Unimplemented

BODY = random.Random(1).randbytes(2000) + b"z" * 2000
LIMIT = 1024 * 1024


def _raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY), " X-GZIP "),
        (zlib.compress(BODY), "deflate"),
        (_raw_deflate(BODY), "deflate"),
        (BODY, "identity"),
        (gzip.compress(zlib.compress(BODY)), "deflate, gzip"),
    ],
)
def test_decodes(packed: bytes, coding: str) -> None:
    """gzip, and deflate in both of the forms that clients send; several codings are undone in reverse."""
    assert decode_body(packed, coding, max_bytes=LIMIT) == BODY


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_round_trip(coding: str) -> None:
    """What we encode we decode."""
    assert decode_body(encode_body(BODY, coding), coding, max_bytes=LIMIT) == BODY


def test_the_limit_holds_for_the_decoded_body() -> None:
    """Exactly the limit passes; one byte more does not."""
    packed = gzip.compress(BODY)
    assert decode_body(packed, "gzip", max_bytes=len(BODY)) == BODY
    with pytest.raises(TooLarge):
        decode_body(packed, "gzip", max_bytes=len(BODY) - 1)


def test_bombs_are_refused_by_ratio() -> None:
    """More than fifty times its size is refused far below the limit, nested or not."""
    bomb = gzip.compress(bytes(10 * LIMIT))
    with pytest.raises(TooLarge):
        decode_body(bomb, "gzip", max_bytes=100 * LIMIT)
    with pytest.raises(TooLarge):
        decode_body(gzip.compress(bomb), "gzip, gzip", max_bytes=100 * LIMIT)
    assert len(decode_body(gzip.compress(bytes(60_000)), "gzip", max_bytes=LIMIT)) == 60_000


@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (b"not gzip", "gzip"),
        (b"", "gzip"),
        (gzip.compress(BODY)[:-9], "gzip"),
        (gzip.compress(BODY) + b"x", "gzip"),
        (b"\xff" * 20, "deflate"),
        (BODY, "gzip, gzip, gzip"),
    ],
)
def test_broken_bodies(packed: bytes, coding: str) -> None:
    """Cut short, continued, or something else altogether: the caller's fault."""
    with pytest.raises(InvalidArgument):
        decode_body(packed, coding, max_bytes=LIMIT)


def test_unknown_coding() -> None:
    """A coding that we do not do says so."""
    with pytest.raises(Unimplemented, match="'br'"):
        decode_body(b"x", "br", max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("accept", "kind", "size", "coding"),
    [
        ("gzip", "application/json", 5000, "gzip"),
        ("gzip, deflate, br", "application/json", 5000, "gzip"),
        ("deflate", "application/octet-stream", 5000, "deflate"),
        ("gzip, deflate", "application/octet-stream", 5000, ""),
        ("gzip", "application/json", 100, ""),
        ("gzip;q=0, deflate", "text/csv", 5000, "deflate"),
        ("br", "application/json", 5000, ""),
        ("identity", "application/json", 5000, ""),
        ("", "application/json", 5000, ""),
    ],
)
def test_choice_of_encoding(accept: str, kind: str, size: int, coding: str) -> None:
    """Text is compressed when accepted; tensors only for a client that names one coding; small bodies never."""
    assert choose_encoding(accept, kind, size) == coding
