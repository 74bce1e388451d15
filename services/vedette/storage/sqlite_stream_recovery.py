"""What the first process of the folder does before anything else: look at what the last ones left behind.

Rule: it runs while nobody else has the folder open, and it never fails: what it cannot mend is reported where it is
read. SQLite drops the end of a write-ahead log from the first damaged frame on, without a word; the mark of the
topic's end tells that acknowledged messages were in it, and a copy of the log, sealed anew, gives back what is whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from vedette.core.errors import VedetteError
from vedette.core.events import Topic
from vedette.storage.sqlite_stream_reader import TopicReader
from vedette.storage.sqlite_stream_records import is_damage, to_row
from vedette.storage.sqlite_stream_segments import Segment, TopicFiles, connect, lock_file, make_folder
from vedette.storage.sqlite_stream_state import STATE_FILE, check_state, copy_state

log = logging.getLogger(__name__)

_MAX_LOG_BYTES = 512 << 20
_HEADER = 32
_PAGE = 4096
"""Bytes of a page: SQLite's default, in which every segment is made."""
_FRAME = 24
_SALVAGE = "salvage"
_SALVAGE_BYTES = 16 << 20


def enter(folder: Path, topics: Sequence[Topic], timeout_s: float) -> int:
    """Be one of the processes that have the folder open; the first of them recovers it.

    Returns a file descriptor that is closed to leave.

    Raises:
        Unavailable: another process recovers it for too long.
    """
    make_folder(folder)
    descriptor = os.open(folder / "present", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if _first(descriptor):
            recover(folder, topics)
        lock_file(descriptor, fcntl.LOCK_SH, time.monotonic() + timeout_s)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _first(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def recover(folder: Path, topics: Sequence[Topic]) -> None:
    """Mend what dead processes and failing disks left behind, as far as it can be mended."""
    _mend_state(folder)
    for topic in topics:
        files = TopicFiles(folder / topic, topic)
        try:
            _tidy(files)
            _mend_topic(files)
        except (OSError, sqlite3.Error, VedetteError):
            log.exception(
                "a topic could not be recovered; what it misses is reported by reading", extra={"topic": topic}
            )


def _tidy(files: TopicFiles) -> None:
    """Remove drafts of segments, and what belongs to segments that are gone."""
    shutil.rmtree(files.folder / _SALVAGE, ignore_errors=True)
    for path in files.folder.glob("*.new*"):
        path.unlink()
    for path in [*files.folder.glob("*.db-wal"), *files.folder.glob("*.db-shm")]:
        if not path.with_name(path.name[: -len("-wal")]).exists():
            path.unlink()


def _mend_topic(files: TopicFiles) -> None:
    segments = files.segments()
    mark = files.read_mark()
    for segment, until in zip(segments, [*(s.first for s in segments[1:]), mark or 0], strict=False):
        pages = _read_log(segment)  # before SQLite sees it
        try:
            with closing(connect(segment.path)) as db:
                stored = files.end(segment, db, mark=0)
                if pages and stored < until:
                    log.error(
                        "acknowledged messages are missing", extra={"topic": files.topic, "count": until - stored}
                    )
                    _salvage(files, segment, pages, db, range(stored, until))
                if segment is segments[-1] and stored > (mark or 0):
                    files.write_mark(stored)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            log.exception("a segment is damaged; reading goes around it", extra={"topic": files.topic})


def _read_log(segment: Segment) -> bytes:
    path = segment.path.with_name(f"{segment.path.name}-wal")
    if not path.exists() or not _HEADER < path.stat().st_size < _MAX_LOG_BYTES:
        return b""
    return path.read_bytes()


def _salvage(files: TopicFiles, segment: Segment, pages: bytes, db: sqlite3.Connection, missing: range) -> None:
    """Bring the missing messages back that a copy of the segment with its log sealed anew still holds."""
    folder = files.folder / _SALVAGE
    folder.mkdir()
    try:
        copy = folder / segment.path.name
        shutil.copyfile(segment.path, copy)
        copy.with_name(f"{copy.name}-wal").write_bytes(sealed(pages, _PAGE))
        held = TopicFiles(folder, files.topic)
        held.write_mark(missing.stop)
        reader = TopicReader(held, max_bytes=_SALVAGE_BYTES, known=lambda _: (), report=lambda _: None)
        with closing(reader):
            position = missing.start
            while found := reader.read(position, 1_000):
                rows = [to_row(files.topic, d.offset, d.message) for d in found]
                db.executemany("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                position = found[-1].offset + 1
                log.warning("messages were saved from a damaged log", extra={"topic": files.topic, "count": len(found)})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sealed(pages: bytes, page_size: int) -> bytes:
    """A write-ahead log with every checksum made to fit what is there, damaged or not.

    The format is SQLite's (sqlite.org/fileformat2.html, section 4). Frames of an earlier round, which have another
    salt, end it. Whatever damage is now read as valid is for the checksums of the messages to find.
    """
    size = _FRAME + page_size
    frames = [bytearray(pages[at : at + size]) for at in range(_HEADER, len(pages) - size + 1, size)]
    salt = _salt(pages, frames)
    while frames and frames[-1][8:16] != salt:
        frames.pop()
    head = struct.pack(">IIII", 0x377F0682, 3007000, page_size, 0) + salt
    state = _checksum(head, (0, 0))
    out = [head, struct.pack(">II", *state)]
    last = max((int.from_bytes(frame[:4], "big") for frame in frames), default=0)
    for frame in frames:
        if frame is frames[-1] and not any(frame[4:8]):
            frame[4:8] = last.to_bytes(4, "big")
        state = _checksum(bytes(frame[:8] + frame[_FRAME:]), state)
        frame[8:_FRAME] = salt + struct.pack(">II", *state)
        out.append(bytes(frame))
    return b"".join(out)


def _salt(pages: bytes, frames: Sequence[bytearray]) -> bytes:
    """The salt of this round: the header's, unless no frame has it."""
    salts = [bytes(frame[8:16]) for frame in frames]
    own = pages[16:24]
    return own if own in salts or not salts else salts[0]


def _checksum(data: bytes, state: tuple[int, int]) -> tuple[int, int]:
    """SQLite's checksum over little-endian words, as the magic number of `sealed` says."""
    first, second = state
    words = struct.unpack(f"<{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _mend_state(folder: Path) -> None:
    """Set a damaged state aside and begin a new one with the rows that can still be read."""
    path = folder / STATE_FILE
    try:
        for draft in folder.glob("*.new*"):
            draft.unlink()
        if not path.exists() or check_state(path):
            return
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        log.error("the stream's state is damaged: set aside, and begun anew with what can be read of it")
        for end in ("", "-wal", "-shm"):
            part = path.with_name(path.name + end)
            if part.exists():
                part.rename(aside.with_name(aside.name + end))
        copy_state(aside, path)
    except (OSError, sqlite3.Error):
        log.exception("the stream's state could not be recovered")
