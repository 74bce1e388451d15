"""A tiny service for the tests of the chassis, and the program that runs it as `vedette serve` runs ours."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

from grpc_health.v1 import health_pb2

from vedette import modules
from vedette.chassis.config import ServiceSettings
from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.chassis.problem import render_problem
from vedette.chassis.rpc import Rpc, RpcService
from vedette.chassis.service import Service
from vedette.chassis.supervisor import supervise
from vedette.core.errors import NotFound, VedetteError

Check = health_pb2.HealthCheckRequest
Answer = health_pb2.HealthCheckResponse


class ToySettings(ServiceSettings):
    """Settings of the toy."""

    fail: str = ""
    """Where to fail: start, folder, action."""
    ready_file: str = ""
    """Ready from when this file is seen on; a process that does not see it leaves `<file>.<pid>` there."""


async def _echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, request.body, [("content-type", "application/octet-stream")])


async def _item(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, f"{request.params['name']} {request.query}".encode(), [("content-type", "text/plain")])


async def _wait(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(float(request.params["seconds"]))
    return HttpResponse(200, b"waited")


async def _missing(request: HttpRequest) -> HttpResponse:
    raise NotFound("no such toy")


async def _broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("secret /etc/path")


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    """Counts the body it gets and streams the count back in two parts."""
    total = 0
    while True:
        message = await receive()
        total += len(message.get("body", b""))
        if message["type"] == "http.disconnect":
            raise ConnectionError("gone")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"got ", "more_body": True})
    await send({"type": "http.response.body", "body": str(total).encode()})


class _App:
    """An ASGI application with two routes, as the action check sees them."""

    def __init__(self) -> None:
        self.routes = [_Path("/upload", {"PUT"}), _Path("/count", {"POST"})]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await _asgi(scope, receive, send)


class _Path:
    def __init__(self, path: str, methods: set[str]) -> None:
        self.path, self.methods = path, methods


async def _check(request: Any, context: Any) -> Any:
    if request.service == "missing":
        raise NotFound("no such toy")
    if request.service == "broken":
        raise RuntimeError("secret /etc/path")
    if request.service.startswith("wait"):
        await asyncio.sleep(float(request.service[4:]))
    return Answer(status=Answer.SERVING)


async def _watch(request: Any, context: Any) -> AsyncIterator[Any]:
    for _ in range(3):
        yield Answer(status=Answer.SERVING)
    if request.service == "missing":
        raise NotFound("no such toy")


def build(settings: ToySettings, metrics: Any, place: Any) -> Service:
    """The toy."""
    routes = [
        Route("POST", "/echo", "predict", _echo, render_problem),
        Route("GET", "/items/{name}", "read", _item, render_problem),
        Route("GET", "/wait/{seconds}", "read", _wait, render_problem),
        Route("GET", "/missing", "read", _missing, render_problem),
        Route("GET", "/broken", "read", _broken, render_problem),
    ]
    if settings.fail == "action":
        routes.append(Route("GET", "/open", "", _echo, render_problem))  # type: ignore[arg-type]

    async def start() -> None:
        if settings.fail == "start":
            raise RuntimeError("the toy is broken")
        if settings.fail == "folder":
            await asyncio.to_thread(Path("/proc/vedette").mkdir)

    seen = []

    def ready() -> str:
        if seen or not settings.ready_file or Path(settings.ready_file).exists():
            seen.append(True)
            return ""
        Path(f"{settings.ready_file}.{os.getpid()}").touch()
        return "the file is missing"

    return Service(
        "toy",
        tuple(routes),
        asgi=_App(),
        asgi_actions={("PUT", "/upload"): "deploy", ("POST", "/count"): "read"},
        asgi_uploads=(("PUT", "/upload"),),
        rpc=(
            RpcService(
                "toys.ToyService",
                (
                    Rpc("Check", "unary_unary", "predict", _check, Check, Answer),
                    Rpc("Watch", "unary_stream", "read", _watch, Check, Answer),
                ),
                reflect_as="toys",
            ),
        ),
        start=start,
        ready=ready,
    )


modules.SERVICES["toy"] = modules.Module("tests.toy:ToySettings", build)


def main() -> NoReturn:
    """`python -m tests.toy toy` supervises; with an order in place of the name it is a worker."""
    if sys.argv[1] != "toy":
        sys.exit(modules.main(sys.argv[1:]))
    try:
        (plan,) = modules.plan(["toy"])
    except VedetteError as error:
        sys.exit(f"vedette: {error.message}")
    supervise([dataclasses.replace(plan, command=(sys.executable, "-m", "tests.toy"))])


if __name__ == "__main__":
    main()
