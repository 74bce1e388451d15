"""Connections over real sockets: pipelining, continuing, closing, streams, slow readers, eager tasks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.chassis.connections import Outbox
from vedette.chassis.eager import start_eagerly
from vedette.chassis.http_server import HttpServer

App = Callable[[Any, Any], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(
    app: App, *, idle_timeout_s: float = 10.0, keep_alive_timeout_s: float = 75.0
) -> AsyncIterator[tuple[Any, HttpServer]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = HttpServer(app, listener, idle_timeout_s=idle_timeout_s, keep_alive_timeout_s=keep_alive_timeout_s)
        await server.start()
        try:
            yield listener.getsockname(), server
        finally:
            await server.stop(1)


async def echo(scope: Any, protocol: Any) -> None:
    body = await protocol()
    protocol.response_bytes(200, [("x-path", scope.path)], body)


async def talk(address: Any, *parts: bytes, until: bytes = b"") -> bytes:
    """Send parts, each when the loop has turned, and read to the end, or to `until`."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/{version}", "Host: h", *fields, "", "")).encode()


def post(body: bytes, *fields: str) -> bytes:
    return "\r\n".join(("POST /p HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *fields, "", "")).encode() + body


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests sent at once, cut anywhere, are answered one after another, also where one has to wait."""

    async def app(scope: Any, protocol: Any) -> None:
        if scope.path == "/b":
            await asyncio.sleep(0.01)
        await echo(scope, protocol)

    raw = get("/a") + get("/b") + post(b"body") + b"\r\n" + get("/c", "Connection: close")
    async with serving(app) as (address, _):
        for cut in (0, 5, 30, 60, 100):
            answer = await talk(address, raw[:cut], raw[cut:])
            assert [line for line in answer.split(b"\r\n") if line.startswith(b"x-path")] == [
                b"x-path: /a", b"x-path: /b", b"x-path: /p", b"x-path: /c",
            ]  # fmt: skip
            assert answer.count(b"connection: close") == 1


async def test_a_body_in_many_parts_is_whole() -> None:
    """A body that comes in another packet than its head, or in several, arrives as it was sent."""
    body = bytes(range(256)) * 4000
    async with serving(echo) as (address, _):
        raw = post(body, "Connection: close")
        end = raw.index(b"\r\n\r\n") + 4
        for parts in ((raw[:end], raw[end:]), (raw[:end], raw[end : end + 9], raw[end + 9 :]), (raw[:10], raw[10:])):
            assert (await talk(address, *parts)).endswith(b"\r\n\r\n" + body)


async def test_a_client_is_told_to_continue() -> None:
    """`Expect: 100-continue` is met when the application asks for the body, and not when it does not."""

    async def app(scope: Any, protocol: Any) -> None:
        if scope.path == "/no":
            protocol.response_empty(417, [])
        else:
            await echo(scope, protocol)

    async with serving(app) as (address, _):
        raw = post(b"hello", "Expect: 100-continue")[:-5]
        assert await talk(address, raw, until=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        refused = await talk(address, raw.replace(b"/p ", b"/no "), until=b"\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 417")
        assert b"connection: close" in refused


async def test_head_has_the_length_and_no_body() -> None:
    """HEAD tells the length that GET's body has."""

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_bytes(200, [], b"12345")

    async with serving(app) as (address, _):
        answer = await talk(address, get("/", "Connection: close").replace(b"GET", b"HEAD"))
        assert b"content-length: 5\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


async def test_http_1_0_gets_an_end_of_connection() -> None:
    """An old client is answered and the connection closed; a stream to it ends with the connection."""

    async def app(scope: Any, protocol: Any) -> None:
        stream = protocol.response_stream(200, [])
        await stream.send_bytes(b"one ")
        await stream.send_bytes(b"two")

    async with serving(app) as (address, _):
        assert (await talk(address, get("/", version="1.0"))).endswith(b"\r\n\r\none two")
        chunked = await talk(address, get("/", "Connection: close"))
        assert chunked.endswith(b"\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_a_broken_stream_does_not_look_whole() -> None:
    """An answer that its maker could not finish has no last chunk."""

    async def app(scope: Any, protocol: Any) -> None:
        stream = protocol.response_stream(200, [])
        await stream.send_bytes(b"half")
        stream.broken = True

    async with serving(app) as (address, _):
        with contextlib.suppress(ConnectionError):
            assert not (await talk(address, get("/"))).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("parts", [(b"half",), (b"whole one", b"and more")])
async def test_a_stream_of_another_length_than_told_is_broken_off(parts: tuple[bytes, ...]) -> None:
    """Too few bytes leave nobody waiting on the connection, and too many are not read as the next answer."""

    async def app(scope: Any, protocol: Any) -> None:
        stream = protocol.response_stream(200, [("content-length", "9")])
        for part in parts:
            await stream.send_bytes(part)

    async with serving(app) as (address, _):
        with contextlib.suppress(ConnectionError):
            assert b"more" not in await talk(address, get("/"))


async def test_a_stream_that_says_close_closes() -> None:
    """Also where the application, which drains, has said so."""

    async def app(scope: Any, protocol: Any) -> None:
        await protocol.response_stream(200, [("connection", "close")]).send_bytes(b"all")

    async with serving(app) as (address, _):
        assert (await talk(address, get("/"))).endswith(b"3\r\nall\r\n0\r\n\r\n")


async def test_no_header_of_an_answer_can_begin_another() -> None:
    """A value with a line break, whoever gave it, does not leave."""

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_bytes(200, [("x-bad", "a\r\nset-cookie: b"), ("x-good", "c\u20ac")], b"")

    async with serving(app) as (address, _):
        answer = await talk(address, get("/", "Connection: close"))
        assert b"set-cookie" not in answer
        assert b"x-good: c?\r\n" in answer


@pytest.mark.parametrize("raw", [b"\x16\x03\x01", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"A" * 70_000])
async def test_what_is_no_request_ends_the_connection(raw: bytes) -> None:
    """A refusal without a word, and the end."""
    async with serving(echo) as (address, _):
        answer = await talk(address, raw)
        assert answer.startswith(b"HTTP/1.1 4")
        assert answer.endswith(b"content-length: 0\r\n\r\n")


async def test_who_does_not_read_is_closed_and_holds_up_nobody() -> None:
    """A client that asks for much and reads nothing is cut off; its later requests are not even begun."""
    begun = 0

    async def app(scope: Any, protocol: Any) -> None:
        nonlocal begun
        begun += 1
        protocol.response_bytes(200, [], bytes(8 << 20))

    async with serving(app, idle_timeout_s=0.3) as (address, server):
        _, writer = await asyncio.open_connection(*address, limit=1)
        writer.write(get("/") * 50)
        await _until(lambda: begun)
        await _until(lambda: not server.open)
        assert begun < 5
        writer.close()


async def test_a_kept_connection_has_a_time_of_its_own() -> None:
    """An answered one stays while one with half a head goes; half a second request has a head's time again."""
    async with serving(echo, idle_timeout_s=0.2) as (address, server):
        kept_reader, kept = await asyncio.open_connection(*address)
        kept.write(get("/a"))
        await kept_reader.readuntil(b"\r\n\r\n")
        reader, slow = await asyncio.open_connection(*address)
        slow.write(b"GET /b HT")
        assert await reader.read() == b""
        assert len(server.open) == 1
        kept.write(get("/c"))
        assert b"x-path: /c" in await kept_reader.readuntil(b"\r\n\r\n")
        kept.write(b"GET /d HT")
        assert await kept_reader.read() == b""
        kept.close()
        slow.close()


async def test_a_kept_connection_is_closed_in_the_end() -> None:
    """After its own time."""
    async with serving(echo, keep_alive_timeout_s=0.2) as (address, server):
        answer = await talk(address, get("/a"))
        assert answer.startswith(b"HTTP/1.1 200")
        await _until(lambda: not server.open)


async def test_an_application_that_gives_no_answer_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of the error is told, and the connection ends."""

    async def app(scope: Any, protocol: Any) -> None:
        if scope.path == "/raise":
            raise RuntimeError("secret")

    async with serving(app) as (address, _):
        for path in ("/silent", "/raise"):
            answer = await talk(address, get(path))
            assert answer.startswith(b"HTTP/1.1 500")
            assert b"secret" not in answer
    assert "secret" in caplog.text


async def test_a_file_is_sent_whole(tmp_path: Path) -> None:
    """In parts, with its length."""
    (tmp_path / "file").write_bytes(bytes(range(256)) * 3000)

    async def app(scope: Any, protocol: Any) -> None:
        protocol.response_file(200, [], str(tmp_path / "file"))

    async with serving(app) as (address, _):
        answer = await talk(address, get("/", "Connection: close"))
        assert b"content-length: 768000\r\n" in answer
        assert answer.endswith(bytes(range(256)) * 3000)


async def test_stopping_ends_idle_connections_and_answers_the_others() -> None:
    """A request in flight is answered with `connection: close`; who only keeps a connection is let go."""
    go = asyncio.Event()

    async def app(scope: Any, protocol: Any) -> None:
        await go.wait()
        await echo(scope, protocol)

    async with serving(app) as (address, server):
        idle, idler = await asyncio.open_connection(*address)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(get("/"))
        await _until(lambda: any(connection.exchange for connection in server.open))
        stopping = asyncio.create_task(server.stop(5))
        assert await asyncio.wait_for(idle.read(), 5) == b""
        go.set()
        assert b"connection: close" in await asyncio.wait_for(reader.read(), 5)
        await stopping
        assert not server.open
        for end in (idler, writer):
            end.close()
            await end.wait_closed()


class Turns:
    """A loop whose turns a test takes, and its clock."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.time = 1.0

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for call in due:
            call()


class Client:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.got.append(data)


def test_the_loop_looks_for_the_next_request_only_while_that_finds_one() -> None:
    """After a lone answer it stays awake for a moment; in vain a few times, and it sleeps but for a rare try."""
    loop, client = Turns(), Client()
    box = Outbox(loop, now=lambda: loop.time)  # type: ignore[arg-type]

    def answer() -> bool:
        """One answer; whether the loop then stays awake."""
        box.put(client, b"a")  # type: ignore[arg-type]
        loop.turn()
        return bool(loop.soon)

    def wait() -> None:
        loop.time += 1
        loop.turn()

    for _ in range(50):
        assert answer()
    looks = []
    for _ in range(100):
        wait()
        looks.append(answer())
    assert looks[0]
    assert not any(looks[2:30])
    assert 2 <= sum(looks) <= 6
    assert len(client.got) == 150


def test_answers_of_one_turn_leave_together_and_nobody_looks() -> None:
    """Each client gets its own, and a busy loop needs no help to stay awake."""
    loop, clients = Turns(), [Client() for _ in range(3)]
    box = Outbox(loop, now=lambda: loop.time)  # type: ignore[arg-type]
    for number, client in enumerate(clients):
        box.put(client, b"%d" % number)  # type: ignore[arg-type]
    assert len(loop.soon) == 1
    loop.turn()
    assert [client.got for client in clients] == [[b"0"], [b"1"], [b"2"]]
    assert not loop.soon


async def test_a_task_begins_at_once_and_is_a_task() -> None:
    """The first step runs inside the call, in a context of its own; waiting, cancelling and results are asyncio's."""
    steps: list[object] = []

    async def work() -> str:
        steps.append(asyncio.current_task())
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        steps.append(asyncio.current_task())
        return "done"

    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def begin() -> None:
        task = start_eagerly(loop, work())
        assert steps == [task], "its first step has run"
        task.add_done_callback(lambda ended: done.set_result(ended))

    loop.call_soon(begin)
    task = await done
    assert await task == "done"
    assert steps == [task, task]
    assert "call_soon" not in vars(loop)


async def _until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110 - what is awaited is the server's own state
            await asyncio.sleep(0.01)
