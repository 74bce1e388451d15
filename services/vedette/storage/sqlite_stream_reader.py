"""Reading one topic, around whatever is damaged.

Rule: what is delivered has a checksum that fits; every offset before the end is either delivered or reported.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator

from vedette.core.events import Damage, Delivery, Topic
from vedette.storage.sqlite_stream_records import COLUMNS, from_row, stream_errors
from vedette.storage.sqlite_stream_segments import Segment, TopicFiles, connect

_RANGE = f"SELECT {COLUMNS} FROM message WHERE rowid >= ? AND rowid < ? ORDER BY rowid LIMIT ?"  # noqa: S608


class TopicReader:
    """Reads one topic. Blocking and thread-safe. `report` is told of every damaged stretch met."""

    def __init__(self, topic: Topic, files: TopicFiles, *, max_bytes: int, report: Callable[[Damage], None]) -> None:
        self._topic = topic
        self._files = files
        self._max_bytes = max_bytes
        self._report = report
        self._lock = threading.Lock()
        self._open: tuple[Segment, sqlite3.Connection] | None = None

    def end(self) -> int:
        """The offset that the next message gets."""
        with self._lock, stream_errors():
            return self._end()

    def read(self, offset: int, limit: int) -> list[Delivery]:
        """Up to `limit` messages from `offset` on, and no more than fit into `max_bytes`, but one at least."""
        deliveries: list[Delivery] = []
        with self._lock, stream_errors():
            size = 0
            for found in self._walk(offset, limit):
                if isinstance(found, Damage):
                    self._report(found)
                    continue
                size += len(found.message.value)
                if deliveries and size > self._max_bytes:
                    break
                deliveries.append(found)
                if len(deliveries) >= limit or size >= self._max_bytes:
                    break
        return deliveries

    def close(self) -> None:
        """Close the open segment; idempotent."""
        with self._lock:
            self._drop_connection()

    def _end(self) -> int:
        mark = self._files.read_mark()
        if mark is not None:
            return mark
        segments = self._files.segments()
        if not segments:
            return 0
        (newest,) = self._connection(segments[-1]).execute("SELECT max(rowid) FROM message").fetchone()
        return segments[-1].first if newest is None else int(newest) + 1

    def _walk(self, offset: int, limit: int) -> Iterator[Delivery | Damage]:
        end = self._end()
        segments = self._files.segments()
        if not segments:
            return
        position = max(offset, segments[0].first)
        for segment, until in zip(segments, [*(s.first for s in segments[1:]), end], strict=True):
            if position >= until:
                continue
            yield from self._segment(segment, max(position, segment.first), until, limit)
            position = until

    def _segment(self, segment: Segment, position: int, until: int, limit: int) -> Iterator[Delivery | Damage]:
        rows = self._connection(segment).execute(_RANGE, (position, until, limit))
        for row in rows:
            if row[0] > position:
                yield Damage(self._topic, position, row[0] - 1, "missing")
            message = from_row(self._topic, row)
            if message is None:
                yield Damage(self._topic, row[0], row[0], "checksum")
            else:
                yield Delivery(self._topic, row[0], message)
            position = row[0] + 1

    def _connection(self, segment: Segment) -> sqlite3.Connection:
        if self._open is None or self._open[0] != segment:
            self._drop_connection()
            self._open = segment, connect(segment.path)
        return self._open[1]

    def _drop_connection(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
