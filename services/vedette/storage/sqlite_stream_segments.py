"""The files of one topic: segments of messages, the mark of its end, and the turn to write.

Rule: a segment is one SQLite file, named by its first offset and the second it was made; it appears whole (made
aside and renamed) and goes whole. Nothing here decides what to write or to drop.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vedette.core.errors import Unavailable
from vedette.storage.sqlite_stream_records import MAX_MESSAGE_BYTES

_SCHEMA = """CREATE TABLE message (number INTEGER PRIMARY KEY, crc INTEGER, sequence INTEGER,
    producer BLOB, key BLOB, content_type BLOB, value BLOB)"""
_MARK = struct.Struct("<QI")
_BUSY_S = 5.0
"""Writers take turns by file locks, so SQLite itself is busy only while another process recovers a file."""


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing database file for reading and writing; any thread may use it, one at a time."""
    uri = f"{path.resolve().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_MESSAGE_BYTES + (1 << 20))  # a damaged length asks for no more
    for pragma in ("synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON", "journal_size_limit=8388608"):
        db.execute(f"PRAGMA {pragma}")
    return db


def create_database(path: Path, *statements: str) -> None:
    """Make a database file in WAL mode aside and rename it into place; on disk when this returns."""
    draft = path.with_suffix(f".{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        for statement in statements:
            db.execute(statement)
    draft.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A segment's file, as its name tells."""

    first: int
    made: int
    path: Path

    @property
    def size(self) -> int:
        """Bytes on disk, with the part that is not yet in the main file."""
        return sum(part.stat().st_size for part in self._parts() if part.exists())

    @property
    def written(self) -> float:
        """When it was last written to, in seconds since the epoch."""
        return max((part.stat().st_mtime for part in self._parts()[:2] if part.exists()), default=0.0)

    def remove(self) -> None:
        """Delete it; processes that still read it go on until they close it."""
        for part in self._parts():
            part.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]


class TopicFiles:
    """The folder of one topic. Constructing it touches nothing; `prepare` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = folder / "end"

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def segments(self) -> list[Segment]:
        """The segments there are, oldest first."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            first, _, made = name.removesuffix(".db").partition("-")
            if name.endswith(".db") and first.isdigit() and made.isdigit():
                found.append(Segment(int(first), int(made), self.folder / name))
        return sorted(found)

    def create(self, first: int) -> Segment:
        """A new, empty segment that begins at offset `first`."""
        segment = Segment(first, int(time.time()), self.folder / f"{first:020d}-{int(time.time())}.db")
        create_database(segment.path, _SCHEMA)
        return segment

    def read_mark(self) -> int | None:
        """The end of the topic as the last writer noted it; None when there is no note or it is damaged.

        The note is not synced: it survives the death of a process, and is only ever behind after a power cut.
        """
        try:
            data = self._mark.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) != _MARK.size:
            return None
        end, crc = _MARK.unpack(data)
        return int(end) if zlib.crc32(data[:8]) == crc else None

    def write_mark(self, end: int) -> None:
        """Note the end. Only by whoever has the turn to write, after the messages are on disk."""
        data = struct.pack("<Q", end)
        descriptor = os.open(self._mark, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, data + struct.pack("<I", zlib.crc32(data)), 0)
        finally:
            os.close(descriptor)

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Be the one writer of the topic over all processes.

        Two locks make it fair: who waits for the second holds the first, so who just wrote cannot overtake.

        Raises:
            Unavailable: it was not to be had in time.
        """
        deadline = time.monotonic() + timeout_s
        with _locked(self.folder / "queue", deadline) as queue, _locked(self.folder / "lock", deadline):
            fcntl.flock(queue, fcntl.LOCK_UN)
            yield


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, deadline)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    # Polled, not waited for: a stopped process that holds it must not hold this thread for ever.
    pause = 0.0002
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable("the stream is busy: another process holds it for too long") from None
            time.sleep(pause)
            pause = min(pause * 2, 0.002)
