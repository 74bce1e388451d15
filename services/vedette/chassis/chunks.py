"""Chunked request bodies: bytes in as they come, the body's bytes out.

Rule: a pure state machine, linear in what comes; a part of a chunk is given out at once and never gathered here.
Trailers are refused: nobody who speaks our protocols sends them. Source: RFC 9112 section 7.1.
"""

from __future__ import annotations

import re

from vedette.core.errors import InvalidArgument

_FREE_CHUNKS = 4096
_MIN_MEAN_CHUNK = 64
"""Past the free ones, chunks of less than this on average are an attack: each costs about 2 us."""
_MAX_SIZE_LINE = 256
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
"""No blanks behind the size: of llhttp and h11 each takes some that the other refuses."""


class ChunkDecoder:
    """One body. `done` after its last chunk; what followed that is in `rest`."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._kept = b""
        self._left = 0
        """Bytes of the current chunk that are still to come; -1 and -2: of the line end behind it."""
        self._chunks = 0
        self._total = 0

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`.

        Raises:
            InvalidArgument: the framing is broken, trailers follow, or the chunks are too many and too small.
        """
        if self._kept:
            data, self._kept = self._kept + data, b""
        parts: list[bytes] = []
        position = 0
        while position < len(data) and not self.done:
            if self._left > 0:
                part = data[position : position + self._left]
                parts.append(part)
                position += len(part)
                self._left = self._left - len(part) or -2
                continue
            end = data.find(b"\r\n", position)
            if end < 0 or (self._left == 0 and self._is_last(data, position, end) and end + 4 > len(data)):
                self._keep(data[position:])
                break
            position = self._line(data, position, end)
        if self.done:
            self.rest = data[position:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _keep(self, line: bytes) -> None:
        if len(line) > _MAX_SIZE_LINE or (self._left == -2 and line != b"\r"):
            raise malformed()
        self._kept = line

    def _is_last(self, data: bytes, start: int, end: int) -> bool:
        match = _SIZE.fullmatch(data, start, end)
        return match is not None and not int(match[1], 16)

    def _line(self, data: bytes, start: int, end: int) -> int:
        """Take one line that ends at `end`; where the next begins."""
        if self._left == -2:
            if end != start:
                raise malformed()
            self._left = 0
            return end + 2
        match = _SIZE.fullmatch(data, start, end)
        if match is None or end - start > _MAX_SIZE_LINE:
            raise malformed()
        size = int(match[1], 16)
        if size == 0:
            if data[end + 2 : end + 4] != b"\r\n":
                raise malformed()
            self.done = True
            return end + 4
        self._chunks, self._total, self._left = self._chunks + 1, self._total + size, size
        if self._chunks > _FREE_CHUNKS and self._total < self._chunks * _MIN_MEAN_CHUNK:
            raise InvalidArgument("the request body comes in too many small chunks")
        return end + 2


def malformed() -> InvalidArgument:
    """The error for a body that broke off or is framed wrongly."""
    return InvalidArgument("the request body is malformed or incomplete")
