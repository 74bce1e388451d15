"""Our HTTP parsers held against llhttp (httptools) and h11: what we accept, one of them reads in the same way."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vedette.chassis.chunks import ChunkDecoder
from vedette.chassis.heads import MAX_HEAD_BYTES, Head, RefusedHead, parse_head
from vedette.core.errors import InvalidArgument

BODY = b"5\r\nhello\r\n0\r\n\r\n"
"""Bytes behind a head: a chunked body, or the beginning of one of any length."""


def seen_by_us(raw: bytes) -> Head | None:
    try:
        return parse_head(raw)
    except RefusedHead:
        return None


def view(method: str, target: str, version: str, fields: list[tuple[bytes, bytes]], body: Any, keeps: bool) -> Any:
    """What a parser has read, in a form that can be compared."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode().lower(), raw_value.decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "transfer-encoding" in headers:
        headers["transfer-encoding"] = headers["transfer-encoding"].lower()
    parts = urlsplit(target) if target.lower().startswith(("http://", "https://")) else None
    path, _, query = target.partition("?")
    if parts is not None:
        path, query = parts.path or "/", parts.query + (f"#{parts.fragment}" if parts.fragment else "")
    decoded = unquote_to_bytes(path.encode("utf-8")).decode("utf-8", "replace") if "%" in path else path
    return method, decoded, query, version, headers, body, keeps


def seen_by_h11(raw: bytes, length: int) -> Any:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        connection.receive_data(raw + (BODY if length < 0 else b"x" * length))
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
        got = b""
        while isinstance(event := connection.next_event(), h11.Data):
            got += bytes(event.data)
        body = got if isinstance(event, h11.EndOfMessage) and connection.trailing_data[0] == b"" else "unfinished"
    except h11.RemoteProtocolError:
        return None
    keeps = connection.their_state is not h11.MUST_CLOSE
    return view(
        request.method.decode(),
        request.target.decode("latin-1"),
        request.http_version.decode(),
        list(request.headers),
        body,
        keeps,
    )


class Told:
    """What llhttp tells."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = b""
        self.got = b""
        self.whole = 0
        self.keeps = False
        self.parser: Any = None

    def on_headers_complete(self) -> None:
        self.keeps = self.parser.should_keep_alive()

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, part: bytes) -> None:
        self.got += part

    def on_message_complete(self) -> None:
        self.whole += 1


def seen_by_llhttp(raw: bytes, length: int) -> Any:
    told = Told()
    parser = told.parser = httptools.HttpRequestParser(told)
    try:
        parser.feed_data(raw)
        if length > 0:
            parser.feed_data(b"x" * (length - 1))
            if told.whole:
                return None
            parser.feed_data(b"x")
        elif length < 0:
            parser.feed_data(BODY)
    except httptools.HttpParserError:
        return None
    body = told.got if told.whole == 1 else "unfinished"
    return view(
        parser.get_method().decode(),
        told.target.decode("latin-1"),
        parser.get_http_version(),
        told.fields,
        body,
        told.keeps,
    )


def check(raw: bytes) -> Head | None:
    """What we make of a head; where we accept it, one of the others must have read the same."""
    head = seen_by_us(raw)
    if head is None or head.length > 100:
        return head
    body = b"hello" if head.length < 0 else b"x" * head.length
    headers = dict(head.headers)
    if "transfer-encoding" in headers:
        headers["transfer-encoding"] = headers["transfer-encoding"].lower()  # as h11 shows it
    ours = (
        head.method, head.path, head.query_string, head.http_version, headers, body, head.keep_alive,
    )  # fmt: skip
    others = seen_by_llhttp(raw, head.length), seen_by_h11(raw, head.length)
    assert ours in others, (raw, ours, others)
    return head


TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=12)
TARGETS = st.one_of(
    st.sampled_from(["/", "*", "/a?b=c", "/a?u=http://e/f", "/x/http://e/f", "http://h", "http://h?q", "HTTPS://h:1/a",
                     "/%2e%2e/%00", "/a#b?c", "//a", "/a?b?c", "/?", "/\u00e9", "h:1", "a", "/%zz", "/a%2Fb%C3%A9"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20).map(lambda text: f"/{text}"),  # noqa: E501
)  # fmt: skip
FIELDS = st.one_of(
    st.tuples(TOKENS, st.sampled_from([":", ": ", ":\t ", " :", " : "]), VALUES).map("".join),
    st.sampled_from(["Content-Length: 5", "Content-Length: 0", "content-length:\t7 ", "Content-Length: +5",
                     "Content-Length: 5_0", "Content-Length: 5,5", "Content-Length: -1", "Content-Length: 00005",
                     "Content-Length : 5", "Content_Length: 5", "Transfer-Encoding: chunked",
                     "Transfer-Encoding: Chunked ", "Transfer-Encoding: xchunked", "Transfer-Encoding:\x0bchunked",
                     "Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity", "Transfer-Encoding:",
                     "Transfer-Encoding : chunked", "Transfer-Encoding\x00: chunked", "Transfer-Encoding: gzip, chunked",  # noqa: E501
                     "Connection: close", "Connection: keep-alive", "Connection: Close, x", "Connection: not-close",
                     "Connection: x-keep-alive", "Connection: keep-alive, close", "Connection: keep-alive ,x",
                     "Connection: keep-alive\tclose", " folded", "\tfolded", "no colon", ": nameless", "",
                     "Host: other", "Expect: 100-continue", "X: a\rb", "X: a\nb", "X: \x00", "X: \x7f"]),
)  # fmt: skip
ENDS = st.sampled_from(["\r\n"] * 30 + ["\n", "\r", "\r\r\n", "\n\n", " \r\n", "\r\n\r\n"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "DELETE", "get", "G T", "X!", ""]))
    space = draw(st.sampled_from([" "] * 20 + ["  ", "\t", "\x0b", ""]))
    version = draw(st.sampled_from(["HTTP/1.1"] * 10 + ["HTTP/1.0"] * 5 + ["HTTP/1.2", "HTTP/2.0", "http/1.1", ""]))
    first = f"{method}{space}{draw(TARGETS)}{space}{version}"
    lines = [first, *draw(st.permutations([*draw(st.sampled_from([["Host: h"]] * 9 + [[]])),
                                           *draw(st.lists(FIELDS, max_size=4))]))]  # fmt: skip
    return ("".join(line + draw(ENDS) for line in lines) + "\r\n").encode("latin-1")


@settings(max_examples=1500, derandomize=True)
@given(heads())
@example(b"GET /a?u=http://e/f HTTP/1.1\r\nHost: h\r\n\r\n")
@example(b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: not-close\r\n\r\n")
@example(b"GET / HTTP/1.0\r\nConnection: x-keep-alive\r\n\r\n")
@example(b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n")
def test_what_we_accept_another_parser_reads_alike(raw: bytes) -> None:
    """Method, path, query, fields, body and the fate of the connection are those of llhttp or of h11."""
    if (end := raw.find(b"\r\n\r\n") + 4) >= 4:  # the connection cuts there
        check(raw[:end])


USUAL = b"POST /a/b?c=d HTTP/1.1\r\nHost: h\r\nX-One: two, three\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"


@settings(max_examples=1500, derandomize=True)
@given(st.integers(0, len(USUAL) - 5), st.integers(0, 3), st.binary(max_size=3))
def test_a_usual_head_with_some_bytes_changed_is_read_alike_or_refused(at: int, drop: int, put: bytes) -> None:
    """Bytes put into it or taken from it anywhere."""
    raw = USUAL[:at] + put + USUAL[at + drop :]
    if (end := raw.find(b"\r\n\r\n") + 4) >= 4:
        check(raw[:end])


SMUGGLED = [
    *((f"Content-Length: {value}",) for value in ("+5", "-5", "5_0", "0x5", "5 5", "5,5", "5.0", "", "\u00b2", "5;", '"5"',  # noqa: E501
                                                  "1" * 19)),
    ("Content-Length: 5", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Content-Length: 5", "Content-Length: 5"), ("Content-Length: 5", "content-length: 6"),
    ("Content-Length: 5", "Transfer-Encoding: identity"),
    *((f"Transfer-Encoding: {value}",) for value in ("xchunked", "chunkedx", "chunked, identity", "identity, chunked",
                                                     "identity", "gzip", "\x0bchunked", "chunked\x00", '"chunked"',
                                                     "chunked;q=1", ",chunked", "chunked,", "", "\u00a0chunked",
                                                     "chunked, chunked")),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), ("Transfer-Encoding : chunked",),
    ("Transfer-Encoding\t: chunked",), ("Transfer-Encoding:\n chunked",), ("Transfer-Encoding: chu\r\n nked",),
    (" Transfer-Encoding: chunked",), ("X: a\nTransfer-Encoding: chunked",), ("X: a\rTransfer-Encoding: chunked",),
    ("X: \x00",), ("X\x00: a",), ("Host: i",), ("X: a\n",), ("X: a\r",), ("\x7f: a",), ("\u00e9: a",),
]  # fmt: skip


@pytest.mark.parametrize("fields", SMUGGLED)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_whatever_is_ambiguous_is_refused(fields: tuple[str, ...], version: str) -> None:
    """In both versions: lengths that are none or two, codings that are almost chunked, lines that are almost two."""
    lines = [f"POST / HTTP/{version}", "Host: h", *fields, "", ""]
    assert seen_by_us("\r\n".join(lines).encode("latin-1")) is None


@pytest.mark.parametrize(
    "raw",
    [b"GET / HTTP/1.1\nHost: h\n\n", b"GET / HTTP/1.1\r\nHost: h\n\r\n", b"GET / HTTP/1.1\n\r\n",
     b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
     b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / \r\nHost: h\r\n\r\n",
     b"GET /\rx HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /\x0b HTTP/1.1\r\nHost: h\r\n\r\n", b"\0GET / HTTP/1.1\r\nHost: h\r\n\r\n"],  # noqa: E501
)  # fmt: skip
def test_lines_that_are_almost_lines_are_refused(raw: bytes) -> None:
    """A bare LF, a bare CR, a NUL, other blanks than one."""
    assert seen_by_us(raw) is None


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a?u=http://e/f", "/a", "u=http://e/f"),
        ("/a/http://e/f", "/a/http://e/f", ""),
        ("http://h/a?b", "/a", "b"),
        ("http://h", "/", ""),
        ("http://h?q", "/", "q"),
        ("*", "*", ""),
    ],
)
def test_only_a_target_that_begins_with_a_host_has_one(target: str, path: str, query: str) -> None:
    """An address inside a path or a query is a part of it, as any proxy before us reads it."""
    head = parse_head(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert (head.path, head.query_string) == (path, query)


# Chunked bodies

PIECES = st.one_of(
    st.sampled_from([b"0\r\n\r\n", b"0\r\n", b"\r\n", b"\n", b"\r", b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"05\r\nhello\r\n",  # noqa: E501
                     b"A\r\n0123456789\r\n", b"5 \r\nhello\r\n", b"5 ;a\r\nhello\r\n", b"5\t\r\nhello\r\n", b" 5\r\nhello\r\n",  # noqa: E501
                     b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b"5\nhello\n", b"5\r\nhello", b"5\r\nhellox\r\n", b"5;\n\r\nhello\r\n",  # noqa: E501
                     b"5;a\rb\r\nhello\r\n", b"5;\"a\"\r\nhello\r\n", b"-1\r\n", b"0;x\r\n\r\n", b"000\r\n\r\n", b"0\r\nT: r\r\n\r\n",  # noqa: E501
                     b"1_0\r\n", b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
    st.binary(max_size=4),
)  # fmt: skip


def decoded_by_us(raw: bytes, cuts: list[int]) -> tuple[str, bytes, bytes]:
    decoder, got, position = ChunkDecoder(), b"", 0
    try:
        for cut in (*cuts, len(raw)):
            if not decoder.done and position < len(raw):
                got += decoder.feed(raw[position : position + cut])
                position += cut
    except InvalidArgument:
        return "refused", b"", b""
    return ("done", got, decoder.rest + raw[position:]) if decoder.done else ("open", got, b"")


def decoded_by_h11(raw: bytes) -> tuple[str, bytes, bytes]:
    connection, got = h11.Connection(h11.SERVER), b""
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    try:
        if raw:
            connection.receive_data(raw)
        while isinstance(event := connection.next_event(), h11.Data):
            got += bytes(event.data)
    except h11.RemoteProtocolError:
        return "refused", b"", b""
    if isinstance(event, h11.EndOfMessage):
        return "trailers" if event.headers else "done", got, connection.trailing_data[0]
    return "open", got, b""


@settings(max_examples=2500, derandomize=True)
@given(st.lists(PIECES, max_size=6).map(b"".join), st.lists(st.integers(1, 9), max_size=20))
def test_chunks_are_read_as_h11_reads_them_however_cut(raw: bytes, cuts: list[int]) -> None:
    """A body that is done has the same bytes and the same rest; nothing that h11 refuses goes through."""
    whole, cut, theirs = decoded_by_us(raw, []), decoded_by_us(raw, cuts), decoded_by_h11(raw)
    assert whole == cut
    if whole[0] == "done":
        assert whole == theirs
    elif theirs[0] == "done":
        # we are the stricter one, and say so at the next byte
        assert "refused" in (whole[0], decoded_by_us(raw + b"\n" + bytes(300), [])[0])
    elif whole[0] == "open" and theirs[0] == "open":
        assert whole[1] == theirs[1]
    elif whole[0] == "open":
        assert theirs[0] == "refused"
        assert len(raw) < 300  # an unfinished line, which h11 looks at before its end
        assert decoded_by_us(raw + b"\r\n\r\n" + bytes(300), [])[0] == "refused"


@pytest.mark.parametrize(
    "line", [b"5 ", b"5\t", b"5 ;a", b" 5", b"5;\n", b"5;a\rb", b"+5", b"0x5", b"5_0", b"", b";a", b"f" * 16]
)
@pytest.mark.parametrize("cut", [[], [1] * 20])
def test_sizes_that_another_might_read_otherwise_are_refused(line: bytes, cut: list[int]) -> None:
    """Also blanks behind the size, over which llhttp and h11 disagree."""
    assert decoded_by_us(line + b"\r\nhello\r\n0\r\n\r\n", cut)[0] == "refused"
