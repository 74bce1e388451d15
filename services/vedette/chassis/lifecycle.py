"""The life of one worker process, as one state machine: every service starts, serves, drains and ends like this.

    building -> starting -> listening <-> ready -> draining -> stopping -> exit 0
                  (Service.start)  (Service.ready)  SIGTERM   (Service.stop)

Rule: nothing here knows which service it runs. While draining the worker answers, says that it is not ready
and closes each connection after its answer; it stops accepting only after `drain_delay_s`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Callable

from vedette.chassis.asgi import AsgiBridge
from vedette.chassis.auth import OWN_ACTIONS
from vedette.chassis.config import ServiceSettings
from vedette.chassis.declarations import check_actions
from vedette.chassis.grpc_server import own_rpcs
from vedette.chassis.grpc_transport import AnyGrpcServer, grpc_server
from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.chassis.http_server import HttpServer
from vedette.chassis.place import Place
from vedette.chassis.problem import render_problem
from vedette.chassis.rsgi import HttpFront
from vedette.chassis.service import Service
from vedette.chassis.telemetry import CellMetrics, Exposition
from vedette.chassis.tracing import open_tracer

log = logging.getLogger(__name__)
_READY_POLL_S = 0.05
_BEATS = 5
"""Beats in the time after which a worker that does not beat is killed: as many as the supervisor's looks."""
_JOIN_S = 60.0
"""A worker that takes a dead one's place opens its ports after so long, ready or not."""
_QUIET_S = 0.2
"""A worker that has answered everything waits this long for another request on a connection it keeps."""


class Worker:
    """One worker of a service. `run` is its whole life."""

    def __init__(self, service: Service, settings: ServiceSettings, metrics: CellMetrics, place: Place) -> None:
        routes = self._own_routes()
        rpcs = own_rpcs() if service.rpc else ()
        check_actions(service, (*(f"{route.method} {route.pattern}" for route in routes), *rpcs))
        self._service = service
        self._settings = settings
        self._place = place
        self._own_region = metrics.regions[place.index if place.supervised else 0]
        self._exposition = Exposition(metrics.regions, service=service.name)
        self._tracer = open_tracer(settings.otlp_endpoint, service.name)
        self._draining = asyncio.Event()
        self._unready = "starting"
        bridge = None
        if service.asgi is not None:
            bridge = AsgiBridge(
                service.asgi, uploads=service.asgi_uploads, max_request_bytes=settings.max_request_bytes
            )
        self._front = HttpFront(
            (*service.routes, *routes),
            service=service.name,
            metrics=metrics,
            max_request_bytes=settings.max_request_bytes,
            receive_timeout_s=settings.receive_timeout_s,
            max_buffered_bytes=settings.max_buffered_bytes,
            asgi=bridge,
            tracer=self._tracer,
        )
        self._http = HttpServer(
            self._front,
            place.listener,
            idle_timeout_s=settings.idle_timeout_s,
            keep_alive_timeout_s=settings.keep_alive_timeout_s,
        )
        self._grpc: AnyGrpcServer | None = None
        if service.rpc:
            self._grpc = grpc_server(
                service.rpc, settings, service=service.name, metrics=metrics, tracer=self._tracer
            )  # fmt: skip

    async def run(self) -> None:
        """Start, serve until SIGTERM, drain, stop. Raises what `Service.start` or the servers raise."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._draining.set)
        if not self._place.supervised:  # a supervisor gets Ctrl-C too and sends SIGTERM
            loop.add_signal_handler(signal.SIGINT, self._draining.set)
        await self._service.start()
        try:
            await self._serve()
        finally:
            await self._service.stop()
            if self._tracer is not None:
                await asyncio.to_thread(self._tracer.close)
        log.info("stopped")

    async def _serve(self) -> None:
        if self._place.joins:
            await self._until_ready()
        address = self._place.grpc_address
        if self._grpc is not None:
            await self._grpc.start(address)
            address = f"{address.rpartition(':')[0]}:{self._grpc.port}"
        await self._http.start()
        url = self._place.http_url
        log.info("listening", extra={"http": url, "grpc": address if self._grpc is not None else ""})
        self._place.tell("listening", http=url, grpc=address if self._grpc is not None else "")
        readiness = asyncio.create_task(self._watch_readiness())
        chores = [readiness, asyncio.create_task(self._front.sweep()), asyncio.create_task(self._beat())]
        try:
            await self._draining.wait()
            await self._drain(readiness)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def _until_ready(self) -> None:
        """While others serve: take no connection that could only be told to wait."""
        end = time.monotonic() + _JOIN_S
        while (  # noqa: ASYNC110 - a service says what it is when asked, and calls nobody
            _reason(self._service.ready) and time.monotonic() < end and not self._draining.is_set()
        ):
            await asyncio.sleep(_READY_POLL_S)

    async def _beat(self) -> None:
        """Show the supervisor that this event loop turns."""
        if not self._place.supervised or not self._settings.hang_timeout_s:
            return
        while True:
            self._own_region.beat()
            await asyncio.sleep(self._settings.hang_timeout_s / _BEATS)

    async def _drain(self, readiness: asyncio.Task[None]) -> None:
        """Answer on for a while, stop accepting, finish what is in flight; each step has its limit."""
        readiness.cancel()
        self._unready = "shutting down"
        self._front.draining = True
        if self._grpc is not None:
            await self._grpc.set_serving(serving=False)
        log.info("draining", extra={"in_flight": len(self._front.flights.open)})
        await asyncio.sleep(self._settings.drain_delay_s)
        end = time.monotonic() + self._settings.drain_timeout_s
        self._http.close_door()
        self._service.drain()
        rpcs = asyncio.create_task(self._grpc.stop(self._settings.drain_timeout_s)) if self._grpc else None
        await self._quiet(end)
        await self._http.stop(max(0.5, end - time.monotonic()))
        if rpcs is not None:
            await rpcs

    async def _quiet(self, end: float) -> None:
        """Return when nothing was in flight and nobody waited to be accepted for `_QUIET_S`, or at `end`."""
        busy = time.monotonic()
        while (now := time.monotonic()) < end and now - busy < _QUIET_S:
            if self._front.flights.open or self._http.waiting:
                busy = now
            await asyncio.sleep(0.01)

    async def _watch_readiness(self) -> None:
        """Ask the service, and tell the supervisor and the health service when the answer changes."""
        before: str | None = None
        while True:
            self._unready = _reason(self._service.ready)
            if self._unready != before and (not self._unready or not before):
                log.info("not ready" if self._unready else "ready", extra={"reason": self._unready})
                self._place.tell("unready" if self._unready else "ready", reason=self._unready)
                if self._grpc is not None:
                    await self._grpc.set_serving(serving=not self._unready)
            before = self._unready
            await asyncio.sleep(_READY_POLL_S)

    def _own_routes(self) -> tuple[Route, ...]:
        """The routes that every service has."""
        handlers = {"/livez": _livez, "/readyz": self._readyz, "/metrics": self._metrics}
        return tuple(
            Route("GET", path, OWN_ACTIONS[f"GET {path}"], handler, render_problem)
            for path, handler in handlers.items()
        )

    async def _readyz(self, request: HttpRequest) -> HttpResponse:
        status = 503 if self._unready else 200
        if "application/json" in (request.headers.get("accept") or ""):
            document = {"ready": not self._unready, "reason": self._unready}
            return HttpResponse(status, json.dumps(document).encode(), [("content-type", "application/json")])
        return _text(status, self._unready or "ready")

    async def _metrics(self, request: HttpRequest) -> HttpResponse:
        # in a thread: thousands of series take long enough for predictions to notice
        page, content_type = await asyncio.to_thread(self._exposition.render, request.headers.get("accept") or "")
        return HttpResponse(200, page, [("content-type", content_type)])


async def _livez(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - the loop turns, that is all it says
    return _text(200, "live")


def _text(status: int, text: str) -> HttpResponse:
    return HttpResponse(status, f"{text}\n".encode(), [("content-type", "text/plain; charset=utf-8")])


def _reason(ready: Callable[[], str]) -> str:
    try:
        return ready()
    except Exception:
        log.exception("the readiness check failed")
        return "the readiness check failed"
