"""Errors as problem+json (RFC 9457): how control routes and unknown paths answer.

Rule: only what a `VedetteError` carries is shown.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from vedette.chassis.http import HttpResponse
from vedette.core.errors import VedetteError


def render_problem(error: VedetteError) -> HttpResponse:
    """`{"type", "title", "status", "detail", "code"}` with the status of the error's code."""
    return problem(error.http_status, error.code, error.message)


def problem(status: int, code: str, detail: str) -> HttpResponse:
    """A problem document for a status that need not be the code's own (405, 408)."""
    document = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail, "code": code}
    return HttpResponse(status, json.dumps(document).encode(), [("content-type", "application/problem+json")])


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Error"
