"""The run file: who may write it, whose it is, and what a second start is told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from vedette.chassis.runfile import InUse, RunFile


def test_the_lock_is_one_holders(tmp_path: Path) -> None:
    """A second claim is refused with folder, pid and address of the first, and granted after its release."""
    first, second = RunFile(tmp_path / "run", "toy"), RunFile(tmp_path / "run", "toy")
    first.claim()
    first.write({"http": "http://127.0.0.1:7"}, [])
    with pytest.raises(InUse) as refusal:
        second.claim()
    assert str(refusal.value) == f"{tmp_path} is in use by pid {os.getpid()} (http://127.0.0.1:7)"
    first.release()
    second.claim()
    second.release()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"pid": 1}', '{"pid": 1, "http": 2}'])
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, content: str | None) -> None:
    """Without a whole run file the refusal still names the folder and the service."""
    first = RunFile(tmp_path / "run", "toy")
    first.claim()
    if content is not None:
        first.path.write_text(content)
    with pytest.raises(InUse) as refusal:
        RunFile(tmp_path / "run", "toy").claim()
    first.release()
    assert str(refusal.value) == f"{tmp_path} is in use by another toy"


def test_services_share_a_folder(tmp_path: Path) -> None:
    """The lock is each service's own: two services live in one data folder."""
    files = [RunFile(tmp_path / "run", name) for name in ("registry", "inference")]
    for file in files:
        file.claim()
    for file in files:
        file.release()


def test_no_child_inherits_the_lock(tmp_path: Path) -> None:
    """A child that outlives the holder does not keep the folder taken, even one that is passed every descriptor."""
    file = RunFile(tmp_path, "toy")
    file.claim()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        file.release()
        file.claim()
        assert child.poll() is None
    file.release()


def test_only_its_own_file_is_removed(tmp_path: Path) -> None:
    """Release removes the file that names this process and leaves one that names another, or nobody."""
    file = RunFile(tmp_path, "toy")
    file.claim()
    file.write({"http": "http://127.0.0.1:7"}, [4, 5])
    assert json.loads(file.path.read_text()) == {
        "service": "toy",
        "pid": os.getpid(),
        "http": "http://127.0.0.1:7",
        "workers": [4, 5],
    }
    file.release()
    assert not file.path.exists()
    for strange in (json.dumps({"pid": os.getpid() + 1}), "{", "7"):
        file.path.write_text(strange)
        file.release()
        assert file.path.read_text() == strange


def test_a_folder_that_has_gone_does_not_disturb_the_end(tmp_path: Path) -> None:
    """Release raises nothing when the run folder has become a file."""
    file = RunFile(tmp_path / "run", "toy")
    file.claim()
    (tmp_path / "run" / "toy.lock").unlink()
    (tmp_path / "run").rmdir()
    (tmp_path / "run").write_text("")
    file.release()
    file.release()
