"""The thread that writes one topic: everything that waits goes into one transaction and one fsync.

Rule: a publish is answered after its commit, or with the error of its commit; the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice

from vedette.core.errors import Internal, Overloaded, Unavailable, VedetteError
from vedette.core.events import Message
from vedette.storage.sqlite_stream_records import (
    is_damage,
    place,
    stream_errors,
    to_row,
)
from vedette.storage.sqlite_stream_retention import Retention
from vedette.storage.sqlite_stream_segments import Segment, TopicFiles, connect, connect_to_read
from vedette.storage.stream_messages import Remembered, check_messages, fingerprint

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 256 << 20
"""Messages of a topic that may wait for the disk, together."""
_COMMIT_BYTES = 16 << 20
"""A transaction takes no further publish beyond this."""
_CAUGHT_UP = 1_000
"""Messages of other processes that are looked at before our own turn, so that a repetition is noticed."""


@dataclass(slots=True)
class _Publish:
    """One call of `publish` that waits."""

    messages: Sequence[Message]
    size: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self.loop.create_future()


class TopicWriter:
    """Appends to one topic. `publish` belongs to event loops, everything else to the thread."""

    def __init__(
        self,
        files: TopicFiles,
        *,
        retention: Retention,
        busy_timeout_s: float,
        stored: Callable[[], None],
    ) -> None:
        self._topic = files.topic
        self._files = files
        self._retention = retention
        self._busy_timeout_s = busy_timeout_s
        self._stored = stored
        self._queue: queue.SimpleQueue[_Publish | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._open: tuple[Segment, sqlite3.Connection] | None = None
        self._remembered = Remembered()
        self._end = -1

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        """Hand the messages to the thread and wait for their commit."""
        size = check_messages(messages)
        waiting = _Publish(messages, size, asyncio.get_running_loop())
        with self._lock:
            if self._closed:
                raise Unavailable("the stream is closed")
            if self._waiting_bytes and self._waiting_bytes + size > MAX_WAITING_BYTES:
                raise Overloaded("too much waits to be written to the stream")
            self._waiting_bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"stream-{self._topic}", daemon=True)
                self._thread.start()
            self._queue.put(waiting)
        return await waiting.answer

    def close(self) -> None:
        """Write what waits, end the thread and wait for it."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            result: list[list[int]] | VedetteError
            try:
                with stream_errors():
                    result = self._write([message for waiting in batch for message in waiting.messages], batch)
            except VedetteError as error:
                self._drop_connection()
                result = error
            except Exception:
                log.exception("a defect kept messages from being stored", extra={"topic": self._topic})
                self._drop_connection()
                result = Internal("the messages could not be stored")
            with self._lock:
                self._waiting_bytes -= sum(waiting.size for waiting in batch)
            self._answer(batch, result)
        self._drop_connection()

    def _take(self) -> list[_Publish] | None:
        """Everything that waits, up to the size of a transaction; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        batch, size = [first], first.size
        while size < _COMMIT_BYTES:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            batch.append(following)
            size += following.size
        return batch

    def _answer(self, batch: list[_Publish], result: list[list[int]] | VedetteError) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Publish, list[int] | VedetteError]]] = {}
        for index, waiting in enumerate(batch):
            answer = result if isinstance(result, VedetteError) else result[index]
            by_loop.setdefault(waiting.loop, []).append((waiting, answer))
        for loop, answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._resolve, answers)
            except RuntimeError:  # the loop ended before its messages were stored; nobody waits
                continue

    def _resolve(self, answers: list[tuple[_Publish, list[int] | VedetteError]]) -> None:
        for waiting, answer in answers:
            if waiting.answer.done():
                continue
            if isinstance(answer, VedetteError):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        self._stored()

    def _write(self, messages: list[Message], batch: list[_Publish]) -> list[list[int]]:
        self._files.prepare()
        with self._files.turn(self._busy_timeout_s):
            try:
                offsets = iter(self._append(messages))
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                log.exception("the newest segment is damaged; a new one begins", extra={"topic": self._topic})
                self._drop_connection()
                newest = self._files.segments()[-1]
                self._roll(max(self._files.end_of_damaged(newest), newest.first + 1))
                offsets = iter(self._append(messages))
        return [list(islice(offsets, len(waiting.messages))) for waiting in batch]

    def _append(self, messages: list[Message]) -> list[int]:
        db, end = self._newest()
        db.execute("BEGIN IMMEDIATE")
        try:
            offsets, fresh = self._place(messages, end)
            rows = (to_row(self._topic, offset, message) for offset, message, _ in fresh)
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        for offset, message, crc in fresh:
            self._remembered.note(message.producer, message.sequence, crc, offset)
        self._end = end + len(fresh)
        self._files.write_mark(self._end)
        return offsets

    def _place(self, messages: list[Message], end: int) -> tuple[list[int], list[tuple[int, Message, int]]]:
        """An offset for each message, and those that are not stored yet with theirs."""
        offsets: list[int] = []
        fresh: list[tuple[int, Message, int]] = []
        now: dict[tuple[str, int, int], int] = {}
        for message in messages:
            crc = fingerprint(message)
            identity = (message.producer, message.sequence, crc)
            offset = self._remembered.find(message, crc) if identity not in now else now[identity]
            if offset is None:
                offset = end + len(fresh)
                fresh.append((offset, message, crc))
                if message.producer:
                    now[identity] = offset
            offsets.append(offset)
        return offsets, fresh

    def _newest(self) -> tuple[sqlite3.Connection, int]:
        """Where to write: the newest segment, or a new one when that is full; and the end of the topic."""
        segments = self._files.segments()
        if not segments:
            return self._roll(self._files.read_mark() or 0)
        newest = segments[-1]
        if self._open is None or self._open[0] != newest:
            self._drop_connection()
            self._open = newest, connect(newest.path)
        db = self._open[1]
        end = self._files.end(newest, db)
        if self._end < 0 and len(segments) > 1:  # our first turn: the newest segment may be a moment old
            with suppress(sqlite3.Error), closing(connect_to_read(segments[-2].path)) as before:
                self._catch_up(before, newest.first - _CAUGHT_UP)
        if end != self._end:
            self._catch_up(db, max(self._end, end - _CAUGHT_UP))
        if end > newest.first and self._retention.full(newest):
            return self._roll(end)
        return db, end

    def _catch_up(self, db: sqlite3.Connection, since: int) -> None:
        """Remember what others wrote since our last turn."""
        query = "SELECT rowid, crc, sequence, producer FROM message WHERE rowid >= ?"
        for offset, crc, sequence, producer in db.execute(query, (since,)):
            if type(crc) is int and type(sequence) is int and type(producer) is bytes:
                name = producer.decode(errors="replace")
                self._remembered.note(name, sequence, crc ^ place(self._topic, offset), offset)

    def _roll(self, first: int) -> tuple[sqlite3.Connection, int]:
        if self._open is not None:
            self._open[1].execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._drop_connection()
        segment = self._files.create(first)
        self._open = segment, connect(segment.path)
        self._retention.drop_old(self._files)
        return self._open[1], first

    def _drop_connection(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            try:
                opened[1].close()
            except sqlite3.Error:
                log.warning("a segment could not be closed properly", extra={"topic": self._topic})
