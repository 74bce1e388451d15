"""The domain classifier: honest areas, against scikit-learn's, and what no single column shows."""

from __future__ import annotations

import numpy as np
import pytest
from loadtests.detectors import null_windows, numbered
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from tests.unit.checks_tables import compared, people, results, run, texts

from vedette.monitor.checks.domain_classifier import area_under_curve
from vedette.monitor.quality.boosting import BINS, binned_columns, boosted

QUIET = [("gaussian", 400), ("discrete", 10_000), ("resampled", 400), ("resampled", 10_000)]


def samples(*, shift: float = 0.0, correlation: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Eight Gaussian columns twice, of which the second time one has moved and two are correlated."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2000, 8)), rng.normal(size=(2000, 8))
    after[:, 0] += shift
    after[:, 1] = correlation * after[:, 2] + np.sqrt(1 - correlation**2) * after[:, 1]
    return before, after


def test_the_area_is_scikit_learns() -> None:
    """With ties."""
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 500).astype(float), rng.normal(size=500).round(1)
    assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize(("shift", "correlation"), [(0.0, 0.0), (0.5, 0.0), (1.5, 0.0), (0.0, 0.9), (0.3, 0.6)])
def test_the_classifier_is_as_good_as_scikit_learns(shift: float, correlation: float) -> None:
    """Two-fold cross-validated areas of histogram gradient boosting on the same rows."""
    before, after = samples(shift=shift, correlation=correlation)
    labels = np.repeat([0, 1], [len(before), len(after)])
    model = HistGradientBoostingClassifier(max_iter=40, learning_rate=0.2, max_depth=3, random_state=0)
    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    scores = cross_val_predict(model, np.vstack((before, after)), labels, cv=halves, method="decision_function")
    found = run(compared(numbered(before), numbered(after)), "domain_classifier")[""]
    assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=0.05)
    assert found.outcome == ("violated" if shift or correlation else "ok")


def test_what_no_column_shows_is_found() -> None:
    """Two features that are no longer independent: the default says nothing, the classifier names them."""
    before, after = samples(correlation=0.9)
    evidence = compared(numbered(before), numbered(after))
    assert {result.outcome for result in results(evidence, "drift")} == {"ok"}
    found = run(evidence, "domain_classifier")[""]
    assert found.outcome == "violated"
    assert sorted(found.description.split("Most telling: ")[1].split(", ")[:2]) == ["'f1'", "'f2'"]


@pytest.mark.parametrize(("population", "baseline_rows"), QUIET)
def test_windows_without_drift_stay_quiet(population: str, baseline_rows: int) -> None:
    """Also when rows repeat: equal rows are learnt and judged together, and count as often as they are different."""
    found = [
        run(evidence, "domain_classifier")[""]
        for evidence in null_windows(population, baseline_rows=baseline_rows, windows=12, seed=2)
    ]
    assert sum(result.outcome == "violated" for result in found) <= 1
    assert np.mean([result.value for result in found]) == pytest.approx(0.5, abs=0.03)


def test_the_seed_chooses_the_halves() -> None:
    """The same seed gives the same answer, another one nearly."""
    before, after = samples(shift=0.5)
    evidence = compared(numbered(before), numbered(after))
    first, again, other = (run(evidence, "domain_classifier", seed=seed)[""].value for seed in (1, 1, 2))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.05)


def test_texts_and_missing_values_take_part() -> None:
    """A new category and values that are suddenly missing are telling."""
    before, after = people(800, seed=1), people(800, seed=2)
    after["city"] = texts(["Rom" if n % 3 else None for n in range(800)])
    found = run(compared(before, after), "domain_classifier")[""]
    assert found.outcome == "violated"
    assert "Most telling: 'city'" in found.description


def test_columns_become_codes_over_common_bins() -> None:
    """Missing is 0, numbers keep their order, texts beyond the most frequent are one code."""
    one, two = binned_columns(np.array([3.0, np.nan, 1.0]), np.array([2.0, np.inf, -np.inf]))
    assert one[1] == 0
    assert two[2] < one[2] <= two[0] <= one[0] < two[1] < BINS
    left, right = binned_columns(texts([f"c{n}" for n in range(50)]), texts(["c1", None, "c1"]))
    assert right.tolist() == [1, 0, 1]
    assert left.max() == BINS - 1
    assert binned_columns(np.full(3, np.nan), np.full(2, np.nan))[0].tolist() == [0, 0, 0]


def test_trees_learn_an_interaction() -> None:
    """Exclusive or: no column tells anything alone."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, size=(1000, 3))
    labels = ((codes[:, 0] > 1) ^ (codes[:, 1] > 1)).astype(float)
    forest = boosted(codes, labels)
    fresh = rng.integers(0, 4, size=(500, 3))
    assert area_under_curve(forest.score(fresh), ((fresh[:, 0] > 1) ^ (fresh[:, 1] > 1)).astype(float)) > 0.99
    assert forest.gains[2] < 0.1 * forest.gains[:2].min()
