"""Metrics of predictions, against scikit-learn on the same rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from vedette.monitor.quality import classification_metrics as ours
from vedette.monitor.quality.regression_metrics import regression_metrics

CASES = {
    "random": lambda r: (r.integers(0, 2, 500), r.integers(0, 2, 500)),
    "skilled": lambda r: ((y := r.integers(0, 2, 500)), np.where(r.random(500) < 0.9, y, 1 - y)),
    "rare": lambda r: ((r.random(500) < 0.02).astype(int), (r.random(500) < 0.05).astype(int)),
    "no positives": lambda r: (np.zeros(50, int), r.integers(0, 2, 50)),
    "only positives": lambda r: (np.ones(50, int), r.integers(0, 2, 50)),
    "never predicted": lambda r: (r.integers(0, 2, 50), np.zeros(50, int)),
    "one row": lambda r: (np.ones(1, int), np.ones(1, int)),
}


def sklearn_binary(y, p, positive):
    options = {"pos_label": positive, "zero_division": 0}
    (tn, fp), (fn, tp) = sk.confusion_matrix(y, p, labels=[1 - positive, positive])

    def rate(a, b):
        return a / b if b else 0.0

    return {
        "recall": sk.recall_score(y, p, **options),
        "precision": sk.precision_score(y, p, **options),
        "accuracy": sk.accuracy_score(y, p),
        "true_positive_rate": rate(tp, tp + fn),
        "true_negative_rate": rate(tn, tn + fp),
        "false_positive_rate": rate(fp, tn + fp),
        "false_negative_rate": rate(fn, tp + fn),
        "f0_5": sk.fbeta_score(y, p, beta=0.5, **options),
        "f1": sk.f1_score(y, p, **options),
        "f2": sk.fbeta_score(y, p, beta=2, **options),
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("positive", [0, 1])
def test_binary_metrics_are_scikit_learns(case, positive) -> None:
    """Every metric of the confusion matrix, degenerate cases included."""
    y, p = CASES[case](np.random.default_rng(3))
    found = ours.binary_metrics(ours.confusion_matrix(y, p, 2), positive)
    assert found == pytest.approx(sklearn_binary(y, p, positive), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_best_constant_classifier_is_the_better_of_two(case) -> None:
    """As scikit-learn scores always-0 and always-1."""
    y, p = CASES[case](np.random.default_rng(4))
    found = ours.best_constant_binary(ours.confusion_matrix(y, p, 2), 1)
    constants = [sklearn_binary(y, np.full_like(y, answer), 1) for answer in (0, 1)]
    wanted = {f"{name}_best_constant_classifier": max(one[name] for one in constants) for name in ours.SCORED}
    assert found == pytest.approx(wanted, abs=1e-12)


def sklearn_multiclass(y, p):
    options = {"average": "weighted", "zero_division": 0}
    return {
        "accuracy": sk.accuracy_score(y, p),
        "weighted_recall": sk.recall_score(y, p, **options),
        "weighted_precision": sk.precision_score(y, p, **options),
        "weighted_f0_5": sk.fbeta_score(y, p, beta=0.5, **options),
        "weighted_f1": sk.f1_score(y, p, **options),
        "weighted_f2": sk.fbeta_score(y, p, beta=2, **options),
    }


MANY = {
    "random": lambda r: (r.integers(0, 5, 800), r.integers(0, 5, 800)),
    "skewed": lambda r: ((y := r.choice(4, 800, p=[0.9, 0.05, 0.04, 0.01])), np.where(r.random(800) < 0.8, y, 0)),
    "absent classes": lambda r: (r.integers(1, 3, 60), r.integers(2, 5, 60)),
    "one class": lambda r: (np.full(9, 2), np.full(9, 2)),
}


@pytest.mark.parametrize("case", MANY)
def test_multiclass_metrics_are_scikit_learns(case) -> None:
    """Weighted by support, also for classes that never occur or are never predicted."""
    y, p = MANY[case](np.random.default_rng(5))
    matrix = ours.confusion_matrix(y, p, 5)
    assert (matrix == sk.confusion_matrix(y, p, labels=range(5))).all()
    assert ours.multiclass_metrics(matrix) == pytest.approx(sklearn_multiclass(y, p), abs=1e-12)


@pytest.mark.parametrize("case", MANY)
def test_the_most_frequent_class_is_the_best_constant(case) -> None:
    """No other constant answer scores higher in any metric."""
    y, p = MANY[case](np.random.default_rng(6))
    found = ours.best_constant_multiclass(ours.confusion_matrix(y, p, 5))
    constants = [sklearn_multiclass(y, np.full_like(y, answer)) for answer in range(5)]
    wanted = {f"{n}_best_constant_classifier": max(one[n] for one in constants) for n in ours.MULTICLASS_METRICS}
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("ties", [1, 2, 20, 1000])
def test_auc_and_curves_are_scikit_learns(ties) -> None:
    """Ties among scores included."""
    r = np.random.default_rng(7)
    y = r.integers(0, 2, 400)
    scores = np.round((y * 0.5 + r.normal(size=400)) * ties) / ties
    swept = ours.sweep(scores, y.astype(float))
    assert swept.auc == pytest.approx(sk.roc_auc_score(y, scores), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(y, scores, drop_intermediate=False)
    np.testing.assert_allclose(ours.roc_curve(swept), (fpr, tpr), atol=1e-12)
    precision, recall, _ = sk.precision_recall_curve(y, scores)
    np.testing.assert_allclose(ours.precision_recall_curve(swept), (precision, recall), atol=1e-12)


def test_curves_of_one_class_do_not_exist() -> None:
    """Neither with positives only nor without any row."""
    for labels in (np.ones(5), np.zeros(5), np.zeros(0)):
        swept = ours.sweep(np.arange(labels.size, dtype=float), labels)
        assert math.isnan(swept.auc)
        assert ours.roc_curve(swept) == ([], [])
    assert ours.precision_recall_curve(swept) == ([], [])


def test_long_curves_are_thinned_to_a_bounded_document() -> None:
    """A thousand points, the ends among them."""
    r = np.random.default_rng(8)
    swept = ours.sweep(r.random(50_000), (r.random(50_000) < 0.3).astype(float))
    false_rates, true_rates = ours.roc_curve(swept)
    assert len(false_rates) == len(true_rates) == 1000
    assert (false_rates[0], false_rates[-1], true_rates[-1]) == (0.0, 1.0, 1.0)
    precisions, recalls = ours.precision_recall_curve(swept)
    assert len(precisions) == len(recalls) == 1000
    assert (precisions[-1], recalls[-1], recalls[0]) == (1.0, 0.0, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=60))
def test_auc_of_negated_scores_is_the_complement(rows) -> None:
    """A property of the area with ties counted half."""
    y = np.array([label for label, _ in rows], float)
    scores = np.array([score for _, score in rows])
    area, mirrored = ours.sweep(scores, y).auc, ours.sweep(-scores, y).auc
    assert (math.isnan(area) and math.isnan(mirrored)) or area + mirrored == pytest.approx(1.0)


@pytest.mark.parametrize("case", ["random", "constant labels", "perfect constant", "one row"])
def test_regression_metrics_are_scikit_learns(case) -> None:
    """r2 around the mean of the ground truth."""
    r = np.random.default_rng(9)
    y = {"random": r.normal(size=300), "one row": r.normal(size=1)}.get(case, np.full(20, 3.0))
    p = y.copy() if case == "perfect constant" else y + r.normal(size=y.size)
    found = regression_metrics(y, p)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, p))
    assert found["mse"] == pytest.approx(sk.mean_squared_error(y, p))
    assert found["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(y, p)))
    if y.size > 1:
        assert found["r2"] == pytest.approx(sk.r2_score(y, p))
    else:
        assert math.isnan(found["r2"])


def test_no_rows_and_huge_values_are_no_error() -> None:
    """Nothing is NaN, too large is infinite; no warning either way."""
    assert all(math.isnan(value) for value in regression_metrics(np.zeros(0), np.zeros(0)).values())
    assert regression_metrics(np.array([1e300, 0.0]), np.array([-1e300, 0.0]))["mse"] == math.inf
