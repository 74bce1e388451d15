"""Every entry of a service has its action, or the service does not start."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from grpc_health.v1 import health_pb2
from starlette.routing import Mount

from vedette.chassis.auth import OWN_ACTIONS
from vedette.chassis.config import ServiceSettings
from vedette.chassis.declarations import UnguardedRoute, asgi_routes, check_actions
from vedette.chassis.grpc_server import own_rpcs
from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.chassis.lifecycle import Worker
from vedette.chassis.place import open_place
from vedette.chassis.problem import render_problem
from vedette.chassis.rpc import Rpc, RpcService
from vedette.chassis.service import Service
from vedette.chassis.telemetry import CellMetrics


async def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200)


def app() -> FastAPI:
    """Routes directly, by a router and in a mount."""
    made = FastAPI(openapi_url=None)
    router = APIRouter(prefix="/v1")

    @router.get("/things/{name}")
    def _get(name: str) -> None: ...

    @router.api_route("/things", methods=["POST", "PUT"])
    def _many() -> None: ...

    made.include_router(router)
    more = APIRouter()
    more.get("/more")(lambda: None)
    made.include_router(more, prefix="/v2")
    inner = FastAPI(openapi_url=None)

    @inner.delete("/x")
    def _delete() -> None: ...

    made.router.routes.append(Mount("/inner", app=inner))
    return made


ACTIONS: dict[tuple[str, str], Any] = {
    ("GET", "/v1/things/{name}"): "read",
    ("POST", "/v1/things"): "deploy",
    ("PUT", "/v1/things"): "deploy",
    ("GET", "/v2/more"): "read",
    ("DELETE", "/inner/x"): "admin",
}


def test_routes_of_an_application_are_found() -> None:
    """Included routers and mounts are seen through."""
    assert asgi_routes(app()) == set(ACTIONS)


def test_complete_tables_pass() -> None:
    """A service whose entries all have actions may start; so may one without any."""
    check_actions(Service("toy", asgi=app(), asgi_actions=ACTIONS))
    check_actions(Service("toy"))


@pytest.mark.parametrize("missing", list(ACTIONS))
def test_each_missing_action_is_named(missing: tuple[str, str]) -> None:
    """Leaving out any one route is an error that names it."""
    actions = {key: value for key, value in ACTIONS.items() if key != missing}
    with pytest.raises(UnguardedRoute, match=f"{missing[0]} {missing[1].replace('{', '.')[:8]}"):
        check_actions(Service("toy", asgi=app(), asgi_actions=actions))


def test_lines_without_a_route_are_refused() -> None:
    """A table that guards a route which does not exist guards something else than its author thinks."""
    with pytest.raises(UnguardedRoute, match="GET /gone, which is no route"):
        check_actions(Service("toy", asgi=app(), asgi_actions={**ACTIONS, ("GET", "/gone"): "read"}))
    with pytest.raises(UnguardedRoute, match="PUT /gone, which is no route"):
        check_actions(Service("toy", asgi=app(), asgi_actions=ACTIONS, asgi_uploads=(("PUT", "/gone"),)))


@pytest.mark.parametrize("action", ["", "anything", None])
def test_bare_routes_and_rpcs(action: Any) -> None:
    """Unknown actions on bare routes and RPCs stop the start-up too."""
    with pytest.raises(UnguardedRoute, match="GET /a has no action"):
        check_actions(Service("toy", (Route("GET", "/a", action, answer, render_problem),)))
    rpc = Rpc("Check", "unary_unary", action, answer, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)
    with pytest.raises(UnguardedRoute, match=r"toys\.Toy/Check has no action"):
        check_actions(Service("toy", rpc=(RpcService("toys.Toy", (rpc,)),)))


def test_what_the_chassis_adds_is_declared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health, reflection, /livez, /readyz and /metrics: a worker does not start with one that has no action."""
    settings, metrics = ServiceSettings(), CellMetrics.alone()
    rpc = Rpc("Check", "unary_unary", "read", answer, health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)
    service = Service("toy", rpc=(RpcService("toys.Toy", (rpc,)),))
    assert set(OWN_ACTIONS) >= {"GET /livez", "GET /readyz", "GET /metrics", *own_rpcs()}
    assert set(OWN_ACTIONS.values()) == {"read"}
    place = open_place("toy", settings)
    try:
        Worker(service, settings, metrics, place)
        for name in own_rpcs():
            with monkeypatch.context() as patched:
                patched.delitem(OWN_ACTIONS, name)
                with pytest.raises(UnguardedRoute, match=f"{name} has no action"):
                    Worker(service, settings, metrics, place)
        monkeypatch.setitem(OWN_ACTIONS, "GET /metrics", "anything")  # type: ignore[misc]
        with pytest.raises(UnguardedRoute, match="GET /metrics has no action"):
            Worker(service, settings, metrics, place)
    finally:
        place.listener.close()
