"""Model quality: SageMaker's documents, and the check against constraints or the baseline's own rows."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.checks.model_quality import ModelQuality
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality import quality_documents as documents
from vedette.monitor.quality.outcomes import Outcomes, Roles
from vedette.monitor.quality.performance import reading_of
from vedette.profiles import Profile

UNKNOWN = Signature(inputs=(), outputs=())


def binary(rows, *, skill=0.85, seed=0, prevalence=0.5) -> Outcomes:
    """A classifier that is right with the chance `skill`."""
    r = np.random.default_rng(seed)
    y = (r.random(rows) < prevalence).astype(float)
    p = np.where(r.random(rows) < skill, y, 1 - y)
    chance = np.clip(0.5 + (p - 0.5) * r.random(rows), 0, 1)
    return Outcomes({"prediction": p, "probability_0": 1 - chance, "probability_1": chance}, y)


def regression(rows, *, noise=1.0, seed=0) -> Outcomes:
    r = np.random.default_rng(seed)
    y = r.normal(size=rows) * 3
    return Outcomes({"prediction": y + noise * r.normal(size=rows)}, y)


def multiclass(rows, *, skill=0.8, seed=0) -> Outcomes:
    r = np.random.default_rng(seed)
    names = np.array(["cat", "dog", "emu"], dtype=object)
    y = r.integers(0, 3, rows)
    p = np.where(r.random(rows) < skill, y, r.integers(0, 3, rows))
    return Outcomes({"prediction": names[p]}, names[y])


MAKERS = {
    "binary_classification": (binary, "BinaryClassification", {"skill": 0.6}),
    "regression": (regression, "Regression", {"noise": 2.0}),
    "multiclass_classification": (multiclass, "MulticlassClassification", {"skill": 0.5}),
}


PLAIN = Roles()


def performance(outcomes, roles=PLAIN):
    return reading_of(roles, UNKNOWN, outcomes).performance(outcomes)


def evidence(window, reference=None, **parts) -> Evidence:
    return Evidence(window=Profile(), outcomes=window, reference_outcomes=reference, **parts)


@pytest.mark.parametrize("kind", MAKERS)
def test_statistics_are_in_sagemakers_schema(kind) -> None:
    """Keys, item count, and for each metric value and deviation; JSON throughout."""
    make, problem, _ = MAKERS[kind]
    found = documents.statistics_document(performance(make(400)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["version"] == 0.0
    assert found["dataset"] == {"item_count": 400}
    metrics = found[f"{kind}_metrics"]
    figures = {name: one for name, one in metrics.items() if set(one) == {"value", "standard_deviation"}}
    constant = {name for name in figures if name.endswith("best_constant_classifier")}
    assert len(constant) == (0 if problem == "Regression" else 6)
    assert all(isinstance(one["value"], float) for one in figures.values())
    measured = {name for name, one in figures.items() if one["standard_deviation"] != "NaN"}
    assert measured == set(figures) - constant
    curves = set(metrics) - set(figures)
    assert (
        curves
        == {
            "regression": set(),
            "multiclass_classification": {"confusion_matrix"},
            "binary_classification": {
                "confusion_matrix",
                "receiver_operating_characteristic_curve",
                "precision_recall_curve",
            },
        }[kind]
    )


def test_the_confusion_matrix_is_by_true_then_predicted_class() -> None:
    """Counted by hand."""
    outcomes = Outcomes({"prediction": np.array([0.0, 1, 1, 1, np.nan])}, np.array([0.0, 0, 0, 1, 1]))
    found = documents.statistics_document(performance(outcomes, Roles(problem_type="BinaryClassification")))
    assert found["dataset"]["item_count"] == 4
    matrix = found["binary_classification_metrics"]["confusion_matrix"]
    assert matrix == {"0": {"0": 1, "1": 2}, "1": {"0": 0, "1": 1}}


@pytest.mark.parametrize(("rows", "told"), [(199, False), (200, True)])
def test_deviations_begin_at_200_rows(rows, told) -> None:
    """Below it stands the text NaN."""
    found = documents.statistics_document(performance(regression(rows)))
    deviation = found["regression_metrics"]["mae"]["standard_deviation"]
    assert isinstance(deviation, float) if told else deviation == "NaN"


def test_a_deviation_is_that_of_subsamples() -> None:
    """Of 80 % of the rows: about half the standard error of the mean."""
    outcomes = regression(2000)
    error = np.abs(outcomes.columns["prediction"] - outcomes.labels)
    draws = [performance(outcomes).deviations(seed)["mae"] for seed in range(60)]
    wanted = error.std() / math.sqrt(2000) * math.sqrt(0.2 / 0.8)
    assert np.sqrt(np.mean(np.square(draws))) == pytest.approx(wanted * math.sqrt(4 / 5), rel=0.15)


@pytest.mark.parametrize("rows", [1000, 20_000])
def test_standard_errors_are_those_of_the_mean(rows) -> None:
    """The bootstrap of a mean against its formula, also where it is scaled from 5,000 rows."""
    outcomes = regression(rows)
    error = np.abs(outcomes.columns["prediction"] - outcomes.labels)
    found = performance(outcomes).standard_errors()["mae"]
    assert found == pytest.approx(error.std() / math.sqrt(rows), rel=0.25)


@pytest.mark.parametrize("kind", MAKERS)
def test_suggested_constraints_are_the_measured_values(kind) -> None:
    """The document is read back as it was written."""
    make, problem, _ = MAKERS[kind]
    measured = performance(make(400))
    document = documents.constraints_document(problem, documents.suggest(measured))
    assert set(document) == {"version", f"{kind}_constraints"}
    read = documents.read_constraints(json.dumps(document).encode(), problem)
    assert {name: one.threshold for name, one in read.items()} == measured.metrics()
    worse_when_more = {name for name, one in read.items() if one.comparison_operator == "GreaterThanThreshold"}
    assert (
        worse_when_more
        == {
            "regression": {"mae", "mse", "rmse"},
            "binary_classification": {"false_positive_rate", "false_negative_rate"},
            "multiclass_classification": set(),
        }[kind]
    )


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b"[" * 100_000,
        b'{"regression_constraints": 1}',
        b'{"regression_constraints": {"mae": 1}}',
        b'{"regression_constraints": {"mae": {"threshold": true, "comparison_operator": "LessThanThreshold"}}}',
        b'{"regression_constraints": {"mae": {"threshold": NaN, "comparison_operator": "LessThanThreshold"}}}',
        b'{"regression_constraints": {"mae": {"threshold": 1, "comparison_operator": "Less"}}}',
        b" " * (5 << 20),
    ],
)
def test_broken_constraints_are_refused_and_skip_the_check(document) -> None:
    """The place is named; the check says so instead of failing."""
    with pytest.raises(InvalidArgument, match=r"model_quality_constraints\.json"):
        documents.read_constraints(document, "Regression")
    files = {documents.CONSTRAINTS_DOCUMENT: document}
    (result,) = ModelQuality().evaluate(evidence(regression(200), documents=files))
    assert result.outcome == "skipped"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_worse_model_violates_and_the_same_one_does_not(kind) -> None:
    """Against the baseline's own rows, each metric that suffers."""
    make, _, worse = MAKERS[kind]
    calm = ModelQuality().evaluate(evidence(make(1500, seed=1), make(2000, seed=2)))
    assert {one.outcome for one in calm} == {"ok"}
    shaken = ModelQuality().evaluate(evidence(make(1500, seed=1, **worse), make(2000, seed=2)))
    assert len(shaken) == len(calm)
    assert sum(one.outcome == "violated" for one in shaken) >= len(shaken) - 2
    assert all(math.isfinite(one.value) and math.isfinite(one.threshold) for one in shaken)


@pytest.mark.parametrize("kind", MAKERS)
def test_unchanged_windows_stay_quiet(kind) -> None:
    """Of 60 windows of 300 rows of the same model at most one is called worse."""
    make, _, _ = MAKERS[kind]
    reference = make(2000, seed=1000)
    found = [ModelQuality().evaluate(evidence(make(300, seed=seed), reference)) for seed in range(60)]
    assert sum(any(one.outcome == "violated" for one in results) for results in found) <= 1


def test_few_positives_are_no_evidence() -> None:
    """A single positive that is missed gives recall 0 with no spread; the baseline's own spread knows better."""
    reference = binary(2000, prevalence=0.02, seed=1)
    window = binary(100, prevalence=0.0, seed=2)
    labels = window.labels.copy()
    labels[0] = 1.0
    columns = {**window.columns, "prediction": np.zeros(100)}
    results = {one.feature: one for one in ModelQuality().evaluate(evidence(Outcomes(columns, labels), reference))}
    assert results["recall"].value == 0.0
    assert results["recall"].outcome == "ok"


def test_zero_standard_errors_is_sagemakers_rule() -> None:
    """Any value on the wrong side is a violation, with its texts and document."""
    document = json.dumps(
        {
            "version": 0.0,
            "regression_constraints": {"mae": {"threshold": 0.79, "comparison_operator": "GreaterThanThreshold"}},
        }
    ).encode()
    window = regression(400)
    mae = performance(window).metrics()["mae"]
    assert 0.79 < mae < 0.85
    files = {documents.CONSTRAINTS_DOCUMENT: document}
    plain, guarded = (
        ModelQuality(standard_errors=errors).evaluate(evidence(window, documents=files)) for errors in (0.0, 3.0)
    )
    assert [(one.feature, one.outcome, one.kind) for one in plain] == [("mae", "violated", "GreaterThanThreshold")]
    assert guarded[0].outcome == "ok"
    assert "chance" in guarded[0].description
    assert documents.violations_document(plain) == {
        "violations": [
            {
                "constraint_check_type": "GreaterThanThreshold",
                "description": f"Metric mae with {mae:.6g} on 400 labelled rows was GreaterThanThreshold 0.79",
                "metric_name": "mae",
            }
        ]
    }
    assert documents.violations_document(guarded) == {"violations": []}


def test_a_threshold_measured_on_rows_has_their_error() -> None:
    """Statistics beside the constraints say on how many; without them the threshold is somebody's choice."""
    constraint = {"threshold": 0.72, "comparison_operator": "GreaterThanThreshold"}
    files = {documents.CONSTRAINTS_DOCUMENT: json.dumps({"regression_constraints": {"mae": constraint}}).encode()}
    chosen = ModelQuality().evaluate(evidence(regression(3000), documents=files))
    files[documents.STATISTICS_DOCUMENT] = json.dumps({"dataset": {"item_count": 60}}).encode()
    measured = ModelQuality().evaluate(evidence(regression(3000), documents=files))
    assert (chosen[0].outcome, measured[0].outcome) == ("violated", "ok")


@pytest.mark.parametrize(
    ("window", "reference", "reason"),
    [
        (None, regression(100), "0 labels"),
        (regression(10), regression(100), "10 labels"),
        (regression(100), None, "no reference data"),
        (regression(100), regression(10), "too few labelled"),
        (Outcomes({"x": np.zeros(100)}, np.zeros(100)), regression(100), "no column 'prediction'"),
        (Outcomes({"prediction": np.full(100, np.nan)}, np.zeros(100)), regression(100), "0 rows have"),
    ],
)
def test_what_is_missing_is_skipped_with_the_reason(window, reference, reason) -> None:
    """Never an alarm, never an exception."""
    (result,) = ModelQuality().evaluate(evidence(window, reference))
    assert result.outcome == "skipped"
    assert reason in result.description


def test_a_metric_that_does_not_exist_is_skipped_alone() -> None:
    """A window of one class has no AUC; the others are judged."""
    window = binary(200, prevalence=1.0)
    results = {one.feature: one.outcome for one in ModelQuality().evaluate(evidence(window, binary(500)))}
    assert results["auc"] == "skipped"
    assert results["accuracy"] == "ok"


def test_a_metric_that_hangs_on_one_row_is_skipped() -> None:
    """A third of the resamples of a window with one negative have no AUC: its error is not to be had."""
    window = binary(200, prevalence=1.0)
    labels = window.labels.copy()
    labels[0] = 0.0
    results = {
        one.feature: one.outcome
        for one in ModelQuality().evaluate(evidence(Outcomes(window.columns, labels), binary(500)))
    }
    assert results["auc"] == "skipped"
    assert results["recall"] == "ok"


def test_reference_rows_come_from_the_baselines_sample() -> None:
    """With the model's target as label; predictions that are not there are made by the model."""
    reference, window = regression(800, seed=1), regression(400, seed=2)
    signature = Signature(inputs=(), outputs=(), target="price")
    baseline = Profile()
    baseline.fold({"x": reference.columns["prediction"] / 2, "price": reference.labels})
    given = Evidence(window=Profile(), baseline=baseline, outcomes=window, signature=signature)
    (result,) = ModelQuality().evaluate(given)
    assert "add the model's predictions" in result.description
    asked = Evidence(
        window=Profile(),
        baseline=baseline,
        outcomes=window,
        signature=signature,
        predict=lambda columns: {"prediction": columns["x"] * 2},
    )
    results = ModelQuality().evaluate(asked)
    assert [one.outcome for one in results] == ["ok"] * 4


def test_the_check_is_found_by_name_with_sagemakers_parameters() -> None:
    """As a monitor's settings say it."""
    check = make_check(CheckSettings("model_quality", {"problem_type": "Regression", "inference_attribute": "y"}))
    assert check == ModelQuality(problem_type="Regression", inference_attribute="y")
    with pytest.raises(InvalidArgument):
        make_check(CheckSettings("model_quality", {"problem_type": "Clustering"}))
