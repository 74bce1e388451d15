"""Both gRPC adapters driven by real channels: errors, limits, health, and reflection as a stranger uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.grpc_transports import Server, Transport

from vedette.chassis.config import ConfigurationError
from vedette.chassis.logs import REQUEST_ID, TRACE_ID
from vedette.chassis.rpc import Rpc, RpcService
from vedette.chassis.telemetry import CellMetrics
from vedette.chassis.tracing import Tracer
from vedette.core.errors import BY_CODE, CODES, ModelFailed, NotFound

Ask = health_pb2.HealthCheckRequest
Answer = health_pb2.HealthCheckResponse
LIMIT = 64 * 1024
WIRE_NAME = "toys.ToyService"


class Toy:
    """Handlers whose behaviour follows the request's text."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.ids: list[tuple[str, str]] = []

    async def one(self, request: Any, context: Any) -> Any:
        self.ids.append((REQUEST_ID.get(), TRACE_ID.get()))
        if request.service in BY_CODE:
            raise BY_CODE[request.service]("as asked")
        if request.service == "broken":
            raise RuntimeError("secret /etc/path")
        if request.service == "forever":
            await self._forever()
        return Answer(status=len(request.service) % 3)

    async def many(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.ids.append((REQUEST_ID.get(), TRACE_ID.get()))
        yield Answer(status=1)
        if request.service == "broken":
            raise RuntimeError("secret /etc/path")
        if request.service == "failed":
            raise ModelFailed("as asked")
        if request.service == "forever":
            await self._forever()
        yield Answer(status=2)

    async def both(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.service == "missing":
                raise NotFound("as asked")
            yield Answer(status=1)

    async def gather(self, requests: AsyncIterator[Any], context: Any) -> Any:
        return Answer(status=len([request async for request in requests]))

    async def _forever(self) -> None:
        self.entered.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def table(self) -> RpcService:
        methods = (
            Rpc("One", "unary_unary", "predict", self.one, Ask, Answer),
            Rpc("Many", "unary_stream", "read", self.many, Ask, Answer),
            Rpc("Both", "stream_stream", "read", self.both, Ask, Answer),
            Rpc("Gather", "stream_unary", "read", self.gather, Ask, Answer),
        )
        return RpcService(WIRE_NAME, methods, reflect_as="toys")


@pytest.fixture
async def toy() -> Toy:
    return Toy()


@contextlib.asynccontextmanager
async def serving(
    transport: Transport, toy: Toy, metrics: CellMetrics | None = None, tracer: Tracer | None = None, **limits: int
) -> AsyncIterator[tuple[grpc.aio.Channel, Server]]:
    server = transport(
        (toy.table(),),
        service="test",
        metrics=metrics or CellMetrics.alone(),
        max_message_bytes=LIMIT,
        tracer=tracer,
        **limits,
    )
    await server.start("127.0.0.1:0")
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    try:
        yield channel, server
    finally:
        await channel.close()
        await server.stop(0)


@pytest.fixture
async def channel(transport: Transport, toy: Toy) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(transport, toy) as (found, _):
        yield found


def method(channel: grpc.aio.Channel, name: str, kind: str = "unary_unary", raw: bool = False) -> Any:
    return getattr(channel, kind)(
        f"/{WIRE_NAME}/{name}",
        request_serializer=None if raw else Ask.SerializeToString,
        response_deserializer=Answer.FromString,
    )


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def code_of(error: grpc.aio.AioRpcError) -> str:
    return str(dict(error.trailing_metadata() or ()).get("vedette-code", ""))


async def test_all_four_kinds(channel: grpc.aio.Channel) -> None:
    """Unary and streaming methods, both ways."""
    asks = [Ask(service="a"), Ask(service="b")]
    assert (await method(channel, "One")(Ask(service="a"))).status == 1
    assert [a.status async for a in method(channel, "Many", "unary_stream")(Ask())] == [1, 2]
    assert [a.status async for a in method(channel, "Both", "stream_stream")(iter(asks))] == [1, 1]
    assert (await method(channel, "Gather", "stream_unary")(iter(asks))).status == 2


@pytest.mark.parametrize("code", sorted(BY_CODE))
async def test_every_code_has_its_status(channel: grpc.aio.Channel, code: str) -> None:
    """An error arrives with its gRPC status, its message, and its code in trailing metadata."""
    error = await failure(method(channel, "One")(Ask(service=code)))
    assert (error.code().value[0], error.details(), code_of(error)) == (CODES[code].grpc, "as asked", code)


async def test_unknown_errors_show_only_an_id(channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture) -> None:
    """The text of an unforeseen exception stays in the log, unary or streaming."""
    error = await failure(method(channel, "One")(Ask(service="broken")))
    assert (error.code(), code_of(error)) == (grpc.StatusCode.INTERNAL, "internal")
    assert "secret" not in str(error.details())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        _ = [a async for a in method(channel, "Many", "unary_stream")(Ask(service="broken"))]
    assert "finds it in the log" in str(raised.value.details())
    assert caplog.text.count("RuntimeError: secret /etc/path") == 2


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(("name", "kind"), [("One", "unary_unary"), ("Many", "unary_stream")])
async def test_the_callers_ids_stand_in_the_log(channel: grpc.aio.Channel, toy: Toy, name: str, kind: str) -> None:
    """Request and trace id from the metadata; a call without them, or with strange ones, gets an id of ours."""
    strange = (("x-request-id", "a b"), ("traceparent", "00-x"))
    for metadata in ((("x-request-id", "r-1"), ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")), strange, ()):
        call = method(channel, name, kind)(Ask(service="a"), metadata=metadata)
        _ = [answer async for answer in call] if kind == "unary_stream" else await call
    assert toy.ids[0] == ("r-1", TRACE)
    (first, no_trace), (second, none) = toy.ids[1:]
    assert len({"r-1", "a b", "", first, second}) == 5
    assert (no_trace, none) == ("", "")


async def test_a_failure_names_its_request(channel: grpc.aio.Channel) -> None:
    """The id that log lines have, also where the error is the caller's own."""
    for service in ("not_found", "broken"):
        error = await failure(method(channel, "One")(Ask(service=service), metadata=(("x-request-id", "r-1"),)))
        assert dict(error.trailing_metadata() or ())["x-request-id"] == "r-1"
    assert "r-1" in str(error.details())


async def test_streams_deliver_before_they_fail(channel: grpc.aio.Channel) -> None:
    """What was sent before an error arrives; then the error with its code."""
    received: list[int] = []
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _drain(method(channel, "Many", "unary_stream")(Ask(service="failed")), received)
    assert (received, code_of(raised.value)) == ([1], "model_failed")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        _ = [a async for a in method(channel, "Both", "stream_stream")(iter([Ask(service="missing")]))]
    assert code_of(raised.value) == "not_found"


async def test_malformed_messages_are_the_callers_fault(channel: grpc.aio.Channel) -> None:
    """Bytes that are no message are INVALID_ARGUMENT, not our failure."""
    error = await failure(method(channel, "One", raw=True)(b"\xff\xff\xff"))
    assert (error.code(), code_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        _ = [a async for a in method(channel, "Both", "stream_stream", raw=True)(iter([b"\xff\xff"]))]
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_messages_over_the_limit(channel: grpc.aio.Channel) -> None:
    """A message over the limit is refused before it is parsed; the server lives on."""
    error = await failure(method(channel, "One")(Ask(service="x" * (LIMIT + 1))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await method(channel, "One")(Ask(service="a"))).status == 1


@pytest.mark.parametrize(("name", "kind"), [("One", "unary_unary"), ("Many", "unary_stream")])
async def test_cancellation_reaches_the_handler(channel: grpc.aio.Channel, toy: Toy, name: str, kind: str) -> None:
    """A caller that cancels ends the handler."""
    call = method(channel, name, kind)(Ask(service="forever"))
    reading = asyncio.ensure_future(call if kind == "unary_unary" else _drain(call))
    await asyncio.wait_for(toy.entered.wait(), 5)
    call.cancel()
    await asyncio.wait_for(toy.cancelled.wait(), 5)
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def _drain(call: Any, received: list[int] | None = None) -> None:
    async for answer in call:
        if received is not None:
            received.append(answer.status)


async def test_deadline_of_the_caller(channel: grpc.aio.Channel, toy: Toy) -> None:
    """A deadline ends the handler and the call."""
    error = await failure(method(channel, "One")(Ask(service="forever"), timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(toy.cancelled.wait(), 5)


async def test_health_follows_readiness(transport: Transport, toy: Toy) -> None:
    """Health speaks for the process and each service, and follows what it is told."""
    async with serving(transport, toy) as (channel, server):
        check = health_pb2_grpc.HealthStub(channel).Check
        assert (await failure(check(Ask(service=WIRE_NAME)))).code() is grpc.StatusCode.NOT_FOUND
        for serving_now, status in ((True, 1), (False, 2)):
            await server.set_serving(serving=serving_now)
            assert [(await check(Ask(service=name))).status for name in ("", WIRE_NAME)] == [status, status]


async def test_calls_are_counted_by_code(transport: Transport, toy: Toy) -> None:
    """Every call counts once under OK or its code."""
    metrics = CellMetrics.alone()
    async with serving(transport, toy, metrics) as (channel, _):
        await method(channel, "One")(Ask())
        await _drain(method(channel, "Many", "unary_stream")(Ask()))
        await failure(method(channel, "One")(Ask(service="not_found")))
    counted = {code: metrics.counter("vedette_rpcs_total", service="test", code=code) for code in ("OK", "not_found")}
    assert {code: counter.cells[counter.base] for code, counter in counted.items()} == {"OK": 2, "not_found": 1}


async def test_port_in_use(transport: Transport, toy: Toy) -> None:
    """A gRPC address that cannot be bound is a configuration error."""
    server = transport((toy.table(),), service="test", metrics=CellMetrics.alone(), max_message_bytes=LIMIT)
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:1"):
        await server.start("192.0.2.1:1")


async def _reflected(channel: grpc.aio.Channel, **query: str) -> list[Any]:
    requests = iter([reflection_pb2.ServerReflectionRequest(**query)])
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return [response async for response in stub.ServerReflectionInfo(requests)]


async def test_a_stranger_calls_by_reflection_alone(channel: grpc.aio.Channel) -> None:
    """A client that has no generated code finds the service, its messages under its package, and calls it."""
    (listing,) = await _reflected(channel, list_services="")
    names = [service.name for service in listing.list_services_response.service]
    assert set(names) == {WIRE_NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    pool = descriptor_pool.DescriptorPool()
    (found,) = await _reflected(channel, file_containing_symbol=WIRE_NAME)
    await _learn(channel, pool, found)
    described = pool.FindServiceByName(WIRE_NAME)
    one = described.methods_by_name["One"]
    assert one.input_type.full_name == "toys.HealthCheckRequest"
    assert (described.methods_by_name["Both"].client_streaming, one.server_streaming) == (True, False)
    request, response = (message_factory.GetMessageClass(kind) for kind in (one.input_type, one.output_type))
    call = channel.unary_unary(
        f"/{WIRE_NAME}/One", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    assert (await call(request(service="a"))).status == 1


async def _learn(channel: grpc.aio.Channel, pool: descriptor_pool.DescriptorPool, response: Any) -> None:
    """Add the files of an answer to the pool, asking for what they import first, as grpcurl does."""
    for raw in response.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(raw)
        for name in file.dependency:
            try:
                pool.FindFileByName(name)
            except KeyError:
                (needed,) = await _reflected(channel, file_by_filename=name)
                await _learn(channel, pool, needed)
        with contextlib.suppress(TypeError):
            pool.AddSerializedFile(raw)


async def test_reflection_touches_no_shared_pool(channel: grpc.aio.Channel) -> None:
    """The renamed messages are not in the process-wide pool, where a client library's own would clash."""
    assert (await method(channel, "One")(Ask(service="a"))).status == 1
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("toys.HealthCheckRequest")
