"""Bias metrics by hand and by property, Clarify's documents, and the bias drift check."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.checks.bias import Bias
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality import bias_documents as documents
from vedette.monitor.quality import bias_metrics as formulas
from vedette.monitor.quality.bias import BY_NAME, POST_TRAINING, PRE_TRAINING
from vedette.monitor.quality.facets import Facet, expanded, parse_facets
from vedette.monitor.quality.outcomes import NotComparable, Outcomes
from vedette.profiles import Profile

UNKNOWN = Signature(inputs=(), outputs=())

# Outside the facet: TP 30, FP 10, FN 5, TN 55. In it: TP 8, FP 2, FN 12, TN 18.
A = {"TP": 30, "FP": 10, "FN": 5, "TN": 55}
D = {"TP": 8, "FP": 2, "FN": 12, "TN": 18}


def counts(a=A, d=D):
    sides = [[[side["TN"], side["FP"]], [side["FN"], side["TP"]]] for side in (a, d)]
    return np.array([sides], float)


HAND = {
    "AD": 85 / 100 - 26 / 40,
    "CDDPL": (30 / 90 - 10 / 50),
    "DAR": 30 / 40 - 8 / 10,
    "DCA": 35 / 40 - 20 / 10,
    "DCR": 20 / 30 - 65 / 60,
    "DI": (10 / 40) / (40 / 100),
    "DPPL": 40 / 100 - 10 / 40,
    "DRR": 18 / 30 - 55 / 60,
    "GE": None,
    "RD": 30 / 35 - 8 / 20,
    "SD": 18 / 20 - 55 / 65,
    "TE": 12 / 2 - 5 / 10,
    "CDDL": 20 / 85 - 20 / 55,
    "CI": (100 - 40) / 140,
    "DPL": 35 / 100 - 20 / 40,
    "KL": 0.65 * math.log(0.65 / 0.5) + 0.35 * math.log(0.35 / 0.5),
    "JS": 0.5
    * (
        0.65 * math.log(0.65 / 0.575)
        + 0.35 * math.log(0.35 / 0.425)
        + 0.5 * math.log(0.5 / 0.575)
        + 0.5 * math.log(0.5 / 0.425)
    ),
    "KS": 0.15,
    "LP": math.sqrt(2 * 0.15**2),
    "TVD": 0.15,
}


@pytest.mark.parametrize("name", HAND)
def test_each_metric_is_what_a_hand_computes(name) -> None:
    """From eight counts, by the formulas of Clarify."""
    wanted = HAND[name]
    if name == "GE":
        benefits = np.array([1.0] * (30 + 55 + 8 + 18) + [2.0] * 12 + [0.0] * 17)
        wanted = 0.5 * np.mean((benefits / benefits.mean()) ** 2 - 1)
    assert BY_NAME[name].formula(counts()) == pytest.approx(wanted, abs=1e-12)


def test_every_metric_has_a_hand_computed_value() -> None:
    """None is left out: 13 after training with the flip test, 8 before."""
    assert {*HAND, "FT"} == {*POST_TRAINING, *PRE_TRAINING}
    assert (len(POST_TRAINING), len(PRE_TRAINING)) == (13, 8)


cells = st.fixed_dictionaries({name: st.integers(0, 40) for name in ("TP", "FP", "FN", "TN")})
SIGNED = ("AD", "DAR", "DCA", "DCR", "DPPL", "DRR", "RD", "SD", "TE", "DPL", "CI")


@given(cells, cells)
def test_differences_change_sign_when_the_sides_are_exchanged(a, d) -> None:
    """Also where a side divides by nothing."""
    for name in SIGNED:
        formula = BY_NAME[name].formula
        assert formula(counts(a, d)) == pytest.approx(-formula(counts(d, a)), abs=1e-12)
    for name in ("JS", "KS", "LP", "TVD", "GE"):
        formula = BY_NAME[name].formula
        assert formula(counts(a, d)) == pytest.approx(formula(counts(d, a)), abs=1e-12)


@given(cells)
def test_equal_treatment_is_zero(side) -> None:
    """Every difference is 0 and the ratio 1 when both sides are the same; nothing is NaN."""
    same = counts(side, side)
    for name in (*SIGNED, "KL", "JS", "KS", "LP", "TVD"):
        assert BY_NAME[name].formula(same) == pytest.approx(0.0, abs=1e-12)
    assert BY_NAME["DI"].formula(same) == (1.0 if side["TP"] + side["FP"] else 0.0)


@given(cells, cells)
def test_no_metric_is_ever_nan(a, d) -> None:
    """0/0 is 0 and x/0 infinite."""
    for metric in BY_NAME.values():
        assert not math.isnan(metric.formula(counts(a, d)))


def test_division_by_nothing() -> None:
    """Clarify's conventions."""
    assert formulas.divide(0, 0) == 0
    assert formulas.divide(1, 0) == math.inf
    assert formulas.divide(-1, 0) == -math.inf


def test_conditional_disparity_sees_through_groups() -> None:
    """Simpson's paradox: each group treats the facet alike, all of them together do not."""
    # group 0 accepts 80 % and has few of the facet, group 1 accepts 20 % and has most of it
    groups = np.array([[[[18, 72], [0, 0]], [[2, 8], [0, 0]]], [[[8, 2], [0, 0]], [[72, 18], [0, 0]]]], float)
    assert BY_NAME["CDDPL"].formula(groups) == pytest.approx(0.0)
    assert abs(BY_NAME["CDDPL"].formula(groups.sum(axis=0, keepdims=True))) > 0.3


def test_counting_is_by_group_facet_label_and_prediction() -> None:
    """Row by row."""
    flags = [np.array(bits, bool) for bits in ([0, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1])]
    found = formulas.count(*flags, np.array([0, 1, 1, 1]))
    assert found.shape == (2, 2, 2, 2)
    assert found[0, 0, 1, 0] == 1
    assert found[1, 1, 1, 1] == 1
    assert found[1, 1, 0, 1] == 2
    assert found.sum() == 4


@pytest.mark.parametrize("rows", [9, 10, 300])
def test_the_flip_test_is_that_of_nearest_neighbours(rows) -> None:
    """Against scikit-learn's classifier on the same scaled features; one neighbour for nine rows."""
    r = np.random.default_rng(rows)
    features = r.normal(size=(rows, 3))
    facet, predicted = r.random(rows) < 0.4, features[:, 0] + r.normal(size=rows) * 0.3 > 0
    facet[:2] = True, False
    wanted = min(5 if rows > 9 else 1, int((~facet).sum()))
    scaled = features / features.std(axis=0)
    votes = KNeighborsClassifier(wanted).fit(scaled[~facet], predicted[~facet]).predict(scaled[facet])
    found = formulas.flips(features, facet, predicted)
    assert found.tolist() == (votes.astype(int) - predicted[facet]).tolist()
    assert formulas.flip_test(found) == pytest.approx(found.mean())


def test_the_flip_test_of_one_side_is_zero() -> None:
    """Nobody to compare with."""
    for facet in (np.ones(5, bool), np.zeros(5, bool)):
        assert formulas.flip_test(formulas.flips(np.zeros((5, 2)), facet, np.ones(5, bool))) == 0.0


def test_a_flip_against_the_facet_is_positive() -> None:
    """Rejected where its neighbours are accepted."""
    features = np.array([[0.0], [0.1], [0.2], [0.3]])
    facet = np.array([True, False, False, False])
    assert formulas.flip_test(formulas.flips(features, facet, np.array([False, True, True, True]))) == 1.0
    assert formulas.flip_test(formulas.flips(features, facet, np.array([True, False, False, False]))) == -1.0


def texts(values):
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def test_facets_are_values_thresholds_or_all_values() -> None:
    """The threshold is exclusive; missing values are on neither side."""
    age, sex = np.array([44.0, 45.0, 46.0, np.nan]), texts(["F", "M", None, "F"])
    outcomes = Outcomes({"Age": age, "Sex": sex}, np.zeros(4))
    above, female, everyone = parse_facets(["Age>45", "Sex=F", "Sex"])
    inside, known = above.flags(outcomes)
    assert (inside & known).tolist() == [False, False, True, False]
    assert known.tolist() == [True, True, True, False]
    inside, known = female.flags(outcomes)
    assert (inside.tolist(), known.tolist()) == ([True, False, False, True], [True, True, False, True])
    assert expanded([everyone], outcomes) == (Facet("Sex", "F"), Facet("Sex", "M"))
    assert (above.shown(age), female.shown(sex)) == ("(45.0, 46.0]", "F")
    assert above.matches("(45.0, 99.5]")
    assert not above.matches("(44, 99.5]")
    assert not above.matches("(x, 1]")
    assert female.matches("F")
    assert Facet("Sex", "1").matches("1.0")


@pytest.mark.parametrize("facet", ["", "=F", "Age>old", "Age>nan", "Age>"])
def test_malformed_facets_are_refused_when_a_monitor_is_made(facet) -> None:
    """Not when its first window ends."""
    with pytest.raises(InvalidArgument):
        make_check(CheckSettings("bias", {"facets": (facet,)}))


def test_facets_that_the_rows_do_not_have_are_named() -> None:
    """No column, a continuous one, too many values, texts beside a threshold."""
    r = np.random.default_rng(0)
    outcomes = Outcomes({"x": r.normal(size=100), "name": texts([f"n{i}" for i in range(100)])}, np.zeros(100))
    for specification, reason in (("y", "no column"), ("x", "continuous"), ("name", "100 values")):
        with pytest.raises(NotComparable, match=reason):
            expanded(parse_facets([specification]), outcomes)
    with pytest.raises(NotComparable, match="texts"):
        Facet("name", threshold=1.0).flags(outcomes)
    with pytest.raises(NotComparable, match="no column"):
        Facet("y", "1").flags(outcomes)


def population(rows, *, seed=0, penalty=0.0, labelled=1.0) -> Outcomes:
    """People whose label does not depend on their sex; the model refuses women more often by `penalty`."""
    r = np.random.default_rng(seed)
    women = r.random(rows) < 0.45
    skill = r.normal(size=rows)
    y = (skill + r.normal(size=rows) * 0.5 > 0).astype(float)
    p = (skill - penalty * women + r.normal(size=rows) * 0.3 > 0).astype(float)
    known = r.random(rows) < labelled
    columns = {
        "skill": skill,
        "age": r.integers(18, 80, rows).astype(float),
        "sex": texts(["F" if woman else "M" for woman in women]),
        "prediction": p,
    }
    return Outcomes(columns, np.where(known, y, np.nan))


BINARY = {"problem_type": "BinaryClassification"}


def evidence(window, reference=None, **parts) -> Evidence:
    return Evidence(window=Profile(), outcomes=window, reference_outcomes=reference, **parts)


def test_a_penalty_on_one_group_is_found_and_none_is_not() -> None:
    """In the metrics that it moves, for the group it hits."""
    check = Bias(facets=("sex=F",), **BINARY)
    calm = check.evaluate(evidence(population(3000, seed=1), population(2000, seed=2)))
    assert [one.feature for one in calm] == [f"sex=F:{name}" for name in POST_TRAINING]
    assert {one.outcome for one in calm} <= {"ok"}
    shaken = check.evaluate(evidence(population(3000, seed=1, penalty=0.8), population(2000, seed=2)))
    violated = {one.feature.removeprefix("sex=F:") for one in shaken if one.outcome == "violated"}
    assert {"DPPL", "RD", "FT", "DCA"} <= violated
    assert {one.kind for one in shaken} == {"bias_drift_check"}


def test_unchanged_windows_stay_quiet() -> None:
    """13 metrics of two facets in 60 windows of 400 rows: at most three windows raise anything."""
    check = Bias(facets=("sex",), **BINARY)
    reference = population(2000, seed=500)
    alarms = [
        any(one.outcome == "violated" for one in check.evaluate(evidence(population(400, seed=seed), reference)))
        for seed in range(60)
    ]
    assert sum(alarms) <= 3


def test_the_plain_rule_is_absolute_value_against_absolute_value() -> None:
    """standard_errors = 0: |live| > |baseline|, with SageMaker's text."""
    window, reference = population(400, seed=3, penalty=0.1), population(2000, seed=4)
    results = Bias(facets=("sex=F",), standard_errors=0.0, **BINARY).evaluate(evidence(window, reference))
    for one in results:
        assert (one.outcome == "violated") == (abs(one.value) > abs(one.threshold))
        if one.outcome == "violated":
            wanted = (
                f"Metric value {one.value:.6g} doesn't meet the baseline constraint requirement {one.threshold:.6g}"
            )
            assert one.description.startswith(wanted)
    assert {one.outcome for one in results} == {"ok", "violated"}


def test_without_labels_only_predictions_are_compared() -> None:
    """DPPL, DI, CDDPL and FT; the others say that they wait."""
    window, reference = population(2000, seed=1, penalty=0.8, labelled=0.0), population(2000, seed=2)
    results = {
        one.feature.rpartition(":")[2]: one.outcome
        for one in Bias(facets=("sex=F",), **BINARY).evaluate(evidence(window, reference))
    }
    compared = {name for name, outcome in results.items() if outcome != "skipped"}
    assert compared == {"DPPL", "DI", "CDDPL", "FT"}
    assert results["DPPL"] == "violated"


def test_the_baseline_may_be_clarifys_analysis() -> None:
    """Written by us in its schema and read back; a facet by threshold is found by where it begins."""
    metrics = dict.fromkeys((*POST_TRAINING, *PRE_TRAINING), 0.05) | {"TE": -math.inf, "GE": math.nan}
    document = documents.analysis_document(
        "prediction",
        "1",
        [documents.FacetBias("sex", "F", metrics), documents.FacetBias("age", "(40.0, 79.0]", metrics)],
    )
    data = json.dumps(document, allow_nan=False).encode()
    assert document["version"] == "1.0"
    section = document["post_training_bias_metrics"]
    assert (section["label"], section["label_value_or_threshold"]) == ("prediction", "1")
    assert set(section["facets"]) == {"sex", "age"}
    first = section["facets"]["sex"][0]
    assert first["value_or_threshold"] == "F"
    assert first["metrics"][0] == {"name": "AD", "description": "Accuracy Difference (AD)", "value": 0.05}
    assert {one["name"] for one in first["metrics"]} == set(POST_TRAINING) - {"GE"}
    assert set(document) == {"version", "post_training_bias_metrics", "pre_training_bias_metrics"}
    read = documents.read_analysis(data)
    assert documents.constraint(read, Facet("sex", "F"), "TE") == -math.inf
    assert documents.constraint(read, Facet("sex", "M"), "AD") is None
    window = population(2000, seed=1, penalty=0.8)
    check = Bias(facets=("sex=F", "age>40"), **BINARY)
    results = {one.feature: one for one in check.evaluate(evidence(window, documents={"analysis.json": data}))}
    assert results["sex=F:DPPL"].outcome == "violated"
    assert results["age>40:DPPL"].outcome == "ok"
    assert results["sex=F:GE"].outcome == "skipped"
    violations = documents.violations_document(results.values())
    assert violations["version"] == "1.0"
    entry = next(one for one in violations["violations"] if one["metric_name"] == "DPPL")
    assert (entry["facet"], entry["facet_value"]) == ("sex", "F")
    assert entry["constraint_check_type"] == "bias_drift_check"
    assert entry["description"] == results["sex=F:DPPL"].description


@pytest.mark.parametrize(
    "document",
    [
        b"x",
        b"[]",
        b'{"post_training_bias_metrics": []}',
        b'{"post_training_bias_metrics": {"facets": 1}}',
        b'{"post_training_bias_metrics": {"facets": {"sex": {}}}}',
        b'{"post_training_bias_metrics": {"facets": {"sex": [1]}}}',
        b'{"post_training_bias_metrics": {"facets": {"sex": [{"metrics": 1}]}}}',
        b'{"post_training_bias_metrics": {"facets": {"sex": [{"metrics": [1]}]}}}',
    ],
)
def test_a_broken_analysis_skips_the_check(document) -> None:
    """With the document's name in the reason."""
    (result,) = Bias(facets=("sex=F",), **BINARY).evaluate(
        evidence(population(200), documents={"analysis.json": document})
    )
    assert result.outcome == "skipped"
    assert "analysis.json" in result.description


def test_favourable_may_be_several_classes_or_a_threshold() -> None:
    """As Clarify's label_values_or_threshold."""
    r = np.random.default_rng(1)
    grades, sex = r.integers(0, 3, 900), r.integers(0, 2, 900).astype(float)
    names = np.array(["bad", "good", "best"], dtype=object)
    graded = Outcomes({"prediction": names[np.minimum(grades + sex.astype(int), 2)], "sex": sex}, names[grades])
    fair = Outcomes({"prediction": names[grades], "sex": sex}, names[grades])
    check = Bias(facets=("sex=1",), label_values_or_threshold=("good", "best"), metrics=("DPPL", "DPL"))
    results = {one.feature: one for one in check.evaluate(evidence(graded, fair))}
    assert results["sex=1:DPPL"].value == pytest.approx((grades[sex == 0] > 0).mean() - 1)
    assert results["sex=1:DPPL"].outcome == "violated"
    assert results["sex=1:DPL"].outcome == "ok"
    income = Outcomes({"prediction": 50 - 20 * sex + r.normal(size=900), "sex": sex}, np.full(900, np.nan))
    equal = Outcomes({"prediction": 50 + 10 * r.normal(size=900), "sex": sex}, np.full(900, np.nan))
    check = Bias(facets=("sex=1",), label_values_or_threshold=("40",), metrics=("DPPL",), problem_type="Regression")
    (result,) = check.evaluate(evidence(income, equal))
    assert (result.outcome, result.value) == ("violated", pytest.approx(1.0))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "No facet"),
        ({"facets": ("sex=F",), "problem_type": "MulticlassClassification"}, "which classes are favourable"),
        ({"facets": ("sex=F",), "label_values_or_threshold": ("7",), **BINARY}, "none of the classes"),
        ({"facets": ("sex=F",), "problem_type": "Regression"}, "one number"),
        ({"facets": ("city",), **BINARY}, "no column 'city'"),
        ({"facets": ("sex=F",), "group_variable": "city", **BINARY}, "no column 'city'"),
        ({"facets": ("sex=F",), "group_variable": "skill", **BINARY}, "group_variable 'skill' has"),
        ({"facets": ("sex=X",), **BINARY}, "0 rows in the facet"),
    ],
)
def test_what_cannot_be_compared_is_skipped_with_the_reason(parameters, reason) -> None:
    """Never an exception, never an alarm."""
    results = Bias(**parameters).evaluate(evidence(population(300, seed=1), population(300, seed=2)))
    assert {one.outcome for one in results} == {"skipped"}
    assert reason in results[0].description


def test_unknown_metrics_are_refused() -> None:
    """With the names that there are."""
    with pytest.raises(InvalidArgument, match="DPPL"):
        Bias(metrics=("DPLL",))
