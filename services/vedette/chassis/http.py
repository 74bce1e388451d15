"""HTTP as our services see it: a pure function from request to response, and the table that routes to it.

Rule: no sockets here; `rsgi.py` and `asgi.py` adapt these to what `connections.py` reads from them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from vedette.chassis.auth import Action
from vedette.core.errors import VedetteError

Headers = list[tuple[str, str]]


class HeaderMap(Protocol):
    """Request headers by lower-case name."""

    def get(self, key: str, default: str | None = None, /) -> str | None: ...


@dataclass(slots=True)
class HttpRequest:
    """One request with its whole body, which is at most the service's `max_request_bytes`."""

    method: str
    path: str
    """Percent-decoded once; the router has matched it."""
    query: str
    """Raw query string without `?`."""
    headers: HeaderMap
    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)
    """The parts of the path that the route's pattern names."""
    request_id: str = ""


@dataclass(slots=True)
class HttpResponse:
    """One response. `content-length` is set by the server."""

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=list)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]
RenderError = Callable[[VedetteError], HttpResponse]
"""How one protocol family shows an error (OIP's `{"error": ...}`, AWS's shapes, problem+json)."""


@dataclass(frozen=True, slots=True)
class Route:
    """A line of a service's route table. `{name}` in the pattern matches one path segment."""

    method: str
    pattern: str
    action: Action
    handler: Handler
    render_error: RenderError
