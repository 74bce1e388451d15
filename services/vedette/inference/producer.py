"""Who captured: the durable id of a worker slot and the numbers it has given out.

A reader tells a loss by a gap in the numbers and a repeated message by its number, so a number is never used
twice, whatever ends the process. The file holds a mark beyond which none was used. It is written over before numbers
beyond it are, into the page cache: that outlives the process, and the machine's end is told by the boot id beside it,
after which the slot is another producer. After a clean stop the mark is exact and synced; after any other end the
next life goes on from it, so that the gap is what waited for a number and what was likely to come within a moment.

Rule: nothing here decides what is captured; every call may wait for the disk, so none is made on the event loop.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BYTES = 256
"""Of the file: always as many, so that writing over it is one write and needs no room on a full disk."""


def boot_id() -> str:
    """Of this run of the machine; where there is none, one that nobody has twice."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the file says."""

    producer: str
    records: int = 0
    messages: int = 0
    boot: str = ""
    """Where the numbers are in use; empty after a clean stop, when they are exact."""


class Producer:
    """The numbers of one worker slot. Not thread-safe: one writer uses it.

    `file` None, or a slot that another process holds: the id is of this life alone.
    """

    def __init__(self, file: Path | None, *, boot: Callable[[], str] = boot_id) -> None:
        self.id = ""
        self._file = file
        self._boot = boot
        self._lock = self._written = -1
        self._records = self._messages = 0
        self._margin = self._total = 0
        """What may come between two looks, and how many had been sampled at the last one."""
        self._mark = _Mark("")

    def open(self) -> None:
        """Take the slot and read its mark; a slot that cannot be taken or read gives a new id.

        Raises:
            OSError: the mark cannot be written.
        """
        if self.id:
            return
        boot, mark = self._boot(), _Mark("")
        if self._file is not None and self._lock < 0:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(self._file.with_suffix(".lock"))
            except OSError as error:
                log.warning("the producer of captures lives once", extra={"reason": str(error)})
        if self._file is not None and self._lock >= 0:
            mark = _read(self._file)
        if not mark.producer or mark.boot not in ("", boot):
            mark = _Mark(uuid.uuid4().hex)
        mark = replace(mark, boot=boot)
        if self._file is not None and self._lock >= 0:
            self._written = _placed(self._file, mark)
        self._mark, self.id = mark, mark.producer
        self._records, self._messages = mark.records, mark.messages
        self._total = self._records

    def take(self, records: int, messages: int) -> tuple[int, int]:
        """The first of so many numbers for records, and for messages.

        Raises:
            OSError: the mark could not be moved; no number was used.
        """
        self.open()
        first = self._records, self._messages
        records_after, messages_after = self._records + records, self._messages + messages
        if records_after > self._mark.records or messages_after > self._mark.messages:
            self._move(records_after + self._margin, messages_after)
        self._records, self._messages = records_after, messages_after
        return first

    def expect(self, waiting: int) -> None:
        """So many sampled requests wait for numbers: have the mark stand a moment's traffic beyond them.

        To be called every moment while any wait, and once when none does any more.

        Raises:
            OSError: the mark could not be moved; it stands where it stood.
        """
        self.open()
        total = self._records + waiting
        grown = max(total - self._total, 0)
        self._margin = max(grown + grown // 4, self._margin * 3 // 4)
        self._total = total
        self._move(total + self._margin if waiting else total, self._messages)

    def close(self) -> None:
        """Write the exact numbers and give the slot up."""
        try:
            if self.id and self._written >= 0:
                _write(self._written, _Mark(self.id, self._records, self._messages))
                os.fsync(self._written)
        except OSError as error:
            log.warning("the numbers of captures were not written", extra={"reason": error.strerror})
        finally:
            for descriptor in (self._written, self._lock):
                if descriptor >= 0:
                    os.close(descriptor)
            self._written = self._lock = -1
            self.id = ""

    def _move(self, records: int, messages: int) -> None:
        mark = _Mark(self.id, records, messages, self._mark.boot)
        if self._written >= 0 and mark != self._mark:
            _write(self._written, mark)
        self._mark = mark


def _read(file: Path) -> _Mark:
    """What the file says; a mark without a producer when it says nothing."""
    try:
        mark = msgspec.json.decode(file.read_bytes(), type=_Mark)
    except FileNotFoundError:
        log.debug("a new producer of captures")
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the producer of captures begins anew", extra={"reason": str(error)})
    else:
        if mark.records >= 0 and mark.messages >= 0:
            return mark
    return _Mark("")


def _placed(file: Path, mark: _Mark) -> int:
    """Put the mark into place, synced, so that no end of the machine shows an older one; returns it opened."""
    draft = file.with_suffix(".draft")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, mark)
        os.fsync(descriptor)
        draft.rename(file)
        _sync_folder(file.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _write(descriptor: int, mark: _Mark) -> None:
    """One write of one page: a process that is killed has made it or not."""
    text = msgspec.json.encode(mark).ljust(_BYTES)
    if os.pwrite(descriptor, text, 0) != len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
