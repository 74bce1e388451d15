"""What both gRPC servers bear: too many calls, too large messages, callers that leave, floods, and their own end."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from tests.grpc_transports import Server, Transport
from tests.unit.test_chassis_grpc import LIMIT, WIRE_NAME, Answer, Ask, code_of, failure, method

from vedette.chassis.config import ConfigurationError, ServiceSettings
from vedette.chassis.grpc_fast import FastGrpcServer
from vedette.chassis.grpc_server import GrpcServer
from vedette.chassis.grpc_transport import grpc_server
from vedette.chassis.rpc import Rpc, RpcService
from vedette.core.metrics import NoMetrics


class Room:
    """A service whose calls stay until the test lets them go, and that counts who came, left and stayed."""

    def __init__(self) -> None:
        self.inside = 0
        self.left = 0
        self.go = asyncio.Event()
        self.changed = asyncio.Condition()

    async def stay(self, request: Message, context: Any) -> Any:
        await self._count(1)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            await asyncio.shield(self._count(-1))
        return Answer(status=1)

    async def stream(self, request: Message, context: Any) -> AsyncIterator[Any]:
        yield await self.stay(request, context)

    async def give_up(self, request: Message, context: Any) -> Any:
        raise asyncio.CancelledError

    async def until(self, inside: int) -> None:
        """Wait for so many calls in the room."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.inside == inside)

    async def _count(self, step: int) -> None:
        async with self.changed:
            self.inside += step
            self.changed.notify_all()

    def table(self) -> RpcService:
        methods = (
            Rpc("One", "unary_unary", "predict", self.stay, Ask, Answer),
            Rpc("Many", "unary_stream", "read", self.stream, Ask, Answer),
            Rpc("GiveUp", "unary_unary", "predict", self.give_up, Ask, Answer),
        )
        return RpcService(WIRE_NAME, methods, reflect_as="toys")


@contextlib.asynccontextmanager
async def open_room(transport: Transport, room: Room, **limits: int) -> AsyncIterator[Server]:
    server = transport((room.table(),), service="test", metrics=NoMetrics(), max_message_bytes=LIMIT, **limits)
    await server.start("127.0.0.1:0")
    try:
        yield server
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def channel_to(server: Server, name: str = "") -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        yield channel


@pytest.mark.parametrize(("name", "kind"), [("One", "unary_unary"), ("Many", "unary_stream")])
async def test_calls_over_the_cap_are_refused(transport: Transport, name: str, kind: str) -> None:
    """One call too many is RESOURCE_EXHAUSTED at once; those inside are answered, and then there is room again."""
    room = Room()
    async with open_room(transport, room, max_calls=2) as server, channel_to(server) as channel:
        calls = [method(channel, name, kind)(Ask()) for _ in range(2)]
        reading = [asyncio.ensure_future(_first(call, kind)) for call in calls]
        await room.until(2)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await _first(method(channel, name, kind)(Ask(), timeout=10), kind)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        room.go.set()
        assert [answer.status for answer in await asyncio.gather(*reading)] == [1, 1]
        assert (await _first(method(channel, name, kind)(Ask()), kind)).status == 1


async def _first(call: Any, kind: str) -> Any:
    return await (call if kind == "unary_unary" else call.read())


async def test_the_fast_transport_names_the_code_of_its_refusals() -> None:
    """What is refused by the adapter itself has its code, like every other error."""
    pytest.importorskip("pygrpc_native")
    room = Room()
    async with open_room(FastGrpcServer, room, max_calls=1) as server, channel_to(server) as channel:
        inside = asyncio.ensure_future(method(channel, "One")(Ask()))
        await room.until(1)
        assert code_of(await failure(method(channel, "One")(Ask(), timeout=10))) == "overloaded"
        room.go.set()
        await inside
        assert code_of(await failure(method(channel, "One")(Ask(service="x" * LIMIT)))) == "too_large"


async def test_connections_over_the_cap_are_closed() -> None:
    """grpcio takes no more connections than it is told; the one it has is served on."""
    room = Room()
    room.go.set()
    async with open_room(GrpcServer, room, max_connections=1) as server, channel_to(server) as first:
        assert (await method(first, "One")(Ask())).status == 1
        async with channel_to(server) as second:
            assert (await failure(method(second, "One")(Ask()))).code() is grpc.StatusCode.UNAVAILABLE
        assert (await method(first, "One")(Ask())).status == 1


async def test_a_message_is_measured_after_it_is_inflated(transport: Transport) -> None:
    """Few bytes on the wire, too many in memory: refused as the same message is without compression."""
    room = Room()
    room.go.set()
    async with open_room(transport, room) as server, channel_to(server) as channel:
        one = method(channel, "One")
        small, large = Ask(service="x" * 1000), Ask(service="x" * 50 * LIMIT)
        assert (await one(small, compression=grpc.Compression.Gzip)).status == 1
        assert len(gzip.compress(large.SerializeToString())) < LIMIT
        error = await failure(one(large, compression=grpc.Compression.Gzip))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await one(small)).status == 1


async def test_metadata_over_the_limit(transport: Transport) -> None:
    """Headers of 64 KiB end their own call, with whatever status, and nothing else."""
    room = Room()
    room.go.set()
    async with open_room(transport, room) as server, channel_to(server) as channel:
        await failure(method(channel, "One")(Ask(), metadata=(("k", "v" * 65536),)))
        assert (await method(channel, "One")(Ask())).status == 1


@pytest.mark.parametrize(("name", "kind"), [("One", "unary_unary"), ("Many", "unary_stream")])
async def test_a_caller_that_hangs_up_ends_its_calls(transport: Transport, name: str, kind: str) -> None:
    """Closing the connection cancels what it had under way; others stay."""
    room = Room()
    async with open_room(transport, room) as server, channel_to(server) as stays:
        async with channel_to(server) as leaves:
            mine = [asyncio.ensure_future(_first(method(leaves, name, kind)(Ask()), kind)) for _ in range(3)]
            other = asyncio.ensure_future(_first(method(stays, name, kind)(Ask()), kind))
            await room.until(4)
        await room.until(1)
        assert room.left == 3
        await asyncio.gather(*mine, return_exceptions=True)
        room.go.set()
        assert (await other).status == 1


async def test_calls_cancelled_before_they_begin_are_forgotten(transport: Transport) -> None:
    """Cancelled at once, before the handler can have run: no call stays open, and soon all the room is free again."""
    room = Room()
    async with open_room(transport, room, max_calls=8) as server, channel_to(server) as channel:
        for _ in range(50):
            call = method(channel, "One")(Ask())
            await asyncio.sleep(0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        inside = await _filled(channel, room, 8)
        room.go.set()
        assert [answer.status for answer in await asyncio.gather(*inside)] == [1] * 8


async def test_a_call_and_its_end_that_arrive_together_leave_nothing() -> None:
    """The task is cancelled before its first step, so nothing of it ever runs; it is forgotten all the same."""
    room = Room()
    server = FastGrpcServer((room.table(),), service="test", metrics=NoMetrics(), max_message_bytes=LIMIT)
    came, gone = (0, 7, 0, b"", None, ((), "ipv4:127.0.0.1:1", None)), (1, 7, 0, None, None, None)
    server._arrived(None, asyncio.get_running_loop(), [came, gone])
    (task,) = server._open.values()
    await asyncio.wait([task])
    await asyncio.sleep(0)  # the callbacks of the task
    assert not server._open


async def _filled(channel: grpc.aio.Channel, room: Room, calls: int) -> list[asyncio.Future[Any]]:
    """So many calls inside at once; one that is refused while others are still leaving is made again."""
    inside: list[asyncio.Future[Any]] = []
    async with asyncio.timeout(10):
        while room.inside < calls:
            inside = [call for call in inside if not call.done()]
            while len(inside) < calls:
                inside.append(asyncio.ensure_future(method(channel, "One")(Ask())))
            async with room.changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(room.changed.wait(), 0.05)
    return inside


async def test_a_handler_that_is_cancelled_from_within_answers(transport: Transport) -> None:
    """A cancellation that no caller asked for ends the call all the same: nobody waits for ever."""
    async with open_room(transport, Room()) as server, channel_to(server) as channel:
        error = await failure(method(channel, "GiveUp")(Ask(), timeout=10))
        assert (error.code(), code_of(error)) == (grpc.StatusCode.CANCELLED, "cancelled")


async def test_the_end_waits_for_calls_in_flight(transport: Transport) -> None:
    """Every call that was inside when the server stopped is answered; one that comes later is refused."""
    room = Room()
    async with open_room(transport, room) as server, channel_to(server) as channel:
        calls = [asyncio.ensure_future(method(channel, "One")(Ask())) for _ in range(40)]
        await room.until(40)
        stopping = asyncio.create_task(server.stop(10))
        while (error := await _refused(channel)) is None:
            pass
        # grpcio's server cancels what had just come
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        room.go.set()
        assert [answer.status for answer in await asyncio.gather(*calls)] == [1] * 40
        await stopping


async def _refused(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError | None:
    """What a new call is told, None while it is let in."""
    try:
        await method(channel, "One")(Ask(), timeout=0.2)
    except grpc.aio.AioRpcError as error:
        return None if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else error
    return None


async def test_the_end_waits_no_longer_than_it_may(transport: Transport) -> None:
    """What is inside when the time is over is cancelled, and its caller is told something."""
    room = Room()
    async with open_room(transport, room) as server, channel_to(server) as channel:
        inside = [asyncio.ensure_future(method(channel, "One")(Ask())) for _ in range(3)]
        await room.until(3)
        await server.stop(0.05)
        await room.until(0)
        assert room.left == 3
        for error in await asyncio.gather(*inside, return_exceptions=True):
            assert isinstance(error, grpc.aio.AioRpcError)


async def test_workers_share_a_port(transport: Transport) -> None:
    """Two servers on one port, as two workers have it; calls go on when one of them ends."""
    rooms = [Room(), Room()]
    for room in rooms:
        room.go.set()
    async with open_room(transport, rooms[0]) as first:
        second = transport((rooms[1].table(),), service="test", metrics=NoMetrics(), max_message_bytes=LIMIT)
        await second.start(f"127.0.0.1:{first.port}")
        assert second.port == first.port
        async with channel_to(first) as channel:
            assert (await method(channel, "One")(Ask())).status == 1
        await first.stop(0)
        async with channel_to(second) as channel:
            assert (await method(channel, "One")(Ask(), wait_for_ready=True, timeout=10)).status == 1
        await second.stop(0)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(stream: int, fields: dict[str, str], flags: int = 0x4) -> bytes:
    """A HEADERS frame whose fields are literals without indexing (RFC 7541, 6.2.2)."""
    block = b""
    for name, value in fields.items():
        block += b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
    return frame(1, flags, stream, block)


START = PREFACE + frame(4)
CALL = {":method": "POST", ":scheme": "http", ":path": f"/{WIRE_NAME}/One", ":authority": "a",
        "content-type": "application/grpc", "te": "trailers"}  # fmt: skip
EMPTY = frame(0, 0x1, 0, b"\0" * 5)
FLOODS = {
    "not HTTP/2": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 50,
    "noise": bytes(range(256)) * 200,
    "pings": START + frame(6, 0, 0, b"12345678") * 20_000,
    "settings": START + frame(4) * 20_000,
    "calls taken back at once": START
    + b"".join(headers(n, CALL) + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 6001, 2)),
    "headers without end": START + headers(1, CALL, flags=0) + frame(9, 0, 1, b"\x00\x01a\x7f" + b"v" * 127) * 5000,
    "a message that never comes": START + headers(1, CALL) + frame(0, 0, 1, b"\0\xff\xff\xff\xff" + b"x" * 1000),
    "a frame longer than allowed": START + struct.pack(">I", 1 << 23)[1:] + b"\0\0\0\0\0\1" + b"x" * 100_000,
    "a compressed message that is none": START
    + headers(1, CALL | {"grpc-encoding": "gzip"}) + frame(0, 1, 1, b"\1\0\0\0\x04nope"),
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_hostile_connection_harms_no_other(transport: Transport, flood: str) -> None:
    """Whatever bytes come: the server lives, no call stays open for them, and another client is answered."""
    room = Room()
    async with open_room(transport, room) as server, channel_to(server) as channel:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        reading = asyncio.ensure_future(reader.read())
        with contextlib.suppress(ConnectionError):
            writer.write(FLOODS[flood])
            await asyncio.wait_for(writer.drain(), 10)
        room.go.set()
        assert (await method(channel, "One")(Ask(), timeout=20)).status == 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await room.until(0)


def settings(**fields: Any) -> ServiceSettings:
    return ServiceSettings(**fields)


def test_each_transport_is_opened_when_it_is_asked_for() -> None:
    """grpcio unless told otherwise; fast by its name, on loopback without a further word."""
    pytest.importorskip("pygrpc_native")
    assert isinstance(grpc_server((), settings(), service="test", metrics=NoMetrics(), tracer=None), GrpcServer)
    for host in ("127.0.0.1", "localhost", "::1", "[::1]"):
        asked = settings(grpc_transport="fast", host=host)
        assert isinstance(grpc_server((), asked, service="test", metrics=NoMetrics(), tracer=None), FastGrpcServer)
    trusted = settings(grpc_transport="fast", host="0.0.0.0", grpc_trusted_clients=True)
    assert isinstance(grpc_server((), trusted, service="test", metrics=NoMetrics(), tracer=None), FastGrpcServer)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"grpc_max_connections": 10}, r"grpc_max_connections: .* cannot count connections"),
        ({"host": "0.0.0.0"}, r"fast on host 0\.0\.0\.0 .* grpc_trusted_clients"),
        ({"host": "::"}, "grpc_trusted_clients"),
        ({"host": "serving.example"}, "grpc_trusted_clients"),
    ],
)
def test_fast_is_refused_with_what_it_cannot_enforce(fields: dict[str, Any], words: str) -> None:
    """A limit that is asked for is enforced, or nothing starts."""
    pytest.importorskip("pygrpc_native")
    asked = settings(grpc_transport="fast", **fields)
    with pytest.raises(ConfigurationError, match=words):
        grpc_server((), asked, service="test", metrics=NoMetrics(), tracer=None)


def test_fast_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the extra, and the way back."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'vedette\[fast\]'; or use grpcio"):
        grpc_server((), settings(grpc_transport="fast"), service="test", metrics=NoMetrics(), tracer=None)
