"""Throw-away virtual environments of the peers, under `.bench/`: one for each set of pins, made once.

Rule: the name has a hash of the pins and of the Python that made it, so a changed pin makes a new one, and an
environment that was not finished is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent.parent / ".bench"
INSTALL_TIMEOUT_S = 1800


class NotInstalled(Exception):
    """A peer's packages cannot be had here; the message is one line."""


def python_of(folder: Path) -> Path:
    """The Python of the environment for `folder/requirements.txt`, made now if it is not there.

    Blocks, minutes the first time. NotInstalled when the packages cannot be had.
    """
    requirements = folder / "requirements.txt"
    home = BENCH / f"{folder.name}-{_identity(requirements)}"
    home.parent.mkdir(exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would remove what the other makes
        if not (home / ".complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            for command in _commands(home, requirements):
                _run(command)
            (home / ".complete").touch()
    return home / "bin" / "python"


def _identity(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]


def _commands(home: Path, requirements: Path) -> list[list[str]]:
    """uv where it is installed (seconds), venv and pip elsewhere (minutes)."""
    python = str(home / "bin" / "python")
    beside = Path(sys.executable).parent / "uv"
    uv = shutil.which("uv") or (str(beside) if beside.exists() else None)
    if uv:
        return [
            [uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--quiet", "--python", python, "-r", str(requirements)],
        ]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
    ]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"not installed after {INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        raise NotInstalled(_reason(done.stderr))


def _reason(text: str) -> str:
    """The last line that says something, short enough for a table."""
    lines = [line.strip(" ×╰─▶\t") for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.lower().startswith(("error", "no solution", "because", "failed"))]
    return (telling or lines or ["the installer said nothing"])[0][:200]
