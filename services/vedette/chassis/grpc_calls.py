"""What surrounds every gRPC call on both transports: ids for the log, the count by status, errors as statuses.

Rule: no interceptors; each handler is wrapped once, when its server is built. A `VedetteError` becomes its
status with the code (`vedette-code`) and the request's id in trailing metadata; anything unknown shows that
id and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from vedette.chassis.logs import REQUEST_ID, SANE_ID, TRACE_ID, log_unexpected
from vedette.chassis.rpc import Rpc
from vedette.chassis.tracing import Tracer, trace_id_of
from vedette.core.errors import CODES, Cancelled, InvalidArgument, VedetteError
from vedette.core.metrics import Counter, Metrics

CODE_KEY = "vedette-code"
ID_KEY = "x-request-id"
_STATUS = {status.value[0]: status for status in grpc.StatusCode}
Metadata = tuple[tuple[str, str], ...]


class Context(Protocol):
    """What a handler and its wrappers may ask of their call; grpcio's contexts are such."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def time_remaining(self) -> float | None: ...

    async def send_initial_metadata(self, initial_metadata: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call that failed is ended: the number of its status, its text, its trailing metadata."""

    status: int
    message: str
    trailing: Metadata = ()


class Calls:
    """Wraps handlers: errors to statuses, and one counter a status."""

    def __init__(self, service: str, metrics: Metrics, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._counters: dict[str, Counter] = {
            code: metrics.counter("vedette_rpcs_total", service=service, code=code) for code in ("OK", *CODES)
        }
        self.answered = self._counters["OK"].inc
        """Counts one call that was answered."""
        self._prefix = os.urandom(5).hex()
        self._numbers = itertools.count(1)

    def handler(self, table: str, rpc: Rpc) -> Any:
        """The grpcio method handler for one line of a table."""
        make: Callable[..., Any] = getattr(grpc, f"{rpc.kind}_rpc_method_handler")
        if rpc.kind.endswith("stream"):
            call = self._streaming(rpc)
            if self._tracer is not None:
                call = _traced_stream(self._tracer, f"{table}/{rpc.name}", call)
        else:
            call = self.traced(table, rpc, self._single(rpc))
        write = None if rpc.writes_bytes else rpc.response.SerializeToString
        return make(call, request_deserializer=parser(rpc), response_serializer=write)

    def traced(self, table: str, rpc: Rpc, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call of a method that answers once, with a span around it where spans are made."""
        return call if self._tracer is None else _traced(self._tracer, f"{table}/{rpc.name}", call)

    def identify(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """The ids that log lines of this call have: the caller's, else one of ours."""
        request_id = ""
        for key, value in metadata or ():
            if key == ID_KEY:
                request_id = value if isinstance(value, str) and SANE_ID.fullmatch(value) else ""
            elif key == "traceparent" and (trace_id := trace_id_of(str(value))):
                TRACE_ID.set(trace_id)
        REQUEST_ID.set(request_id or f"{self._prefix}-{next(self._numbers):x}")

    def failure(self, error: BaseException) -> Failure:
        """Count the error and say how its call ends; an unforeseen one is logged under the call's id."""
        request_id = REQUEST_ID.get()
        if isinstance(error, asyncio.CancelledError):
            error = Cancelled("the call was cancelled where it ran")
        if not isinstance(error, VedetteError):
            error = log_unexpected(error, request_id)
        self._counters[error.code].inc()
        return Failure(error.grpc_status, error.message, ((CODE_KEY, error.code), (ID_KEY, request_id)))

    def _single(self, rpc: Rpc) -> Callable[..., Any]:
        answered, identify = self.answered, self.identify
        handler = rpc.handler
        streamed_in = rpc.kind == "stream_unary"

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            identify(context.invocation_metadata())
            try:
                response = await handler(_checked(request) if streamed_in else whole(request), context)
            except grpc.aio.AbortError:
                raise
            except (Exception, asyncio.CancelledError) as error:
                await self._abort(context, error)
                raise  # the caller has gone; else `_abort` has raised
            answered()
            return response

        return call

    def _streaming(self, rpc: Rpc) -> Callable[..., Any]:
        answered, identify = self.answered, self.identify
        handler = rpc.handler
        streamed_in = rpc.kind == "stream_stream"

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            identify(context.invocation_metadata())
            try:
                asked = _checked(request) if streamed_in else whole(request)
                async with aclosing(handler(asked, context)) as responses:
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except (Exception, asyncio.CancelledError) as error:
                await self._abort(context, error)
                raise  # the caller has gone; else `_abort` has raised
            answered()

        return call

    async def _abort(self, context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> None:
        """End the call with the error's status, which raises; return if its caller has cancelled it."""
        if withdrawn(error):
            return
        failure = self.failure(error)
        await context.abort(_STATUS[failure.status], failure.message, trailing_metadata=failure.trailing)


def withdrawn(error: BaseException) -> bool:
    """Whether the error is the cancellation of this task: its caller left, or the server stops.

    One that comes from what the handler awaited cancels nobody else, and its caller still waits for an answer.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class _Malformed:
    """Stands for a message that does not parse, until the handler's wrapper can answer for it."""


_MALFORMED = _Malformed()


def parser(rpc: Rpc) -> Callable[[bytes], Any]:
    """Parse, or hand on what `whole` refuses: an exception here would reach the client as our own failure."""
    parse = rpc.read or rpc.request.FromString

    def read(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError:
            return _MALFORMED

    return read


def whole(request: Any) -> Any:
    """The request, if it was parsed. Raises InvalidArgument."""
    if request is _MALFORMED:
        raise InvalidArgument("the request is not a valid message of this method")
    return request


async def _checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield whole(request)


def _traced(tracer: Tracer, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A span around each call of a method that answers once."""

    async def traced(request: Any, context: Context) -> Any:
        with tracer.server_span(name, _texts(context)) as span:
            await context.send_initial_metadata(span.headers())
            return await call(request, context)

    return traced


def _traced_stream(tracer: Tracer, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A span over each call of a method that answers in a stream, from the request to the last answer."""

    async def traced(request: Any, context: Context) -> AsyncIterator[Any]:
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


def _texts(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
