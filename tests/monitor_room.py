"""A whole monitor inside a test: the real service on memory adapters, over results that the real parts have made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.monitor_rig import Rig, watching
from tests.registry_room import Room, open_room
from vedette.chassis.grpc_server import GrpcServer
from vedette.chassis.service import Service
from vedette.core.metrics import NoMetrics
from vedette.core.ports import Registry
from vedette.entities.monitors import CheckSettings
from vedette.monitor.config import MonitorSettings
from vedette.monitor.desk import Desk
from vedette.monitor.service import MonitorPorts, build
from vedette.ports.baselines import Baselines
from vedette.registry.client import GrpcRegistry

WATCHED = 5
"""Windows of the monitor `m` that are evaluated: four as measured, the last moved. One more is open."""


@dataclass(slots=True)
class MonitorRoom:
    """A running monitor and the ways into it; its monitor `m` watches `e` and has seen a shift."""

    service: Service
    rig: Rig
    http: httpx.AsyncClient
    grpc: str

    @property
    def desk(self) -> Desk:
        found: Desk = self.service.asgi.state.desk
        return found


async def seen(folder: Path) -> Rig:
    """Results, an alert and an open window of the monitor `m`, as the parts make them of traffic."""
    rig = await Rig(folder / "monitor").know()
    await rig.begin(watching(checks=(CheckSettings("drift"),)))
    for number in range(WATCHED + 1):
        await rig.traffic(10 * number, shift=15.0 * (number == WATCHED - 1), rows=200)
    await rig.read()
    assert len(rig.results()) == WATCHED
    rig.close()
    return rig


@asynccontextmanager
async def open_monitor(
    folder: Path, *, registry: Any = None, rig: Rig | None = None, **settings: Any
) -> AsyncIterator[MonitorRoom]:
    """Build over what was seen, start, listen on a free gRPC port; stop it all afterwards."""
    rig = rig or await seen(folder)
    source: Registry = registry or rig.registry
    reference_data: Baselines = registry or rig.registry
    ports = MonitorPorts(rig.store, source, reference_data, rig.stream, NoMetrics(), rig.clock)
    chosen = {"webhook_allowed_hosts": ("127.0.0.1",), "archive": False, **settings}
    service = build(MonitorSettings(data_dir=folder, **chosen), ports)
    server = GrpcServer(service.rpc, service="monitor", metrics=NoMetrics(), max_message_bytes=4 << 20)
    await service.start()
    await server.start("127.0.0.1:0")
    transport = httpx.ASGITransport(service.asgi, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://monitor") as http:
            yield MonitorRoom(service, rig, http, f"127.0.0.1:{server.port}")
    finally:
        service.drain()
        await server.stop(5.0)
        await service.stop()


@dataclass(slots=True)
class Addresses:
    """A registry and a monitor on sockets, in a loop of their own."""

    registry: str
    monitor: str
    rooms: tuple[Room, MonitorRoom]
    asked: list[tuple[str, str]]
    """Method and path of every request to the monitor."""


@contextmanager
def serving_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Addresses]:
    """Both real applications on free ports, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    opened = _both(folder, monkeypatch)
    asked: list[tuple[str, str]] = []
    try:
        rooms = _wait(loop, anext(opened))
        with _socket(loop, rooms[0].http, []) as registry, _socket(loop, rooms[1].http, asked) as monitor:
            yield Addresses(registry, monitor, rooms, asked)
    finally:
        _wait(loop, opened.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Room, MonitorRoom]]:
    async with open_room(folder / "r", monkeypatch) as registry:
        details = '{"signature": {"feature_names": ["a", "b", "c"]}}'
        await registry.upload("m", details=details)
        (await registry.http.post("/v1/endpoints", json={"name": "e", "model": "m", "version": 1})).raise_for_status()
        registry.say("e", 1, "ready")
        async with open_monitor(folder / "m", registry=GrpcRegistry(registry.grpc)) as monitor:
            yield registry, monitor


def _wait(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(work, loop).result(60)


@contextmanager
def _socket(loop: asyncio.AbstractEventLoop, app: httpx.AsyncClient, asked: list[tuple[str, str]]) -> Iterator[str]:
    """An application on a free port of loopback; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            asked.append((self.command, self.path))
            content = self.rfile.read(int(self.headers.get("content-length", "0")))
            request = app.request(self.command, self.path, headers=dict(self.headers.items()), content=content)
            answer = _wait(loop, request)
            self.send_response(answer.status_code)
            for key in ("content-type", "retry-after"):
                if key in answer.headers:
                    self.send_header(key, answer.headers[key])
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - the library looks for these names

        def log_message(self, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
