"""How well predicted classes and scores agree with the true classes.

Rule: pure functions of counts or arrays without missing values. Counts may be fractions, so that what is
expected of unlabelled rows is measured by the same formulas. x/0 is 0, as in scikit-learn with
`zero_division=0`; a curve that does not exist (one class only) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Codes = NDArray[np.int64]

SCORED = ("recall", "precision", "accuracy", "f0_5", "f1", "f2")
"""What is also told of the best constant classifier."""
RATES = ("true_positive_rate", "true_negative_rate", "false_positive_rate", "false_negative_rate")
BINARY_METRICS = ("recall", "precision", "accuracy", *RATES, "auc", "f0_5", "f1", "f2")
MULTICLASS_METRICS = (
    "accuracy",
    "weighted_recall",
    "weighted_precision",
    "weighted_f0_5",
    "weighted_f1",
    "weighted_f2",
)
BEST_CONSTANT = "_best_constant_classifier"

_BETAS = {"f0_5": 0.5, "f1": 1.0, "f2": 2.0}
_MOST_POINTS = 1_000
"""Points of a curve in a document."""


def confusion_matrix(labels: Codes, predictions: Codes, classes: int) -> Values:
    """Counts by true class (row) and predicted class (column)."""
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.float64)


def binary_metrics(matrix: Values, positive: int) -> dict[str, float]:
    """All of SageMaker's binary metrics that follow from the 2 x 2 counts; `auc` does not."""
    negative = 1 - positive
    tp, fn = float(matrix[positive, positive]), float(matrix[positive, negative])
    fp, tn = float(matrix[negative, positive]), float(matrix[negative, negative])
    return {
        "recall": _share(tp, tp + fn),
        "precision": _share(tp, tp + fp),
        "accuracy": _share(tp + tn, tp + tn + fp + fn),
        "true_positive_rate": _share(tp, tp + fn),
        "true_negative_rate": _share(tn, tn + fp),
        "false_positive_rate": _share(fp, tn + fp),
        "false_negative_rate": _share(fn, tp + fn),
        **{name: _share((1 + b * b) * tp, (1 + b * b) * tp + b * b * fn + fp) for name, b in _BETAS.items()},
    }


def best_constant_binary(matrix: Values, positive: int) -> dict[str, float]:
    """The most that always answering one class would reach, metric by metric."""
    constants = [binary_metrics(_always(matrix, answer), positive) for answer in (0, 1)]
    return {f"{name}{BEST_CONSTANT}": max(one[name] for one in constants) for name in SCORED}


def multiclass_metrics(matrix: Values) -> dict[str, float]:
    """Accuracy, and recall, precision and F of each class weighted by how often it is the true one."""
    hits, actual, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    total = float(actual.sum())

    def weighted(over: Values, under: Values) -> float:
        each = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
        return _share(float(each @ actual), total)

    return {
        "accuracy": _share(float(hits.sum()), total),
        "weighted_recall": weighted(hits, actual),
        "weighted_precision": weighted(hits, predicted),
        **{f"weighted_{f}": weighted((1 + b * b) * hits, b * b * actual + predicted) for f, b in _BETAS.items()},
    }


def best_constant_multiclass(matrix: Values) -> dict[str, float]:
    """The same of always answering the most frequent class, which is best for each of these metrics."""
    if not matrix.size:
        return {f"{name}{BEST_CONSTANT}": 0.0 for name in MULTICLASS_METRICS}
    reached = multiclass_metrics(_always(matrix, int(np.argmax(matrix.sum(axis=1)))))
    return {f"{name}{BEST_CONSTANT}": value for name, value in reached.items()}


def _always(matrix: Values, answer: int) -> Values:
    constant = np.zeros_like(matrix)
    constant[:, answer] = matrix.sum(axis=1)
    return constant


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Counts over the threshold as it sinks through the distinct scores, from nothing to everything."""

    true_positives: Values
    false_positives: Values

    @property
    def auc(self) -> float:
        """Area under the ROC curve by trapezes; NaN with one class only."""
        tp, fp = self.true_positives, self.false_positives
        whole = float(tp[-1] * fp[-1])
        if whole <= 0:
            return float("nan")
        return float(((fp[1:] - fp[:-1]) * (tp[1:] + tp[:-1])).sum() / 2.0 / whole)


def sweep(scores: Values, positives: Values) -> Sweep:
    """Sink a threshold through `scores`; `positives` is the chance (or fact, 0 or 1) that a row is positive.

    With chances this is the expected curve of CBPE.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, chances = scores[order], positives[order]
    ends = (
        np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1) if ranked.size else np.zeros(0, np.intp)
    )
    tp, fp = np.cumsum(chances)[ends], np.cumsum(1.0 - chances)[ends]
    return Sweep(np.concatenate([[0.0], tp]), np.concatenate([[0.0], fp]))


def roc_curve(swept: Sweep) -> tuple[list[float], list[float]]:
    """False and true positive rates, rising; empty with one class only."""
    tp, fp = swept.true_positives, swept.false_positives
    if tp[-1] <= 0 or fp[-1] <= 0:
        return [], []
    kept = _thinned(tp.size)
    return (fp[kept] / fp[-1]).tolist(), (tp[kept] / tp[-1]).tolist()


def precision_recall_curve(swept: Sweep) -> tuple[list[float], list[float]]:
    """Precisions and recalls as the threshold rises, ending at (1, 0); empty without positives."""
    tp, fp = swept.true_positives, swept.false_positives
    if tp[-1] <= 0:
        return [], []
    kept = _thinned(tp.size)[:0:-1]
    precisions = tp[kept] / (tp[kept] + fp[kept])
    return [*precisions.tolist(), 1.0], [*(tp[kept] / tp[-1]).tolist(), 0.0]


def _thinned(points: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, points - 1, min(points, _MOST_POINTS)).round().astype(np.intp))
