"""kill -9, failing syncs and full disks under the embedded stream: what was acknowledged is there, once."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vedette.core.errors import Unavailable
from vedette.core.events import Message
from vedette.storage.sqlite_stream import SqliteEventStream
from vedette.testing.stream import read_all

PROGRAM = Path(__file__).with_name("stream_crashes.py")
CALLS = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink"
"""System calls that change what is on disk. Python itself needs none of them to start."""

ROUNDS = int(os.environ.get("VEDETTE_TEST_KILLS", "6"))
"""Rounds of two kills; the long form is VEDETTE_TEST_KILLS=25."""
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def crash(mode: str, folder: Path, *numbers: int) -> dict[str, Any]:
    """Run the program to its end and return what it found."""
    command = [sys.executable, PROGRAM, mode, folder, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def injected(folder: Path, fault: str, count: int) -> tuple[list[str], bool]:
    """Publish `count` messages while strace does `fault`; every line printed, and whether it lived to the end."""
    trace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={CALLS}", "-e", f"inject={fault}"]
    command = [*trace, sys.executable, PROGRAM, "publish", folder, "a", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines(), done.returncode == 0


def numbers(lines: list[str], outcome: str) -> list[int]:
    """The messages with this outcome."""
    return [int(line.split()[1]) for line in lines if line.startswith(outcome)]


def test_random_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Two publishing processes die at random moments, round after round, on the same data."""
    found = crash("random", tmp_path, ROUNDS, 1)
    assert found["broken"] == []
    assert (found["lost"], found["repeated"]) == (0, 0)
    assert found["kills"] == 2 * ROUNDS
    assert found["acknowledged"] > 100


@needs_strace
@pytest.mark.slow
def test_a_kill_before_any_write_or_sync_breaks_no_promise(tmp_path: Path) -> None:
    """A new stream takes three messages, killed before its first, fifth, ninth ... change to the disk."""
    point, alive = 1, False
    while not alive:
        folder = tmp_path / str(point)
        lines, alive = injected(folder, f"{CALLS}:signal=KILL:when={point}", 3)
        found = crash("verify", folder, *numbers(lines, "ok"))
        assert (found["broken"], found["repeated"]) == ([], 0), f"killed before change {point}"
        point += 4
    assert numbers(lines, "ok") == [0, 1, 2]
    assert point > 30


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_failing_sync_is_never_acknowledged(tmp_path: Path, error: str) -> None:
    """Whichever sync fails, whoever was told `ok` finds the message; the stream goes on by itself."""
    failures = 0
    for when in range(1, 20, 3):
        folder = tmp_path / str(when)
        lines, alive = injected(folder, f"fdatasync,fsync:error={error}:when={when}", 4)
        assert alive
        assert len(lines) == 4
        assert {line.split()[2] for line in lines if line.startswith("failed")} <= {"unavailable"}
        failures += len(numbers(lines, "failed"))
        assert numbers(lines, "ok")[-1:] == [3], "the disk was well again, and so is the stream"
        found = crash("verify", folder, *numbers(lines, "ok"))
        assert found["broken"] == []
    assert failures > 2, "some of the syncs belong to messages"


@needs_strace
def test_an_acknowledgement_comes_after_its_sync(tmp_path: Path) -> None:
    """In the order of system calls: each `ok` on the pipe has a sync of the segment before it and after the last."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-y", "-o", trace, "-e", "trace=fdatasync,write", sys.executable, PROGRAM]
    subprocess.run([*command, "publish", tmp_path / "stream", "a", "5"], check=True, capture_output=True, timeout=120)
    synced, acknowledged = False, 0
    for line in trace.read_text().splitlines():
        if "fdatasync(" in line and ".db-wal>" in line:
            synced = True
        elif '"ok ' in line:
            assert synced, line
            synced, acknowledged = False, acknowledged + 1
    assert acknowledged == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "vedette-test", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def block(number: int) -> Message:
    """A message of 100 KB."""
    return Message("k", number.to_bytes(4, "big") * 25_000, "application/test", "p", number)


async def fill(stream: SqliteEventStream) -> list[int]:
    """Publish until the stream says that it cannot; return the offsets that it gave."""
    offsets: list[int] = []
    for number in range(1_000):
        try:
            offsets += await stream.publish("captures", [block(number)])
        except Unavailable:
            return offsets
    raise AssertionError("the disk did not fill up")


async def test_a_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    """Nothing acknowledged is lost, nothing half-written is read, reading goes on, and with room so does writing."""
    stream = SqliteEventStream(small_disk / "stream")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1 << 20))
    offsets = await fill(stream)
    assert len(offsets) > 5
    with pytest.raises(Unavailable, match="the stream is out of disk space; nothing was stored"):
        await stream.publish("captures", [block(len(offsets))])
    before = await read_all(stream)
    assert [d.message for d in before] == [block(offset) for offset in offsets]
    with pytest.raises(Unavailable):
        await stream.publish("captures", [block(len(offsets))])
    filler.unlink()
    assert await stream.publish("captures", [block(len(offsets))]) == [len(offsets)]
    assert await stream.damage("captures") == []
    await stream.close()
    again = SqliteEventStream(small_disk / "stream")
    assert [d.message for d in await read_all(again)] == [block(n) for n in range(len(offsets) + 1)]
    await again.close()


async def test_a_limit_on_files_refuses_and_recovers(tmp_path: Path) -> None:
    """The same where files may not grow, which SQLite calls a failing disk."""
    stream = SqliteEventStream(tmp_path / "stream")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, old[1]))
    try:
        offsets = await fill(stream)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert await stream.publish("captures", [block(len(offsets))]) == [len(offsets)]
    assert [d.message for d in await read_all(stream)] == [block(n) for n in range(len(offsets) + 1)]
    await stream.close()


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """And works as soon as it can."""
    (tmp_path / "data").write_text("a file where the folder should be")
    stream = SqliteEventStream(tmp_path / "data" / "stream")
    with pytest.raises(Unavailable):
        await stream.publish("captures", [block(0)])
    (tmp_path / "data").unlink()
    assert await stream.publish("captures", [block(0)]) == [0]
    await stream.close()


async def test_a_lock_that_cannot_be_had_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File descriptors may run out at any open: an error, not a hang, and on again afterwards."""
    stream = SqliteEventStream(tmp_path / "stream")
    assert await stream.publish("captures", [block(0)]) == [0]

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("vedette.storage.sqlite_stream_segments.os.open", fail)
        with pytest.raises(Unavailable):
            await stream.publish("captures", [block(1)])
    assert await stream.publish("captures", [block(1)]) == [1]
    await stream.close()
