"""What consumer groups leave behind: offsets, failures, dead letters; and the damage that was found.

Rule: one small database for all topics and processes; every row has a checksum, like the messages.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from pathlib import Path

from vedette.core.events import Damage, DeadLetter, Delivery, Topic
from vedette.storage.sqlite_stream_records import from_row, stream_errors, to_row
from vedette.storage.sqlite_stream_segments import connect, create_database

_SCHEMA = (
    "CREATE TABLE standing (topic TEXT, consumers TEXT, number INTEGER, crc INTEGER, PRIMARY KEY (topic, consumers))",
    """CREATE TABLE failure (topic TEXT, consumers TEXT, number INTEGER, times INTEGER, reason TEXT,
       PRIMARY KEY (topic, consumers, number))""",
    """CREATE TABLE letter (topic TEXT, consumers TEXT, number INTEGER, crc INTEGER, sequence INTEGER, producer BLOB,
       key BLOB, content_type BLOB, value BLOB, reason TEXT, at REAL, PRIMARY KEY (topic, consumers, number))""",
    "CREATE TABLE damage (topic TEXT, first INTEGER, last INTEGER, reason TEXT, PRIMARY KEY (topic, first))",
)


class StreamState:
    """The database `state.db` in the stream's folder. Blocking and thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.db"
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                create_database(self._path, *_SCHEMA)
            self._db = connect(self._path)
        return self._db

    def commit(self, topic: Topic, group: str, offset: int) -> None:
        """Move the group's offset forward."""
        crc = zlib.crc32(f"{topic}/{group}/{offset}".encode())
        with self._lock, stream_errors():
            self._connection().execute(
                """INSERT INTO standing VALUES (?, ?, ?, ?) ON CONFLICT (topic, consumers)
                   DO UPDATE SET number = excluded.number, crc = excluded.crc WHERE excluded.number > number""",
                (topic, group, offset, crc),
            )

    def committed(self, topic: Topic, group: str) -> int:
        """The group's offset."""
        query = "SELECT number, crc FROM standing WHERE topic = ? AND consumers = ?"
        with self._lock, stream_errors():
            row = self._connection().execute(query, (topic, group)).fetchone()
        return row[0] if row and zlib.crc32(f"{topic}/{group}/{row[0]}".encode()) == row[1] else 0

    def fail(self, topic: Topic, group: str, offset: int, reason: str) -> int:
        """Count a failure and return how many there are."""
        with self._lock, stream_errors():
            row = (
                self._connection()
                .execute(
                    """INSERT INTO failure VALUES (?, ?, ?, 1, ?) ON CONFLICT (topic, consumers, number)
                   DO UPDATE SET times = times + 1, reason = excluded.reason RETURNING times""",
                    (topic, group, offset, reason),
                )
                .fetchall()
            )
        return int(row[0][0])

    def bury(self, delivery: Delivery, group: str, reason: str) -> bool:
        """Keep a dead letter; False when it is kept already."""
        row = to_row(delivery.topic, delivery.offset, delivery.message)
        statement = "INSERT OR IGNORE INTO letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        with self._lock, stream_errors():
            done = self._connection().execute(statement, (delivery.topic, group, *row, reason, time.time()))
        return done.rowcount > 0

    def letters(self, topic: Topic, group: str, limit: int) -> list[DeadLetter]:
        """The group's dead letters, oldest first."""
        query = """SELECT number, crc, sequence, producer, key, content_type, value, reason, at FROM letter
                   WHERE topic = ? AND consumers = ? ORDER BY at, number LIMIT ?"""
        with self._lock, stream_errors():
            rows = self._connection().execute(query, (topic, group, limit)).fetchall()
        messages = [from_row(topic, row[:7]) for row in rows]
        return [
            DeadLetter(Delivery(topic, row[0], message), group, row[7], row[8])
            for row, message in zip(rows, messages, strict=True)
            if message is not None
        ]

    def note_damage(self, damage: Damage) -> bool:
        """Remember a damaged stretch; False when it is known already."""
        statement = "INSERT OR IGNORE INTO damage VALUES (?, ?, ?, ?)"
        with self._lock, stream_errors():
            row = (damage.topic, damage.first, damage.last, damage.reason)
            return self._connection().execute(statement, row).rowcount > 0

    def damage(self, topic: Topic) -> list[Damage]:
        """Every stretch known, in the order of offsets."""
        query = "SELECT topic, first, last, reason FROM damage WHERE topic = ? ORDER BY first"
        with self._lock, stream_errors():
            return [Damage(*row) for row in self._connection().execute(query, (topic,))]

    def close(self) -> None:
        """Close the database; idempotent."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None
