"""What a model achieves on labelled rows, metric by metric, and how sure that figure is.

Rule: rows without a label or prediction are left out first; a metric that does not exist on the rest is NaN.
Randomness is seeded: the same rows give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.core.models import Signature
from vedette.monitor.quality import classification_metrics as classification
from vedette.monitor.quality.outcomes import (
    ClassOutcomes,
    Outcomes,
    ProblemType,
    Roles,
    ValueOutcomes,
    class_names,
    classes_of,
    fitting,
    problem_of,
    values_of,
)
from vedette.monitor.quality.regression_metrics import REGRESSION_METRICS, regression_metrics

Known = ValueOutcomes | ClassOutcomes

METRICS: dict[ProblemType, tuple[str, ...]] = {
    "Regression": REGRESSION_METRICS,
    "BinaryClassification": classification.BINARY_METRICS,
    "MulticlassClassification": classification.MULTICLASS_METRICS,
}
"""The metrics that have a constraint."""

LOWER_IS_BETTER = frozenset({"mae", "mse", "rmse", "false_positive_rate", "false_negative_rate"})

_MOST_RESAMPLED = 5_000
_RESAMPLES = 100


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """Labelled rows of one problem, ready to be measured."""

    problem: ProblemType
    outcomes: Known
    """Rows with a label and a prediction only."""

    @property
    def rows(self) -> int:
        """Rows that are measured."""
        return self.outcomes.labels.size

    def metrics(self) -> dict[str, float]:
        """Every metric that has a constraint."""
        return _measure(self.problem, self.outcomes)

    def standard_errors(self, seed: int = 0) -> dict[str, float]:
        """The standard error of each metric by bootstrap: 100 resamples of at most 5,000 rows, scaled to all."""
        return self._spread(lambda generator, n: generator.integers(0, n, n), _RESAMPLES, _MOST_RESAMPLED, seed)

    def deviations(self, seed: int = 0) -> dict[str, float]:
        """SageMaker's standard deviation of each metric: over 5 random subsamples of 80 % of the rows."""
        return self._spread(lambda generator, n: generator.permutation(n)[: int(0.8 * n)], 5, self.rows, seed)

    def _spread(
        self, draw: Callable[[np.random.Generator, int], NDArray[np.intp]], draws: int, most: int, seed: int
    ) -> dict[str, float]:
        generator = np.random.default_rng(seed)
        outcomes, rows = self.outcomes, self.rows
        if rows > most:
            outcomes = outcomes.take(generator.permutation(rows)[:most])
        size = outcomes.labels.size
        drawn = [_measure(self.problem, outcomes.take(draw(generator, size))) for _ in range(draws)]
        scale = math.sqrt(size / rows) if rows else 1.0
        return {name: scale * _deviation([one[name] for one in drawn]) for name in METRICS[self.problem]}


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows of one monitor are read: the problem and, for classifiers, the classes by number."""

    roles: Roles
    problem: ProblemType
    classes: tuple[str, ...] = ()

    def performance(self, outcomes: Outcomes) -> Performance:
        """The labelled rows, ready to be measured.

        Raises:
            NotComparable: a column is missing.
        """
        read = values_of(outcomes, self.roles) if self.problem == "Regression" else self.classified(outcomes)
        return Performance(self.problem, read.labelled())

    def classified(self, outcomes: Outcomes) -> ClassOutcomes:
        """All rows by class number, labelled or not.

        Raises:
            NotComparable: a column is missing, or the positive class is unknown.
        """
        return classes_of(outcomes, self.roles, self.classes)


def reading_of(roles: Roles, signature: Signature, *sources: Outcomes) -> Reading:
    """The problem as the first source shows it, and the classes of all of them.

    Raises:
        NotComparable: there are too many classes, or too many for the problem.
    """
    problem = problem_of(sources[0], roles, signature)
    if problem == "Regression":
        return Reading(roles, problem)
    return Reading(roles, problem, fitting(problem, class_names(roles, signature, *sources)))


def _measure(problem: ProblemType, outcomes: Known) -> dict[str, float]:
    if isinstance(outcomes, ValueOutcomes):
        return regression_metrics(outcomes.labels, outcomes.predictions)
    if not outcomes.labels.size:
        return dict.fromkeys(METRICS[problem], float("nan"))
    matrix = confusion_of(outcomes)
    if problem == "MulticlassClassification":
        return classification.multiclass_metrics(matrix)
    measured = {**classification.binary_metrics(matrix, outcomes.positive), "auc": sweep_of(outcomes).auc}
    return {name: measured[name] for name in classification.BINARY_METRICS}


def confusion_of(outcomes: ClassOutcomes) -> NDArray[np.float64]:
    """Counts by true and predicted class."""
    return classification.confusion_matrix(outcomes.labels, outcomes.predictions, len(outcomes.classes))


def sweep_of(outcomes: ClassOutcomes) -> classification.Sweep:
    """The threshold sunk through the probabilities, or through bare decisions where there are none."""
    if outcomes.probabilities is None:
        scores = (outcomes.predictions == outcomes.positive).astype(np.float64)
    else:
        scores = outcomes.probabilities[:, outcomes.positive]
    told = ~np.isnan(scores)
    return classification.sweep(scores[told], (outcomes.labels[told] == outcomes.positive).astype(np.float64))


def _deviation(values: list[float]) -> float:
    known = np.array([value for value in values if np.isfinite(value)])
    return float(known.std()) if known.size > 0.9 * len(values) else float("nan")
