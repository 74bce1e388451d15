"""Who captured: the durable id of a worker slot and the numbers it has given out.

A reader tells a loss by a gap in the numbers and a repeated message by its number, so a number is never used
twice, whatever kills the process. The file holds a mark beyond which none was used; it is moved, and synced, before
numbers beyond it are. After a clean stop it is exact; after any other end the next life goes on from the mark,
so that the gap is at least what was lost and at most what was reserved.

Rule: nothing here decides what is captured; every call may wait for the disk, so none is made on the event loop.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the file says."""

    producer: str
    records: int = 0
    messages: int = 0


class Producer:
    """The numbers of one worker slot. Not thread-safe: one writer uses it.

    `file` None, or a slot that another process holds: the id is of this life alone.
    """

    def __init__(self, file: Path | None, *, block: int) -> None:
        self.id = ""
        self._file = file
        self._block = block
        self._lock = -1
        self._records = self._messages = 0
        self._reserved = _Mark("")

    def open(self) -> None:
        """Take the slot and read its mark; a slot that cannot be taken or read gives a new id."""
        if self.id:
            return
        mark = _Mark(uuid.uuid4().hex)
        if self._file is not None:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(self._file.with_suffix(".lock"))
                mark = msgspec.json.decode(self._file.read_bytes(), type=_Mark)
            except FileNotFoundError:
                log.debug("a new producer of captures", extra={"producer": mark.producer})
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("the producer of captures begins anew", extra={"reason": str(error)})
        if not mark.producer or mark.records < 0 or mark.messages < 0:
            mark = _Mark(uuid.uuid4().hex)
        self._reserved, self.id = mark, mark.producer
        self._records, self._messages = mark.records, mark.messages

    def take(self, records: int, messages: int) -> tuple[int, int]:
        """The first of so many numbers for records, and for messages.

        Raises:
            OSError: the mark could not be moved; no number was used.
        """
        self.open()
        records_after, messages_after = self._records + records, self._messages + messages
        if records_after > self._reserved.records or messages_after > self._reserved.messages:
            self._reserve(_Mark(self.id, records_after + self._block, messages_after + self._block))
        first = self._records, self._messages
        self._records, self._messages = records_after, messages_after
        return first

    def close(self) -> None:
        """Write the exact numbers and give the slot up."""
        try:
            if self.id and self._lock >= 0:
                self._reserve(_Mark(self.id, self._records, self._messages))
        except OSError as error:
            log.warning("the numbers of captures were not written", extra={"reason": error.strerror})
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
            self.id = ""

    def _reserve(self, mark: _Mark) -> None:
        if self._lock >= 0 and self._file is not None:
            draft = self._file.with_suffix(".draft")
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(mark))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._file)
            _sync_folder(self._file.parent)
        self._reserved = mark


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
