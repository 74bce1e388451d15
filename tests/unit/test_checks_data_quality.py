"""SageMaker's six data quality checks: thresholds, overrides, both ways of comparing, the words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats
from tests.unit.checks_tables import SIGNATURE, Table, compared, people, profiled, run, texts

from vedette.entities.monitors import CheckResult, CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.checks.data_quality import DataQuality
from vedette.monitor.evidence import Evidence
from vedette.monitor.reference_data.constraints import (
    Constraints,
    FeatureConstraints,
    NumericConstraints,
    constraints_document,
    read_constraints,
    suggest,
)
from vedette.profiles import Profile

BASELINE = people(1000, seed=1)


def judged(window: Table, baseline: Table = BASELINE, **edits: Any) -> dict[tuple[str, str], CheckResult]:
    """Results by kind and feature under the suggested constraints, with members of the file edited by path.

    `city__overrides={...}` sets the overrides of a feature, `age__completeness=0.5` a member of it, any other name a
    member of monitoring_config, `distribution__...` one of its distribution_constraints.
    """
    document: dict[str, Any] = constraints_document(suggest(profiled(baseline)))
    config = document["monitoring_config"]
    for path, value in edits.items():
        first, _, rest = path.partition("__")
        if first == "distribution":
            config["distribution_constraints"][rest] = value
        elif rest:
            feature = next(feature for feature in document["features"] if feature["name"] == first)
            feature["monitoringConfigOverrides" if rest == "overrides" else rest] = value
        else:
            config[first] = value
    evidence = compared(baseline, window, constraints=read_constraints(msgspec.json.encode(document)))
    found = make_check(CheckSettings("data_quality")).evaluate(evidence)
    assert len({(result.kind, result.feature) for result in found}) == len(found)
    return {(result.kind, result.feature): result for result in found}


def violations(window: Table, **edits: Any) -> list[tuple[str, str]]:
    return [key for key, result in judged(window, **edits).items() if result.outcome == "violated"]


def test_the_data_that_constraints_came_from_meets_them() -> None:
    """And so does another sample of it: every check says ok."""
    assert violations(BASELINE) == []
    assert violations(people(800, seed=2)) == []
    kinds = {kind for kind, _ in judged(people(800, seed=2))}
    assert kinds == {
        "data_type_check", "completeness_check", "baseline_drift_check",
        "missing_column_check", "extra_column_check", "categorical_values_check",
    }  # fmt: skip


def test_other_types_than_expected() -> None:
    """The share of values of the type, in SageMaker's words; whole numbers are fractional numbers too."""
    window = people(400, seed=3)
    window["age"][:1] = 30.5
    window["income"] = np.round(window["income"])
    found = judged(window, distribution__perform_comparison="Disabled")[("data_type_check", "age")]
    assert (found.outcome, found.value, found.threshold) == ("violated", 0.9975, 1.0)
    assert found.description == (
        "Data type match requirement is not met. Expected data type: Integral, Expected match: 100.0%. "
        "Observed: Only 99.75% of data is Integral."
    )
    assert judged(window)[("data_type_check", "income")].outcome == "ok"


def test_texts_in_a_column_of_numbers() -> None:
    """Counted by what they parse to."""
    window: dict[str, Any] = dict(people(400, seed=3))
    window["age"] = texts(["17"] * 300 + ["old"] * 60 + [None] * 40)
    found = judged(window, age__completeness=0.9)[("data_type_check", "age")]
    assert found.value == pytest.approx(300 / 360)
    assert violations(window, age__completeness=0.9, datatype_check_threshold=0.8) == [("baseline_drift_check", "age")]


def test_missing_values() -> None:
    """Below the completeness of the constraint; at it is fine."""
    window = people(400, seed=3)
    window["income"][:20] = np.nan
    found = judged(window)[("completeness_check", "income")]
    assert (found.outcome, found.value, found.threshold) == ("violated", 0.95, 1.0)
    assert found.description.startswith("Value: 0.95 does not meet the constraint requirement! ")
    assert violations(window, income__completeness=0.95) == []


def test_values_outside_of_the_domain() -> None:
    """The share inside, and some of those outside, made harmless."""
    window = people(400, seed=3)
    window["city"][:4] = "Rom\n\x1b[31m"
    found = judged(window)[("categorical_values_check", "city")]
    assert (found.outcome, found.value) == ("violated", 0.99)
    assert found.description == (
        "Value: 0.99 does not meet the constraint requirement! At least 1 of the values must be in the domain. "
        r"Outside of the domain: 'Rom\n\x1b[31m'."
    )
    assert violations(window, domain_content_threshold=0.99) == []


def test_columns_that_are_missing() -> None:
    """One result a column; nothing else is said of it."""
    window = people(400, seed=3)
    del window["age"]
    found = judged(window)
    assert violations(window) == [("missing_column_check", "age")]
    assert found[("missing_column_check", "age")].description == (
        "There are missing columns in current dataset. Number of columns in current dataset: 5, "
        "Number of columns in baseline constraints: 6"
    )
    assert not [key for key in found if key[1] == "age" and key[0] != "missing_column_check"]


def test_columns_that_nobody_knows() -> None:
    """One result a column, as far as a hundred; the rest is counted."""
    window = people(400, seed=3)
    assert violations(window | {"colour": np.zeros(400)}) == [("extra_column_check", "colour")]
    found = judged(window | {f"c{n}": np.zeros(400) for n in range(150)})
    extra = [result for (kind, _), result in found.items() if kind == "extra_column_check"]
    assert len(extra) == 101
    assert extra[-1].description.endswith("50 more are extra.")


def test_predictions_are_no_extra_columns_where_the_baseline_has_none() -> None:
    """Training data holds features alone; with predictions in the baseline, others are extra."""
    features = {name: BASELINE[name] for name in SIGNATURE.feature_names}
    window = people(400, seed=3)
    found = judged(window | {"probabilities_0": np.zeros(400)}, features)
    assert [key for key, result in found.items() if result.outcome == "violated"] == []
    assert violations(window | {"probabilities_0": np.zeros(400)}) == [("extra_column_check", "probabilities_0")]
    found = judged(window | {"predictions": np.zeros(400)}, features)
    assert ("extra_column_check", "predictions") in found


def shifted(rows: int) -> Table:
    window = people(rows, seed=4)
    window["income"] = window["income"] * 1.3
    return window


def test_simple_drift_is_the_ks_distance() -> None:
    """Against SciPy, on sketches that hold every value; the text is the one that AWS's tools parse."""
    window = shifted(900)
    found = judged(window, distribution__comparison_method="Simple")[("baseline_drift_check", "income")]
    expected = stats.ks_2samp(BASELINE["income"], window["income"]).statistic
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.outcome == "violated"
    assert found.description == f"Baseline drift distance: {found.value} exceeds threshold: 0.1"


def test_robust_drift_makes_allowance_for_the_number_of_rows() -> None:
    """1.8 sqrt((n + m) / (n m)) less: the same change counts in a large window and not in a small one."""
    for rows, outcome in ((900, "violated"), (60, "ok")):
        window = shifted(rows)
        found = judged(window)[("baseline_drift_check", "income")]
        distance = stats.ks_2samp(BASELINE["income"], window["income"]).statistic
        assert found.value == pytest.approx(max(0, distance - 1.8 * np.sqrt((1000 + rows) / (1000 * rows))), abs=1e-9)
        assert found.outcome == outcome


def test_categorical_drift_is_the_largest_difference_of_a_share() -> None:
    """LInfinity with its own threshold, else the common one."""
    window = people(1000, seed=5)
    window["city"] = texts(["Bonn"] * 650 + ["Kiel"] * 200 + ["Ulm"] * 150)
    share = float(np.mean(BASELINE["city"] == "Bonn"))
    found = judged(window, distribution__comparison_method="Simple")[("baseline_drift_check", "city")]
    assert found.value == pytest.approx(0.65 - share)
    assert found.outcome == "violated"
    assert violations(window, distribution__categorical_comparison_threshold=0.3) == []


def test_categorical_drift_by_chi_squared_is_a_p_value() -> None:
    """Below the threshold is drift; SciPy's test with the baseline as truth."""
    window = people(1000, seed=5)
    window["city"] = texts(["Bonn"] * 560 + ["Kiel"] * 260 + ["Ulm"] * 180)
    counts = np.array([np.sum(BASELINE["city"] == city) for city in ("Bonn", "Kiel", "Ulm")])
    found = judged(window, distribution__categorical_drift_method="ChiSquared")[("baseline_drift_check", "city")]
    assert found.value == found.p_value == pytest.approx(stats.chisquare([560, 260, 180], counts).pvalue, rel=1e-9)
    assert (found.outcome, found.threshold) == ("violated", 0.1)
    assert "is below threshold: 0.1" in found.description
    one = {**people(1000, seed=5), "city": texts(["Bonn"] * 1000)}
    alone = judged(one, one, distribution__categorical_drift_method="ChiSquared")[("baseline_drift_check", "city")]
    assert alone.outcome == "skipped"


def test_overrides_hold_for_their_feature_alone() -> None:
    """A threshold, a method, a switch."""
    window = shifted(900)
    window["age"] = window["age"] * 2
    both = [("baseline_drift_check", "age"), ("baseline_drift_check", "income")]
    assert [key for key in violations(window) if key[0] == both[0][0] and key[1] in ("age", "income")] == both
    lenient = {"distribution_constraints": {"comparison_threshold": 0.9}}
    assert both[1] not in violations(window, income__overrides=lenient)
    off = judged(window, income__overrides={"evaluate_constraints": "Disabled"})
    assert not [key for key in off if key[1] == "income"]
    assert off[both[0]].outcome == "violated"


def test_everything_can_be_switched_off() -> None:
    """By the file as a whole, and the comparison of distributions by itself."""
    found = judged(shifted(900), evaluate_constraints="Disabled")
    assert [result.outcome for result in found.values()] == ["skipped"]
    assert violations(shifted(900), distribution__perform_comparison="Disabled") == []


def test_without_statistics_the_rest_is_checked() -> None:
    """Constraints may be written by hand, without a baseline."""
    evidence = Evidence(profiled(people(100)), constraints=suggest(profiled(BASELINE)), signature=SIGNATURE)
    found = make_check(CheckSettings("data_quality")).evaluate(evidence)
    assert {r.outcome for r in found if r.kind == "baseline_drift_check"} == {"skipped"}
    assert {r.outcome for r in found if r.kind != "baseline_drift_check"} == {"ok"}


def test_an_excluded_column_is_not_missing() -> None:
    """It is hidden on purpose and told as skipped; one that is missing beside it is a violation."""
    window = {name: column for name, column in people(400, seed=5).items() if name not in ("age", "city")}
    evidence = replace(compared(BASELINE, window), excluded=frozenset({"age", "income"}))
    found = [
        r for r in make_check(CheckSettings("data_quality")).evaluate(evidence) if r.kind == "missing_column_check"
    ]
    assert [(r.feature, r.outcome) for r in found] == [("city", "violated"), ("age", "skipped")]
    assert found[1].description == "The column is excluded from capture."
    drift = run(evidence, "drift")
    assert (drift["age"].outcome, drift["age"].description) == ("skipped", "The column is excluded from capture.")
    assert drift["city"].description == "The window has no such column."
    assert drift["income"].outcome == "ok"


@pytest.mark.parametrize(
    ("values", "suggested", "outcomes"),
    [
        ([0.0, 2.0, 1.0], True, ["ok"]),
        ([0.0, -1.5, 1.0], True, ["violated"]),
        ([-1.0, 2.0, 1.0], False, []),
        ([math.nan, math.nan, math.nan], True, []),
    ],
)
def test_values_below_zero_where_asked_for(values: list[float], suggested: bool, outcomes: list[str]) -> None:
    """Only with the parameter, and where the constraints say so."""
    profile = Profile()
    profile.fold({"age": np.array(values)})
    feature = FeatureConstraints("age", "Fractional", num_constraints=NumericConstraints(suggested))
    evidence = Evidence(profile, constraints=Constraints(features=(feature,)))
    found = [each for each in DataQuality(non_negative=True).evaluate(evidence) if each.kind == "non_negative_check"]
    assert [each.outcome for each in found] == outcomes
    assert all((each.feature, each.value, each.threshold) == ("age", min(values), 0.0) for each in found)
    assert not [each for each in DataQuality().evaluate(evidence) if each.kind == "non_negative_check"]
