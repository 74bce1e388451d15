"""Folding and evaluating while something goes wrong in the middle: labels, streams, stores."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.monitor_rig import START, Rig, Seen, short, watching

from vedette.core.errors import DataLoss, Unavailable, VedetteError
from vedette.entities.monitors import CheckSettings, ExecutionStatus
from vedette.monitor import executions
from vedette.ports.monitors import WindowState
from vedette.storage.memory import MemoryEventStream
from vedette.storage.memory_monitors import MemoryMonitorTransaction
from vedette.storage.sqlite_stream import SqliteEventStream

DRIFT = (CheckSettings("drift"),)
QUALITY = (CheckSettings("drift"), CheckSettings("model_quality", {"min_labels": 10}))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A registry that knows the version and its baseline; no monitor yet."""
    rig = await Rig(tmp_path).know()
    yield rig
    if hasattr(rig, "executions"):
        rig.close()


def labels(first: int, last: int) -> bytes:
    """Lines for the requests of these numbers."""
    return b"\n".join(b'{"id": "p-%06d", "label": %d}' % (number, number % 2) for number in range(first, last))


async def test_labels_that_come_while_their_window_is_evaluated_again_count(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came after the others had been read are in the next revision, of the segments too."""
    await rig.begin(watching(checks=QUALITY, segments=("sex",), min_rows=5))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    real, late = rig.executions._outcomes, [labels(50, 100)]

    def slow(state: WindowState) -> Any:
        found = real(state)
        if late and not state.key.segment:
            rig.labels._accept("e", late.pop())
        return found

    monkeypatch.setattr(rig.executions, "_outcomes", slow)
    await rig.labels.accept("e", labels(0, 50))
    await rig.read()
    found = {each.segment: each for each in rig.results()[:3]}
    assert (found[""].labels, found[""].revision) == (100, 3)
    assert found["sex=f"].labels + found["sex=m"].labels == 100
    with rig.store.read() as snapshot:
        assert snapshot.reopened(9) == []


async def until(condition: Callable[[], bool]) -> None:
    """Let others work until it holds."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


def full(*_: Any, **__: Any) -> None:
    """What a store without room says."""
    raise Unavailable("the monitor's store is out of disk space; nothing was stored")


async def test_a_store_without_room_is_no_death_of_the_monitor(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the result cannot be stored: it is, with its profile, once there is room."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.traffic(20)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryMonitorTransaction, "put_profile", full)
        for _ in range(12):
            with pytest.raises(Unavailable):
                await rig.read()
    with rig.store.read() as snapshot:
        assert [state.attempts for state in snapshot.sealed(1)] == [1]
    await rig.read()
    found = rig.results()[0]
    assert (found.status, found.reason) == (ExecutionStatus.COMPLETED, "")
    with rig.store.read() as snapshot:
        assert snapshot.profile(found.id)


async def test_a_commit_that_fails_half_way_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream did not hear of it: what is stored is stored, evaluated once, and folding goes on behind it."""
    seen = Seen()
    rig = await Rig(tmp_path, metrics=seen).know()
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.traffic(20)
    with monkeypatch.context() as patch:
        patch.setattr(rig.stream, "commit", full)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await rig.read()
            while await rig.executions.step():
                pass
    await rig.read()
    await rig.traffic(40)
    await rig.read()
    assert [each[0] for each in short(rig.results())] == [0, 10, 20, 30]
    names = ("vedette_monitor_windows_total", "m")
    assert {seen.values[(*names, outcome)] for outcome in ("due", "evaluated")} == {4.0, 2.0}
    assert await rig.stream.committed("captures", "monitor") == await rig.stream.end("captures")
    rig.close()


async def test_a_store_that_is_full_for_long_buries_no_message(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginning again from what is stored is no death, also where deaths have made the monitor careful."""
    await rig.begin(watching(checks=DRIFT))
    for _ in range(6):
        await rig.begin()
    await rig.traffic(0)
    await rig.traffic(20)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryMonitorTransaction, "put_windows", full)
        for _ in range(12):
            with pytest.raises(Unavailable):
                await rig.read()
    await rig.read()
    assert await rig.stream.dead_letters("captures", "monitor", 9) == []
    assert short(rig.results())[0][4:] == (100, "")


@pytest.mark.parametrize("parts", [1, 2, 5])
async def test_another_stream_is_read_from_its_beginning(
    rig: Rig, parts: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Shorter than what was read of the old one, as long, or longer: nothing of it is skipped, and it is said."""
    rig.clock.advance(100)
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.traffic(10)
    await rig.read()
    rig.close()
    rig.stream = MemoryEventStream()
    for part in range(parts):
        await rig.traffic(20 + 10 * part)
    await rig.begin()
    await rig.traffic(20 + 10 * parts)
    await rig.traffic(40 + 10 * parts)
    await rig.read()
    assert [each[4] for each in short(rig.results())][: parts + 3] == [100] * (parts + 3)
    assert "the stream is another one" in caplog.text
    caplog.clear()
    await rig.begin()
    assert "another one" not in caplog.text


async def test_a_lost_folder_of_the_stream_is_another_stream(tmp_path: Path) -> None:
    """As its files are: the group's own offset is gone with it, and follows what is read."""
    rig = await Rig(tmp_path, stream=SqliteEventStream(tmp_path / "stream")).know()
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.read()
    rig.close()
    await rig.stream.close()
    shutil.rmtree(tmp_path / "stream")
    rig.stream = SqliteEventStream(tmp_path / "stream")
    await rig.traffic(10)
    await rig.traffic(20)
    await rig.traffic(40)
    await rig.begin()
    await rig.read()
    assert [each[4] for each in short(rig.results())] == [100, 100, 100, 0]
    assert await rig.stream.committed("captures", "monitor") == await rig.stream.end("captures") == 6
    await rig.stream.close()


async def test_a_stream_that_is_emptied_meanwhile_is_noticed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Without a restart: there cannot be less than was read."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.read()
    rig.intake._stream = rig.stream = MemoryEventStream()
    await rig.read()
    await rig.traffic(10)
    await rig.traffic(30)
    await rig.read()
    assert [each[4] for each in short(rig.results())][:2] == [100, 100]
    assert "the stream is another one" in caplog.text


async def test_a_store_that_cannot_be_read_is_trouble_until_it_can(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning and later: folding waits, says why, and goes on by itself."""
    await rig.begin(watching(checks=DRIFT))
    failing: list[VedetteError] = [DataLoss("the monitor's store is damaged")]
    real = rig.store.transaction

    def transaction() -> Any:
        if failing:
            raise failing[0]
        return real()

    async def no_pause(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(rig.store, "transaction", transaction)
    monkeypatch.setattr(rig.intake, "_pause", no_pause)
    running = asyncio.create_task(rig.intake.run())
    for _ in range(2):
        await until(lambda: rig.intake.trouble == "the monitor's store is damaged")
        failing.clear()
        await until(lambda: not rig.intake.trouble)
        failing.append(DataLoss("the monitor's store is damaged"))
        await rig.traffic(rig.sent / 5)
    failing.clear()
    rig.intake.stop()
    await running
    await rig.begin()
    await rig.traffic(60)
    await rig.read()
    assert rig.results()[0].rows == 100


async def test_one_damaged_window_fails_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Also with what comes to it after that, and over another restart; the rest is folded as before."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0, rows=50)
    await rig.read()
    with rig.store.transaction() as tx:
        (state,) = tx.windows()
        tx.put_windows([WindowState(state.key, "e", state.end, rows=50, profile=b"damaged")])
    for _ in range(2):
        await rig.begin()
        await rig.traffic(0, rows=50)
        await rig.read()
    await rig.traffic(10)
    await rig.traffic(30)
    await rig.read()
    first, second = rig.results()[:2]
    assert (first.status, first.reason) == (ExecutionStatus.FAILED, "the state of this window was damaged")
    assert (second.status, second.rows) == (ExecutionStatus.COMPLETED, 100)
    assert "stored state is damaged" in caplog.text


@pytest.mark.parametrize("kind", ["endpoint", "producer", "series"])
async def test_one_damaged_note_costs_no_window(rig: Rig, kind: Any) -> None:
    """It is as good as none: what is open goes on."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0, rows=50)
    await rig.read()
    with rig.store.transaction() as tx:
        for name in tx.notes(kind):
            tx.put_note(kind, name, b"{damaged")
    await rig.begin()
    await rig.traffic(0, rows=50)
    await rig.traffic(20)
    await rig.read()
    assert short(rig.results())[0] == (0, "A", "", "Completed", 100, "")
    assert rig.results()[0].start == START


async def test_one_damaged_block_of_predictions_does_not_hide_the_others(rig: Rig) -> None:
    """Labels of the others are joined, at the first question and later."""
    await rig.begin(watching(checks=QUALITY))
    await rig.traffic(0)
    await rig.read()
    with rig.store.transaction() as tx:
        ((key, _),) = tx.prediction_windows("e")
        (block,) = tx.blocks(key)
        tx.put_blocks([type(block)("e", key, 7, 1, b"damaged")], keep_rows=1_000)
    for _ in range(2):
        assert (await rig.labels.accept("e", labels(0, 100)))["joined"] == 100


async def test_results_that_cannot_be_stored_are_trouble_until_they_can(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service says that it is not well, and why."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.traffic(20)
    while await rig.intake.step(wait_s=0.0):
        pass
    await rig.intake.commit()
    monkeypatch.setattr(executions, "_AFTER_FAILURE_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryMonitorTransaction, "put_profile", full)
        running = asyncio.create_task(rig.executions.run())
        await until(lambda: "out of disk space" in rig.executions.trouble)
    await until(lambda: not rig.executions.trouble)
    running.cancel()
    assert rig.results()[0].rows == 100
