"""One demo at a time: a lock that ends with the process which holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vedette.core.errors import Conflict


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the lock of the suite in this data folder, or of this user where the suite is elsewhere.

    Raises:
        Conflict: another demo runs.
    """
    run_dir = data_dir / "run"
    place = run_dir if run_dir.is_dir() else Path(tempfile.gettempdir())
    name = "demo.lock" if run_dir.is_dir() else f"vedette-demo-{os.getuid()}.lock"
    with (place / name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another demo runs on this suite: begin when it has ended") from None
        yield
