"""A FastAPI application as our services have it: flat routes, one shape of errors, guarded bodies.

Rule: a query parameter that a route does not have is an error; a misspelt filter would list everything.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Depends, FastAPI, Request

from vedette.chassis.control.documents import Problem
from vedette.chassis.control.guard import JsonGuard
from vedette.chassis.control.problems import install_problems
from vedette.core.errors import InvalidArgument

ERRORS: dict[int | str, dict[str, object]] = {
    "default": {"model": Problem, "description": "An error (RFC 9457)."},
}


def control_app(
    title: str,
    router: APIRouter,
    *,
    version: str,
    max_json_bytes: int,
    uploads: Sequence[tuple[str, str]] = (),
) -> FastAPI:
    """The application over a router's routes; `uploads` are routes that stream a body and count for themselves."""
    app = FastAPI(
        title=title,
        version=version,
        docs_url=None,  # the stock pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
    )
    app.router.routes.extend(router.routes)  # flat, so that start-up can hold each against the table of actions
    app.add_middleware(JsonGuard, max_bytes=max_json_bytes, uploads=uploads)
    install_problems(app)
    return app


def _known_query(request: Request) -> None:
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise InvalidArgument(f"there is no query parameter {unknown[0][:80]!r} here")


def control_router(prefix: str = "/v1") -> APIRouter:
    """A router whose routes refuse unknown query parameters and document their errors."""
    return APIRouter(prefix=prefix, dependencies=[Depends(_known_query)], responses=ERRORS)
