"""Every error of the HTTP surface as problem+json, whoever raised it.

Rule: what is shown is a `VedetteError`'s message, a validation message about the caller's own document, or an id.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from vedette.chassis.http import HttpResponse
from vedette.chassis.problem import problem, render_problem
from vedette.core.errors import Internal, InvalidArgument, VedetteError

LOG = logging.getLogger(__name__)
_CODES = {404: "not_found", 405: "unimplemented", 413: "too_large"}


def install_problems(app: FastAPI) -> None:
    """Answer all errors of this application in one shape."""
    app.add_exception_handler(VedetteError, _vedette)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


def first_problem(errors: Sequence[Any], where: str = "") -> str:
    """The first validation error in one line: the field and what is wrong with it, without the value."""
    error = errors[0]
    field = ".".join(str(part) for part in error["loc"] if part not in {"body", "query", "path"})
    name = ".".join(part for part in (where, field) if part)[:200]
    return f"{name}: {error['msg']}" if name else str(error["msg"])


async def _vedette(_request: Request, error: Exception) -> Response:
    assert isinstance(error, VedetteError)  # noqa: S101 - registered for this class
    return _response(render_problem(error))


async def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    return _response(render_problem(InvalidArgument(first_problem(error.errors()))))


async def _http(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods, and bodies that are not JSON."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    shown = problem(error.status_code, _CODES.get(error.status_code, "invalid_argument"), str(error.detail))
    return _response(shown, dict(error.headers or {}))


async def _unknown(_request: Request, error: Exception) -> Response:
    incident = uuid.uuid4().hex
    LOG.error("unexpected %s", type(error).__name__, exc_info=error, extra={"incident": incident})
    return _response(render_problem(Internal(f"internal error; the id {incident} finds it in the log")))


def _response(shown: HttpResponse, more: dict[str, str] | None = None) -> Response:
    return Response(shown.body, shown.status, {**dict(shown.headers), **(more or {})})
