"""The HTTP adapter over real sockets: routing, limits, broken bodies, ids, errors."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import random
import socket
import threading
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from vedette.chassis import rsgi
from vedette.chassis.asgi import AsgiBridge
from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.chassis.http_server import HttpServer
from vedette.chassis.problem import render_problem
from vedette.chassis.rsgi import HttpFront
from vedette.chassis.telemetry import CellMetrics
from vedette.core.errors import ModelFailed, NotFound

LIMIT = 64 * 1024
Address = tuple[str, int]


class Handlers:
    """Routes whose behaviour the tests can see from outside."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()

    def routes(self) -> tuple[Route, ...]:
        lines = (
            ("POST", "/echo", self.echo),
            ("GET", "/items/{name}", self.item),
            ("GET", "/items/special", self.special),
            ("GET", "/missing", self.missing),
            ("GET", "/broken", self.broken),
            ("GET", "/model", self.model),
            ("GET", "/forever", self.forever),
            ("GET", "/big", self.big),
        )
        return tuple(Route(method, pattern, "read", handler, render_problem) for method, pattern, handler in lines)

    async def echo(self, request: HttpRequest) -> HttpResponse:
        coding = request.headers.get("content-encoding")
        return HttpResponse(200, request.body, [("content-type", "text/plain"), ("x-coding", coding or "none")])

    async def item(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, json.dumps([request.params, request.query, request.request_id]).encode())

    async def special(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"special")

    async def missing(self, request: HttpRequest) -> HttpResponse:
        raise NotFound("no such thing")

    async def broken(self, request: HttpRequest) -> HttpResponse:
        raise RuntimeError("secret /etc/path")

    async def model(self, request: HttpRequest) -> HttpResponse:
        raise ModelFailed("the model failed")

    async def forever(self, request: HttpRequest) -> HttpResponse:
        self.entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return HttpResponse(200)

    async def big(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"a" * 5000, [("content-type", "text/plain")])


@contextlib.asynccontextmanager
async def serving(
    routes: tuple[Route, ...], *, receive_timeout_s: float = 30.0, asgi: AsgiBridge | None = None, **settings: Any
) -> AsyncIterator[tuple[Address, HttpFront]]:
    """A front on a free port."""
    idle_timeout_s = settings.pop("idle_timeout_s", 10.0)
    front = HttpFront(
        routes,
        service="test",
        metrics=settings.pop("metrics", None) or CellMetrics.alone(),
        max_request_bytes=settings.pop("max_request_bytes", LIMIT),
        receive_timeout_s=receive_timeout_s,
        asgi=asgi,
        **settings,
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = HttpServer(front, listener, idle_timeout_s=idle_timeout_s, keep_alive_timeout_s=idle_timeout_s)
        await server.start()
        sweep = asyncio.create_task(front.sweep())
        try:
            yield listener.getsockname(), front
        finally:
            sweep.cancel()
            await server.stop(2)


@pytest.fixture
async def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
async def address(handlers: Handlers) -> AsyncIterator[Address]:
    async with serving(handlers.routes()) as (found, _):
        yield found


class Answer:
    """One parsed response."""

    def __init__(self, head: bytes, body: bytes, closed: bool) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = body
        self.closed = closed

    @property
    def document(self) -> Any:
        return json.loads(self.body)


async def ask(address: Address, *parts: bytes) -> Answer:
    """Send raw bytes, read one answer; `closed` tells whether the server then closed the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        answer = Answer(head[:-4], b"", closed=False)
        if parts[0].startswith(b"HEAD"):
            return answer
        if "content-length" in answer.headers:
            answer.body = await asyncio.wait_for(reader.readexactly(int(answer.headers["content-length"])), 10)
            patience = 10 if answer.headers.get("connection") == "close" else 0.1
            with contextlib.suppress(TimeoutError):
                answer.closed = await asyncio.wait_for(reader.read(1), patience) == b""
        else:
            answer.body = await asyncio.wait_for(_dechunk(reader), 10)
        return answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _dechunk(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"{line} HTTP/1.1", "Host: test", *headers, "", "")).encode("latin-1") + body


def post(body: bytes, *headers: str, path: str = "/echo") -> bytes:
    return request(f"POST {path}", f"Content-Length: {len(body)}", *headers, body=body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", path: str = "/echo") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request(f"POST {path}", "Transfer-Encoding: chunked", body=body + end)


async def test_body_round_trip(address: Address) -> None:
    """A body of known length and a chunked one arrive whole."""
    assert (await ask(address, post(b"hello"))).body == b"hello"
    assert (await ask(address, chunked(b"hel", b"lo"))).body == b"hello"
    assert (await ask(address, post(b""))).body == b""


async def test_path_is_decoded_once(address: Address) -> None:
    """Names arrive percent-decoded exactly once; a literal segment wins over a name."""
    answer = await ask(address, request("GET /items/a%20b%252F?q=%20"))
    assert answer.document[:2] == [{"name": "a b%2F"}, "q=%20"]
    assert (await ask(address, request("GET /items/special"))).body == b"special"


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/items", "/items/", "/items/a/b", "//items/a", "/items/a/", "/items/../x"]
)
async def test_unknown_path_is_404(address: Address, path: str) -> None:
    """Paths are matched as they are: no empty segments, no dot segments, no trailing slash."""
    answer = await ask(address, request(f"GET {path}"))
    assert (answer.status, answer.document["code"]) == (404, "not_found")


async def test_wrong_method_is_405_with_allow(address: Address) -> None:
    """A known path with another method says what is allowed."""
    answer = await ask(address, request("DELETE /items/a"))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_head_is_answered_for_get(address: Address) -> None:
    """HEAD gets GET's status and headers and no body."""
    assert (await ask(address, request("HEAD /items/a"))).status == 200
    assert (await ask(address, request("HEAD /echo"))).status == 405


async def test_body_at_and_over_the_limit(address: Address) -> None:
    """The limit itself passes; one byte more is 413, with and without a length."""
    fits, over = b"x" * LIMIT, b"x" * (LIMIT + 1)
    assert (await ask(address, post(fits))).status == 200
    assert (await ask(address, chunked(fits))).status == 200
    assert (await ask(address, post(over))).status == 413
    assert (await ask(address, chunked(over))).status == 413


async def test_413_comes_before_the_body(address: Address) -> None:
    """A length over the limit is refused before one byte of the body was sent."""
    answer = await ask(address, request("POST /echo", "Content-Length: 100000000000"))
    assert (answer.status, answer.document["code"], answer.headers["connection"]) == (413, "too_large", "close")


async def test_413_reaches_a_client_that_sends_on(handlers: Handlers) -> None:
    """A client that sends its whole body before it reads still gets the answer, not a reset."""
    limit = 16 * 1024 * 1024  # more than the sockets' buffers hold
    async with serving(handlers.routes(), max_request_bytes=limit) as (address, _):
        assert (await ask(address, post(b"x" * (limit + 1)))).status == 413


async def test_slow_body_is_closed(handlers: Handlers) -> None:
    """A body that does not arrive in time is answered 408 and the connection closed."""
    async with serving(handlers.routes(), receive_timeout_s=0.3) as (address, front):
        answer = await ask(address, request("POST /echo", "Content-Length: 5", body=b"he"))
        assert (answer.status, answer.closed) == (408, True)
        assert not front.flights.open


async def test_slow_chunks_are_given_up(handlers: Handlers) -> None:
    """A chunked body that stops is answered 408, closed, and holds nothing of ours."""
    async with serving(handlers.routes(), receive_timeout_s=0.3) as (address, front):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(chunked(b"he", end=b""))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert b" 408 " in head
        assert b"connection: close" in head
        assert not front.flights.open
        await asyncio.wait_for(reader.read(), 10)
        assert reader.at_eof()
        writer.close()


async def test_good_clients_do_not_notice_slow_ones(handlers: Handlers) -> None:
    """Fifty stalled bodies hold up nobody else."""
    async with serving(handlers.routes(), receive_timeout_s=5) as (address, _):
        stalled = [await asyncio.open_connection(*address) for _ in range(50)]
        for _, writer in stalled:
            writer.write(request("POST /echo", "Content-Length: 5", body=b"he"))
        assert (await ask(address, post(b"hello"))).body == b"hello"
        for _, writer in stalled:
            writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /items/a HT", b"GET /items/a HTTP/1.1\r\nHost: test\r\nX: "])
async def test_silent_and_slow_heads_are_closed(handlers: Handlers, sent: bytes) -> None:
    """A connection on which no whole head arrives in time is closed, and so is one left idle."""
    async with serving(handlers.routes(), idle_timeout_s=0.3) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert (await ask(address, request("GET /items/a"))).closed is False
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request("GET /items/a"))
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_large_bodies_share_a_limit(handlers: Handlers) -> None:
    """Bodies that together would take more memory than allowed are refused as overloaded, until others end."""
    large = b"x" * (LIMIT - 10)
    async with serving(handlers.routes(), max_request_bytes=4 * LIMIT, max_buffered_bytes=5 * LIMIT) as (
        address,
        front,
    ):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request("POST /echo", f"Content-Length: {4 * LIMIT}", body=b"x"))
        await _until(lambda: front.flights.buffered)
        for _ in range(2):
            assert (await ask(address, post(large))).status == 200, "small ones are not counted"
            assert (await ask(address, post(large * 2))).status == 429
            assert (await ask(address, chunked(large, large))).status == 429
        writer.write(b"x" * (4 * LIMIT - 1))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        assert (await ask(address, post(large * 2))).status == 200
        await _until(lambda: front.flights.buffered == 0)


@pytest.mark.parametrize(
    "broken",
    [
        request("POST /echo", "Transfer-Encoding: chunked", body=b"0x1\r\na\r\n0\r\n\r\n"),
        request("POST /echo", "Transfer-Encoding: chunked", body=b"3\r\nabcZZ\r\n0\r\n\r\n"),
        request("POST /echo", "Transfer-Encoding: chunked", body=b"zz\r\n\r\n"),
        chunked(b"abc", end=b"0\r\nX-Trailer: y\r\n\r\n"),
    ],
)
async def test_malformed_chunks_are_400(address: Address, broken: bytes) -> None:
    """Broken chunk framing, and trailers, are the client's fault."""
    answer = await ask(address, broken)
    assert (answer.status, answer.document["code"]) == (400, "invalid_argument")


async def test_many_tiny_chunks_are_400(address: Address) -> None:
    """Thousands of one-byte chunks are refused long before the body limit."""
    answer = await ask(address, chunked(*[b"x"] * 6000))
    assert (answer.status, answer.document["code"]) == (400, "invalid_argument")


async def test_client_that_leaves_half_way_is_forgotten(handlers: Handlers) -> None:
    """A body cut off by the client leaves no request behind."""
    async with serving(handlers.routes()) as (address, front):
        _, writer = await asyncio.open_connection(*address)
        writer.write(request("POST /echo", "Content-Length: 5", body=b"he"))
        await _until(lambda: len(front.flights.open) == 1)
        writer.close()
        await _until(lambda: not front.flights.open)


async def test_disconnect_cancels_the_handler(address: Address, handlers: Handlers) -> None:
    """A handler whose client has gone is cancelled."""
    _, writer = await asyncio.open_connection(*address)
    writer.write(request("GET /forever"))
    await asyncio.wait_for(handlers.entered.wait(), 5)
    writer.close()
    await asyncio.wait_for(handlers.cancelled.wait(), 5)


async def test_request_ids(address: Address) -> None:
    """A sane id of the client is kept and returned; any other is replaced by one of ours."""
    answer = await ask(address, request("GET /items/a", "X-Request-Id: abc-1.2"))
    assert answer.headers["x-request-id"] == answer.document[2] == "abc-1.2"
    seen = set()
    for bad in ("X-Request-Id: a b", f"X-Request-Id: {'x' * 129}", "X-Other: 1", "X-Request-Id: a\u00e9b"):
        answer = await ask(address, request("GET /items/a", bad))
        seen.add(answer.headers["x-request-id"])
        assert answer.headers["x-request-id"] == answer.document[2]
    assert len(seen) == 4


async def test_errors_of_ours_are_rendered(address: Address) -> None:
    """A VedetteError becomes its status and code."""
    answer = await ask(address, request("GET /missing"))
    assert (answer.status, answer.document["detail"]) == (404, "no such thing")
    assert (await ask(address, request("GET /model"))).document["code"] == "model_failed"


async def test_unknown_errors_show_only_an_id(address: Address, caplog: pytest.LogCaptureFixture) -> None:
    """The text of an unforeseen exception stays in the log; the client gets the id that finds it."""
    with caplog.at_level(logging.ERROR):
        answer = await ask(address, request("GET /broken"))
    assert (answer.status, answer.document["code"]) == (500, "internal")
    assert answer.headers["x-request-id"] in answer.document["detail"]
    assert b"secret" not in answer.body
    assert "secret /etc/path" in caplog.text


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_request(address: Address, name: str, pack: Any) -> None:
    """A compressed body is decoded, and the handler sees no coding any more."""
    answer = await ask(address, post(pack(b"hello"), f"Content-Encoding: {name}"))
    assert (answer.body, answer.headers["x-coding"]) == (b"hello", "none")


async def test_compression_bomb_is_413(address: Address) -> None:
    """What grows over the limit when decoded is refused."""
    assert (await ask(address, post(gzip.compress(bytes(LIMIT * 50)), "Content-Encoding: gzip"))).status == 413


async def test_compressed_response_when_asked(address: Address) -> None:
    """A large text answer is compressed for a client that accepts it, and only then."""
    packed = await ask(address, request("GET /big", "Accept-Encoding: gzip"))
    assert (packed.headers["content-encoding"], gzip.decompress(packed.body)) == ("gzip", b"a" * 5000)
    assert (await ask(address, request("GET /big"))).body == b"a" * 5000


async def test_large_bodies_are_packed_and_unpacked_beside_the_loop(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte takes milliseconds, in which the loop answers others; small bodies are not worth the way."""
    on_loop: list[bool] = []

    def watched(call: Any) -> Any:
        def noted(*arguments: Any, **options: Any) -> Any:
            on_loop.append(threading.current_thread() is threading.main_thread())
            return call(*arguments, **options)

        return noted

    monkeypatch.setattr(rsgi, "decode_body", watched(rsgi.decode_body))
    monkeypatch.setattr(rsgi, "encode_body", watched(rsgi.encode_body))
    for size in (2000, 33 * 1024):
        body = random.Random(1).randbytes(size)
        answer = await ask(address, post(gzip.compress(body), "Content-Encoding: gzip", "Accept-Encoding: gzip"))
        assert (answer.headers["content-encoding"], gzip.decompress(answer.body)) == ("gzip", body)
    assert on_loop == [True, True, False, False]


async def test_answers_are_counted(handlers: Handlers) -> None:
    """Every answer counts under its status class."""
    metrics = CellMetrics.alone()
    async with serving(handlers.routes(), metrics=metrics) as (address, _):
        for line in ("GET /items/a", "GET /missing", "GET /nope", "GET /broken"):
            await ask(address, request(line))
    counted = [
        metrics.counter("vedette_http_responses_total", service="test", status=status)
        for status in ("2xx", "4xx", "5xx")
    ]
    assert [counter.cells[counter.base] for counter in counted] == [1, 2, 1]


async def test_draining_closes_connections(handlers: Handlers) -> None:
    """While draining, an answer ends its connection."""
    async with serving(handlers.routes()) as (address, front):
        assert not (await ask(address, request("GET /items/a"))).closed
        front.draining = True
        assert (await ask(address, request("GET /items/a"))).closed


async def _until(what: Any) -> None:
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110 - what is awaited happens in the server's own threads
            await asyncio.sleep(0.01)
