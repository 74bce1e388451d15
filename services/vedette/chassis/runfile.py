"""The run file of a service: where a running one is found, and the lock that keeps a second one out.

Rule: standard library only, as the supervisor that holds it. The kernel gives the lock up when its holder
dies, so nothing is ever left to clean; the lock file itself stays, since removing it would let two hold it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class InUse(Exception):
    """Another process holds this service in this data folder; the message is for the operator."""


class RunFile:
    """`<folder>/<service>.json` and, beside it, `<service>.lock`. One object per supervisor and service."""

    def __init__(self, folder: Path, service: str) -> None:
        self.path = folder / f"{service}.json"
        self._service = service
        self._lock = -1

    def claim(self) -> None:
        """Make the folder and take the lock, without waiting.

        Raises:
            InUse: another process has it. OSError: the folder cannot be made or written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise InUse(f"{self.path.parent.parent} is in use by {self._holder()}") from None
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    def write(self, addresses: Mapping[str, str], workers: Sequence[int]) -> None:
        """Say where the service is and which workers are ready; a reader sees the old file or the new one.

        Raises:
            OSError: the folder has become unwritable or full.
        """
        document = {"service": self._service, "pid": os.getpid(), **addresses, "workers": workers}
        fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            fresh.write_text(json.dumps(document) + "\n", encoding="utf-8")
            fresh.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise

    def release(self) -> None:
        """Remove the file if it is this process's own, and give the lock up. Raises nothing."""
        with contextlib.suppress(OSError):
            if self._read().get("pid") == os.getpid():
                self.path.unlink()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _holder(self) -> str:
        match self._read():
            case {"pid": int(pid), "http": str(url)}:
                return f"pid {pid} ({url})"
        return f"another {self._service}"  # it has not been ready yet

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}
