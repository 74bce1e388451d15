"""The bridge from RSGI to an ASGI application, for paths that no bare route takes.

Rule: bodies stream both ways and are never gathered here. A request body over the cap is refused unless its
route is one that streams uploads (`Service.asgi_uploads`), which counts for itself; the receive deadline holds
for both, and for uploads grows with what has arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any
from urllib.parse import quote

from vedette.chassis.bodies import Transport, check_length, discard, too_large
from vedette.chassis.flights import Flight
from vedette.chassis.http import HttpResponse
from vedette.chassis.logs import log_unexpected
from vedette.chassis.problem import problem, render_problem
from vedette.chassis.routing import Router
from vedette.core.errors import VedetteError

Message = MutableMapping[str, Any]


class AsgiBridge:
    """Serves an ASGI application. `uploads`: (method, pattern) of routes that limit their bodies themselves."""

    def __init__(self, app: Any, *, uploads: tuple[tuple[str, str], ...], max_request_bytes: int) -> None:
        self._app = app
        self._uploads: Router[None] = Router([(method, pattern, None) for method, pattern in uploads])
        self._max_bytes = max_request_bytes

    async def serve(self, scope: Any, protocol: Transport, flight: Flight, extra: list[tuple[str, str]]) -> int:
        """Run the application for one request and return the status it answered with; `extra` headers are added."""
        match = self._uploads.match(scope.path)
        uploads = match is not None and scope.method in match.targets
        exchange = _Exchange(protocol, flight, extra, None if uploads else self._max_bytes)
        flight.streaming = True
        try:
            if not uploads:
                check_length(scope.headers.get("content-length") or "0", self._max_bytes)
            await self._app(_asgi_scope(scope, protocol), exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not flight.expired or exchange.started:
                exchange.cut_off()
                raise
            if flight.task is not None:
                flight.task.uncancel()
            exchange.answer(problem(408, "invalid_argument", "the request body did not arrive in time"))
        except VedetteError as error:
            exchange.broken = error
        except Exception as error:  # noqa: BLE001 - the caller gets an id, the log gets everything
            if exchange.broken is None:  # else the application stumbled over the body that we cut off
                exchange.failed(error)
        exchange.finish()
        if exchange.status == 413:
            await discard(protocol, flight, max_bytes=self._max_bytes)
        return exchange.status


class _Exchange:
    """One request and its answer in ASGI's messages."""

    def __init__(self, protocol: Transport, flight: Flight, extra: list[tuple[str, str]], limit: int | None) -> None:
        self._protocol = protocol
        self._flight = flight
        self._extra = extra
        self._limit = limit
        self._chunks: AsyncIterator[bytes] | None = None
        self._ended = False
        self._headers: list[tuple[str, str]] = []
        self._stream: Any = None
        self._held: HttpResponse | None = None
        self._complete = False
        self.broken: VedetteError | None = None
        """Why the body could not be read: outweighs what the application makes of it."""
        self.started = False
        self.status = 500

    async def receive(self) -> Message:
        """The next part of the body, or the news that the client is gone."""
        if self._ended:
            await self._protocol.client_disconnect()
            return {"type": "http.disconnect"}
        self._flight.reading = True
        try:
            return await self._next_part()
        except VedetteError as error:
            self._ended, self.broken = True, error
            return {"type": "http.disconnect"}
        finally:
            self._flight.reading = False

    async def _next_part(self) -> Message:
        if self._chunks is None:
            self._chunks = aiter(self._protocol)
        chunk = await anext(self._chunks, None)
        if chunk is None:
            self._ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        self._flight.received += len(chunk)
        if self._limit is not None and self._flight.received > self._limit:
            raise too_large(self._limit)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(self, message: Message) -> None:
        """One message of the answer. Raises OSError when the client is gone, as ASGI has it."""
        if self.broken is not None and not self.started:
            return
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            self._headers += self._extra
        elif kind == "http.response.pathsend":
            self.started = True
            self._protocol.response_file(self.status, self._headers, str(message["path"]))
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._stream is None and not more:
            if self.started:
                return
            response = HttpResponse(self.status, bytes(body), self._headers)
            if self.status == 500:  # frameworks answer 500 and then raise what they could not handle to us
                self._held = response
            else:
                self._whole(response)
            return
        if self._stream is None:
            self.started = True
            self._stream = self._protocol.response_stream(self.status, self._headers)
        if body:
            try:
                await self._stream.send_bytes(bytes(body))
            except Exception as error:
                raise OSError("the client is gone") from error
        self._complete = not more

    def answer(self, response: HttpResponse) -> None:
        """Our own answer, if the application has not begun one."""
        if not self.started:
            self.status = response.status
            close = [("connection", "close")] if response.status in (408, 413) else []
            self._whole(HttpResponse(response.status, response.body, [*response.headers, *self._extra, *close]))

    def finish(self) -> None:
        """The application is done: answer for a body that broke, or let a 500 of its own go."""
        if self.broken is not None:
            self.answer(render_problem(self.broken))
        elif self._held is not None and not self.started:
            self._whole(self._held)
        elif not self._complete:  # it returned in the middle of its answer
            self.cut_off()

    def cut_off(self) -> None:
        """What has gone out of an answer in parts must not pass for the whole."""
        if self._stream is not None:
            self._stream.broken = True

    def failed(self, error: Exception) -> None:
        """The application raised what nobody foresaw. After the answer has begun only the log can tell."""
        self.cut_off()
        if self._stream is not None and isinstance(error, OSError):
            return
        request_id = dict(self._extra).get("x-request-id", "")
        self.answer(render_problem(log_unexpected(error, request_id)))

    def _whole(self, response: HttpResponse) -> None:
        self.started = True
        headers = [header for header in response.headers if header[0] != "content-length"]
        if response.body:
            self._protocol.response_bytes(response.status, headers, response.body)
        else:  # the answer to HEAD keeps the length that GET would have
            self._protocol.response_empty(response.status, response.headers)


def _asgi_scope(scope: Any, protocol: Transport) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": scope.http_version,
        "method": scope.method,
        "scheme": "http",
        "path": scope.path,
        "raw_path": quote(scope.path).encode(),
        "query_string": scope.query_string.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in scope.headers.items()
        ],
        "client": _address(protocol.client),
        "server": _address(protocol.server),
        "extensions": {"http.response.pathsend": {}},
        "state": {},
    }


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port) if port.isdigit() else 0
