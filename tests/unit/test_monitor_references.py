"""What windows are judged by: who waits for a registry that is silent, and for how long; baselines that come and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.monitor_rig import START, Rig, baseline_files, short, watching
from tests.unit.capture_batches import SIGNATURE

from vedette.core.errors import Unavailable
from vedette.core.models import EndpointConfig, ModelVersion, Variant
from vedette.core.ports import Change, Deployment, Synced
from vedette.entities.monitors import CheckSettings
from vedette.monitor.references import MODELS_KEPT_S, RECHECK_S, SILENCE_S
from vedette.profiles import Profile

PSI = (CheckSettings("psi"),)
SILENT = "the registry does not answer, so nobody knows whether there is a baseline"


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    """A registry that knows the version and its baseline; no monitor yet."""
    return await Rig(tmp_path).know()


def deployed(*variants: Variant, shadows: tuple[Variant, ...] = (), versions: tuple[ModelVersion, ...] = ()) -> Change:
    """The endpoint `e` serves these."""
    config = EndpointConfig("m", variants, shadows)
    return Change(2, "e", Deployment("e", 1, config, versions))


async def test_captures_wait_for_a_registry_that_was_never_heard(rig: Rig) -> None:
    """So that their windows have the baseline's bins; nothing is lost, and nothing says that there is no baseline."""
    await rig.begin(watching(checks=PSI))
    rig.registry.down = True
    await rig.traffic(0)
    await rig.traffic(20)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await rig.read()
        rig.clock.advance(20)
    assert rig.results() == []
    rig.registry.down = False
    await rig.read()
    (found,) = [each for each in rig.results() if each.rows]
    assert (found.rows, found.reason) == (100, "")
    with rig.store.read() as snapshot:
        assert Profile.from_bytes(snapshot.profile(found.id)).layout is not None


async def test_what_was_folded_before_is_stored_while_others_wait(rig: Rig) -> None:
    """A version that nobody knows holds up what comes after it, not what came before."""
    await rig.begin(watching(checks=PSI))
    await rig.traffic(0)
    await rig.intake.step(wait_s=0.0)
    rig.registry.down = True
    await rig.traffic(20, version="2")
    with pytest.raises(Unavailable):
        await rig.intake.step(wait_s=0.0)
    rig.clock.advance(2)
    with pytest.raises(Unavailable):
        await rig.intake.step(wait_s=0.0)
    with rig.store.read() as snapshot:
        assert [(state.rows, state.key.version) for state in snapshot.windows()] == [(100, "1")]
        assert snapshot.offset("captures") == 2


async def test_nobody_waits_for_ever(rig: Rig) -> None:
    """After five minutes windows are judged without, and say why; when the registry is back all is as ever."""
    await rig.begin(watching(checks=PSI))
    rig.registry.down = True
    await rig.traffic(0)
    with pytest.raises(Unavailable):
        await rig.read()
    rig.clock.advance(SILENCE_S - 1)
    with pytest.raises(Unavailable):
        await rig.read()
    rig.clock.advance(2)
    await rig.read()
    await rig.pass_time(10)
    assert short(rig.results())[0] == (0, "A", "", "Failed", 100, SILENT)
    rig.registry.down = False
    rig.clock.advance(RECHECK_S)
    offset = rig.clock.time() // 10 * 10 - START
    await rig.traffic(offset)
    await rig.traffic(offset + 20)
    await rig.read()
    assert [each.reason for each in rig.results() if each.rows][1:] == [""]


async def test_a_window_that_is_due_waits_for_the_registry(rig: Rig) -> None:
    """Sealed by an earlier life that lost its notes: it is looked at again, ever more seldom; no attempt counts."""
    await rig.begin(watching(checks=PSI))
    await rig.traffic(0)
    await rig.traffic(20)
    while await rig.intake.step(wait_s=0.0):
        pass
    await rig.intake.commit()
    with rig.store.transaction() as tx:
        tx.drop_note("baseline", "m:1/default")
    rig.registry.down = True
    await rig.begin()
    for _ in range(12):
        await rig.executions.step()
        rig.clock.advance(20)
    with rig.store.read() as snapshot:
        (state,) = snapshot.sealed(9)
    assert [each.rows for each in rig.results()] == [0]
    assert (state.rows, state.attempts) == (100, 0)
    rig.registry.down = False
    rig.clock.advance(30)
    while await rig.executions.step():
        pass
    assert short(rig.results())[0][4:] == (100, "")


async def test_a_window_that_waits_holds_up_no_other(rig: Rig) -> None:
    """Monitors whose baselines are known go on."""
    await rig.begin(watching(checks=PSI), watching(name="n", checks=PSI, baseline="other"))
    await rig.registry.put_baseline("m", 1, "other", baseline_files(), rows=1, columns=1)
    rig.clock.advance(400)
    for second in range(0, 400, 10):
        await rig.traffic(second, rows=20)
    while await rig.intake.step(wait_s=0.0):
        pass
    await rig.intake.commit()
    with rig.store.transaction() as tx:
        tx.drop_note("baseline", "m:1/other")
    rig.registry.down = True
    await rig.begin()
    for _ in range(14):
        await rig.executions.step()
        rig.clock.advance(1.5)
    assert {each.monitor for each in rig.results()} == {"m"}
    assert len(rig.results()) == 39


async def test_a_baseline_that_comes_while_its_window_is_open_is_compared_with(tmp_path: Path) -> None:
    """The window has no bins of it, but a sketch from which they are taken: it finds what one with bins finds."""
    rig = await Rig(tmp_path).know(baseline=False)
    await rig.begin(watching(checks=PSI))
    await rig.traffic(0, rows=400, shift=15.0)
    while await rig.intake.step(wait_s=0.0):
        pass
    await rig.registry.put_baseline("m", 1, "default", baseline_files(), rows=2_000, columns=6)
    rig.clock.advance(RECHECK_S + 1)
    await rig.traffic(20, rows=400, shift=15.0)
    await rig.traffic(40)
    await rig.read()
    first, second = [each for each in rig.results() if each.rows]
    assert [result.feature for result in first.violations] == [result.feature for result in second.violations]
    scores = [next(r.value for r in each.results if r.feature == "age") or 0.0 for each in (first, second)]
    assert scores[0] == pytest.approx(scores[1], rel=0.3)
    assert scores[0] > 1.0


async def test_a_baseline_is_replaced_while_windows_are_open(rig: Rig) -> None:
    """They keep the bins that they have and are judged by the new one; the next have its bins."""
    await rig.begin(watching(checks=PSI))
    await rig.traffic(0, rows=400)
    while await rig.intake.step(wait_s=0.0):
        pass
    before = rig.registry.baselines["m", 1, "default"]
    after = await rig.registry.put_baseline("m", 1, "default", baseline_files(rows=3_000), rows=3_000, columns=6)
    rig.clock.advance(RECHECK_S - 1)
    found = await rig.references.reference("m", 1, "default")
    assert found is not None
    assert found.baseline == before
    rig.clock.advance(2)
    await rig.traffic(20, rows=400)
    await rig.read()
    with rig.store.read() as snapshot:
        assert [state.baseline for state in snapshot.windows()] == [after.digest]
    (first,) = [each for each in rig.results() if each.rows]
    assert (first.reason, {result.outcome for result in first.results}) == ("", {"ok"})
    found = await rig.references.reference("m", 1, "default")
    assert found is not None
    assert found.baseline == after


async def test_a_baseline_that_is_deleted_is_believed_no_longer_than_a_while(rig: Rig) -> None:
    """And one that was never there is asked for again."""
    await rig.begin()
    assert await rig.references.reference("m", 1, "default") is not None
    del rig.registry.baselines["m", 1, "default"]
    assert await rig.references.reference("m", 1, "default") is not None
    rig.clock.advance(RECHECK_S + 1)
    assert await rig.references.reference("m", 1, "default") is None
    await rig.registry.put_baseline("m", 1, "default", baseline_files(), rows=1, columns=1)
    assert await rig.references.reference("m", 1, "default") is None
    rig.clock.advance(RECHECK_S + 1)
    assert await rig.references.reference("m", 1, "default") is not None


async def test_who_is_alone_at_an_endpoint(rig: Rig) -> None:
    """One variant of one version, no shadow; nobody is while nobody knows."""
    await rig.begin()
    a, b = Variant("A", 1), Variant("B", 2)
    assert not rig.references.is_alone("e", "A", "1")
    assert rig.references.serving("e") == []
    for change, alone in ((deployed(a), True), (deployed(a, b), False), (deployed(a, shadows=(b,)), False)):
        await rig.references._heard(change)
        assert rig.references.is_alone("e", "A", "1") is alone
        assert not rig.references.is_alone("e", "A", "2")
        assert not rig.references.is_alone("e", "B", "1")
    assert rig.references.serving("e") == [("A", "1")]
    await rig.references._heard(Change(3, "e", None))
    assert not rig.references.is_alone("e", "A", "1")


async def test_a_silent_endpoint_says_so(rig: Rig) -> None:
    """A monitor on an endpoint that never had a request has results: no requests, for each variant, then no more."""
    await rig.begin(watching(checks=PSI))
    await rig.references._heard(Synced(1, whole=True))
    await rig.read()
    await rig.pass_time(100)
    assert rig.results() == []
    await rig.references._heard(deployed(Variant("A", 1), Variant("B", 2)))
    await rig.read()
    for _ in range(10):
        await rig.pass_time(10)
    found = short(rig.results())
    assert sorted(found) == [
        (start, variant, "", "Completed", 0, "no requests") for start in (100, 110, 120) for variant in "AB"
    ]
    rig.close()
    await rig.begin()
    await rig.pass_time(100)
    assert len(rig.results()) == 6


async def test_models_that_nobody_uses_are_removed(rig: Rig) -> None:
    """After a day without use, unless they are deployed; what a download left behind goes too."""
    await rig.begin()
    one = rig.registry.versions["m", 1]
    two = rig.registry.add_version("m", 2, {"model.onnx": b"other"}, signature=SIGNATURE)
    three = rig.registry.add_version("m", 3, {"model.onnx": b"third"}, signature=SIGNATURE)
    for version in (one, two, three):
        assert await rig.references.graph(version) is not None
    (rig.folder / "models" / ".half").mkdir()
    os.utime(rig.folder / "models" / ".half", (START, START))
    await rig.references._heard(deployed(Variant("A", 1), versions=(one,)))
    assert rig.references.sweep(rig.clock.time() + MODELS_KEPT_S) == 0
    rig.clock.advance(MODELS_KEPT_S / 2)
    assert await rig.references.graph(two) is not None
    rig.clock.advance(MODELS_KEPT_S / 2 + 1)
    assert rig.references.sweep(rig.clock.time()) == 2
    assert {each.name for each in (rig.folder / "models").iterdir()} == {one.digest, two.digest}
    again = await rig.references.graph(three)
    assert again is not None
    assert (again / "model.onnx").read_bytes() == b"third"


async def test_a_folder_that_is_not_there_is_no_trouble(rig: Rig) -> None:
    """Before any model was fetched."""
    await rig.begin()
    assert rig.references.sweep(rig.clock.time()) == 0
