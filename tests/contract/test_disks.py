"""Disks that are full or that fail: one clear error, nothing half-done, and on again when it is over."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.core.errors import Unavailable
from vedette.storage.files import FileArtifactStore
from vedette.testing.artifacts import GRAPH, fill, put

PROGRAM = Path(__file__).with_name("full_disk.py")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[list[str]]:
    """A file system of 4 MiB where we may mount one, else a limit on the size of files; as program arguments."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "vedette-test", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        yield [str(tmp_path), str(256 << 10)]
        return
    yield [str(tmp_path)]
    subprocess.run(["umount", str(tmp_path)], check=True)


def full_disk(arguments: list[str]) -> dict[str, object]:
    """Run the program and return what it found."""
    done = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, object] = json.loads(done.stdout)
    return outcome


def check(outcome: dict[str, object]) -> None:
    """Nothing of the failed attempts is left, what was there is there, and with room all goes on."""
    assert outcome["upload"] == "unavailable: the artifact store is out of disk space; nothing was stored"
    assert outcome["insist"] == "unavailable: the file could not be written whole; nothing was stored"
    assert outcome["staged"] == []
    assert outcome["parts"] == 0
    assert outcome["while full"] == ["first"]
    assert outcome["room again"] == [1 << 20]
    assert outcome["at last"] == ["first", "large"]


def test_a_full_disk_is_one_clear_error(small_disk: list[str]) -> None:
    """For artifacts and for the catalog, which both recover by themselves."""
    outcome = full_disk(small_disk)
    check(outcome)
    if len(small_disk) == 1:
        assert outcome["insert"] == "unavailable: the catalog is out of disk space; nothing was stored"


def test_a_file_size_limit_is_one_clear_error(tmp_path: Path) -> None:
    """The same where files may not grow: SQLite calls it a failing disk."""
    outcome = full_disk([str(tmp_path), str(256 << 10)])
    check(outcome)
    assert str(outcome["insert"]).startswith("unavailable: the catalog")


@pytest.fixture
def store(tmp_path: Path) -> FileArtifactStore:
    """An empty store."""
    store = FileArtifactStore(tmp_path)
    store.prepare()
    return store


@pytest.mark.parametrize("number", range(1, 12))
def test_a_failing_sync_is_never_acknowledged(
    store: FileArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever fsync of a registration fails, the caller is told; when the disk is well again, it works."""
    left = number
    sync = os.fsync

    def fail(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unavailable, match="EIO"):
        put(store, GRAPH)
    monkeypatch.undo()
    for digest in store.digests():
        store.verify(digest)
    store.discard("u1")
    store.verify(put(store, GRAPH))
    assert store.uploads() == []


def test_everything_is_synced_before_it_is_acknowledged(
    store: FileArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and folder of the artifact before the rename that shows it, the folder that holds it after."""
    events: list[tuple[str, int]] = []
    sync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        events.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def note_rename(source: Path, target: Path) -> Path:
        events.append(("rename", source.stat().st_ino))
        return rename(source, target)

    digest = fill(store, "u1", GRAPH)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    store.put(digest, "u1")
    folder = tmp_path / "objects" / digest
    shown = events.index(("rename", folder.stat().st_ino))
    before = {inode for event, inode in events[:shown] if event == "sync"}
    after = {inode for event, inode in events[shown:] if event == "sync"}
    assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} <= before
    assert (tmp_path / "objects").stat().st_ino in after
