"""Content codings of HTTP bodies: gzip and deflate in, gzip and deflate out when the client asks.

Rule: pure functions; decoding never yields more than the cap, nor more than 50 times its input
(above 64 KiB, because small repetitive bodies compress better than that honestly).
"""

from __future__ import annotations

import gzip
import zlib

from vedette.core.errors import InvalidArgument, TooLarge, Unimplemented

MAX_RATIO = 50
_RATIO_FLOOR = 64 * 1024
MIN_COMPRESSED = 1024
"""Bodies below this leave as they are: the coding would cost more than it saves."""
_LEVEL = 1
"""The fastest: on tensors, higher levels cost several times as much for a few percent."""


def decode_body(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """Undo the codings that a Content-Encoding header lists, the last one first; at most two.

    Raises:
        TooLarge: the result is over `max_bytes`, or grew by more than `MAX_RATIO`.
        InvalidArgument: the bytes are not in that coding, are cut short or have something behind them.
        Unimplemented: a coding other than gzip, deflate or identity.
    """
    codings = [part.strip().lower() for part in encoding.split(",")]
    if len(codings) > 2:
        raise InvalidArgument("at most two content codings may be applied")
    for coding in reversed(codings):
        body = _inflate(body, coding, max_bytes)
    return body


def choose_encoding(accept: str, content_type: str, size: int) -> str:
    """The coding for an answer: `gzip`, `deflate` or empty for none.

    HTTP libraries list several codings by themselves; then only text is worth the time. A single coding is a
    client's express wish and holds for tensors too.
    """
    if size < MIN_COMPRESSED:
        return ""
    wishes = _accepted(accept)
    express = len(wishes) == 1
    if not express and not content_type.startswith(("application/json", "application/jsonlines", "text/")):
        return ""
    for coding in ("gzip", "deflate"):
        if coding in wishes:
            return coding
    return "gzip" if "*" in wishes and not express else ""


def encode_body(body: bytes, coding: str) -> bytes:
    """Apply `gzip` or `deflate` (the zlib format, as RFC 9110 8.4.1.2 has it)."""
    return gzip.compress(body, _LEVEL, mtime=0) if coding == "gzip" else zlib.compress(body, _LEVEL)


def _accepted(accept: str) -> set[str]:
    wishes = set()
    for part in accept.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            wishes.add(coding.strip())
    return wishes


def _inflate(body: bytes, coding: str, max_bytes: int) -> bytes:
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Unimplemented(f"content coding {coding[:40]!r} is not supported; use gzip or deflate")
    cap = min(max_bytes, max(_RATIO_FLOOR, MAX_RATIO * len(body)))
    # deflate is zlib's format by the standard and raw deflate by some clients; the first byte tells them apart
    raw = coding == "deflate" and not (body[:1] and body[0] & 0x0F == 8)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, cap + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the body is not valid {coding}") from error
    if len(plain) > cap:
        raise TooLarge(f"the body is over the limit of {max_bytes} bytes when decompressed, or over {MAX_RATIO} times")
    if not inflater.eof or inflater.unused_data:
        raise InvalidArgument(f"the {coding} body is cut short or has something behind its end")
    return plain
