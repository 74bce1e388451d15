"""The gRPC adapter: a service's tables on a `grpc.aio` server, with health and reflection.

Rule: no interceptors; each handler is wrapped once, when the server is built. A `VedetteError` becomes its
status with the code (`vedette-code`) and the request's id in trailing metadata; anything unknown shows that id
and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import _async as health_aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from vedette.chassis.config import ConfigurationError
from vedette.chassis.logs import REQUEST_ID, SANE_ID, TRACE_ID, log_unexpected
from vedette.chassis.reflection import add_files, reflection_pool
from vedette.chassis.rpc import Rpc, RpcService
from vedette.chassis.tracing import Tracer, trace_id_of
from vedette.core.errors import CODES, InvalidArgument, VedetteError
from vedette.core.metrics import Counter, Metrics

CODE_KEY = "vedette-code"
ID_KEY = "x-request-id"
_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class GrpcServer:
    """One gRPC server of one worker. `start` binds with SO_REUSEPORT, so that workers share the port."""

    def __init__(
        self,
        services: tuple[RpcService, ...],
        *,
        service: str,
        metrics: Metrics,
        max_message_bytes: int,
        tracer: Tracer | None = None,
    ) -> None:
        self._services = services
        self._max_message_bytes = max_message_bytes
        self._calls = _Calls(service, metrics, tracer)
        self._health = health_aio.HealthServicer()
        self._names = [table.name for table in services]
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, address: str) -> None:
        """Listen on `host:port`.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        for table in self._services:
            handlers = {rpc.name: self._calls.handler(table.name, rpc) for rpc in table.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(table.name, handlers),))
            # the fast path of servers that look methods up in C (pygrpc-native) sees only registered ones
            server.add_registered_method_handlers(table.name, handlers)  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._reflect(server)
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {address} for gRPC; is the port in use?") from error
        await server.start()
        self._server = server

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service says of the process ("") and of each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for `grace_s`, then cancel them."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _reflect(self, server: grpc.aio.Server) -> None:
        pool = reflection_pool(self._services)
        add_files(pool, [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR])
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=pool)


def own_rpcs() -> tuple[str, ...]:
    """The methods that `GrpcServer` adds to every service, as their descriptors list them."""
    files = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    return tuple(f"{service.full_name}/{method.name}" for service in services for method in service.methods)


class _Malformed:
    """Stands for a message that does not parse, until the handler's wrapper can answer for it."""


_MALFORMED = _Malformed()


class _Calls:
    """Wraps handlers: errors to statuses, and one counter a status."""

    def __init__(self, service: str, metrics: Metrics, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._counters: dict[str, Counter] = {
            code: metrics.counter("vedette_rpcs_total", service=service, code=code) for code in ("OK", *CODES)
        }
        self._prefix = os.urandom(5).hex()
        self._numbers = itertools.count(1)

    def handler(self, table: str, rpc: Rpc) -> Any:
        """The grpc method handler for one line of a table."""
        make: Callable[..., Any] = getattr(grpc, f"{rpc.kind}_rpc_method_handler")
        call = self._streaming(rpc) if rpc.kind.endswith("stream") else self._single(rpc)
        if self._tracer is not None:
            trace = _traced_stream if rpc.kind.endswith("stream") else _traced
            call = trace(self._tracer, f"{table}/{rpc.name}", call)
        return make(call, request_deserializer=_parser(rpc.request), response_serializer=rpc.response.SerializeToString)

    def _single(self, rpc: Rpc) -> Callable[..., Any]:
        answered = self._counters["OK"]
        handler = rpc.handler
        streamed_in = rpc.kind == "stream_unary"

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self._identify(context)
            try:
                response = await handler(_checked(request) if streamed_in else _whole(request), context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await self._fail(context, error)
                raise  # unreachable: abort raises
            answered.inc()
            return response

        return call

    def _streaming(self, rpc: Rpc) -> Callable[..., Any]:
        answered = self._counters["OK"]
        handler = rpc.handler
        streamed_in = rpc.kind == "stream_stream"

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            self._identify(context)
            try:
                asked = _checked(request) if streamed_in else _whole(request)
                async with aclosing(handler(asked, context)) as responses:
                    async for response in responses:
                        yield response
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:  # noqa: BLE001 - `_fail` tells ours from unknown ones
                await self._fail(context, error)
            answered.inc()

        return call

    def _identify(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """The ids that log lines of this call have: the caller's, else one of ours."""
        request_id = ""
        for key, value in context.invocation_metadata() or ():
            if key == ID_KEY:
                request_id = value if isinstance(value, str) and SANE_ID.fullmatch(value) else ""
            elif key == "traceparent" and (trace_id := trace_id_of(str(value))):
                TRACE_ID.set(trace_id)
        REQUEST_ID.set(request_id or f"{self._prefix}-{next(self._numbers):x}")

    async def _fail(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
        """End the call with the error's status. Always raises."""
        request_id = REQUEST_ID.get()
        if not isinstance(error, VedetteError):
            error = log_unexpected(error, request_id)
        self._counters[error.code].inc()
        trailing = ((CODE_KEY, error.code), (ID_KEY, request_id))
        await context.abort(_STATUS[error.grpc_status], error.message, trailing_metadata=trailing)


def _traced(tracer: Tracer, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A span around each call of a method that answers once."""

    async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with tracer.server_span(name, _texts(context)) as span:
            await context.send_initial_metadata(span.headers())
            return await call(request, context)

    return traced


def _traced_stream(tracer: Tracer, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A span over each call of a method that answers in a stream, from the request to the last answer."""

    async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        span, failed = tracer.stream_span(name, _texts(context)), True
        try:
            await context.send_initial_metadata(span.headers())
            async with aclosing(call(request, context)) as responses:
                async for response in responses:
                    yield response
            failed = False
        finally:
            span.end(failed=failed)

    return traced


def _texts(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _parser(message: type[Message]) -> Callable[[bytes], Any]:
    """Parse, or hand on `_MALFORMED`: an exception here would reach the client as our own failure."""
    parse = message.FromString

    def read(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError:
            return _MALFORMED

    return read


def _whole(request: Any) -> Any:
    if request is _MALFORMED:
        raise InvalidArgument("the request is not a valid message of this method")
    return request


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _whole(request)
