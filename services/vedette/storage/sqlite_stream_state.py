"""What consumer groups leave behind: offsets, failures, dead letters; and the damage that was found.

Rule: one small database for all topics and processes; every row has a checksum, like the messages.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from vedette.core.errors import Unavailable
from vedette.core.events import Damage, DeadLetter, Delivery, Topic
from vedette.storage.sqlite_stream_records import from_row, is_damage, stream_errors, to_row
from vedette.storage.sqlite_stream_segments import connect, create_database, locked, make_folder
from vedette.storage.stream_messages import MAX_LETTER_BYTES, MAX_LETTERS

log = logging.getLogger(__name__)

_SCHEMA = (
    "CREATE TABLE standing (topic TEXT, consumers TEXT, number INTEGER, crc INTEGER, PRIMARY KEY (topic, consumers))",
    """CREATE TABLE failure (topic TEXT, consumers TEXT, number INTEGER, times INTEGER, crc INTEGER,
       PRIMARY KEY (topic, consumers, number))""",
    """CREATE TABLE letter (id INTEGER PRIMARY KEY, topic TEXT, consumers TEXT, number INTEGER, crc INTEGER,
       sequence INTEGER, producer BLOB, key BLOB, content_type BLOB, value BLOB, reason TEXT, at REAL,
       UNIQUE (topic, consumers, number))""",
    """CREATE TABLE damage (topic TEXT, first INTEGER, last INTEGER, reason TEXT, crc INTEGER,
       PRIMARY KEY (topic, first))""",
)
_TABLES = ("standing", "failure", "letter", "damage")
STATE_FILE = "state.db"
Ask = Callable[[str, tuple[Any, ...]], Iterable[tuple[Any, ...]]]
"""Runs a query with its parameters."""
_MAX_REASON = 1_000
_CREATING_S = 10.0


def _crc(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def _nothing(query: str, parameters: tuple[Any, ...]) -> Iterable[tuple[Any, ...]]:  # noqa: ARG001
    return ()


def check_state(path: Path) -> bool:
    """Whether every row of the file can be reached."""
    try:
        with closing(connect(path)) as db:
            for table in _TABLES:
                db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            return True
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return False


def copy_state(damaged: Path, path: Path) -> None:
    """Begin a new file at `path` with the rows of a damaged one that can be read."""
    create_database(path, *_SCHEMA)
    with closing(connect(path)) as new:
        for table in _TABLES:
            with suppress(sqlite3.Error), closing(connect(damaged)) as old:
                for row in old.execute(f"SELECT * FROM {table}"):  # noqa: S608
                    new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608


class StreamState:
    """The database `state.db` in the stream's folder. Blocking and thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE_FILE
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._closed = False

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise Unavailable("the stream is closed")
        if self._db is None:
            if not self.path.exists():
                self._create()
            self._db = connect(self.path)
        return self._db

    def _create(self) -> None:
        make_folder(self.path.parent)
        with locked(self.path.with_name("creating"), time.monotonic() + _CREATING_S):
            if not self.path.exists():  # nobody was faster
                create_database(self.path, *_SCHEMA)

    @contextmanager
    def _reading(self) -> Iterator[Ask]:
        """What runs a query; before the first write there is no file, and every answer is empty."""
        with self._lock, stream_errors():
            yield _nothing if self._db is None and not self.path.exists() else self._connection().execute

    def commit(self, topic: Topic, group: str, offset: int) -> None:
        """Move the group's offset forward, and forget its failures before that."""
        with self._transaction() as db:
            if offset <= self._standing(db.execute, topic, group):
                return
            row = (topic, group, offset, _crc(topic, group, offset))
            db.execute("INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?)", row)
            db.execute("DELETE FROM failure WHERE topic = ? AND consumers = ? AND number < ?", row[:3])

    def committed(self, topic: Topic, group: str) -> int:
        """The group's offset; 0 when there is none, or none that can be believed."""
        with self._reading() as ask:
            return self._standing(ask, topic, group)

    @staticmethod
    def _standing(ask: Ask, topic: Topic, group: str) -> int:
        row = next(
            iter(ask("SELECT number, crc FROM standing WHERE topic = ? AND consumers = ?", (topic, group))), None
        )
        if row is None:
            return 0
        if _crc(topic, group, row[0]) != row[1]:
            log.error("a committed offset is damaged and counts as 0", extra={"topic": topic, "group": group})
            return 0
        return int(row[0])

    def fail(self, topic: Topic, group: str, offset: int, reason: str) -> int:
        """Count a failure and return how many there are."""
        log.warning("a message failed", extra={"topic": topic, "group": group, "offset": offset, "reason": reason})
        query = "SELECT times, crc FROM failure WHERE topic = ? AND consumers = ? AND number = ?"
        with self._transaction() as db:
            row = db.execute(query, (topic, group, offset)).fetchone()
            known = row is not None and _crc(topic, group, offset, row[0]) == row[1]
            times = int(row[0]) + 1 if known else 1
            crc = _crc(topic, group, offset, times)
            db.execute("INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?)", (topic, group, offset, times, crc))
        return times

    def bury(self, delivery: Delivery, group: str, reason: str) -> bool:
        """Keep a dead letter; False when it is kept already."""
        row = to_row(delivery.topic, delivery.offset, delivery.message)
        statement = "INSERT OR IGNORE INTO letter VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        with self._transaction() as db:
            done = db.execute(statement, (delivery.topic, group, *row, reason[:_MAX_REASON], time.time()))
            self._drop_letters(db, delivery.topic, group)
        with self._lock, stream_errors():
            # Out of the log, where one damaged frame would take it away unseen.
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return done.rowcount > 0

    @staticmethod
    def _drop_letters(db: sqlite3.Connection, topic: Topic, group: str) -> None:
        query = "SELECT id, length(value) FROM letter WHERE topic = ? AND consumers = ? ORDER BY id DESC"
        size = 0
        for index, (number, length) in enumerate(db.execute(query, (topic, group)).fetchall()):
            size += length
            if index >= MAX_LETTERS or (index and size > MAX_LETTER_BYTES):
                db.execute("DELETE FROM letter WHERE id = ?", (number,))

    def letters(self, topic: Topic, group: str, limit: int, max_bytes: int) -> list[DeadLetter]:
        """The group's dead letters, oldest first; no more than fit into `max_bytes`, but one at least."""
        query = """SELECT number, crc, sequence, producer, key, content_type, value, reason, at FROM letter
                   WHERE topic = ? AND consumers = ? ORDER BY id LIMIT ?"""
        found: list[DeadLetter] = []
        size = 0
        with self._reading() as ask:
            for row in ask(query, (topic, group, limit)):
                message = from_row(topic, row[:7])
                if message is None:
                    log.error("a dead letter is damaged", extra={"topic": topic, "group": group})
                    continue
                size += len(message.value)
                if found and size > max_bytes:
                    break
                found.append(DeadLetter(Delivery(topic, row[0], message), group, str(row[7]), float(row[8])))
        return found

    def note_damage(self, damage: Damage) -> int:
        """Remember a damaged stretch and return how many of its messages were not known to be."""
        news = 0
        with self._transaction() as db:
            for first, last in _without(damage.first, damage.last, self._damage(db.execute, damage.topic)):
                row = (damage.topic, first, last, damage.reason)
                db.execute("INSERT OR REPLACE INTO damage VALUES (?, ?, ?, ?, ?)", (*row, _crc(*row)))
                news += last - first + 1
        return news

    def damage(self, topic: Topic) -> list[Damage]:
        """Every stretch known, in the order of offsets."""
        with self._reading() as ask:
            return self._damage(ask, topic)

    @staticmethod
    def _damage(ask: Ask, topic: Topic) -> list[Damage]:
        query = "SELECT topic, first, last, reason, crc FROM damage WHERE topic = ? ORDER BY first"
        return [Damage(*row[:4]) for row in ask(query, (topic,)) if _crc(*row[:4]) == row[4]]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one writer at a time over all processes, on disk at the end of the block."""
        with self._lock, stream_errors():
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the database; idempotent."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()
                self._db = None


def _without(first: int, last: int, known: Sequence[Damage]) -> Iterator[tuple[int, int]]:
    """The parts of `first` to `last` that none of the known stretches covers; those are in order."""
    for damage in known:
        if damage.last < first or damage.first > last:
            continue
        if first < damage.first:
            yield first, damage.first - 1
        first = damage.last + 1
    if first <= last:
        yield first, last
