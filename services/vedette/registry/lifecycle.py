"""What happened to models and endpoints, told on the metrics stream after it is on disk.

Rule: telling never delays or fails a change; what cannot be told is logged, because the catalog is the truth.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from vedette.core.clock import Clock
from vedette.core.errors import VedetteError
from vedette.core.events import Message
from vedette.core.ports import EventStream

LOG = logging.getLogger(__name__)
MAX_WAITING = 10_000
CONTENT_TYPE = "application/cloudevents+json"
PREFIX = "vedette."


class Lifecycle:
    """Takes events from any thread and publishes them in order from the event loop."""

    def __init__(self, stream: EventStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._waiting: deque[Message] = deque()
        self._producer = uuid.uuid4().hex
        self._sequence = 0
        self._telling = threading.Lock()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self, kind: str, subject: str, data: Mapping[str, object]) -> None:
        """Note that something happened: `kind` is `model.registered`, `subject` what it happened to."""
        with self._telling:
            if len(self._waiting) >= MAX_WAITING:
                LOG.warning("lifecycle event dropped: the stream does not take them", extra={"kind": kind})
                return
            self._waiting.append(self._message(kind, subject, data))
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Publish until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if not await self.flush():
                await asyncio.sleep(1.0)
                continue
            await self._wake.wait()

    async def flush(self) -> bool:
        """Publish everything that waits; False when the stream did not take it."""
        while self._waiting:
            batch = list(self._waiting)[:100]
            try:
                await self._stream.publish("lifecycle", batch)
            except VedetteError as error:
                LOG.warning("lifecycle events wait: %s", error.message)
                return False
            for _ in batch:
                self._waiting.popleft()
        return True

    def _message(self, kind: str, subject: str, data: Mapping[str, object]) -> Message:
        now = datetime.fromtimestamp(self._clock.time(), UTC)
        event = {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": "vedette/registry",
            "type": PREFIX + kind,
            "subject": subject,
            "time": now.isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": dict(data),
        }
        self._sequence += 1
        return Message(subject, json.dumps(event).encode(), CONTENT_TYPE, self._producer, self._sequence)
