"""Performance without labels, on data whose truth is known: CBPE for classifiers, DLE for regressions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from vedette.core.models import Signature
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.checks.cbpe import Cbpe
from vedette.monitor.checks.dle import Dle
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.calibration import calibrated, calibration_error, isotonic
from vedette.monitor.quality.expected_performance import calibrations_of, chances, expected_metrics
from vedette.monitor.quality.outcomes import Outcomes, Roles
from vedette.monitor.quality.performance import reading_of
from vedette.profiles import Profile

UNKNOWN = Signature(inputs=(), outputs=())
NAMED = Signature(inputs=(), outputs=(), label_names=("a", "b", "c"))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def classifier(rows, *, seed=0, centre=1.5, labelled=True, sharpness=1.0, concept=1.0) -> Outcomes:
    """A feature x around +-centre; the chance of class 1 is sigmoid(2x). Near 0 the model cannot know.

    `sharpness` other than 1 makes a model that is over- or underconfident, `concept` another truth.
    """
    r = np.random.default_rng(seed)
    x = r.choice([-1, 1], rows) * centre + r.normal(size=rows)
    y = (r.random(rows) < sigmoid(2 * concept * x)).astype(float)
    p = sigmoid(2 * sharpness * x)
    columns = {"x": x, "prediction": (p > 0.5).astype(float), "probability_0": 1 - p, "probability_1": p}
    return Outcomes(columns, y if labelled else np.full(rows, np.nan))


def many_classes(rows, *, seed=0, spread=2.0, labelled=True) -> Outcomes:
    r = np.random.default_rng(seed)
    logits = r.normal(size=(rows, 3)) * spread
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (r.random(rows)[:, None] > p.cumsum(axis=1)).sum(axis=1).astype(float)
    columns = {f"probability_{name}": p[:, i] for i, name in enumerate("abc")}
    return Outcomes({**columns, "prediction": p.argmax(axis=1).astype(float)}, y if labelled else np.full(rows, np.nan))


def regression(rows, *, seed=0, centre=0.0, labelled=True, noise=1.0) -> Outcomes:
    """Errors grow with x: their standard deviation is 0.3 + x^2 / 4 for x in -3..3."""
    r = np.random.default_rng(seed)
    x = np.clip(r.normal(size=rows) + centre, -3, 3)
    kind = np.array(["even", "odd"], dtype=object)[r.integers(0, 2, rows)]
    prediction = 2 * x
    y = prediction + noise * r.normal(size=rows) * (0.3 + x**2 / 4)
    return Outcomes({"x": x, "kind": kind, "prediction": prediction}, y if labelled else np.full(rows, np.nan))


def evidence(window, reference=None, signature=UNKNOWN) -> Evidence:
    return Evidence(window=Profile(), outcomes=window, reference_outcomes=reference, signature=signature)


@pytest.mark.parametrize("ties", [1, 10, 1_000_000])
def test_isotonic_regression_is_scikit_learns(ties) -> None:
    """The same curve, between and beyond the scores too."""
    r = np.random.default_rng(ties)
    scores = np.round(r.random(500) * ties) / ties
    labels = (r.random(500) < scores**2).astype(float)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    ours, grid = isotonic(scores, labels), np.linspace(-0.2, 1.2, 400)
    np.testing.assert_allclose(ours(grid), theirs.predict(grid), atol=1e-12)


def test_calibration_is_used_only_where_it_helps() -> None:
    """True scores stay as they are; overconfident ones are corrected."""
    r = np.random.default_rng(1)
    truth = r.random(3000)
    labels = (r.random(3000) < truth).astype(float)
    assert calibrated(truth, labels) is None
    overconfident = sigmoid(4 * np.log(truth / (1 - truth)))
    curve = calibrated(overconfident, labels)
    assert curve is not None
    assert calibration_error(curve(overconfident), labels) < 0.2 * calibration_error(overconfident, labels)


@pytest.mark.parametrize("labels", [np.zeros(100), np.ones(100), np.array([0.0, 1.0])])
def test_nothing_is_learned_from_one_class_or_few_rows(labels) -> None:
    """The scores are then all there is."""
    assert calibrated(np.linspace(0, 1, labels.size), labels) is None


TOLERANCE = 0.02
"""Of each metric, on 20,000 rows."""


@pytest.mark.parametrize("sharpness", [1.0, 3.0, 0.4])
@pytest.mark.parametrize("centre", [1.5, 0.2, 3.0])
def test_estimates_follow_a_covariate_shift_within_two_points(centre, sharpness) -> None:
    """Towards hard rows and towards easy ones, also of a model whose confidence is wrong."""
    window = classifier(20_000, seed=1, centre=centre, sharpness=sharpness)
    reference = classifier(4000, seed=2, sharpness=sharpness)
    reading = reading_of(Roles(), UNKNOWN, reference, window)
    estimated = expected_metrics(
        reading.classified(Outcomes(window.columns, np.full(20_000, np.nan))),
        calibrations_of(reading.classified(reference)),
    )
    realized = reading.performance(window).metrics()
    for metric in ("accuracy", "auc", "f1", "precision", "recall", "f2", "false_positive_rate"):
        assert estimated[metric] == pytest.approx(realized[metric], abs=TOLERANCE), metric


@pytest.mark.parametrize("spread", [2.0, 0.7, 5.0])
def test_estimates_of_many_classes_follow_too(spread) -> None:
    """The weighted metrics of three classes."""
    window, reference = many_classes(20_000, seed=1, spread=spread), many_classes(4000, seed=2)
    reading = reading_of(Roles(), NAMED, reference, window)
    told = reading.classified(window)
    calibrations = calibrations_of(reading.classified(reference))
    np.testing.assert_allclose(chances(told, calibrations).sum(axis=1), 1.0)
    realized = reading.performance(window).metrics()
    assert expected_metrics(told, calibrations) == pytest.approx(realized, abs=TOLERANCE)


def outcomes_of(results):
    return {one.feature: one.outcome for one in results}


def test_cbpe_warns_before_labels_come_and_labels_agree() -> None:
    """A shift to hard rows is seen without labels; with them the realised figures say the same."""
    reference = classifier(2000, seed=2)
    blind = Cbpe().evaluate(evidence(classifier(2000, seed=1, centre=0.2, labelled=False), reference))
    assert outcomes_of(blind) == {
        f"estimated_{name}": "violated" for name in ("accuracy", "auc", "f1", "precision", "recall")
    }
    seen = Cbpe().evaluate(evidence(classifier(2000, seed=1, centre=0.2), reference))
    assert [one.feature for one in seen[:2]] == ["estimated_accuracy", "realized_accuracy"]
    assert set(outcomes_of(seen).values()) == {"violated"}
    assert seen[0].value == pytest.approx(seen[1].value, abs=0.05)


def test_a_changed_concept_shows_in_realised_figures_alone() -> None:
    """What CBPE cannot see, as its description says."""
    window = classifier(2000, seed=1, concept=-1.0)
    results = outcomes_of(Cbpe().evaluate(evidence(window, classifier(2000, seed=2))))
    assert results["estimated_accuracy"] == "ok"
    assert results["realized_accuracy"] == "violated"


def test_unchanged_windows_stay_inside_without_labels() -> None:
    """60 windows of 300 rows for each kind of model: at most one alarm in each."""
    for check, make, signature in (
        (Cbpe(), classifier, UNKNOWN),
        (Cbpe(), many_classes, NAMED),
        (Dle(), regression, UNKNOWN),
    ):
        reference = make(2000, seed=900)
        alarms = 0
        for seed in range(60):
            results = check.evaluate(evidence(make(300, seed=seed, labelled=seed % 2 == 0), reference, signature))
            assert "skipped" not in outcomes_of(results).values()
            alarms += any(one.outcome == "violated" for one in results)
        assert alarms <= 1, check.name


@pytest.mark.parametrize(("centre", "tolerance"), [(0.0, 0.05), (1.0, 0.1), (1.5, 0.2)])
def test_estimated_errors_follow_a_covariate_shift(centre, tolerance) -> None:
    """Where errors grow with a feature; mae within 5 %, 10 % one and 20 % one and a half deviations away.

    rmse, which large errors rule, is allowed half as much again. Farther out the reference has too few rows.
    """
    for seed in range(4):
        window, reference = regression(10_000, seed=2 * seed + 1, centre=centre), regression(4000, seed=2 * seed + 2)
        results = {one.feature: one.value for one in Dle().evaluate(evidence(window, reference))}
        assert results["estimated_mae"] == pytest.approx(results["realized_mae"], rel=tolerance)
        assert results["estimated_rmse"] == pytest.approx(results["realized_rmse"], rel=1.5 * tolerance)


def test_dle_warns_before_labels_come() -> None:
    """A shift to where errors are large, and not one to where they are small."""
    reference = regression(2000, seed=2)
    worse = outcomes_of(Dle().evaluate(evidence(regression(1000, seed=1, centre=1.5, labelled=False), reference)))
    assert worse == {"estimated_mae": "violated", "estimated_mse": "violated", "estimated_rmse": "violated"}
    calm = regression(2000, seed=3, labelled=False)
    calm = calm.take(np.abs(calm.columns["x"]) < 0.5)
    assert set(outcomes_of(Dle().evaluate(evidence(calm, reference))).values()) == {"ok"}


def test_labels_that_came_are_reported_beside_the_estimate() -> None:
    """Noisier truth on the same inputs: the estimate cannot know, the realised figure does."""
    results = outcomes_of(Dle().evaluate(evidence(regression(2000, seed=1, noise=2.0), regression(2000, seed=2))))
    assert results["estimated_mae"] == "ok"
    assert results["realized_mae"] == "violated"


def test_estimates_are_the_same_when_repeated() -> None:
    """Nothing is drawn without a seed, and nothing of the evidence is written."""
    window, reference = regression(500, seed=1), regression(500, seed=2)
    before = window.columns["x"].copy()
    assert Dle().evaluate(evidence(window, reference)) == Dle().evaluate(evidence(window, reference))
    np.testing.assert_array_equal(window.columns["x"], before)
    window, reference = classifier(500, seed=1), classifier(500, seed=2)
    assert Cbpe().evaluate(evidence(window, reference)) == Cbpe().evaluate(evidence(window, reference))


def bare(rows):
    outcomes = classifier(rows)
    return Outcomes({"prediction": outcomes.columns["prediction"]}, outcomes.labels)


@pytest.mark.parametrize(
    ("check", "window", "reference", "reason"),
    [
        (Cbpe(), classifier(20), classifier(200), "20 rows are fewer"),
        (Cbpe(), classifier(200), classifier(20), "20 rows of the baseline"),
        (Cbpe(), classifier(200), classifier(200, labelled=False), "0 rows of the baseline"),
        (Cbpe(), classifier(200), None, "no reference data"),
        (Cbpe(), regression(200), regression(200), "`dle`"),
        (Cbpe(problem_type="BinaryClassification"), bare(200), bare(200), "no probabilities"),
        (Dle(), classifier(200), classifier(200), "`cbpe`"),
        (Dle(), regression(20), regression(200), "20 rows are fewer"),
        (Dle(), regression(200), regression(200, labelled=False), "0 rows of the baseline"),
        (
            Dle(),
            Outcomes({"prediction": np.full(200, np.nan)}, np.zeros(200)),
            regression(200),
            "0 rows have a prediction",
        ),
    ],
)
def test_what_is_missing_is_skipped_with_the_reason(check, window, reference, reason) -> None:
    """Never an alarm, never an exception."""
    (result,) = check.evaluate(evidence(window, reference))
    assert result.outcome == "skipped"
    assert reason in result.description


def test_rows_without_labels_come_from_the_windows_sample() -> None:
    """A monitor that keeps no outcomes still has the sample of its profile."""
    window = classifier(600, seed=1, labelled=False)
    profile = Profile()
    profile.fold(window.columns)
    results = Cbpe().evaluate(Evidence(window=profile, reference_outcomes=classifier(600, seed=2)))
    assert {one.outcome for one in results} == {"ok"}
    assert len(results) == 5


@pytest.mark.parametrize("name", ["cbpe", "dle"])
def test_both_are_found_by_name(name) -> None:
    """As a monitor's settings say it."""
    assert make_check(CheckSettings(name, {"deviations": 4})).name == name
