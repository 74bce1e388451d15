"""Heads of requests: read strictly, remembered by their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.chassis.heads import Heads, RefusedHead, parse_head


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def test_a_usual_head() -> None:
    """Method, path, query, fields by lower-case name, length and the fate of the connection."""
    found = parse_head(head("POST /a%20b/%252F?x=%20 HTTP/1.1", "Host: h", "X-One:  1 \t", "Content-Length: 5"))
    assert (found.method, found.path, found.query_string) == ("POST", "/a b/%2F", "x=%20")
    assert found.headers == {"host": "h", "x-one": "1", "content-length": "5"}
    assert (found.length, found.keep_alive, found.http_version, found.expects_continue) == (5, True, "1.1", False)


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (("GET / HTTP/1.1", "Host: h", "Connection: close"), False),
        (("GET / HTTP/1.1", "Host: h", "Connection: Keep-Alive, Close"), False),
        (("GET / HTTP/1.0",), False),
        (("GET / HTTP/1.0", "Connection: keep-alive"), True),
        (("GET http://h/ HTTP/1.1", "Host: h"), True),
    ],
)
def test_who_keeps_the_connection(lines: tuple[str, ...], keep_alive: bool) -> None:
    """1.1 keeps it unless told to close it, 1.0 closes it unless told to keep it; an absolute target is a path."""
    found = parse_head(head(*lines))
    assert (found.keep_alive, found.path) == (keep_alive, "/")


def test_repeated_fields_are_joined() -> None:
    """The values of a repeated field are one list."""
    assert parse_head(head("GET / HTTP/1.1", "Host: h", "A: 1", "a: 2")).headers["a"] == "1, 2"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET / HTTP/1.1",), 400),
        (("GET / HTTP/1.1", "Host: h", "Host: i"), 400),
        (("GET / HTTP/1.1", "Host: h", "A : 1"), 400),
        (("GET / HTTP/1.1", "Host: h", " folded"), 400),
        (("GET / HTTP/1.1", "Host: h", "A: 1\nB: 2"), 400),
        (("GET / HTTP/1.1", "Host: h", "A: 1\rB: 2"), 400),
        (("GET / HTTP/1.1", "Host: h", "A: \0"), 400),
        (("GET / HTTP/1.1", "Host: h", "no colon"), 400),
        (("GET  / HTTP/1.1", "Host: h"), 400),
        (("GET /a b HTTP/1.1", "Host: h"), 400),
        (("GET /", "Host: h"), 400),
        (("PRI * HTTP/2.0",), 505),
        (("GET / HTTP/9.9", "Host: h"), 505),
        (("POST / HTTP/1.1", "Host: h", "Content-Length: 5", "Content-Length: 5"), 400),
        (("POST / HTTP/1.1", "Host: h", "Content-Length: +5"), 400),
        (("POST / HTTP/1.1", "Host: h", "Content-Length: 5, 6"), 400),
        (("POST / HTTP/1.1", "Host: h", "Content-Length: 0x5"), 400),
        (("POST / HTTP/1.1", "Host: h", "Content-Length: \u00b2"), 400),
        (("POST / HTTP/1.1", "Host: h", "Content-Length:"), 400),
        (("POST / HTTP/1.1", "Host: h", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (("POST / HTTP/1.0", "Host: h", "Transfer-Encoding: chunked"), 400),
        (("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: gzip, chunked"), 501),
        (("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked, chunked"), 501),
        (("GET / HTTP/1.1", "Host: h", *(f"A{number}: 1" for number in range(101))), 431),
    ],
)  # fmt: skip
def test_what_two_programs_could_read_in_two_ways_is_refused(lines: tuple[str, ...], status: int) -> None:
    """Smuggling begins where a proxy and a server disagree."""
    with pytest.raises(RefusedHead) as caught:
        parse_head(head(*lines))
    assert caught.value.status == status


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(raw: bytes) -> None:
    """Nothing but a refusal comes out of nonsense."""
    try:
        found = parse_head(raw + b"\r\n\r\n")
    except RefusedHead:
        return
    assert found.method
    assert found.length >= -1


def test_heads_are_remembered_and_the_memory_has_an_end() -> None:
    """The same bytes give the same object; unique ids are not kept, and a flood of heads does not grow the memory."""
    heads = Heads()
    known = head("GET / HTTP/1.1", "Host: h")
    assert heads.read(known) is heads.read(bytes(known))
    unique = head("GET / HTTP/1.1", "Host: h", "X-Request-Id: 1")
    assert heads.read(unique) is not heads.read(unique)
    for number in range(2000):
        heads.read(head(f"GET /{number} HTTP/1.1", "Host: h"))
    assert len(heads._known) <= 512
    assert heads.read(known).path == "/"
