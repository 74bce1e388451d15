"""What every JSON body passes before a framework sees it: its media type, a size cap and a depth cap.

Rule: the body is counted while it comes and never held beyond the cap; uploads pass by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vedette.chassis.problem import render_problem
from vedette.codec.checks import check_json
from vedette.core.errors import InvalidArgument, TooLarge, VedetteError

INLINE_BYTES = 16 * 1024
"""Larger bodies are looked at in a thread."""


class JsonGuard:
    """ASGI middleware in front of the control routes."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, uploads: Sequence[tuple[str, str]]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads = [(method, compile_path(pattern)[0]) for method, pattern in uploads]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and check the body, then hand it on whole."""
        if scope["type"] != "http" or self._is_upload(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
            if body and not _is_json(scope):
                raise _no_json()
            if len(body) > INLINE_BYTES:
                await asyncio.to_thread(check_json, body)
            else:
                check_json(body)
        except VedetteError as error:
            await _answer(error, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _is_upload(self, scope: Scope) -> bool:
        return any(scope["method"] == method and pattern.match(scope["path"]) for method, pattern in self._uploads)

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidArgument("the request body is incomplete")
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise TooLarge(f"a JSON document may have at most {self._max_bytes} bytes")
            if not message.get("more_body", False):
                return bytes(body)


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The JSON body of a route that counts for itself, counted while it comes and not yet looked at.

    Raises:
        TooLarge: it is longer.
        InvalidArgument: it is not declared as JSON.
    """
    if not _is_json(request.scope):
        raise _no_json()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise TooLarge(f"this document may have at most {max_bytes} bytes")
    return bytes(body)


def _no_json() -> InvalidArgument:
    return InvalidArgument("send a JSON document with the header content-type: application/json")


def _is_json(scope: Scope) -> bool:
    """Asking for the header also keeps web pages from posting here: a browser sends it only where it may."""
    declared = dict(scope["headers"]).get(b"content-type", b"")
    return bool(declared.split(b";")[0].strip().lower() == b"application/json")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the whole body once and then whatever the server says."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _answer(error: VedetteError, send: Send) -> None:
    response = render_problem(error)
    headers: list[tuple[bytes, bytes]] = [(name.encode(), value.encode()) for name, value in response.headers]
    start: dict[str, Any] = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": response.body})
