"""Which HTTP server hosts our routes, and with which settings: `python -m loadtests.choices [--rounds 3] [--save]`.

Every contestant is the real inference room with the reference model, metrics and capture on, one process on one CPU,
asked with V2 JSON over 1 and 32 connections; only what stands between the socket and the routes differs. They run in
turn, every answer is checked, ratios are taken within a round. docs/adr/0022 draws the conclusions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from loadtests import generators, machine, messages, models, targets
from loadtests.generators import Figures
from loadtests.room import MODEL, Room, open_room
from vedette.chassis.asgi import AsgiBridge
from vedette.chassis.http import HttpRequest
from vedette.chassis.http_server import HttpServer
from vedette.chassis.place import take_turns
from vedette.chassis.routing import Router

CONNECTIONS = (1, 32)
PATH = f"/v2/models/{MODEL}/infer"


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to host the routes."""

    name: str
    server: str = "ours"
    bridge: bool = False
    """Through ASGI and our bridge instead of RSGI."""
    loop: str = "uvloop"
    turns: bool = True
    """SCHED_BATCH, as our workers have it."""
    settings: tuple[tuple[str, object], ...] = ()
    """Granian's."""


CHOICES = (
    Choice("ours"),
    Choice("ours, ASGI bridge", bridge=True),
    Choice("ours, asyncio's loop", loop="asyncio"),
    Choice("ours, without SCHED_BATCH", turns=False),
    Choice("Granian, RSGI", "granian"),
    Choice("Granian, ASGI bridge", "granian", bridge=True),
    Choice("Granian, asyncio's loop", "granian", loop="asyncio"),
    Choice("Granian, without SCHED_BATCH", "granian", turns=False),
    Choice("Granian, task_impl rust", "granian", settings=(("task_impl", "rust"),)),
    Choice("Granian, 2 runtime threads", "granian", settings=(("runtime_threads", 2),)),
    Choice("Granian, pipeline_flush", "granian", settings=(("pipeline_flush", True),)),
    Choice("Granian, 64 kB buffers", "granian", settings=(("max_buffer_size", 65536),)),
    Choice("Granian, backlog 128", "granian", settings=(("backlog", 128),)),
)
"""The first is what every ratio is taken to. Runtime mode st or mt: an embedded server has st with one thread, mt with
more. Keep-alive cannot be off: a load generator that connects anew measures connecting."""


def asgi_of(room: Room) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The service's bare routes as an ASGI application."""
    router = Router([(route.method, route.pattern, route) for route in room.service.routes])

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found = router.match(scope["path"])
        if found is None:
            raise RuntimeError(f"no route for {scope['path']}")
        route, params = found.targets[scope["method"]]
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers: Any = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = await route.handler(HttpRequest(scope["method"], scope["path"], "", headers, body, dict(params)))
        fields = [(name.encode(), value.encode()) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})

    return application


async def serve(choice: Choice, port: int) -> None:
    """Host the room until SIGTERM; says `ready` when it answers."""
    async with open_room() as room:
        parts: dict[str, Any] = {}
        if choice.bridge:
            bridge = AsgiBridge(asgi_of(room), uploads=(), max_request_bytes=64 << 20)
            parts = {"routes": (), "asgi": bridge}
        front = room.front(**parts)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
        work = [asyncio.create_task(front.sweep())]
        if choice.server == "ours":
            await HttpServer(front, listener, idle_timeout_s=60).start()
        else:
            work.append(asyncio.create_task(_granian(front, listener, dict(choice.settings))))
            await asyncio.sleep(0.2)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        print("ready", flush=True)
        await ended.wait()
        for task in work:
            task.cancel()


async def _granian(front: Any, listener: socket.socket, settings: dict[str, Any]) -> None:
    """Granian's embedded server on our socket."""
    from granian._granian import SocketHolder
    from granian.constants import HTTPModes, Interfaces, TaskImpl
    from granian.http import HTTP1Settings
    from granian.server.embed import Server

    one = {key: settings.pop(key) for key in ("pipeline_flush", "max_buffer_size") if key in settings}
    if "task_impl" in settings:
        settings["task_impl"] = TaskImpl(settings["task_impl"])

    class OnSocket(Server):
        def _init_shared_socket(self) -> None:
            holder: Any = SocketHolder  # its stubs know neither constructor nor attribute
            self._ssp, self._shd = None, holder(os.dup(listener.fileno()), False, self.backlog)

    async def hosted(scope: Any, protocol: Any) -> None:
        await front.__rsgi__(scope, _Addressed(protocol, scope))

    host, port = listener.getsockname()
    server = OnSocket(
        hosted, address=host, port=port, interface=Interfaces.RSGI, http=HTTPModes.http1, websockets=False,
        log_enabled=False, http1_settings=HTTP1Settings(**one), **{"backlog": 16_384, **settings},
    )  # fmt: skip
    await server.serve()


class _Addressed:
    """Granian's protocol object with the addresses, which Granian keeps in the scope."""

    def __init__(self, protocol: Any, scope: Any) -> None:
        self._protocol = protocol
        self.client, self.server = scope.client, scope.server
        self.response_bytes, self.response_empty = protocol.response_bytes, protocol.response_empty

    def __call__(self) -> Any:
        return self._protocol()

    async def __aiter__(self) -> Any:
        async for part in self._protocol:
            if part:
                yield part

    def client_disconnect(self) -> Any:
        return self._protocol.client_disconnect()


@contextmanager
def hosted(choice: Choice) -> Iterator[tuple[int, psutil.Process]]:
    """The contestant in a process of its own; its port."""
    port = targets.free_port()
    command = [*machine.pin(1), sys.executable, "-m", "loadtests.choices", "--host", choice.name, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            if running.stdout.readline() != b"ready\n":
                raise SystemExit(f"{choice.name} did not start")
            yield port, psutil.Process(running.pid)
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: medians over the rounds."""

    name: str
    connections: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of the server a request: it tells the truth also on a machine that others use."""
    ratio: float
    """Requests per second against the first contestant's, round by round."""


def run(choice: Choice, seconds: int) -> dict[int, tuple[Figures, float]]:
    """One round of one contestant."""
    message, found = messages.json_message(MODEL), {}
    with hosted(choice) as (port, process):
        url = f"http://127.0.0.1:{port}{PATH}"
        for connections in CONNECTIONS:
            messages.check_http(url, MODEL, "json")
            before = sum(process.cpu_times()[:2])
            figures = generators.wrk(url, message, connections=connections, seconds=seconds, cpu=machine.pin(0))
            spent = sum(process.cpu_times()[:2]) - before
            messages.check_http(url, MODEL, "json")
            found[connections] = (figures, spent / (figures.requests_per_s * seconds) * 1e6)
    return found


def measure(choices: tuple[Choice, ...], rounds: int, seconds: int) -> list[Row]:
    """All of them in turn, `rounds` times."""
    runs: dict[Choice, list[dict[int, tuple[Figures, float]]]] = {choice: [] for choice in choices}
    for _ in range(rounds):
        for choice in choices:
            runs[choice].append(run(choice, seconds))
    return [_row(choice, connections, runs) for connections in CONNECTIONS for choice in choices]


def _row(choice: Choice, connections: int, runs: dict[Choice, list[dict[int, tuple[Figures, float]]]]) -> Row:
    mine = [found[connections] for found in runs[choice]]
    first = [found[connections] for found in next(iter(runs.values()))]
    return Row(
        choice.name,
        connections,
        statistics.median(figures.requests_per_s for figures, _ in mine),
        statistics.median(figures.p50_ms for figures, _ in mine),
        statistics.median(figures.p99_ms for figures, _ in mine),
        statistics.median(cpu for _, cpu in mine),
        statistics.median(
            own.requests_per_s / other.requests_per_s for (own, _), (other, _) in zip(mine, first, strict=True)
        ),
    )


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    drawn = Table("hosted by", "connections", "requests/s", "p50 us", "p99 ms", "CPU us", "ratio")
    for row in rows:
        drawn.add_row(
            row.name, str(row.connections), f"{row.requests_per_s:,.0f}", f"{row.p50_ms * 1e3:.0f}",
            f"{row.p99_ms:.2f}", f"{row.cpu_us:.1f}", f"{row.ratio:.2f}x",
        )  # fmt: skip
    return drawn


def save(rows: list[Row]) -> Path:
    """Keep the figures with the facts of the machine."""
    file = machine.RESULTS / "choices.json"
    file.write_text(json.dumps({"machine": machine.facts(), "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return file


def main() -> None:
    """Measure and print; with --host, be a contestant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="each contestant is started this often, in turn")
    parser.add_argument("--only", action="append", help="begins a name; may be given again")
    parser.add_argument("--save", action="store_true", help="write loadtests/results/choices.json")
    parser.add_argument("--host", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.host:
        (choice,) = (choice for choice in CHOICES if choice.name == arguments.host[0])
        if choice.turns:
            take_turns()
        (uvloop.run if choice.loop == "uvloop" else asyncio.run)(serve(choice, int(arguments.host[1])))
        return
    generators.require("wrk", "taskset")
    models.build(MODEL)
    chosen = tuple(choice for choice in CHOICES if not arguments.only or choice.name.startswith(tuple(arguments.only)))
    rows = measure(chosen, arguments.rounds, arguments.seconds)
    Console().print(table(rows))
    if arguments.save:
        Console().print(str(save(rows)))


if __name__ == "__main__":
    main()
