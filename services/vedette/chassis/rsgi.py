"""The HTTP front: RSGI calls to routes, with body caps, deadlines, request ids and error bodies.

Rule: the path of a small request through `__rsgi__` is one straight line; whatever is rare (chunks, codings,
errors, long requests) is behind a branch. Measured against a bare RSGI handler: docs/adr/0003.

The path has been percent-decoded once, and a `%2F` has become a separator; it can then only name another path,
whose route, action and limits apply.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

from vedette.chassis.asgi import AsgiBridge
from vedette.chassis.bodies import Transport, check_length, discard, read_chunks
from vedette.chassis.compression import choose_encoding, decode_body, encode_body
from vedette.chassis.flights import LARGE_BODY, Flight, Flights
from vedette.chassis.http import HeaderMap, HttpRequest, HttpResponse, RenderError, Route
from vedette.chassis.logs import REQUEST_ID, SANE_ID, TRACE_ID, log_unexpected
from vedette.chassis.problem import render_problem
from vedette.chassis.routing import Match, Router
from vedette.chassis.tracing import Tracer, trace_id_of
from vedette.core.errors import InvalidArgument, NotFound, VedetteError
from vedette.core.metrics import Metrics

OFF_LOOP_BYTES = 32 * 1024
"""Larger bodies are compressed and decompressed in a thread: a megabyte takes ten milliseconds."""


class HttpFront:
    """An RSGI application over a service's routes; paths without one go to its ASGI application."""

    def __init__(
        self,
        routes: tuple[Route, ...],
        *,
        service: str,
        metrics: Metrics,
        max_request_bytes: int,
        receive_timeout_s: float,
        max_buffered_bytes: int = 512 * 1024 * 1024,
        asgi: AsgiBridge | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._router: Router[Route] = Router([(route.method, route.pattern, route) for route in routes])
        self._render: RenderError = routes[0].render_error if routes and asgi is None else render_problem
        self._asgi = asgi
        self._tracer = tracer
        self._max_bytes = max_request_bytes
        self.flights = Flights(receive_timeout_s=receive_timeout_s, max_buffered_bytes=max_buffered_bytes)
        self.draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """Once known, `current_task` need not ask for it, which is a system call (measured: 1 us)."""
        self._prefix = os.urandom(5).hex()
        self._numbers = itertools.count(1)
        self._answers = [
            metrics.counter("vedette_http_responses_total", service=service, status=f"{hundreds}xx")
            for hundreds in range(1, 6)
        ]

    async def sweep(self) -> None:
        """Look after slow bodies and clients that left, until cancelled."""
        self._loop = asyncio.get_running_loop()
        await self.flights.sweep(time.monotonic)

    async def __rsgi__(self, scope: Any, protocol: Transport) -> None:
        flight = Flight(protocol, asyncio.current_task(self._loop))
        self.flights.open.add(flight)
        headers = scope.headers
        request_id = headers.get("x-request-id")
        if request_id is None or SANE_ID.fullmatch(request_id) is None:
            request_id = f"{self._prefix}-{next(self._numbers):x}"
        REQUEST_ID.set(request_id)
        method, path = scope.method, scope.path
        traceparent = headers.get("traceparent")
        if traceparent is not None:
            TRACE_ID.set(trace_id_of(traceparent))
        try:
            match = self._router.match(path)
            if match is None or not (line := match.targets.get(method)):
                line = await self._other(scope, protocol, flight, match, request_id)
                if line is None:
                    return
            route, params = line
            if self._tracer is None:
                response = await self._respond(scope, protocol, flight, route, params, request_id)
            else:
                with self._tracer.server_span(f"{scope.method} {route.pattern}", headers) as span:
                    response = await self._respond(scope, protocol, flight, route, params, request_id)
                    response = HttpResponse(response.status, response.body, [*response.headers, *span.headers()])
                    span.finish(response.status)
            self._send(protocol, response, request_id)
            if response.status == 413:
                await discard(protocol, flight, max_bytes=self._max_bytes)
        except asyncio.CancelledError:
            self._cancelled(flight)
        finally:
            self.flights.leave(flight)

    async def _respond(
        self, scope: Any, protocol: Transport, flight: Flight, route: Route, params: dict[str, str], request_id: str
    ) -> HttpResponse:
        """Read, call, render. Returns an error's response instead of raising it."""
        headers: HeaderMap = scope.headers
        try:
            body = b""
            length = headers.get("content-length")
            if length is not None:
                size = check_length(length, self._max_bytes)
                if size > LARGE_BODY:
                    self.flights.hold(flight, size)
                flight.reading = True
                body = await protocol()
                flight.reading = False
            elif headers.get("transfer-encoding") is not None:
                body = await read_chunks(protocol, self.flights, flight, max_bytes=self._max_bytes)
            coding = headers.get("content-encoding")
            if coding is not None:
                body = await _decoded(body, coding, max_bytes=self._max_bytes)
                headers = _Decoded(headers)
            request = HttpRequest(
                scope.method, scope.path, scope.query_string, headers, body, params.copy(), request_id
            )
            response = await route.handler(request)
        except VedetteError as error:
            return route.render_error(error)
        except asyncio.CancelledError:
            if not flight.expired:
                raise
            _uncancel(flight)
            return _with_status(408, route.render_error(InvalidArgument("the request body did not arrive in time")))
        except Exception as error:  # noqa: BLE001 - the caller gets an id, the log gets everything
            return route.render_error(log_unexpected(error, request_id))
        accept = headers.get("accept-encoding")
        return response if accept is None else await _compressed(response, accept)

    def _send(self, protocol: Transport, response: HttpResponse, request_id: str) -> None:
        headers = [*response.headers, ("x-request-id", request_id)]
        if self.draining or response.status in (408, 413):
            headers.append(("connection", "close"))
        self._answers[response.status // 100 - 1].inc()
        if response.body:
            protocol.response_bytes(response.status, headers, response.body)
        else:
            protocol.response_empty(response.status, headers)

    async def _other(
        self, scope: Any, protocol: Transport, flight: Flight, match: Match[Route] | None, request_id: str
    ) -> tuple[Route, dict[str, str]] | None:
        """No line has this method and path: HEAD falls back to GET, the rest to the ASGI application or an error."""
        if match is not None and scope.method == "HEAD" and (line := match.targets.get("GET")):
            return line
        if self._asgi is not None:
            extra = [("x-request-id", request_id), *((("connection", "close"),) if self.draining else ())]
            await self._bridge(self._asgi, scope, protocol, flight, extra)
            return None
        if match is None:
            response = self._render(NotFound(f"nothing answers {scope.path[:200]!r}"))
        else:
            render = next(iter(match.targets.values()))[0].render_error
            shown = scope.method[:40]
            response = _with_status(405, render(InvalidArgument(f"{shown} is not allowed here, only {match.allow}")))
            response.headers = [*response.headers, ("allow", match.allow)]
        self._send(protocol, response, request_id)
        return None

    async def _bridge(
        self, asgi: AsgiBridge, scope: Any, protocol: Transport, flight: Flight, extra: list[tuple[str, str]]
    ) -> None:
        """Serve by the ASGI application, in a span if there is a tracer (named by method: paths are endless)."""
        if self._tracer is None:
            status = await asgi.serve(scope, protocol, flight, extra)
        else:
            with self._tracer.server_span(scope.method, scope.headers) as span:
                status = await asgi.serve(scope, protocol, flight, [*extra, *span.headers()])
                span.finish(status)
        self._answers[status // 100 - 1].inc()

    def _cancelled(self, flight: Flight) -> None:
        """The client left or stalled, or the process ends: nobody reads an answer."""
        if flight.gone or flight.expired:
            _uncancel(flight)
            self._answers[3].inc()
            return
        raise asyncio.CancelledError


def _uncancel(flight: Flight) -> None:
    if flight.task is not None:
        flight.task.uncancel()


def _with_status(status: int, response: HttpResponse) -> HttpResponse:
    return HttpResponse(status, response.body, response.headers)


async def _decoded(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(decode_body, body, coding, max_bytes=max_bytes)
    return decode_body(body, coding, max_bytes=max_bytes)


async def _compressed(response: HttpResponse, accept: str) -> HttpResponse:
    body = response.body
    if len(body) < 1024:
        return response
    kinds = [value for name, value in response.headers if name == "content-type"]
    coding = choose_encoding(accept, kinds[0] if kinds else "", len(body))
    if not coding or any(name == "content-encoding" for name, _ in response.headers):
        return response
    large = len(body) > OFF_LOOP_BYTES
    encoded = await asyncio.to_thread(encode_body, body, coding) if large else encode_body(body, coding)
    headers = [*response.headers, ("content-encoding", coding), ("vary", "accept-encoding")]
    return HttpResponse(response.status, encoded, headers)


class _Decoded:
    """Headers of a request whose body is already decoded: its coding is nobody's business any more."""

    __slots__ = ("_headers",)

    def __init__(self, headers: HeaderMap) -> None:
        self._headers = headers

    def get(self, key: str, default: str | None = None, /) -> str | None:
        return default if key == "content-encoding" else self._headers.get(key, default)
