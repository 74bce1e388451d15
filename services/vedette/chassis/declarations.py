"""That every entry of a service is declared with its action.

Rule: what cannot be understood (a mounted application, say) counts as undeclared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vedette.chassis.auth import ACTIONS, OWN_ACTIONS
from vedette.chassis.service import Service
from vedette.core.errors import Internal


class UnguardedRoute(Internal):
    """A route, RPC or table line whose action is missing or unknown; the message lists all of them."""


def check_actions(service: Service, own: Iterable[str] = ()) -> None:
    """Hold every entry of a service to that rule, and what the chassis adds (`own`), before anything listens.

    Raises:
        UnguardedRoute: an entry without a valid action, or an `asgi_actions` line that names no route.
    """
    added = [f"{name} has no action" for name in own if OWN_ACTIONS.get(name) not in ACTIONS]
    faults = [*_bare(service), *_rpcs(service), *_asgi(service), *added]
    if faults:
        raise UnguardedRoute(f"service {service.name}: " + "; ".join(faults))


def asgi_routes(app: Any) -> set[tuple[str, str]]:
    """(method, path pattern) of every route of a Starlette or FastAPI application, mounts included."""
    return set(_flatten(getattr(app, "routes", ()), ""))


def _bare(service: Service) -> Iterator[str]:
    for route in service.routes:
        if route.action not in ACTIONS:
            yield f"{route.method} {route.pattern} has no action"


def _rpcs(service: Service) -> Iterator[str]:
    for table in service.rpc:
        for rpc in table.methods:
            if rpc.action not in ACTIONS:
                yield f"{table.name}/{rpc.name} has no action"


def _asgi(service: Service) -> Iterator[str]:
    routes = asgi_routes(service.asgi)
    for method, path in sorted(routes):
        if service.asgi_actions.get((method, path)) not in ACTIONS:
            yield f"{method} {path} has no action"
    for method, path in sorted(service.asgi_actions.keys() - routes):
        yield f"asgi_actions names {method} {path}, which is no route"
    for method, path in sorted(set(service.asgi_uploads) - routes):
        yield f"asgi_uploads names {method} {path}, which is no route"


def _flatten(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, str]]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:  # FastAPI keeps an included router as one entry
            yield from _flatten(included.routes, prefix + route.include_context.prefix)
            continue
        path = prefix + getattr(route, "path", "")
        methods = set(getattr(route, "methods", None) or ())
        nested = getattr(route, "routes", None)
        if nested:
            yield from _flatten(nested, path)
            continue
        if "GET" in methods:
            methods.discard("HEAD")  # Starlette answers HEAD wherever GET is
        # an endpoint class, a mounted application or a websocket names no methods: it takes whatever comes
        yield from ((method, path) for method in methods or {"*"})
