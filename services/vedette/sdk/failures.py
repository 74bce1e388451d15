"""Answers and transport failures of a server turned back into the errors of `vedette.core.errors`.

Rule: nothing of httpx leaves the SDK; the code that the server named wins over the HTTP status.
"""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from vedette.core.errors import CODES, DeadlineExceeded, Unavailable, VedetteError, error_from_code

_BY_STATUS = {400: "invalid_argument", 409: "conflict", 429: "overloaded", 500: "internal", 502: "unavailable"}
for _code in CODES.values():
    _BY_STATUS.setdefault(_code.http, _code.name)


def error_from_response(status: int, body: bytes, *, code: str = "") -> VedetteError:
    """The error that an answer of 400 or more stands for.

    Reads problem+json (`code`, `detail`), the Open Inference Protocol's `{"error": ...}` and, as a last
    resort, the status alone: then the text begins with it, because a proxy may have spoken.
    """
    document = _document(body)
    code = code or _text(document.get("code"))
    message = _text(document.get("detail")) or _text(document.get("error")) or _text(document.get("title"))
    if not message:
        message = f"HTTP {status}: {body[:200].decode('utf-8', 'replace').strip() or 'no text'}"
    return error_from_code(code if code in CODES else _code_of(status), message)


def error_from_transport(error: httpx.TransportError, address: str) -> VedetteError:
    """What a request that got no answer ended in."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unavailable(f"nothing answers at {address}; is vedette running there? `vedette up` starts it")
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(f"{address} did not answer in the time allowed")
    return Unavailable(f"the connection to {address} broke: {error or type(error).__name__}")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _code_of(status: int) -> str:
    return _BY_STATUS.get(status) or ("invalid_argument" if status < 500 else "unavailable")
