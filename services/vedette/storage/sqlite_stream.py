"""The metrics stream of one host in SQLite files, for any number of processes.

Rule: acknowledged means fsynced; what cannot be read back as it was written is never delivered, and reported.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.events import Damage, DeadLetter, Delivery, Message, Topic
from vedette.core.metrics import Metrics, NoMetrics
from vedette.storage.sqlite_stream_reader import TopicReader
from vedette.storage.sqlite_stream_segments import TopicFiles
from vedette.storage.sqlite_stream_state import StreamState
from vedette.storage.sqlite_stream_writer import Retention, TopicWriter

RETENTION_S = 72 * 3600.0
"""Default time that messages are kept."""
RETENTION_BYTES = 2 << 30
"""Default size of a topic on disk."""
MAX_READ_BYTES = 16 << 20
"""Default bound of what one read returns; one message is returned whatever its size."""
BUSY_TIMEOUT_S = 30.0
"""Default time that a writer waits for its turn among the processes."""
_POLL_S = 0.02


class _TopicLog:
    """One topic: who writes it, who reads it, and who waits for more."""

    def __init__(self, topic: Topic, stream: SqliteEventStream) -> None:
        self.files = TopicFiles(stream.folder / topic)
        self.writer = TopicWriter(
            topic,
            self.files,
            retention=stream.retention,
            busy_timeout_s=stream.busy_timeout_s,
            stored=self.wake,
        )
        self.reader = TopicReader(topic, self.files, max_bytes=stream.max_read_bytes, report=stream.report)
        self.waiters: set[asyncio.Future[None]] = set()

    def wake(self, end: int = 0) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class SqliteEventStream:
    """An `EventStream` in a folder. Construct it anywhere; use it in one event loop; share the folder at will."""

    def __init__(
        self,
        folder: Path,
        *,
        retention_s: float = RETENTION_S,
        retention_bytes: int = RETENTION_BYTES,
        max_read_bytes: int = MAX_READ_BYTES,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        metrics: Metrics | None = None,
    ) -> None:
        self.folder = folder
        self.retention = Retention(retention_s, retention_bytes)
        self.max_read_bytes = max_read_bytes
        self.busy_timeout_s = busy_timeout_s
        self._metrics = metrics or NoMetrics()
        self._state = StreamState(folder)
        self._logs: dict[Topic, _TopicLog] = {}
        self._closed = False

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        log = self._log(topic)
        return await log.writer.publish(messages) if messages else []

    async def read(self, topic: Topic, offset: int, limit: int) -> list[Delivery]:
        log = self._log(topic)
        if offset < 0 or limit < 1:
            raise InvalidArgument("an offset is 0 or more and a limit is 1 or more")
        return await asyncio.to_thread(log.reader.read, offset, limit)

    async def wait(self, topic: Topic, offset: int, timeout_s: float) -> bool:
        log = self._log(topic)
        deadline = time.monotonic() + timeout_s
        while (log.files.read_mark() or 0) <= offset:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            await self._pause(log, min(remaining, _POLL_S))
        return True

    async def _pause(self, log: _TopicLog, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        log.waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            log.waiters.discard(waiter)
        self._check_open()

    async def commit(self, topic: Topic, group: str, offset: int) -> None:
        end = await self.end(topic)
        if not 0 <= offset <= end:
            raise InvalidArgument(f"offset {offset} is not between 0 and the end of {topic}")
        await asyncio.to_thread(self._state.commit, topic, group, offset)
        self._metrics.gauge("vedette_stream_lag_messages", topic=topic, group=group).set(end - offset)

    async def committed(self, topic: Topic, group: str) -> int:
        self._check_open()
        return await asyncio.to_thread(self._state.committed, topic, group)

    async def fail(self, topic: Topic, group: str, offset: int, reason: str) -> int:
        self._check_open()
        return await asyncio.to_thread(self._state.fail, topic, group, offset, reason)

    async def bury(self, delivery: Delivery, group: str, reason: str) -> None:
        self._check_open()
        if await asyncio.to_thread(self._state.bury, delivery, group, reason):
            self._metrics.counter("vedette_stream_dead_letters_total", topic=delivery.topic, group=group).inc()

    async def dead_letters(self, topic: Topic, group: str, limit: int) -> list[DeadLetter]:
        self._check_open()
        return await asyncio.to_thread(self._state.letters, topic, group, limit)

    async def end(self, topic: Topic) -> int:
        return await asyncio.to_thread(self._log(topic).reader.end)

    async def damage(self, topic: Topic) -> list[Damage]:
        self._check_open()
        return await asyncio.to_thread(self._state.damage, topic)

    def report(self, damage: Damage) -> None:
        """Note a damaged stretch, once over all processes, and count its messages."""
        if self._state.note_damage(damage):
            counter = self._metrics.counter("vedette_stream_damaged_messages_total", topic=damage.topic)
            counter.inc(damage.last - damage.first + 1)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for log in self._logs.values():
            log.wake()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for log in self._logs.values():
            log.writer.close()
            log.reader.close()
        self._state.close()

    def _log(self, topic: Topic) -> _TopicLog:
        self._check_open()
        found = self._logs.get(topic)
        if found is None:
            found = self._logs[topic] = _TopicLog(topic, self)
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the stream is closed")
