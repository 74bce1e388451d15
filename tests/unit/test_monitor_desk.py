"""Monitors and results as people see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.monitor_rig import START, Rig, watching

from vedette.core.errors import AlreadyExists, InvalidArgument, NotFound
from vedette.core.models import CaptureSettings, EndpointConfig, Variant
from vedette.core.ports import Change, Deployment, Synced
from vedette.entities.alerts import Webhook
from vedette.entities.monitors import AlertRule, CheckSettings, MonitorStatus
from vedette.monitor.config import MonitorSettings
from vedette.monitor.desk import Monitors, Results, check_monitor

DRIFT = (CheckSettings("drift"),)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A monitor of a version with a baseline."""
    rig = await (await Rig(tmp_path).know()).begin()
    yield rig
    rig.close()


def monitors_of(rig: Rig) -> Monitors:
    """The desk's part over the rig's store."""
    return Monitors(
        rig.store, rig.references, clock=rig.clock, scores=rig.executions.scores, changed=rig.intake.refresh
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a/b"}, {"endpoint": ""}, {"window_s": 4}, {"lateness_s": -1}, {"schedule": "rate(1 day)"},
        {"checks": ()}, {"checks": (CheckSettings("dirft"),)}, {"checks": (CheckSettings("drift", {"nope": 1}),)},
        {"checks": DRIFT * 2}, {"min_rows": -1}, {"segments": ("a", "a")}, {"segments": ("a=b",)},
        {"segments": tuple("abcdef")}, {"alert": AlertRule(3, 2)}, {"webhooks": ("no name",)}, {"baseline": "a b"},
    ],
)  # fmt: skip
def test_settings_that_can_never_work_are_refused(fields: dict[str, Any]) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidArgument):
        check_monitor(watching(**fields))


def test_a_misspelt_check_is_told_the_near_name() -> None:
    """As everywhere."""
    with pytest.raises(InvalidArgument, match="did you mean 'drift'"):
        check_monitor(watching(checks=(CheckSettings("dirft"),)))


async def test_a_monitor_waits_for_its_endpoint_and_its_baseline(rig: Rig) -> None:
    """Pending says for what, and Scheduled comes by itself."""
    desk = monitors_of(rig)
    await rig.references._heard(Synced(1, whole=True))
    made = desk.create(watching(baseline="other"))
    assert (made.status, made.reason) == (MonitorStatus.PENDING, "endpoint 'e' does not exist yet")
    config = EndpointConfig("m", (Variant("A", 1),))
    await rig.references._heard(Change(2, "e", Deployment("e", 1, config, ())))
    await rig.references.look_for("e", "other")
    assert desk.judged(made).reason == "there is no baseline 'other' of m:1 yet"
    changed = desk.update(watching(baseline="default"))
    assert (changed.status, changed.created_at) == (MonitorStatus.SCHEDULED, made.created_at)


async def test_pause_resume_and_delete(rig: Rig) -> None:
    """Each is idempotent but the last; what a monitor had goes with it."""
    desk = monitors_of(rig)
    desk.create(watching(checks=DRIFT))
    with pytest.raises(AlreadyExists):
        desk.create(watching())
    assert desk.pause("m").status is desk.pause("m").status is MonitorStatus.STOPPED
    assert desk.update(watching(min_rows=7)).status is MonitorStatus.STOPPED
    assert [each.name for each in desk.page(limit=9, status=MonitorStatus.STOPPED)[0]] == ["m"]
    assert desk.resume("m").status is MonitorStatus.SCHEDULED
    assert desk.page(limit=9, status=MonitorStatus.STOPPED)[0] == []
    desk.delete("m")
    for attempt in (desk.get, desk.pause, desk.delete):
        with pytest.raises(NotFound):
            attempt("m")


async def test_results_violations_files_and_open_windows(rig: Rig) -> None:
    """What people ask for after a shift."""
    monitors_of(rig).create(watching(checks=DRIFT))
    for start, shift in ((0, 0.0), (10, 15.0), (20, 0.0)):
        await rig.traffic(start, shift=shift, rows=400)
    await rig.read()
    desk = Results(rig.store, rig.references, clock=rig.clock)
    found, following = desk.page("m", limit=9)
    assert ([each.start - START for each in found], following) == ([10, 0], "")
    violations, _ = desk.violations(limit=9, feature="age")
    assert [(execution.start - START, result.feature) for execution, result in violations] == [(10, "age")]
    assert b"age" in desk.file(found[0].id, "constraint_violations.json")
    assert b"num_present" in desk.file(found[1].id, "statistics.json")
    assert b"completeness" in desk.file(found[1].id, "constraints.json")
    (window,) = desk.windows("m")
    assert (window["start"], window["rows"], window["lag_s"]) == (START + 20, 400, 0.0)
    for attempt in (lambda: desk.page("n", limit=9), lambda: desk.file(found[0].id, "x"), lambda: desk.get("x")):
        with pytest.raises(NotFound):
            attempt()


async def test_a_webhook_that_does_not_exist_is_refused(rig: Rig) -> None:
    """A misspelt one would tell nobody, in silence; when the monitor is made and when it is changed."""
    desk = monitors_of(rig)
    with rig.store.transaction() as tx:
        tx.alerts.insert_webhook(Webhook("pager", "https://hooks.example/"))
    with pytest.raises(InvalidArgument, match="no webhook 'pagre'; did you mean 'pager'"):
        desk.create(watching(webhooks=("pagre",)))
    desk.create(watching(webhooks=("pager",)))
    with pytest.raises(InvalidArgument, match="no webhook 'x'"):
        desk.update(watching(webhooks=("pager", "x")))
    assert desk.get("m").webhooks == ("pager",)


async def serve(rig: Rig, capture: CaptureSettings) -> None:
    """The endpoint `e` serves version 1, captured like this."""
    config = EndpointConfig("m", (Variant("A", 1),), capture=capture)
    version = await rig.registry.version("m", 1)
    await rig.references._heard(Synced(1, whole=True))
    await rig.references._heard(Change(2, "e", Deployment("e", 1, config, (version,))))


async def test_a_segment_by_no_column_is_refused_once_the_model_is_known(rig: Rig) -> None:
    """Before that it is told as the reason, as soon as it is; predictions are columns too."""
    desk = monitors_of(rig)
    early = desk.create(watching(segments=("sxe",)))
    assert "sxe" not in early.reason
    await serve(rig, CaptureSettings(100.0))
    assert (desk.judged(early).status, desk.judged(early).reason) == (
        MonitorStatus.SCHEDULED, "segment 'sxe' is no column of the model",
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match=r"'sxe'.*did you mean 'sex'"):
        desk.create(watching(name="n", segments=("sxe",)))
    with pytest.raises(InvalidArgument, match="'sxe'"):
        desk.update(early)
    assert desk.update(watching(segments=("sex", "prediction"))).reason == ""


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (CheckSettings("bias", {"facets": ("sxe=f",)}), r"facet 'sxe'.*did you mean 'sex'"),
        (CheckSettings("bias", {"facets": ("sex=f",), "group_variable": "job"}), "group_variable 'job'"),
        (CheckSettings("model_quality", {"inference_attribute": "answer"}), "inference_attribute 'answer'"),
        (CheckSettings("cbpe", {"probability_attribute": "sure"}), "probability_attribute 'sure'"),
    ],
)
async def test_a_check_of_no_column_is_refused_once_the_model_is_known(
    rig: Rig, check: CheckSettings, said: str
) -> None:
    """Before that the monitor's reason tells it, as soon as it is; columns that are there pass."""
    desk = monitors_of(rig)
    early = desk.create(watching(name="early", checks=(check,)))
    await serve(rig, CaptureSettings(100.0))
    with pytest.raises(InvalidArgument, match=said):
        desk.create(watching(checks=(check,)))
    assert "is no column of the model" in desk.judged(early).reason
    fine = CheckSettings("bias", {"facets": ("sex=f", "age>40"), "group_variable": "height"})
    named = CheckSettings("model_quality", {"inference_attribute": "prediction"})
    assert desk.create(watching(checks=(fine, named))).reason == ""


async def test_a_segment_by_an_excluded_column_is_told(rig: Rig) -> None:
    """It may be captured again one day."""
    desk = monitors_of(rig)
    await serve(rig, CaptureSettings(100.0, exclude=("sex",)))
    assert desk.create(watching(segments=("sex",))).reason == "segment 'sex' is excluded from capture"
    await serve(rig, CaptureSettings(100.0, outputs=False))
    assert desk.judged(desk.get("m")).reason == ""
    assert "excluded" in desk.judged(watching(segments=("prediction",))).reason


def test_the_monitor_has_one_worker() -> None:
    """More are refused with the reason."""
    assert MonitorSettings().workers == 1
    with pytest.raises(ValueError, match="folded in one place"):
        MonitorSettings(workers=2)
