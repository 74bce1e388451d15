"""From captures on the stream to stored results and alerts, through every kind of bad weather."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.monitor_rig import START, Rig, Seen, baseline_files, files_of, short, watching
from tests.unit.capture_batches import SIGNATURE, batch, message, rows_of

from vedette.core.errors import Unavailable
from vedette.core.events import Message
from vedette.entities.alerts import AlertState
from vedette.entities.monitors import CheckSettings, ExecutionStatus, MonitorStatus
from vedette.monitor.checks.drift import Drift
from vedette.monitor.checks.model_quality import ModelQuality
from vedette.monitor.traffic import intake
from vedette.monitor.traffic.labels import outcomes_of
from vedette.ports.monitors import WindowKey
from vedette.storage.sqlite_stream import SqliteEventStream

DRIFT = (CheckSettings("drift"),)
OK, VIOLATED, FAILED = "Completed", "CompletedWithViolations", "Failed"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A registry that knows the version and its baseline; no monitor yet."""
    rig = await Rig(tmp_path).know()
    yield rig
    if hasattr(rig, "executions"):
        rig.close()


async def test_a_shift_is_found_in_its_window_and_alerts(rig: Rig) -> None:
    """Two windows as before, one moved: one violation, of the feature that moved, and a firing alert."""
    await rig.begin(watching(checks=DRIFT))
    for start, shift in ((0, 0.0), (10, 0.0), (20, 15.0), (30, 0.0)):
        await rig.traffic(start, shift=shift, rows=400)
    await rig.read()
    found = rig.results()
    assert [(each[0], each[3], each[4]) for each in short(found)] == [(0, OK, 400), (10, OK, 400), (20, VIOLATED, 400)]
    assert {result.feature for result in found[2].violations} >= {"age"}
    assert "height" not in {result.feature for result in found[2].violations}
    with rig.store.read() as snapshot:
        alerts = snapshot.alerts.alerts(limit=99, state=AlertState.FIRING)[0]
        assert {alert.feature for alert in alerts} == {result.feature for result in found[2].violations}
        assert snapshot.profile(found[0].id)
        assert snapshot.windows()[0].rows == 400


async def test_small_and_empty_windows_say_so_instead_of_alarming(rig: Rig) -> None:
    """Too few rows, none at all, only failures; and the last window closes although nothing arrives any more."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0, rows=10, shift=50.0)
    await rig.publish(batch([START + 25.0], first=rig.sent, codes=["model_failed"]))
    await rig.read()
    rig.clock.advance(25)
    await rig.read()
    await rig.pass_time(30)
    assert short(rig.results()) == [
        (0, "A", "", OK, 10, "too few rows: 10 of at least 20"),
        (10, "A", "", OK, 0, "no requests"),
        (20, "A", "", OK, 0, "no rows: 1 requests failed"),
        (30, "A", "", OK, 0, "no requests"),
    ]
    assert rig.results()[2].counts == {"requests": 1, "failed:model_failed": 1}


async def test_without_a_baseline_the_result_says_so(tmp_path: Path) -> None:
    """And with one that cannot be read too: failed, not healthy, and counted so; nothing alarms and nothing stops."""
    rig = await Rig(tmp_path, metrics=Seen()).know(baseline=False)
    await rig.begin(watching())
    await rig.traffic(0)
    await rig.traffic(10)
    await rig.read()
    files = baseline_files() | {"profile.bin": b"garbage"}
    await rig.registry.put_baseline("m", 1, "default", files, rows=1, columns=1)
    await rig.pass_time(60)
    reasons = [each.reason for each in rig.results() if each.rows]
    assert reasons[0] == "no baseline 'default' of m:1"
    assert reasons[1].startswith("the baseline cannot be read")
    assert [each.status.value for each in rig.results() if each.rows] == [FAILED, FAILED]
    assert rig.metrics.values["vedette_monitor_windows_total", "m", "failed"] == 2
    with rig.store.read() as snapshot:
        assert snapshot.alerts.alerts(limit=9)[0] == []
    rig.close()


async def test_an_unknown_version_is_folded_all_the_same(rig: Rig) -> None:
    """Its windows say that nobody knows it."""
    await rig.begin(watching())
    await rig.traffic(0, version="7")
    await rig.traffic(20, version="7")
    await rig.read()
    assert rig.results()[0].reason == "the model version is not known to the registry (any more)"
    assert rig.results()[0].status is ExecutionStatus.FAILED


async def test_a_registry_that_is_down_stops_nothing(rig: Rig) -> None:
    """What was known is kept over a restart: windows are compared as before."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.read()
    rig.registry.down = True
    rig.close()
    await rig.begin()
    rig.clock.advance(100)
    await rig.traffic(10)
    await rig.traffic(20)
    await rig.read()
    found = rig.results()
    assert [each.reason for each in found] == ["", ""]
    assert all(len(each.results) == 6 for each in found)


async def test_a_check_that_raises_fails_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The execution names it and still holds what the others found."""

    def broken(self: Drift, evidence: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Drift, "evaluate", broken)
    await rig.begin(watching(checks=(CheckSettings("drift"), CheckSettings("ks"))))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    (found,) = [each for each in rig.results() if each.rows]
    assert found.status is ExecutionStatus.FAILED
    assert found.reason.startswith("check 'drift' failed: internal error")
    assert {result.check for result in found.results} == {"ks"}


async def test_a_check_that_hangs_takes_down_only_its_own_windows_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its window fails and names it; later ones are evaluated without it, in time, until its thread has ended."""
    release = threading.Event()
    real = Drift.evaluate

    def hangs(self: Drift, evidence: Any) -> Any:
        release.wait(30)
        return real(self, evidence)

    monkeypatch.setattr(Drift, "evaluate", hangs)
    await rig.begin(watching(checks=(CheckSettings("drift"), CheckSettings("ks"))))
    rig.executions._limits = replace(rig.executions._limits, timeout_s=0.2)
    for start in range(0, 50, 10):
        await rig.traffic(start)
    await rig.read()
    found = rig.results()
    assert [each.status.value for each in found] == [FAILED] * 4
    assert found[0].reason == "check 'drift' took longer than 0.2 s"
    later = "check 'drift' was not begun: it has not ended in an earlier window"
    assert [each.reason for each in found[1:]] == [later] * 3
    assert all({result.check for result in each.results} == {"ks"} for each in found[1:])
    assert list(rig.executions._hanging) == [("m", "drift")]
    assert rig.executions.trouble == ""
    release.set()
    await asyncio.gather(*rig.executions._hanging.values())
    await asyncio.sleep(0)
    await rig.traffic(60)
    await rig.read()
    last = next(each for each in rig.results() if each.rows and each.start == START + 40)
    assert (last.reason, {result.check for result in last.results}) == ("", {"drift", "ks"})


async def test_three_checks_that_hang_are_trouble(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service says so, and no longer once they have ended."""
    release = threading.Event()
    monkeypatch.setattr(Drift, "evaluate", lambda *_: release.wait(30) and [])
    names = [f"m{number}" for number in range(3)]
    await rig.begin(*(watching(name=name, checks=DRIFT) for name in names))
    rig.executions._limits = replace(rig.executions._limits, timeout_s=0.05)
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    assert rig.executions.trouble == "evaluations hang; restart the monitor"
    release.set()
    await asyncio.gather(*rig.executions._hanging.values())
    await asyncio.sleep(0)
    assert rig.executions.trouble == ""


async def test_a_revision_that_hangs_keeps_what_was_known(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the second and third time: results stay, the revision grows, the reason tells."""
    release = threading.Event()
    await rig.begin(watching(checks=QUALITY))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    await rig.labels.accept("e", b'{"id": "p-000001", "label": 0}')
    await rig.read()
    before = rig.results()[0]
    assert before.revision == 2
    monkeypatch.setattr(ModelQuality, "evaluate", lambda *_: release.wait(30) and [])
    rig.executions._limits = replace(rig.executions._limits, timeout_s=0.1)
    await rig.labels.accept("e", b'{"id": "p-000002", "label": 0}')
    await rig.read()
    release.set()
    after = rig.results()[0]
    assert (after.revision, after.results) == (3, before.results)
    assert after.reason == "check 'model_quality' took longer than 0.1 s"


async def test_a_window_that_kills_the_monitor_fails_after_ten_deaths(rig: Rig) -> None:
    """Attempts are counted before they begin."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.traffic(20)
    while await rig.intake.step(wait_s=0.0):
        pass
    await rig.intake.commit()
    for _ in range(10):
        await rig.begin()
        rig.executions._begin(WindowKey("m", "A", "1", "", START))
    await rig.begin()
    await rig.read()
    assert short(rig.results())[0][3:] == (FAILED, 100, "the monitor died 10 times while it evaluated this window")


async def test_messages_that_are_nonsense_are_buried_and_the_rest_goes_on(rig: Rig) -> None:
    """After three failures each, in one go; also a batch of somebody who is none of our producers."""
    await rig.begin(watching(checks=DRIFT))
    stranger = replace(batch([START]), variant="no/name")
    await rig.publish(Message("e", b"nonsense", "text/plain"), message(stranger))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    letters = await rig.stream.dead_letters("captures", "monitor", 9)
    assert [letter.delivery.offset for letter in letters] == [0, 1]
    assert short(rig.results())[0][4] == 100


async def test_a_message_that_breaks_the_fold_is_buried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything before and after it counts once, although memory was thrown away three times."""
    real = intake.Fold.add

    def breaks(self: Any, captures: Any, facts: Any, now: float) -> Any:
        tally = real(self, captures, facts, now)
        if captures.producer == "killer":
            raise MemoryError
        return tally

    monkeypatch.setattr(intake.Fold, "add", breaks)
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.publish(batch([START + 1.0] * 50, producer="killer"))
    await rig.traffic(20)
    rig.intake.stop()
    task = asyncio.create_task(rig.intake.run())
    await task
    rig.intake._stopping.clear()
    for _ in range(20):
        try:
            if not await rig.intake.step(wait_s=0.0):
                break
        except intake._Broken as broken:
            await rig.intake._again(broken)
    await rig.read()
    letters = await rig.stream.dead_letters("captures", "monitor", 9)
    assert [letter.delivery.offset for letter in letters] == [2]
    assert short(rig.results())[0][4] == 100


async def test_a_message_that_kills_the_process_is_found_and_buried(rig: Rig) -> None:
    """Lives that end without progress make the next ones careful: one message at a time, counted before."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.publish(batch([START + 1.0] * 50, producer="killer"))
    await rig.traffic(20)

    class Killed(BaseException):
        pass

    async def live() -> None:
        real = rig.intake._fold.add

        def kills(captures: Any, facts: Any, now: float) -> Any:
            if captures.producer == "killer":
                raise Killed
            return real(captures, facts, now)

        rig.intake._fold.add = kills  # type: ignore[method-assign]
        await rig.read()

    deaths = 0
    while True:
        try:
            await live()
            break
        except Killed:
            deaths += 1
            assert deaths < 10
            rig.close()
            await rig.begin()
    letters = await rig.stream.dead_letters("captures", "monitor", 9)
    assert [letter.delivery.offset for letter in letters] == [2]
    assert short(rig.results())[0][4] == 100
    assert deaths == 6


async def test_a_store_that_is_down_makes_captures_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was folded is stored once, when it is back."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    real = rig.store.transaction

    @contextmanager
    def down() -> Any:
        raise Unavailable("the store is down")
        yield

    monkeypatch.setattr(rig.store, "transaction", down)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await rig.read()
    monkeypatch.setattr(rig.store, "transaction", real)
    await rig.traffic(20)
    await rig.read()
    assert short(rig.results())[0][4:] == (100, "")


async def test_a_paused_monitor_evaluates_nothing(rig: Rig) -> None:
    """Also not what had become due before; after that it begins anew, without windows for the time between."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    await rig.read()
    with rig.store.transaction() as tx:
        tx.update_monitor(replace(tx.monitor("m"), status=MonitorStatus.STOPPED))
    rig.intake.refresh()
    await rig.traffic(10)
    await rig.traffic(30)
    await rig.read()
    assert rig.results() == []
    with rig.store.transaction() as tx:
        tx.update_monitor(replace(tx.monitor("m"), status=MonitorStatus.SCHEDULED))
    rig.intake.refresh()
    rig.clock.advance(100)
    await rig.traffic(100)
    await rig.traffic(120)
    await rig.read()
    assert [(each[0], each[5]) for each in short(rig.results())] == [(100, ""), (110, "no requests")]


async def test_redelivered_messages_change_nothing(rig: Rig) -> None:
    """The same captures twice on the stream: counted and told, not folded."""
    await rig.begin(watching(checks=DRIFT))
    await rig.traffic(0)
    for delivery in await rig.stream.read("captures", 0, 9):
        await rig.stream.publish("captures", [replace(delivery.message, sequence=delivery.offset + 1_000)])
    await rig.traffic(20)
    await rig.read()
    found = rig.results()[0]
    assert (found.rows, found.counts) == (100, {"requests": 100, "duplicate": 100})


QUALITY = (CheckSettings("drift"), CheckSettings("model_quality", {"min_labels": 10}))


async def test_late_labels_reopen_the_result(rig: Rig) -> None:
    """One result before and after, a revision more, quality from the labels; drift as it was. Twice is no more."""
    await rig.begin(watching(checks=QUALITY))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    before = rig.results()[0]
    assert before.revision == 1
    assert before.labels == 0
    lines = b"\n".join(b'{"id": "p-%06d", "label": %d}' % (number, number % 2) for number in range(100))
    counts = await rig.labels.accept("e", lines + b'\n{"id": "nobody", "label": 1}\nnonsense\n')
    assert counts == {"joined": 100, "waiting": 1, "unknown": 0, "refused": 1}
    await rig.read()
    after = rig.results()[0]
    assert (after.id, after.revision, after.labels) == (before.id, 2, 100)
    drift = [result for result in before.results if result.check == "drift"]
    assert [result for result in after.results if result.check == "drift"] == drift
    quality = [result for result in after.results if result.check == "model_quality"]
    assert quality != [result for result in before.results if result.check == "model_quality"]
    assert len(rig.results()) == 2
    assert (await rig.labels.accept("e", lines))["joined"] == 100
    await rig.read()
    assert rig.results()[0] == after
    await rig.labels.accept("e", b'{"id": "p-000003", "label": 0}')
    await rig.read()
    assert rig.results()[0].revision == 3


async def test_labels_that_come_first_wait_for_their_predictions(rig: Rig) -> None:
    """By the caller's own ids; the first result knows them."""
    await rig.begin(watching(checks=QUALITY))
    counts = await rig.labels.accept("e", b'{"id": "mine-1", "label": "yes"}\n{"id": "mine-2", "label": 0}')
    assert counts["waiting"] == 2
    times = [START + 1.0] * 30
    await rig.publish(batch(times, inference_ids=[f"mine-{number}" for number in range(30)]))
    await rig.publish(batch([START + 30.0], first=30))
    await rig.read()
    assert rig.results()[0].labels == 2
    with rig.store.read() as snapshot:
        outcomes = outcomes_of(snapshot, "e", WindowKey("m", "A", "1", "", START))
    assert outcomes is not None
    assert outcomes.labels.tolist()[:4] == [None, "yes", "0", None]
    assert len(outcomes.columns["age"]) == 30


async def test_labels_come_by_the_stream_too(rig: Rig) -> None:
    """The message's key is the endpoint; nonsense is set aside."""
    await rig.begin(watching(checks=QUALITY))
    await rig.stream.publish(
        "ground-truth",
        [Message("e", b"nonsense", "text/plain"), Message("e", b'{"id": "x", "label": 1}', "application/jsonlines")],
    )
    offset = 0
    while offset < 2:
        offset = await rig.labels.step(rig.stream, offset, wait_s=0.0)
    with rig.store.read() as snapshot:
        assert snapshot.label_count("e") == 1
    assert len(await rig.stream.dead_letters("ground-truth", "monitor", 9)) == 1


async def test_segments_have_results_of_their_own(rig: Rig) -> None:
    """Compared with the same baseline, beside the whole."""
    await rig.begin(watching(checks=DRIFT, segments=("sex",), min_rows=10))
    await rig.traffic(0, rows=200)
    await rig.traffic(20)
    await rig.read()
    segments = {each.segment: each.rows for each in rig.results() if each.start == START}
    assert set(segments) == {"", "sex=f", "sex=m"}
    assert segments["sex=f"] + segments["sex=m"] == segments[""] == 200


async def test_late_labels_reopen_segments_too(rig: Rig) -> None:
    """Each judged by its own labels, also the one that all other values share; a segment without a result has none."""
    await rig.begin(watching(checks=QUALITY, segments=("sex", "age"), min_rows=5))
    await rig.traffic(0, rows=200)
    await rig.traffic(20)
    await rig.read()
    first = {each.segment: each for each in rig.results() if each.start == START}
    assert {"", "sex=f", "sex=m", "age=other"} <= set(first)
    lines = b"\n".join(b'{"id": "p-%06d", "label": %d}' % (number, number % 2) for number in range(200))
    await rig.labels.accept("e", lines)
    await rig.read()
    after = {each.segment: each for each in rig.results() if each.start == START}
    assert set(after) == set(first)
    assert {each.revision for each in after.values()} == {2}
    assert {segment: each.labels for segment, each in after.items()} == {
        segment: each.rows for segment, each in after.items()
    }
    assert after["sex=f"].labels + after["sex=m"].labels == after[""].labels == 200
    with rig.store.read() as snapshot:
        assert snapshot.reopened(9) == []


async def test_what_is_set_aside_and_damaged_is_counted_once(tmp_path: Path) -> None:
    """By the stream that buries and skips it, whoever reads: captures and ground truth, and a damaged stretch."""
    seen = Seen()
    stream = SqliteEventStream(tmp_path / "stream", metrics=seen)
    rig = await Rig(tmp_path, stream=stream, metrics=seen).know()
    await rig.begin(watching(checks=DRIFT))
    await rig.publish(Message("e", b"nonsense", "text/plain"))
    await rig.traffic(0)
    await rig.traffic(20)
    await stream.publish("ground-truth", [Message("e", b"nonsense", "text/plain")])
    await rig.read()
    offset = await rig.labels.step(stream, 0, wait_s=0.0)
    assert offset == 1
    await rig.begin()
    await rig.read()
    name = "vedette_stream_dead_letters_total"
    assert {key: value for key, value in seen.values.items() if key[0] == name} == {
        (name, "captures", "monitor"): 1.0,
        (name, "ground-truth", "monitor"): 1.0,
    }
    await stream.close()


def test_the_signature_of_the_rig_is_the_one_that_batches_have() -> None:
    """Or the tests above would compare nothing."""
    assert SIGNATURE.feature_names == ("age", "height", "sex")


async def leaning(rig: Rig, windows: int, *, moved: float = 0.0) -> None:
    """The baseline's men are 20 years older than its women, and so is traffic; its women by `moved` older than that."""
    drawn = rows_of(2_000, seed=77)
    drawn[:, 0] += 20 * drawn[:, 2]
    await rig.registry.put_baseline("m", 1, "default", files_of(drawn), rows=2_000, columns=6)
    settings = (CheckSettings("drift"), CheckSettings("data_quality"))
    await rig.begin(watching(checks=settings, segments=("sex",)))
    for window in range(windows + 1):
        rig.clock.advance(10.0)
        drawn = rows_of(100, seed=window)
        drawn[:, 0] += np.where(drawn[:, 2] > 0, 20, moved)
        await rig.publish(batch([START + 10 * window + i / 10 for i in range(100)], rows=drawn, first=100 * window))
    await rig.read()


async def test_segments_are_compared_with_the_same_segment_of_the_baseline(rig: Rig) -> None:
    """They differ from the whole by nature; 200 windows as the baseline's raise next to nothing, and never of it."""
    await leaning(rig, 200)
    found = [each for each in rig.results() if each.segment]
    assert len(found) == 400
    assert {each.segment for each in found} == {"sex=f", "sex=m"}
    assert sum(1 for each in found for result in each.violations if result.check == "drift") <= 4
    assert "sex" not in {result.feature for each in found for result in each.results}
    assert {result.feature for result in found[0].results if result.check == "drift"} >= {"age", "height"}


async def test_a_shift_in_one_segment_is_found_in_that_segment(rig: Rig) -> None:
    """And not in the other one."""
    await leaning(rig, 3, moved=15.0)
    found = [(each.segment, result.feature) for each in rig.results() if each.segment for result in each.violations]
    female = "sex=" + SIGNATURE.categories["sex"][0]
    assert (female, "age") in found
    assert {segment for segment, feature in found if feature == "age"} == {female}


async def test_a_segment_that_the_baseline_has_not_is_not_compared(rig: Rig) -> None:
    """Every age is a segment: the sample has too few rows of each, and that is the reason given."""
    await rig.begin(watching(checks=DRIFT, segments=("age",), min_rows=1))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    found = [each for each in rig.results() if each.segment]
    assert found
    assert not any(each.violations for each in found)
    assert all(each.results[0].description.startswith("The sample of the baseline has ") for each in found[:5])
