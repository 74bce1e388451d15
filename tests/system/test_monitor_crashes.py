"""kill -9 at any moment: every due window has exactly one result, the same as without."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.monitor_rig import START, watching
from tests.unit.capture_batches import batch, message

from vedette.core.events import Message
from vedette.entities.monitors import CheckSettings, Monitor
from vedette.monitor.evaluation import execution_id
from vedette.ports.monitors import WindowKey
from vedette.profiles import Profile
from vedette.storage.sql_monitors import SqlMonitorStore
from vedette.storage.sqlite_stream import SqliteEventStream

ROOT = Path(__file__).parents[2]
KILLS = 15
SECONDS = 200


def monitors() -> list[Monitor]:
    """One with segments and labels, one with longer windows."""
    quality = (CheckSettings("drift"), CheckSettings("model_quality"))
    return [
        watching(checks=quality, segments=("sex",)),
        watching(name="slow", window_s=30.0, lateness_s=5.0, checks=(CheckSettings("drift"),)),
    ]


def traffic() -> list[Message]:
    """Two producers on two variants, a gap of silence, duplicates, failures and late events."""
    draw = random.Random(5)
    sent, numbers = [], [0, 0]
    for second in range(0, SECONDS, 2):
        for who in range(2):
            if 90 <= second < 140:
                continue
            late = 60.0 if draw.random() < 0.05 else 0.0
            times = [START + second - late + draw.random() for _ in range(20)]
            codes = ["OK" if draw.random() < 0.95 else "model_failed" for _ in times]
            made = message(batch(times, producer=f"p{who}", variant="AB"[who], first=numbers[who], codes=codes))
            sent.append(made)
            numbers[who] += 20
            if draw.random() < 0.1:
                sent.append(Message(made.key, made.value, made.content_type, f"again-{who}", len(sent)))
    return sent


class Nursery:
    """The process that forks monitors."""

    def __init__(self, stream: Path) -> None:
        self._stream = stream
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.monitor_nursery"], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def start(self, store: Path) -> int:
        """Begin a life; returns its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._stream} {store}\n")
        return int(self._line())

    def ended(self) -> None:
        """Wait for the end of the life."""
        assert self._line() == "ended"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the process."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def prepared(path: Path) -> Path:
    """A store with the monitors."""
    store = SqlMonitorStore(f"sqlite:///{path}")
    store.migrate()
    with store.transaction() as tx:
        for monitor in monitors():
            tx.insert_monitor(monitor)
    store.close()
    return path


def offset_of(path: Path) -> int:
    """How far the monitor of this store has come."""
    store = SqlMonitorStore(f"sqlite:///{path}")
    with store.read() as snapshot:
        found = snapshot.offset("captures")
    store.close()
    return found


def results(path: Path) -> list[tuple[Any, ...]]:
    """What must be the same, of every stored execution: everything but sketches and the moment of evaluation."""
    store = SqlMonitorStore(f"sqlite:///{path}")
    found = []
    with store.read() as snapshot:
        executions, token = snapshot.executions(limit=1_000)
        assert not token
        for each in executions:
            key = WindowKey(each.monitor, each.variant, each.version, each.segment, each.start)
            assert each.id == execution_id(key)
            exact: Any = ()
            if each.rows:
                profile = Profile.from_bytes(snapshot.profile(each.id))
                exact = [
                    (name, c.rows, c.missing, c.types, repr(c.moments.sum), repr(c.moments.std), c.bins.counts.tolist(),
                     sorted(c.categories.counts.items()))
                    for name, c in sorted(profile.columns.items())
                ]  # fmt: skip
                exact.append(sorted((n, v.tolist()) for n, v in profile.sample.columns().items()))
            kept = sum(block.rows for block in snapshot.blocks(key))
            compared = sorted((r.check, r.feature, r.outcome == "skipped") for r in each.results)
            found.append((key, each.end, each.rows, each.counts, each.reason, each.revision, compared, exact, kept))
    store.close()
    return sorted(found, key=lambda item: repr(item[0]))


def finish(nursery: Nursery, path: Path) -> None:
    """One more life, which ends by itself when everything is read."""
    Path(f"{path}.finish").touch()
    nursery.start(path)
    nursery.ended()


async def test_killed_at_random_the_results_are_those_of_an_uninterrupted_life(tmp_path: Path) -> None:
    """Fifteen deaths while captures flow; one more life reads the rest. The other monitor was never disturbed."""
    stream = SqliteEventStream(tmp_path / "stream")
    sent = traffic()
    killed, calm = prepared(tmp_path / "killed.db"), prepared(tmp_path / "calm.db")
    draw = random.Random(os.getpid())
    nursery = Nursery(tmp_path / "stream")
    progress = set()
    try:
        share = len(sent) // KILLS + 1
        for life in range(KILLS):
            await stream.publish("captures", sent[life * share : (life + 1) * share])
            pid = nursery.start(killed)
            await asyncio.sleep(draw.uniform(0.2, 0.9))  # chance is what is tested here
            os.kill(pid, signal.SIGKILL)
            nursery.ended()
            progress.add(offset_of(killed))
        for path in (killed, calm):
            finish(nursery, path)
    finally:
        nursery.close()
    assert await stream.dead_letters("captures", "monitor", 9) == []
    await stream.close()
    assert len(progress) > 3, "the lives were too short to test anything"
    expected = results(calm)
    assert len(expected) > 60
    assert results(killed) == expected
