"""The metrics stream of one host in SQLite files, for any number of processes.

Rule: acknowledged means fsynced; what cannot be read back as it was written is never delivered, and reported.
The event loop never waits for a disk: writing has a thread for each topic, reading borrows one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from vedette.core.errors import DataLoss, InvalidArgument, Unavailable
from vedette.core.events import Damage, DeadLetter, Delivery, Message, Topic
from vedette.core.metrics import Metrics, NoMetrics
from vedette.storage.sqlite_stream_reader import TopicReader
from vedette.storage.sqlite_stream_records import stream_errors
from vedette.storage.sqlite_stream_recovery import enter
from vedette.storage.sqlite_stream_retention import Retention
from vedette.storage.sqlite_stream_segments import TopicFiles
from vedette.storage.sqlite_stream_state import StreamState
from vedette.storage.sqlite_stream_writer import TopicWriter
from vedette.storage.stream_messages import MAX_READ_BYTES, TOPICS, check_names, check_page

log = logging.getLogger(__name__)

RETENTION_S = 72 * 3600.0
"""Default time that messages are kept."""
RETENTION_BYTES = 2 << 30
"""Default size of a topic on disk."""
BUSY_TIMEOUT_S = 30.0
"""Default time that a writer waits for its turn among the processes."""
_POLL_S = 0.025
_SWEEP_S = 60.0


class _Topic:
    """One topic of the stream: who writes it, who reads it, and who waits for more."""

    def __init__(self, files: TopicFiles, writer: TopicWriter, reader: TopicReader, waiters: _Waiters) -> None:
        self.files = files
        self.writer = writer
        self.reader = reader
        self.waiters = waiters
        self.handled: dict[str, int] = {}
        """Offsets that groups of this process have committed."""
        self.swept = time.monotonic()


class _Waiters:
    """Who of this event loop waits for a message of one topic."""

    def __init__(self) -> None:
        self._futures: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Let everyone look again."""
        for future in self._futures:
            self._end(future)

    async def pause(self, seconds: float) -> None:
        """Until somebody wakes us, or the time is over."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._futures.add(future)
        alarm = loop.call_later(seconds, self._end, future)
        try:
            await future
        finally:
            alarm.cancel()
            self._futures.discard(future)

    @staticmethod
    def _end(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)


class SqliteEventStream:
    """An `EventStream` in a folder that any number of processes of one host share.

    Construct it anywhere, use it in one event loop. `retention_s` and `retention_bytes` hold for each topic.
    """

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
        self._folder = folder
        self._retention = Retention(retention_s, retention_bytes)
        self._max_read_bytes = max_read_bytes
        self._busy_timeout_s = busy_timeout_s
        self._metrics = metrics or NoMetrics()
        self._state = StreamState(folder)
        self._topics: dict[Topic, _Topic] = {}
        self._entering: asyncio.Task[int] | None = None
        self._closed = False

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        found = await self._topic(topic)
        offsets = await found.writer.publish(messages) if messages else []
        self._show_lag(topic, found)
        return offsets

    async def read(self, topic: Topic, offset: int, limit: int) -> list[Delivery]:
        found = await self._topic(topic)
        check_page(offset, limit)
        deliveries = await asyncio.to_thread(found.reader.read, offset, limit)
        self._show_lag(topic, found)
        return deliveries

    async def wait(self, topic: Topic, offset: int, timeout_s: float) -> bool:
        found = await self._topic(topic)
        deadline = time.monotonic() + timeout_s
        while await self._visible_end(found) <= found.reader.past_damage(offset):
            self._show_lag(topic, found)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            await found.waiters.pause(min(remaining, _POLL_S))
            self._check_open()
            await self._sweep(found)
        return True

    @staticmethod
    async def _visible_end(found: _Topic) -> int:
        """The end as the mark tells, which costs a few microseconds; without a mark as the segments tell."""
        mark = found.files.read_mark()
        return mark if mark is not None else await asyncio.to_thread(found.reader.end)

    async def _sweep(self, found: _Topic) -> None:
        """Retention where nobody publishes is the waiting consumers' business, now and then."""
        if time.monotonic() - found.swept > _SWEEP_S:
            found.swept = time.monotonic()
            await asyncio.to_thread(self._sweep_now, found)

    def _sweep_now(self, found: _Topic) -> None:
        try:
            with stream_errors(), found.files.turn(0.0):
                self._retention.sweep(found.files)
        except (Unavailable, DataLoss) as error:
            log.info("retention waits: %s", error.message, extra={"topic": found.files.topic})

    async def commit(self, topic: Topic, group: str, offset: int) -> None:
        found = await self._topic(topic, group)
        if not 0 <= offset <= await asyncio.to_thread(found.reader.end):
            raise InvalidArgument(f"offset {offset} is not between 0 and the end of {topic}")
        await asyncio.to_thread(self._state.commit, topic, group, offset)
        found.handled[group] = max(offset, found.handled.get(group, 0))
        self._show_lag(topic, found)

    async def committed(self, topic: Topic, group: str) -> int:
        found = await self._topic(topic, group)
        offset = found.handled[group] = await asyncio.to_thread(self._state.committed, topic, group)
        return offset

    async def fail(self, topic: Topic, group: str, offset: int, reason: str) -> int:
        await self._topic(topic, group)
        check_page(offset, 1)
        return await asyncio.to_thread(self._state.fail, topic, group, offset, reason)

    async def bury(self, delivery: Delivery, group: str, reason: str) -> None:
        await self._topic(delivery.topic, group)
        if await asyncio.to_thread(self._state.bury, delivery, group, reason):
            self._metrics.counter("vedette_stream_dead_letters_total", topic=delivery.topic, group=group).inc()

    async def dead_letters(self, topic: Topic, group: str, limit: int) -> list[DeadLetter]:
        await self._topic(topic, group)
        check_page(0, limit)
        return await asyncio.to_thread(self._state.letters, topic, group, limit, self._max_read_bytes)

    async def end(self, topic: Topic) -> int:
        found = await self._topic(topic)
        return await asyncio.to_thread(found.reader.end)

    async def damage(self, topic: Topic) -> list[Damage]:
        await self._topic(topic)
        return await asyncio.to_thread(self._state.damage, topic)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for found in self._topics.values():
            found.waiters.wake()
        present = None
        if self._entering is not None:
            (present,) = await asyncio.gather(self._entering, return_exceptions=True)
        await asyncio.to_thread(self._leave)
        if isinstance(present, int):
            os.close(present)

    def _leave(self) -> None:
        for found in self._topics.values():
            found.writer.close()
            found.reader.close()
        self._state.close()

    async def _topic(self, topic: Topic, group: str = "-") -> _Topic:
        self._check_open()
        check_names(topic, group)
        await self._enter()
        self._check_open()
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = self._open(topic)
        return found

    async def _enter(self) -> None:
        """Once, before anything else: see `sqlite_stream_recovery`. What failed is tried again by the next caller."""
        if self._entering is None or (self._entering.done() and self._entering.exception() is not None):
            self._entering = asyncio.create_task(asyncio.to_thread(self._enter_now))
        if not self._entering.done():
            await asyncio.shield(self._entering)

    def _enter_now(self) -> int:
        with stream_errors():
            return enter(self._folder, TOPICS, self._busy_timeout_s)

    def _open(self, topic: Topic) -> _Topic:
        files, waiters = TopicFiles(self._folder / topic, topic), _Waiters()
        writer = TopicWriter(files, retention=self._retention, busy_timeout_s=self._busy_timeout_s, stored=waiters.wake)
        reader = TopicReader(
            files, max_bytes=self._max_read_bytes, known=self._known_damage, report=self._report_damage
        )
        return _Topic(files, writer, reader, waiters)

    def _known_damage(self, topic: Topic) -> list[Damage]:
        try:
            return self._state.damage(topic)
        except DataLoss:  # a damaged state keeps nobody from reading
            return []

    def _report_damage(self, damage: Damage) -> None:
        """Note a damaged stretch, once over all processes, and count its messages."""
        log.error(
            "messages cannot be read back: %s",
            damage.reason,
            extra={"topic": damage.topic, "first": damage.first, "last": damage.last},
        )
        try:
            news = self._state.note_damage(damage)
        except DataLoss:
            news = damage.last - damage.first + 1
        if news:
            self._metrics.counter("vedette_stream_damaged_messages_total", topic=damage.topic).inc(news)

    def _show_lag(self, topic: Topic, found: _Topic) -> None:
        if not found.handled:
            return
        end = found.files.read_mark() or 0
        for group, offset in found.handled.items():
            gauge = self._metrics.gauge("vedette_stream_lag_messages", topic=topic, group=group)
            gauge.set(max(end - offset, 0))

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the stream is closed")
