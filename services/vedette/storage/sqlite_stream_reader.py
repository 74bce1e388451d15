"""Reading one topic, around whatever is damaged.

Rule: what is delivered has a checksum that fits; every offset before the end is either delivered or reported.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence

from vedette.core.errors import Unavailable
from vedette.core.events import Damage, Delivery, Topic
from vedette.storage.sqlite_stream_records import COLUMNS, from_row, is_damage, stream_errors
from vedette.storage.sqlite_stream_segments import Segment, TopicFiles, connect_to_read

_FROM = f"SELECT {COLUMNS} FROM message"  # noqa: S608
_RANGE = f"{_FROM} WHERE rowid >= ? AND rowid < ? ORDER BY rowid"
_NEXT = "SELECT rowid FROM message WHERE rowid >= ? ORDER BY rowid LIMIT 1"
_POINT = f"{_FROM} WHERE rowid = ?"
_EVERYWHERE = (f"{_FROM} WHERE +rowid >= ? AND +rowid < ? ORDER BY rowid",
               f"{_FROM} WHERE +rowid >= ? AND +rowid < ? ORDER BY rowid DESC")  # fmt: skip
"""From either end of the table, without the index of offsets: it finds what a damaged index hides."""
_UNREADABLE = "not readable as it was written"
_PROBES = 32
"""Lookups spread over a segment that must all fail before it is given up as a whole."""


class TopicReader:
    """Reads one topic. Blocking and thread-safe.

    `known` tells what damage is known already, `report` is told of every damaged stretch that is met.
    """

    def __init__(
        self,
        files: TopicFiles,
        *,
        max_bytes: int,
        known: Callable[[Topic], Sequence[Damage]],
        report: Callable[[Damage], None],
    ) -> None:
        self._topic = files.topic
        self._files = files
        self._max_bytes = max_bytes
        self._load_known = known
        self._report = report
        self._damage: list[Damage] | None = None
        self._lock = threading.Lock()
        self._open: tuple[Segment, sqlite3.Connection] | None = None
        self._closed = False

    def end(self) -> int:
        """The offset that the next message gets."""
        with self._lock, stream_errors():
            return self._end()

    def read(self, offset: int, limit: int) -> list[Delivery]:
        """Up to `limit` messages from `offset` on, and no more than fit into `max_bytes`, but one at least."""
        deliveries: list[Delivery] = []
        size = 0
        with self._lock, stream_errors():
            for found in self._walk(offset, limit):
                if isinstance(found, Damage):
                    self._note(found)
                    continue
                size += len(found.message.value)
                if deliveries and size > self._max_bytes:
                    break
                deliveries.append(found)
                if len(deliveries) >= limit:
                    break
        return deliveries

    def past_damage(self, offset: int) -> int:
        """The first offset from this one on that is not known to be damaged. Does not block."""
        for damage in self._damage or ():
            if damage.first <= offset <= damage.last:
                offset = damage.last + 1
        return offset

    def close(self) -> None:
        """Close the open segment; idempotent."""
        with self._lock:
            self._closed = True
            self._drop_connection()

    def _note(self, damage: Damage) -> None:
        self._report(damage)
        self._damage = sorted([*(self._damage or ()), damage], key=lambda known: known.first)

    def _end(self) -> int:
        mark = self._files.read_mark()
        segments = self._files.segments()
        if mark is not None or not segments:
            return mark or 0
        try:
            return self._files.end(segments[-1], self._connection(segments[-1]))
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return self._files.end_of_damaged(segments[-1])

    def _walk(self, offset: int, limit: int) -> Iterator[Delivery | Damage]:
        if self._damage is None:
            self._damage = list(self._load_known(self._topic))
        end = self._end()
        segments = self._files.segments()
        if not segments:  # none was ever written, or somebody removed them all: retention leaves one
            if offset < end:
                yield Damage(self._topic, offset, end - 1, "the files are gone")
            return
        position = max(offset, segments[0].first)
        for segment, until in zip(segments, [*(s.first for s in segments[1:]), end], strict=True):
            while (position := self.past_damage(position)) < until:
                start = position
                for found in self._piece(segment, position, until, limit):
                    yield found
                    position = found.offset + 1 if isinstance(found, Delivery) else found.last + 1
                if position == start:  # dropped by retention while we were on our way
                    position = until

    def _piece(self, segment: Segment, position: int, until: int, limit: int) -> Iterator[Delivery | Damage]:
        """What stands from `position` on: a run of messages, or a damaged stretch. Nothing: the file is gone."""
        start = position
        try:
            for row in self._connection(segment).execute(_RANGE, (position, until)):
                message = from_row(self._topic, row)
                if message is None or row[0] != position:
                    break
                yield Delivery(self._topic, position, message)
                position += 1
        except sqlite3.Error as error:
            if not segment.path.exists():
                return
            self._check_damage(error)
        if position == start:
            self._drop_connection()  # a new connection reads the disk again, not what this one remembers
            yield from self._around(segment, position, until, limit)

    @staticmethod
    def _check_damage(error: sqlite3.Error) -> None:
        if not is_damage(error):
            raise error

    def _around(self, segment: Segment, position: int, until: int, limit: int) -> Iterator[Delivery | Damage]:
        """The damaged stretch at `position`: what can be had of it by other ways, and the rest as damage."""
        if (single := self._lookup(segment, position)) is not None:  # a way down the tree where the way along is cut
            yield single
            return
        if self._hopeless(segment, until):
            yield Damage(self._topic, position, until - 1, "the whole segment cannot be read")
            return
        behind = self._next_good(segment, position, until)
        rescued, behind = self._search(segment, position, behind, limit)
        for found in rescued:
            if found.offset > position:
                yield Damage(self._topic, position, found.offset - 1, _UNREADABLE)
            yield found
            position = found.offset + 1
        if position < behind:
            yield Damage(self._topic, position, behind - 1, _UNREADABLE)

    def _hopeless(self, segment: Segment, until: int) -> bool:
        count = until - segment.first
        steps = max(min(count, _PROBES) - 1, 1)
        places = {segment.first + index * (count - 1) // steps for index in range(steps + 1)}
        if any(self._lookup(segment, place) is not None for place in places):
            return False
        return not self._search(segment, segment.first, until, 1)[0]

    def _next_good(self, segment: Segment, position: int, until: int) -> int:
        """The next offset that a lookup finds, or `until`."""
        while position < until:
            position = max(position, self._next_row(segment, position, until))
            if position < until and self._lookup(segment, position) is not None:
                break
            position += 1
        return min(position, until)

    def _next_row(self, segment: Segment, position: int, until: int) -> int:
        """Where the next row claims to be; `position` itself if the way there is damaged."""
        try:
            row = self._connection(segment).execute(_NEXT, (position,)).fetchone()
        except sqlite3.Error as error:
            self._check_damage(error)
            return position
        return row[0] if row else until

    def _lookup(self, segment: Segment, offset: int) -> Delivery | None:
        """One message by its offset alone."""
        try:
            row = self._connection(segment).execute(_POINT, (offset,)).fetchone()
        except sqlite3.Error as error:
            self._check_damage(error)
            return None
        message = from_row(self._topic, row) if row else None
        return Delivery(self._topic, offset, message) if message is not None else None

    def _search(self, segment: Segment, first: int, until: int, limit: int) -> tuple[list[Delivery], int]:
        """Messages of a stretch that a look through the whole table finds, and how far that settles the stretch.

        The table is read from both ends, as a damaged page stops either way. What is kept is bounded: the lowest
        `limit` messages, and about `max_bytes` of them.
        """
        found: dict[int, Delivery] = {}
        size = 0
        for query in _EVERYWHERE:
            try:
                for row in self._connection(segment).execute(query, (first, until)):
                    message = from_row(self._topic, row)
                    if message is None or not first <= row[0] < until or row[0] in found:
                        continue
                    found[row[0]] = Delivery(self._topic, row[0], message)
                    size += len(message.value)
                    if len(found) > 1 and (len(found) > limit or size > self._max_bytes):
                        until = max(found)
                        size -= len(found.pop(until).message.value)
            except sqlite3.Error as error:
                self._check_damage(error)
        return [found[offset] for offset in sorted(found)], until

    def _connection(self, segment: Segment) -> sqlite3.Connection:
        if self._closed:
            raise Unavailable("the stream is closed")
        if self._open is None or self._open[0] != segment:
            self._drop_connection()
            self._open = segment, connect_to_read(segment.path)
        return self._open[1]

    def _drop_connection(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            opened[1].close()
