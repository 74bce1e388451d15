"""What results are about: one name for one thing, in labels, alerts, gauges and messages alike."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitor_rig import Rig, Seen, watching

from vedette.core.errors import InvalidArgument
from vedette.entities.alerts import AlertState
from vedette.entities.monitors import AlertRule, CheckResult, CheckSettings, Execution, ExecutionStatus
from vedette.monitor.alerting.alerts import transitions
from vedette.monitor.desk import check_monitor
from vedette.monitor.results.execution_files import violations_document
from vedette.monitor.results.scores import MAX_FEATURES, Scores
from vedette.monitor.subjects import MAX_LABEL, check_labels, check_of, label_of, subject
from vedette.ports.alerts import AlertGroup

PSI = (CheckSettings("psi"), CheckSettings("psi", {"threshold": 0.3}), CheckSettings("ks"))
VALUES = st.one_of(
    st.booleans(),
    st.sampled_from(["true", "1", "mean"]),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=300),
)


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    """A registry that knows the version and its baseline; what is counted is seen."""
    return await Rig(tmp_path, metrics=Seen()).know()


def test_a_check_that_stands_once_keeps_its_name() -> None:
    """One that stands several times is told apart by its parameters."""
    assert check_labels(PSI) == ["psi", "psi(threshold=0.3)", "ks"]
    assert check_labels(PSI[1:]) == ["psi", "ks"]
    assert check_labels([CheckSettings("a", {"y": ("b", "c"), "x": "mean"}), CheckSettings("a")]) == [
        'a(x=mean,y=["b","c"])', "a",
    ]  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3), min_size=2, max_size=4, unique_by=repr))
def test_labels_are_short_and_no_two_settings_share_one(parameters: list[dict[str, bool | int | float | str]]) -> None:
    """Whatever texts stand in them; and the check is found in its label."""
    checks = [CheckSettings("psi", dict(sorted(each.items()))) for each in parameters]
    different = {repr(each) for each in checks}
    labels = check_labels(checks)
    assert len(set(labels)) == len(different)
    assert all(len(label) <= MAX_LABEL and check_of(label) == "psi" and label_of(label) == label for label in labels)


def test_the_same_parameters_in_another_order_are_the_same_check() -> None:
    """And a monitor makes no check twice."""
    twice = (CheckSettings("ks", {"threshold": 0.1}), CheckSettings("ks", {"threshold": 0.1}))
    with pytest.raises(InvalidArgument, match="twice"):
        check_monitor(watching(checks=twice))
    check_monitor(watching(checks=PSI))


def quality(kind: str, feature: str, outcome: str = "ok", check: str = "data_quality") -> CheckResult:
    """What the check of data quality says."""
    return CheckResult(check, feature, outcome, 1.0, 0.5, kind=kind, description=kind)  # type: ignore[arg-type]


def test_kinds_of_data_quality_are_subjects_and_those_of_others_are_not() -> None:
    """A kind that only repeats the check's name says nothing."""
    assert subject(quality("completeness_check", "age")) == "data_quality:completeness_check"
    assert subject(quality("data_quality", "")) == "data_quality"
    assert subject(quality("", "")) == "data_quality"
    assert subject(quality("LessThanThreshold", "auc", check="model_quality")) == "model_quality"
    assert label_of("data_quality:completeness_check") == label_of("data_quality") == "data_quality"


def window(number: int, *results: CheckResult) -> Execution:
    """An execution with these results."""
    start = number * 10.0
    return Execution(
        f"x{number}", "m", "e", "A", "1", "", start, start + 10, 99, ExecutionStatus.COMPLETED, tuple(results)
    )


def test_each_kind_has_an_alert_and_gauges_of_its_own() -> None:
    """Two of one feature do not hide each other."""
    results = [quality("completeness_check", "age", "violated"), quality("data_type_check", "age", "ok")]
    seen = Seen()
    Scores(seen).show(window(0, *results))
    state = {key[-2:]: value for key, value in seen.values.items() if key[0] == "vedette_monitor_state"}
    assert state == {("data_quality:completeness_check", "age"): 1.0, ("data_quality:data_type_check", "age"): 0.0}
    both = [replace(each, outcome="violated") for each in results]
    alerts, _ = transitions([], AlertGroup("g"), window(0, *both), AlertRule(), now=0.0)
    assert len({alert.id for alert in alerts}) == 2
    assert [alert.check for alert in alerts] == ["data_quality:completeness_check", "data_quality:data_type_check"]


def test_gauges_are_bounded_and_go_with_their_monitor() -> None:
    """Features beyond the bound have none; what is known goes on being shown."""
    seen = Seen()
    scores = Scores(seen)
    many = [CheckResult("ks", f"f{number}", "ok", 0.1) for number in range(MAX_FEATURES + 50)]
    scores.show(window(0, *many))
    scores.show(
        window(1, replace(many[0], value=0.7), replace(many[-1], value=0.7), CheckResult("psi", "f0", "skipped"))
    )
    values = {key[-2:]: value for key, value in seen.values.items() if key[0] == "vedette_monitor_score"}
    assert len(values) == MAX_FEATURES
    assert (values["ks", "f0"], ("psi", "f0") in values) == (0.7, False)
    assert seen.values["vedette_monitor_state", "m", "e", "A", "psi", "f0"] == -1.0
    scores.show(replace(window(2, CheckResult("ks", "f1", "violated", 9.0)), segment="sex=f"))
    assert seen.values["vedette_monitor_state", "m", "e", "A", "ks", "f1"] == 0.0
    scores.forget("m")
    assert seen.values == {}
    scores.show(window(3, many[-1]))
    assert len(seen.values) == 2


@pytest.mark.parametrize(
    ("results", "letter"),
    [
        ([quality("missing_column_check", "")], "."),
        ([quality("missing_column_check", "height", "violated")], "."),
        ([quality("missing_column_check", "height", "violated"), quality("missing_column_check", "", "violated")], "-"),
        ([quality("extra_column_check", "")], "-"),
        ([quality("data_quality", "", "skipped")], "-"),
        ([], "-"),
    ],
)
def test_a_column_that_is_back_ends_its_alert(results: list[CheckResult], letter: str) -> None:
    """Checks of the schema name only what is wrong; what they leave out is well, unless they say that there is more."""
    gone = window(0, quality("missing_column_check", "age", "violated"))
    alerts, group = transitions([], AlertGroup("g"), gone, AlertRule(), now=0.0)
    alerts, _ = transitions(alerts, group, window(1, *results), AlertRule(), now=1.0)
    assert [(alert.feature, alert.history) for alert in alerts if alert.feature == "age"] == [("age", f"x{letter}")]


def test_an_alert_of_a_check_that_is_no_longer_made_ends() -> None:
    """After as many windows as any other; other alerts wait for their checks."""
    rule = AlertRule(resolve_after=2)
    bad = [CheckResult("psi(threshold=0.3)", "age", "violated"), CheckResult("ks", "age", "violated")]
    alerts, group = transitions([], AlertGroup("g"), window(0, *bad), rule, now=0.0, labels=check_labels(PSI))
    for number in (1, 2):
        alerts, group = transitions(alerts, group, window(number), rule, now=1.0, labels=check_labels(PSI[1:]))
    assert {alert.check: alert.state for alert in alerts} == {
        "psi(threshold=0.3)": AlertState.RESOLVED, "ks": AlertState.FIRING,
    }  # fmt: skip


def test_violations_keep_the_kinds_of_sagemaker() -> None:
    """The label of a check is no constraint check type."""
    found = violations_document([CheckResult("psi(threshold=0.3)", "age", "violated", kind="psi", description="d")])
    assert found == {"violations": [{"feature_name": "age", "constraint_check_type": "psi", "description": "d"}]}


async def test_two_settings_of_a_check_and_all_kinds_live_side_by_side(rig: Rig) -> None:
    """In one window: no two results share a subject and a feature, and each has its gauge and its alert."""
    strict, loose = CheckSettings("psi", {"threshold": 0.01}), CheckSettings("psi", {"threshold": 30.0})
    await rig.begin(watching(checks=(strict, loose, CheckSettings("data_quality"))))
    await rig.traffic(0, shift=25.0)
    await rig.traffic(20)
    await rig.read()
    found = rig.results()[0]
    about = [(subject(result), result.feature) for result in found.results]
    assert len(about) == len(set(about)) > 12
    outcomes = {result.check: result.outcome for result in found.results if result.feature == "age" and result.value}
    assert outcomes["psi(threshold=0.01)"] == "violated"
    assert outcomes["psi(threshold=30.0)"] == "ok"
    shown = {key[-2:] for key in rig.metrics.values if key[0] == "vedette_monitor_state"}
    assert shown == set(about)
    with rig.store.read() as snapshot:
        alerts = snapshot.alerts.alerts(limit=99, state=AlertState.FIRING)[0]
    violated = [(subject(result), result.feature) for result in found.violations]
    assert sorted((alert.check, alert.feature) for alert in alerts) == sorted(set(violated))
    assert {check for check, _ in itertools.chain(violated)} >= {
        "psi(threshold=0.01)",
        "data_quality:baseline_drift_check",
    }
