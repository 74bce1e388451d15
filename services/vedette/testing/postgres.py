"""A PostgreSQL server of one's own for tests: in a temporary folder, on a Unix socket, gone at the end.

Rule: it is found, never installed; whoever has none gets told by name (`PostgresMissing`).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

_START_TIMEOUT_S = 60.0
_UNPRIVILEGED = ("postgres", "nobody")


class PostgresMissing(RuntimeError):
    """PostgreSQL's server programs are not installed on this machine."""


def find_programs() -> Path:
    """The folder that holds `initdb` and `postgres`: from the PATH, else Debian's newest.

    Raises:
        PostgresMissing: there is none.
    """
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0), default=None)
    if newest is None:
        raise PostgresMissing("PostgreSQL is not installed (Debian: postgresql); neither PATH nor /usr/lib has initdb")
    return newest.parent


class PostgresServer:
    """One running server; as a context manager it is started, and stopped and removed at the end.

    PostgreSQL refuses to run as root, so root's server runs as an unprivileged user.
    """

    def __init__(self) -> None:
        self._programs = find_programs()
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        # Not below pytest's folders: those are closed to other users, and a socket's path has 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="vedette-pg-", dir="/tmp"))

    def __enter__(self) -> PostgresServer:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop(how=signal.SIGQUIT)  # nobody reads the data again, so spare the shutdown's checkpoint
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        user = self._user()
        if "user" in user:
            shutil.chown(self._folder, user["user"])
        options = ("-U", "vedette", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        command: list[str | Path] = [self._programs / "initdb", "-D", self._folder / "data", *options]
        limits: dict[str, Any] = {"cwd": self._folder, "timeout": _START_TIMEOUT_S}
        subprocess.run(command, check=True, capture_output=True, **limits, **user)

    def start(self) -> None:
        """Start the server on its folder and wait until it answers."""
        settings = ("listen_addresses=", f"unix_socket_directories={self._folder}", "shared_buffers=16MB")
        command: list[str | Path] = [self._programs / "postgres", "-D", self._folder / "data"]
        command += [word for setting in settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            apart: dict[str, Any] = {"cwd": self._folder, "start_new_session": True}
            self._process = subprocess.Popen(command, **streams, **apart, **self._user())
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        ready: list[str | Path] = [self._programs / "pg_isready", "-q", "-h", self._folder, "-U", "vedette"]
        for _ in range(600):
            if subprocess.run(ready, check=False, timeout=_START_TIMEOUT_S).returncode == 0:
                return
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError(f"PostgreSQL did not start:\n{(self._folder / 'log').read_text()[-2_000:]}")

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server (SIGINT: at once but in order; SIGQUIT: as after a crash); one that is down is fine."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_TIMEOUT_S)
            self._process = None

    def new_database(self) -> str:
        """Make an empty database and return the URL that SQLAlchemy takes."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        command: list[str | Path] = [self._programs / "createdb", "-h", self._folder, "-U", "vedette", name]
        subprocess.run(command, check=True, timeout=_START_TIMEOUT_S)
        return f"postgresql+psycopg://vedette@/{name}?host={self._folder}"

    def _user(self) -> dict[str, Any]:
        """Arguments that start a process as somebody else when we are root."""
        if os.geteuid() != 0:
            return {}
        known = {entry.pw_name for entry in pwd.getpwall()}
        name = next(name for name in _UNPRIVILEGED if name in known)
        return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
