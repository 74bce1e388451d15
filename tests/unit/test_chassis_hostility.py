"""What a hostile or merely odd client, application or moment does to a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.http_wire import Wire, server_of

from vedette.chassis.logs import TRACE_ID


def get(path: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/{version}", "Host: h", *fields, "", "")).encode()


def post(body: bytes, *fields: str) -> bytes:
    return "\r\n".join(("POST /p HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *fields, "", "")).encode() + body


async def echo(scope: Any, protocol: Any) -> None:
    body = await protocol()
    protocol.response_bytes(200, [("x-path", scope.path)], body or b"-")


async def later(scope: Any, protocol: Any) -> None:
    body = await protocol()
    await asyncio.sleep(0.01)
    protocol.response_bytes(200, [("x-path", scope.path)], body or b"-")


@pytest.mark.parametrize("app", [echo, later])
async def test_a_flood_of_pipelined_requests_waits_in_the_socket(app: Any) -> None:
    """However much a client sends ahead, what is kept for later has an end, and every answer comes."""
    flood = get() * 4000
    wire, most = Wire(app), 0
    for _ in range(20):
        if not wire.reading:
            await asyncio.sleep(0)
        if wire.reading:
            await wire.send(flood, turns=2)
        most = max(most, len(wire.connection._ahead))
    assert most < 700 * 1024
    wire.connection.transport.abort()


async def test_a_slow_reader_cannot_make_us_keep_more_and_more() -> None:
    """Each time it reads a little, no more is taken in while enough waits."""

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_bytes(200, [], bytes(100_000))

    wire, most = Wire(app), 0
    for _ in range(30):
        wire.unread = 0
        if wire.reading:
            await wire.send(get() * 9000)
        most = max(most, len(wire.connection._ahead))
        wire.read_all()
        await asyncio.sleep(0)
    assert most < 900 * 1024
    wire.connection.transport.abort()


async def test_a_body_behind_waiting_requests_is_no_head() -> None:
    """More than a head's worth of whole requests may wait; bytes without an empty line behind them are no offence."""
    body = bytes(150_000)
    wire, raw = Wire(later), get() + post(body) + get("/last", "Connection: close")
    await wire.send(raw[:100_000])
    for start in range(100_000, len(raw), 20_000):
        await wire.send(raw[start : start + 20_000], turns=0)
    answer = await wire.until_closed()
    assert b" 431 " not in answer
    assert answer.count(b"HTTP/1.1 200 OK") == 3


async def test_whole_requests_that_wait_are_not_too_long_a_head() -> None:
    """The next of them begins a turn after an answer; what arrives in between without an empty line is a body."""
    rest = [b"x", b"y"]

    async def app(scope: Any, protocol: Any) -> None:
        body = await protocol()
        if rest and not body:
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(wire._receive, rest.pop(0))
        protocol.response_bytes(200, [], b"-")

    wire = Wire(app)
    await wire.send(get() + post(bytes(30_000)) * 3 + post(b"--xy", "Connection: close")[:-2])
    await asyncio.sleep(0.01)
    await wire.send(rest.pop())
    answer = await wire.until_closed()
    assert answer.count(b"HTTP/1.1 200 OK") == 5


@pytest.mark.parametrize("lead", [b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("together", [True, False])
async def test_an_empty_line_before_a_request_is_passed_over(lead: bytes, together: bool) -> None:
    """However the bytes are cut."""
    wire = Wire(echo)
    for part in (lead + get(),) if together else (lead, get()):
        await wire.send(part)
    assert wire.got.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("step", [1000, 200_000])
async def test_a_head_has_one_limit_however_it_comes(step: int) -> None:
    """Also where it comes in one piece."""
    wire, raw = Wire(echo), get("/", f"X: {'a' * 70_000}")
    for start in range(0, len(raw), step):
        await wire.send(raw[start : start + step])
    assert wire.got.startswith(b"HTTP/1.1 431")


async def test_who_shuts_its_sending_side_is_answered() -> None:
    """A request that came whole before the end is answered, now or later, also those behind it, and then closed."""
    for app in (echo, later):
        wire = Wire(app)
        await wire.send(get("/a") + get("/b"), turns=0)
        await wire.end()
        answer = await wire.until_closed()
        assert [line for line in answer.split(b"\r\n") if line.startswith(b"x-path")] == [b"x-path: /a", b"x-path: /b"]
        assert not wire.aborted


async def test_who_ends_in_the_middle_has_left() -> None:
    """A body that broke off, an unfinished head, or nothing: the connection ends."""
    for raw in (post(b"12345")[:-1], get()[:-2], b"", get() + post(b"12345")[:-1]):
        wire = Wire(later)
        await wire.send(raw)
        await wire.end()
        answer = await wire.until_closed()
        assert answer.count(b"HTTP/1.1 200 OK") == raw.startswith(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")


async def test_a_watcher_hears_of_the_end_and_of_the_answer() -> None:
    """Who waits for the client to leave is told so when it shuts its side, and is not kept past the answer."""
    heard = []

    async def app(scope: Any, protocol: Any) -> None:
        one, two = (asyncio.create_task(protocol.client_disconnect()) for _ in range(2))
        await asyncio.sleep(0)
        if scope.path == "/left":
            await asyncio.wait_for(one, 5)
            two.cancel()
        else:
            two.cancel()
            await asyncio.sleep(0)
            protocol.response_bytes(200, [], b"")
            await asyncio.wait_for(one, 5)
            await asyncio.wait_for(protocol.client_disconnect(), 5)
        heard.append(scope.path)

    wire = Wire(app)
    await wire.send(get("/answered"), turns=10)
    await wire.send(get("/left"), turns=10)
    assert heard == ["/answered"]
    await wire.end()
    await wire.until_closed()
    assert heard == ["/answered", "/left"]


async def test_nothing_begins_behind_the_last_answer() -> None:
    """A request behind one that ends the connection has no effect, also when a slow reader reads on."""
    begun = []

    async def app(scope: Any, protocol: Any) -> None:
        begun.append(scope.path)
        protocol.response_bytes(200, [], bytes(100_000))

    wire = Wire(app)
    wire.unread = 0
    await wire.send(get("/a", "Connection: close") + get("/b"), turns=5)
    wire.read_all()
    await asyncio.sleep(0)
    assert begun == ["/a"]


async def test_a_pipelined_request_has_nothing_of_the_one_before() -> None:
    """Ids that logs show are those of the request, not of the last one on its connection."""
    seen = []

    async def app(scope: Any, protocol: Any) -> None:
        seen.append(TRACE_ID.get())
        TRACE_ID.set(scope.path)
        await asyncio.sleep(0)
        protocol.response_bytes(200, [], b"")

    wire = Wire(app)
    await wire.send(get("/a") + get("/b") + get("/c", "Connection: close"))
    await wire.until_closed()
    assert seen == ["", "", ""]


async def test_a_refusal_reaches_who_is_still_sending() -> None:
    """Closed at once on unread bytes, the connection would be reset, and the answer with it."""
    wire = Wire(echo)
    await wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\nbody")
    assert wire.got.startswith(b"HTTP/1.1 400")
    assert wire.shut
    assert not wire.closing
    await wire.send(b"more")
    assert not await wire.end()
    assert wire.got.count(b"HTTP/1.1") == 1


async def test_one_broken_transport_does_not_take_the_others_answers() -> None:
    """What cannot be written to one client is its own loss."""

    class Broken(Wire):
        def write(self, data: bytes) -> None:
            raise RuntimeError("handle is closed")

    server = server_of(echo)
    broken, fine = Broken(echo, server=server), Wire(echo, server=server)
    for wire in (broken, fine):
        asyncio.get_running_loop().call_soon(wire._receive, get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert fine.got.startswith(b"HTTP/1.1 200 OK")
    assert broken.aborted


async def test_an_old_client_is_told_that_the_connection_stays() -> None:
    """HTTP/1.0 takes it for closed otherwise; not where an answer without length ends with the connection."""

    async def app(scope: Any, protocol: Any) -> None:
        if scope.path == "/stream":
            await protocol.response_stream(200, []).send_bytes(b"all")
        else:
            protocol.response_bytes(200, [], b"x")

    wire = Wire(app)
    await wire.send(get("/", "Connection: keep-alive", version="1.0"))
    assert b"connection: keep-alive\r\n" in wire.got
    assert not wire.closing
    wire.got.clear()
    await wire.send(get("/stream", "Connection: keep-alive", version="1.0"))
    answer = await wire.until_closed()
    assert b"keep-alive" not in answer
    assert b"connection: close\r\n" in answer


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_no_length_of_none(status: int) -> None:
    """204 must not have a length, and 304 would tell a false one."""

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_bytes(status, [], b"")

    wire = Wire(app)
    await wire.send(get())
    assert b"content-length" not in wire.got


async def test_a_length_without_a_body_is_only_told_to_head() -> None:
    """To GET it would make the next answer this one's body."""

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_empty(200, [("content-length", "5")])

    wire = Wire(app)
    await wire.send(get(method="HEAD"))
    assert b"content-length: 5\r\n" in wire.got
    wire.got.clear()
    await wire.send(get())
    assert b"content-length: 0\r\n" in wire.got
    assert b"content-length: 5\r\n" not in wire.got


async def test_one_request_has_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A second one, of whatever kind, would be read as the next request's."""

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_bytes(200, [], b"one")
        protocol.response_bytes(200, [], b"two")
        protocol.response_stream(200, [])

    wire = Wire(app)
    await wire.send(get())
    assert wire.got.count(b"HTTP/1.1") == 1
    assert b"content-length: 3\r\n" in wire.got
    assert "answered already" in caplog.text
