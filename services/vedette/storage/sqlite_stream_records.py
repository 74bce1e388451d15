"""One message as a row of a segment: its checksum, and what SQLite's errors mean.

Rule: nothing leaves a row unless its checksum fits; the checksum covers every field, the topic and the offset.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vedette.core.errors import DataLoss, Unavailable
from vedette.core.events import Message, Topic
from vedette.storage.stream_messages import checksum

Row = tuple[int, int, int, bytes, bytes, bytes, bytes]
"""Offset, checksum, sequence, producer, key, content type, value. Names are bytes: SQLite need not read them."""

COLUMNS = "rowid, crc, sequence, producer, key, content_type, value"

_TRANSIENT = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_IOERR,
    )
)
_BAD_READS = frozenset((sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error speaks of what is stored, and not of the moment: locks, space, memory, rights."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the Python module itself, about the content
        return not isinstance(error, sqlite3.ProgrammingError)
    return code in _BAD_READS or code & 0xFF not in _TRANSIENT


@contextmanager
def stream_errors() -> Iterator[None]:
    """Turn what SQLite and the file system say into an error that a caller may read.

    Raises:
        DataLoss: a file is damaged. Unavailable: the disk is full or fails, or another process holds a file.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _told(error) from error
    except OSError as error:
        raise Unavailable("the stream's folder cannot be read or written") from error


def _told(error: sqlite3.Error) -> Unavailable | DataLoss:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return Unavailable("the stream is out of disk space; nothing was stored")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("the stream is busy: another process holds it for too long")
    if is_damage(error):
        return DataLoss("a file of the stream is damaged")
    return Unavailable("the stream's disk fails or is out of reach")


def place(topic: Topic, offset: int) -> int:
    """CRC32 of where a message stands. XORed into its fingerprint, so that a row in the wrong place does not fit."""
    return zlib.crc32(f"{topic}/{offset}".encode())


def to_row(topic: Topic, offset: int, message: Message) -> Row:
    """The message as it is stored."""
    names = (message.producer.encode(), message.key.encode(), message.content_type.encode())
    crc = checksum(message.sequence, *names, message.value) ^ place(topic, offset)
    return offset, crc, message.sequence, *names, message.value


def from_row(topic: Topic, row: tuple[Any, ...]) -> Message | None:
    """The message of a stored row; None when the row is not what was written."""
    offset, crc, sequence, producer, key, content_type, value = row
    if not all(type(number) is int for number in (offset, crc, sequence)):
        return None
    if not all(type(part) is bytes for part in (producer, key, content_type, value)):
        return None
    if checksum(sequence, producer, key, content_type, value) ^ place(topic, offset) != crc:
        return None
    try:
        return Message(key.decode(), value, content_type.decode(), producer.decode(), sequence)
    except UnicodeDecodeError:  # cannot be, with a checksum that fits
        return None
