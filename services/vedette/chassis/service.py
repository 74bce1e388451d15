"""What a service is to the process that runs it: servers to open and four moments of life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from vedette.chassis.auth import Action
from vedette.chassis.http import Route
from vedette.chassis.rpc import RpcService


async def _nothing() -> None: ...


def _go_on() -> None: ...


def _ready() -> str:
    return ""


@dataclass(slots=True)
class Service:
    """What `build(config, ports)` returns. Building connects to nothing and starts nothing."""

    name: str
    routes: tuple[Route, ...] = ()
    """Bare routes, tried first (the data plane has no others)."""
    asgi: Any = None
    """An ASGI application (FastAPI) for every other path; None: 404."""
    asgi_actions: dict[tuple[str, str], Action] = field(default_factory=dict)
    """(method, path pattern) -> action for every route of `asgi`; start-up fails where one is missing."""
    asgi_uploads: tuple[tuple[str, str], ...] = ()
    """(method, path pattern) of `asgi` routes that stream a body of any size and enforce a limit of their own;
    on every other route a body over `max_request_bytes` is refused."""
    rpc: tuple[RpcService, ...] = ()
    start: Callable[[], Awaitable[None]] = _nothing
    """Runs before the servers listen: open stores, start background tasks."""
    ready: Callable[[], str] = _ready
    """Empty when the service can do its work, else the reason why not (shown by /readyz)."""
    drain: Callable[[], None] = _go_on
    """Runs when accepting ends, before calls in flight get their time: end streams that never end themselves."""
    stop: Callable[[], Awaitable[None]] = _nothing
    """Runs after the last answer: flush, close."""
