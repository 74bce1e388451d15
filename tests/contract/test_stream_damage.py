"""Flipped bits and missing ends in the embedded stream's files: noticed or harmless, and everything else is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract import stream_damage

from vedette.core.events import Damage
from vedette.core.metrics import Counter
from vedette.storage.sqlite_stream import SqliteEventStream
from vedette.testing.stream import large, read_all

PROGRAM = Path(__file__).with_name("stream_damage.py")
FULL = "VEDETTE_TEST_DAMAGE" in os.environ
"""The full programme: 1,000 flips, and a cut at every byte of the last 4 KiB."""


def damage(mode: str, folder: Path, *numbers: int) -> dict[str, Any]:
    """Run the program and return what it found."""
    command = [sys.executable, PROGRAM, mode, folder, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Wherever it is: no wrong message, no silence about a lost one, no crash, and new messages are taken."""
    found = damage("flips", tmp_path, 1_000 if FULL else 100, 1)
    assert found["broken"] == []
    assert found["noticed"] > found["copies"] / 4, "most of the bytes are messages"
    assert found["worst"] <= 40, "what is lost is what stood in the damaged page"


def test_a_missing_end_is_noticed_or_harmless(tmp_path: Path) -> None:
    """The same for files that were cut in their last 4 KiB."""
    found = damage("cuts", tmp_path, 1 if FULL else 256)
    assert found["broken"] == []
    assert found["noticed"] > 5
    assert found["worst"] <= 40


class _Counted:
    """Metrics that add up what is counted, whatever its name."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}

    def counter(self, name: str, **labels: str) -> Counter:
        counts, key = self.counts, f"{name} {labels}"

        class One:
            def inc(self, amount: float = 1.0) -> None:
                counts[key] = counts.get(key, 0) + amount

        return One()

    gauge = histogram = lambda self, name, **labels: _Nothing()


class _Nothing:
    def set(self, value: float) -> None: ...

    def inc(self, amount: float = 1.0) -> None: ...

    def dec(self, amount: float = 1.0) -> None: ...

    def observe(self, value: float) -> None: ...


async def segments(folder: Path, count: int) -> list[Path]:
    """A closed stream of `count` messages of 10,000 bytes in many segments."""
    stream = SqliteEventStream(folder, retention_bytes=4 << 20)
    for number in range(count):
        await stream.publish("captures", [large(number)])
    await stream.close()
    return sorted((folder / "captures").glob("*.db"))


def first_offset(segment: Path) -> int:
    """The offset that a segment's name tells."""
    return int(segment.name.partition("-")[0])


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("how", ["zeroed", "deleted", "emptied", "head", "noise"])
async def test_a_segment_that_is_gone_is_reported_once(tmp_path: Path, how: str) -> None:
    """All its offsets are damage, those around it are read, and readers of all kinds count it once."""
    _, lost, behind, *_ = await segments(tmp_path, 100)
    data = lost.read_bytes()
    if how == "deleted":
        lost.unlink()
    else:
        spoilt = {
            "zeroed": bytes(len(data)),
            "emptied": b"",
            "head": bytes(100) + data[100:],
            "noise": os.urandom(len(data)),
        }
        lost.write_bytes(spoilt[how])
    metrics = _Counted()
    for _ in range(2):
        stream = SqliteEventStream(tmp_path, retention_bytes=4 << 20, metrics=metrics)
        found = await read_all(stream)
        gone = set(range(first_offset(lost), first_offset(behind)))
        assert {d.offset for d in found} == set(range(100)) - gone
        assert all(d.message == large(d.offset) for d in found)
        reported = await stream.damage("captures")
        assert [(d.first, d.last) for d in reported] == [(min(gone), max(gone))]
        await stream.close()
    assert metrics.counts == {"vedette_stream_damaged_messages_total {'topic': 'captures'}": len(gone)}


async def test_the_newest_segment_is_replaced_when_it_is_damaged(tmp_path: Path) -> None:
    """Offsets go on behind everything that was acknowledged, and waiting does not spin on what is lost."""
    *_, newest = await segments(tmp_path, 100)
    newest.write_bytes(bytes(newest.stat().st_size))
    stream = SqliteEventStream(tmp_path, retention_bytes=4 << 20)
    assert await stream.end("captures") == 100
    assert [d.offset for d in await read_all(stream)] == list(range(first_offset(newest)))
    assert await stream.wait("captures", first_offset(newest), 0.01) is False, "what is lost does not come"
    (offset,) = await stream.publish("captures", [large(500)])
    assert offset >= 100
    assert await stream.wait("captures", first_offset(newest), 30.0) is True
    (delivery,) = await stream.read("captures", first_offset(newest), 10)
    assert (delivery.offset, delivery.message) == (offset, large(500))
    await stream.close()


async def test_a_lost_mark_costs_nothing(tmp_path: Path) -> None:
    """The note of the topic's end is made anew from the segments."""
    await segments(tmp_path, 30)
    for spoil in (
        lambda mark: mark.unlink(),
        lambda mark: mark.write_bytes(b"x" * 12),
        lambda mark: mark.write_bytes(b""),
    ):
        spoil(tmp_path / "captures" / "end")
        stream = SqliteEventStream(tmp_path, retention_bytes=4 << 20)
        assert await stream.end("captures") == 30
        assert await stream.wait("captures", 29, 0.0) is True
        assert len(await read_all(stream)) == 30
        assert await stream.damage("captures") == []
        await stream.close()


async def test_a_lost_mark_beside_a_lost_segment_gives_no_offset_twice(tmp_path: Path) -> None:
    """When nothing tells where the topic ended, the next offset is beyond all that the file had room for."""
    *_, newest = await segments(tmp_path, 100)
    newest.write_bytes(bytes(newest.stat().st_size))
    (tmp_path / "captures" / "end").unlink()
    stream = SqliteEventStream(tmp_path, retention_bytes=4 << 20)
    (offset,) = await stream.publish("captures", [large(500)])
    assert offset >= 100
    assert [d.message for d in await stream.read("captures", offset, 1)] == [large(500)]
    await stream.close()


async def test_a_state_that_is_destroyed_is_begun_anew(tmp_path: Path) -> None:
    """Groups begin again at the oldest message, which at-least-once allows; the old file is kept aside."""
    await segments(tmp_path, 30)
    stream = SqliteEventStream(tmp_path)
    await stream.commit("captures", "monitor", 20)
    await stream.close()
    state = tmp_path / "state.db"
    state.write_bytes(bytes(state.stat().st_size))
    stream = SqliteEventStream(tmp_path)
    assert await stream.committed("captures", "monitor") == 0
    await stream.commit("captures", "monitor", 30)
    assert await stream.committed("captures", "monitor") == 30
    await stream.close()
    assert [name.partition("-")[0] for name in names(tmp_path) if "damaged" in name] == ["state.db.damaged"]


async def test_a_damaged_log_gives_back_what_is_whole(tmp_path: Path) -> None:
    """SQLite drops a write-ahead log from the first damaged frame on; messages behind it come back all the same."""
    await stream_damage.make(tmp_path)
    folder = tmp_path / "original"
    (log,) = folder.glob("captures/*.db-wal")
    data = bytearray(log.read_bytes())
    data[32 + 2 * 4120 + 2_000] ^= 1  # in the third of its frames
    assert len(data) > 20 * 4120
    log.write_bytes(data)
    stream = SqliteEventStream(folder)
    found = await read_all(stream)
    assert all(d.message == stream_damage.message(d.offset) for d in found)
    missing = set(range(stream_damage.MESSAGES)) - {d.offset for d in found}
    assert len(missing) <= 5, "the log holds 35, and one of its pages is damaged"
    assert {o for d in await stream.damage("captures") for o in range(d.first, d.last + 1)} == missing
    await stream.close()


async def test_damage_that_overlaps_is_counted_once(tmp_path: Path) -> None:
    """Two processes may meet the same stretch from different sides."""
    from vedette.storage.sqlite_stream_state import StreamState

    state = StreamState(tmp_path)
    counts = [state.note_damage(Damage("captures", *pair, "why")) for pair in ((10, 20), (15, 30), (5, 40), (10, 20))]
    assert counts == [11, 10, 15, 0]
    stretches = state.damage("captures")
    assert [(d.first, d.last) for d in stretches] == [(5, 9), (10, 20), (21, 30), (31, 40)]
    state.close()
