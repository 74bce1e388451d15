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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vedette.core.errors import Unavailable
from vedette.core.events import Topic
from vedette.storage.sqlite_stream_records import COLUMNS, from_row
from vedette.storage.staging import sync_folder
from vedette.storage.stream_messages import MAX_MESSAGE_BYTES

_SCHEMA = """CREATE TABLE message (number INTEGER PRIMARY KEY, crc INTEGER, sequence INTEGER,
    producer BLOB, key BLOB, content_type BLOB, value BLOB)"""
_LEAST_BYTES = 12
"""No stored message is smaller."""
_CAREFUL = ("synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON")
_MARK = struct.Struct("<QI")
_BUSY_S = 5.0
"""Writers take turns by file locks, so SQLite itself is busy only while another process recovers a file."""


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing database file for reading and writing; any thread may use it, one at a time."""
    return _opened(path, (*_CAREFUL, "journal_size_limit=8388608"))


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Likewise, but for reading alone, and also a file whose end is missing: SQLite does that to repair schemas."""
    return _opened(path, ("writable_schema=ON", "query_only=ON", *_CAREFUL))


def _opened(path: Path, pragmas: Sequence[str]) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_MESSAGE_BYTES + (1 << 20))  # a damaged length asks for no more
    try:
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; on disk when this returns."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def create_database(path: Path, *statements: str) -> None:
    """Make a database file in WAL mode aside and rename it into place; on disk when this returns."""
    draft = path.with_suffix(f".{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute("PRAGMA page_size=4096")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        for statement in statements:
            db.execute(statement)
    draft.rename(path)
    sync_folder(path.parent)


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

    def __init__(self, folder: Path, topic: Topic) -> None:
        self.folder = folder
        self.topic = topic
        self._mark = str(folder / "end")

    def prepare(self) -> None:
        """Make the folder."""
        make_folder(self.folder)

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
        try:  # this runs 40 times a second for each waiting reader: a tenth of pathlib's time
            descriptor = os.open(self._mark, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = os.read(descriptor, _MARK.size + 1)
        finally:
            os.close(descriptor)
        if len(data) != _MARK.size:
            return None
        end, crc = _MARK.unpack(data)
        return int(end) if zlib.crc32(data[:8]) == crc else None

    def end(self, segment: Segment, db: sqlite3.Connection, *, mark: int | None = None) -> int:
        """The end of the topic whose newest segment is this one; never before the mark.

        Raises:
            sqlite3.Error: the segment cannot say, or its newest row is not what was written.
        """
        (newest,) = db.execute("SELECT max(rowid) FROM message").fetchone()
        stored = segment.first if newest is None else int(newest) + 1
        if mark is None:
            mark = self.read_mark() or 0
        if stored > mark and newest is not None:
            row = db.execute(f"SELECT {COLUMNS} FROM message WHERE rowid = ?", (newest,)).fetchone()  # noqa: S608
            if row is None or from_row(self.topic, row) is None:
                raise sqlite3.DatabaseError("the newest row is damaged")
        return max(stored, mark)

    def end_of_damaged(self, segment: Segment) -> int:
        """An offset beyond every message of a newest segment that cannot say: the mark, else all it has room for."""
        mark = self.read_mark()
        return max(mark, segment.first) if mark is not None else segment.first + segment.size // _LEAST_BYTES + 1

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
        with locked(self.folder / "queue", deadline) as queue, locked(self.folder / "lock", deadline):
            fcntl.flock(queue, fcntl.LOCK_UN)
            yield


@contextmanager
def locked(path: Path, deadline: float) -> Iterator[int]:
    """Hold the lock of a file, which is made when absent, over all processes.

    Raises:
        Unavailable: it was not to be had before the deadline, in seconds of the monotonic clock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        lock_file(descriptor, fcntl.LOCK_EX, deadline)
        yield descriptor
    finally:
        os.close(descriptor)


def lock_file(descriptor: int, operation: int, deadline: float) -> None:
    """Take or change a lock, polling: a stopped process that holds it must not hold this thread for ever.

    Raises:
        Unavailable: it was not to be had before the deadline, in seconds of the monotonic clock.
    """
    pause = 0.0002
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable("the stream is busy: another process holds it for too long") from None
            time.sleep(pause)
            pause = min(pause * 2, 0.002)
