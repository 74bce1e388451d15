"""A webhook receiver on loopback: keeps what arrives, checks its signature, and wakes who waits for it.

Rule: it answers 204 and nothing else; a message whose signature is wrong is kept apart and never counts.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MAX_BYTES = 1024 * 1024

Verify = Callable[[dict[str, str], bytes], bool]
Wanted = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it arrived."""

    at: float
    """Seconds since the epoch."""
    document: dict[str, Any]


class Receiver:
    """Listens on a free port of 127.0.0.1 while its block lasts."""

    def __init__(self) -> None:
        self.verify: Verify = lambda headers, body: False
        self.wanted: Wanted = lambda document: True
        """Of what is signed, what counts: the webhook may be told of others' alerts too."""
        self.refused = 0
        self._arrived: queue.Queue[Arrival] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where messages are sent."""
        return f"http://127.0.0.1:{self._server.server_port}/alerts"

    def take(self, timeout_s: float) -> Arrival | None:
        """The next message; None when none has come in time."""
        try:
            return self._arrived.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def accept(self, headers: dict[str, str], body: bytes) -> None:
        """Keep a message whose signature is right."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if isinstance(document, dict) and self.verify(headers, body):
            if self.wanted(document):
                self._arrived.put(Arrival(time.time(), document))
        else:
            self.refused += 1

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="webhook-receiver", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = min(int(self.headers.get("content-length") or 0), MAX_BYTES)
            body = self.rfile.read(length)
            receiver.accept({key.lower(): value for key, value in self.headers.items()}, body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    return Handler
