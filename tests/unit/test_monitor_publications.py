"""Files and reports that a stored result sets off: where they lie, whose they are, and what stops them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.monitor_rig import START, Rig, short, watching
from tests.unit.capture_batches import batch, rows_of

from vedette.core.errors import NotFound
from vedette.core.models import EndpointConfig, Variant
from vedette.core.ports import Change, Deployment, Synced
from vedette.entities.monitors import CheckSettings, Execution, Monitor
from vedette.monitor.results import publications
from vedette.monitor.results.execution_files import ExecutionFolder
from vedette.monitor.results.publications import Publications

HOUR = 1_699_999_200.0
"""A full hour; `START` lies within it."""
HOURLY = {"window_s": 3600.0, "checks": (CheckSettings("drift"), CheckSettings("data_quality"))}


class Desk:
    """Takes what is offered for reports."""

    def __init__(self) -> None:
        self.offered: list[str] = []

    def offer(self, execution: str) -> None:
        self.offered.append(execution)


class Press:
    """Publications over a rig: `print` writes everything that was stored."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.root = rig.folder / "results"
        self.reports = Desk()
        self.publications = Publications(rig.store, rig.references, ExecutionFolder(self.root, retention_s=1e9))
        self.publications.reports = self.reports  # type: ignore[assignment]

    async def print(self, monitor: Monitor) -> None:
        """Offer every result and write what was offered."""
        for execution in self.rig.results():
            self.publications.offer(execution, monitor)
        task = asyncio.create_task(self.publications.run())
        await self.publications.settled()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def folders(self) -> list[str]:
        """Where files lie."""
        return sorted({str(path.parent.relative_to(self.root)) for path in self.root.rglob("*.json")})


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    """A registry that knows the version and its baseline; no monitor yet."""
    return await Rig(tmp_path).know()


def deployed(*variants: Variant) -> Change:
    """The endpoint `e` serves these."""
    return Change(2, "e", Deployment("e", 1, EndpointConfig("m", variants), ()))


async def hour_of_traffic(rig: Rig, *variants: str) -> None:
    """A window of an hour with rows of each variant, and its end."""
    for variant in variants:
        await rig.traffic(0, variant=variant, producer=variant)
    rig.clock.advance(7_200)
    await rig.read()
    rig.clock.advance(10)
    await rig.read()


async def test_the_only_variant_has_the_hours_folder(rig: Rig) -> None:
    """As SageMaker lays it out: its three files, the violations among them."""
    monitor = watching(**HOURLY)
    await rig.begin(monitor)
    await rig.references._heard(deployed(Variant("A", 1)))
    await hour_of_traffic(rig, "A")
    press = Press(rig)
    await press.print(monitor)
    (folder,) = press.folders()
    assert folder == "e/m/2023/11/14/23"
    assert {path.name for path in (press.root / folder).iterdir()} == {
        "statistics.json", "constraints.json", "constraint_violations.json",
    }  # fmt: skip
    (found,) = [each for each in rig.results() if each.rows]
    said = json.loads((press.root / folder / "constraint_violations.json").read_bytes())
    assert len(said["violations"]) == len(found.violations)


@pytest.mark.parametrize("served", [(), (Variant("A", 1), Variant("B", 1)), (Variant("A", 2),)])
async def test_results_that_are_not_alone_have_folders_of_their_own(rig: Rig, served: tuple[Variant, ...]) -> None:
    """Two variants, another version, or an endpoint of which nobody knows: none overwrites the other."""
    monitor = watching(**HOURLY)
    await rig.begin(monitor)
    if served:
        await rig.references._heard(deployed(*served))
    await hour_of_traffic(rig, "A", "B")
    press = Press(rig)
    await press.print(monitor)
    ids = sorted(each.id for each in rig.results() if each.rows)
    assert len(ids) == 2
    assert press.folders() == [f"e/m/2023/11/14/23/{each}" for each in ids]


async def test_segments_have_folders_of_their_own(rig: Rig) -> None:
    """Beside the whole."""
    monitor = watching(**HOURLY, segments=("sex",))
    await rig.begin(monitor)
    await rig.references._heard(deployed(Variant("A", 1)))
    await hour_of_traffic(rig, "A")
    press = Press(rig)
    await press.print(monitor)
    assert len(press.folders()) == 3


async def test_an_empty_window_leaves_no_files(rig: Rig) -> None:
    """There is nothing that they could hold."""
    monitor = watching(checks=(CheckSettings("drift"),))
    await rig.begin(monitor)
    await rig.traffic(0)
    await rig.traffic(30)
    await rig.read()
    press = Press(rig)
    await press.print(monitor)
    assert [each[4] for each in short(rig.results())] == [100, 0, 0]
    assert len(press.folders()) == 1


async def test_only_violations_are_reported_unasked(rig: Rig) -> None:
    """And none where the monitor says that reports are drawn on demand."""
    monitor = watching(checks=(CheckSettings("drift"),))
    await rig.begin(monitor)
    await rig.traffic(0, rows=400)
    await rig.traffic(10, rows=400, shift=20.0)
    await rig.traffic(30)
    await rig.read()
    press = Press(rig)
    await press.print(monitor)
    moved = next(each.id for each in rig.results() if each.violations)
    assert press.reports.offered == [moved]
    await press.print(watching(reports="on_demand"))
    assert press.reports.offered == [moved]


async def test_a_disk_that_fails_stops_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next execution is written; the result stands anyway."""
    monitor = watching(checks=(CheckSettings("drift"),))
    await rig.begin(monitor)
    await rig.traffic(0)
    await rig.traffic(10)
    await rig.traffic(30)
    await rig.read()
    real: Callable[..., Path] = ExecutionFolder.write
    failed: list[str] = []

    def fails_once(self: ExecutionFolder, execution: Execution, *more: object, **named: object) -> Path:
        if not failed:
            failed.append(execution.id)
            raise OSError("no space left")
        return real(self, execution, *more, **named)

    monkeypatch.setattr(ExecutionFolder, "write", fails_once)
    press = Press(rig)
    await press.print(monitor)
    assert len(failed) == len(press.folders()) == 1


async def test_what_waits_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files beyond the bound are not written at once, which is said; the store makes them again in a quiet moment."""
    monkeypatch.setattr(publications, "_MAX_WAITING", 2)
    monitor = watching(checks=(CheckSettings("drift"),))
    await rig.begin(monitor)
    for start in range(0, 60, 10):
        await rig.traffic(start)
    await rig.read()
    press = Press(rig)
    await press.print(monitor)
    assert len(rig.results()) == 5
    assert len(press.folders()) == 2
    await press.publications.catch_up()
    assert len(press.folders()) == 5


async def test_files_that_a_killed_process_left_unwritten_are_written_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those of a revision that came after the files; what is there stays as it is, an empty window leaves none."""
    monkeypatch.setattr(publications, "_LOOK_AGAIN_S", 0.01)
    monitor = watching(checks=(CheckSettings("drift"),))
    await rig.begin(monitor)
    for start in (0, 10, 20, 50):
        await rig.traffic(start)
    await rig.read()
    results = [each for each in rig.results() if each.rows]
    press = Press(rig)
    press.publications.offer(results[0], monitor)
    task = asyncio.create_task(press.publications.run())
    await press.publications.settled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (first,) = press.root.rglob("constraint_violations.json")
    stamp = first.stat().st_mtime_ns
    life = Press(rig)
    running = asyncio.create_task(life.publications.run())
    await rig.references._heard(Synced(1, whole=True))
    async with asyncio.timeout(30):
        while len(life.folders()) < len(results):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(results) == 3
    assert first.stat().st_mtime_ns == stamp
    os.utime(first, (1, 1))
    await Press(rig).publications.catch_up()
    assert first.stat().st_mtime > 1
    assert len(list(press.root.rglob("statistics.json"))) == 3


async def test_a_report_compares_window_and_baseline(rig: Rig) -> None:
    """With what moved and what the window is; without the profile there is none."""
    monitor = watching(checks=(CheckSettings("drift"),))
    await rig.begin(monitor)
    await rig.traffic(0, rows=400, shift=20.0)
    await rig.traffic(30)
    await rig.read()
    press = Press(rig)
    moved = rig.results()[0]
    samples = await press.publications.samples(moved.id)
    assert "age" in samples.drifted
    assert len(samples.window["age"]) == 400
    assert len(samples.baseline["age"]) == 2_000
    assert samples.heading[0] == "Monitor m: e, variant A, version 1"
    assert samples.heading[2] == "Violated: drift (age, prediction, probability_no, ...)"
    assert any(line.startswith("age: ") for line in samples.heading)
    assert samples.drift is True
    assert "violated where a drift check" in samples.heading[-1]
    empty = next(each.id for each in rig.results() if not each.rows)
    with pytest.raises(NotFound):
        await press.publications.samples(empty)
    with pytest.raises(NotFound):
        await press.publications.samples("nobody")


@pytest.mark.parametrize(
    ("check", "verdict", "drift", "below"),
    [
        (
            "data_quality",
            "Violated: data_quality:categorical_values_check (sex)",
            False,
            "violated where a drift check",
        ),
        ("model_quality", "Nothing is violated", None, "nothing below is a verdict"),
    ],
)
async def test_only_checks_of_drift_are_verdicts_on_drift(
    rig: Rig, check: str, verdict: str, drift: bool | None, below: str
) -> None:
    """A new category is a violation and no drift; where no drift was checked the page is told to say nothing of it."""
    await rig.begin(watching(checks=(CheckSettings(check),)))
    drawn = rows_of(400, seed=1)
    drawn[0, 2] = 7
    await rig.publish(batch([START + 1.0] * 400, rows=drawn), batch([START + 30.0], first=400))
    await rig.read()
    samples = await Press(rig).publications.samples(rig.results()[0].id)
    assert samples.heading[2] == verdict
    assert (samples.drift, samples.drifted) == (drift, ())
    assert below in samples.heading[-1]


def test_the_rig_begins_within_the_hour() -> None:
    """Or the folders above would be others."""
    assert HOUR < START < HOUR + 3_600
