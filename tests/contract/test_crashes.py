"""kill -9 while versions are registered: what was acknowledged is there, what was not is whole or invisible."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("crashes.py")


def crash(mode: str, folder: Path, *numbers: int) -> dict[str, Any]:
    """Run the program and return what it found."""
    command = [sys.executable, PROGRAM, mode, folder, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_kill_at_any_moment_breaks_no_promise(tmp_path: Path) -> None:
    """Twenty random kills, one after the other on the same data."""
    found = crash("random", tmp_path, 20, 1)
    assert found["broken"] == []
    assert found["acknowledged"] > 0


def test_a_kill_before_any_call_breaks_no_promise(tmp_path: Path) -> None:
    """One registration, killed before each call it makes to the file system and the database in turn."""
    found = crash("sweep", tmp_path, 1)
    assert found["broken"] == []
    assert found["kills"] > 50
    assert found["acknowledged"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_kills_break_no_promise(tmp_path: Path, seed: int) -> None:
    """Fifty more rounds for each seed."""
    found = crash("random", tmp_path, 50, seed)
    assert found["broken"] == []
