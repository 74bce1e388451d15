"""SageMaker's model quality documents: statistics, constraints and violations.

Rule: pure functions between figures and documents; a document from outside is checked field by field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import CheckResult
from vedette.monitor.quality import classification_metrics as classification
from vedette.monitor.quality.outcomes import ClassOutcomes, ProblemType
from vedette.monitor.quality.performance import LOWER_IS_BETTER, Performance, confusion_of, sweep_of
from vedette.ports.baselines import MAX_MEASURED_BYTES, QUALITY_CONSTRAINTS_FILE, QUALITY_STATISTICS_FILE

STATISTICS_DOCUMENT = QUALITY_STATISTICS_FILE
CONSTRAINTS_DOCUMENT = QUALITY_CONSTRAINTS_FILE
"""What the two are called among a baseline's files."""

GREATER, LESS = "GreaterThanThreshold", "LessThanThreshold"
_LEAST_ROWS = 200
"""Below it SageMaker tells no standard deviation."""
_MOST_BYTES = MAX_MEASURED_BYTES

_STEMS: dict[ProblemType, str] = {
    "Regression": "regression",
    "BinaryClassification": "binary_classification",
    "MulticlassClassification": "multiclass_classification",
}


@dataclass(frozen=True, slots=True)
class QualityConstraint:
    """One metric's threshold and the side of it that is a violation."""

    threshold: float
    comparison_operator: str

    def violated(self, value: float, *, margin: float = 0.0) -> bool:
        """Whether `value` lies on the wrong side, and by more than `margin`."""
        beyond = value - self.threshold if self.comparison_operator == GREATER else self.threshold - value
        return beyond > margin


QualityConstraints = Mapping[str, QualityConstraint]
"""By the name of the metric."""


def statistics_document(performance: Performance) -> dict[str, Any]:
    """Every metric of SageMaker's with its standard deviation, which is the text "NaN" below 200 rows."""
    scalars = performance.metrics()
    deviations = performance.deviations() if performance.rows >= _LEAST_ROWS else {}
    metrics: dict[str, Any] = {name: _figure(value, deviations.get(name)) for name, value in scalars.items()}
    if isinstance(performance.outcomes, ClassOutcomes):
        metrics = {**_counts(performance.outcomes), **metrics}
    return {
        "version": 0.0,
        "dataset": {"item_count": performance.rows},
        f"{_STEMS[performance.problem]}_metrics": metrics,
    }


def _figure(value: float, deviation: float | None = None) -> dict[str, Any]:
    return {
        "value": value if math.isfinite(value) else "NaN",
        "standard_deviation": deviation if deviation is not None and math.isfinite(deviation) else "NaN",
    }


def _counts(outcomes: ClassOutcomes) -> dict[str, Any]:
    """The parts that are not one figure from the model: confusion matrix, constant classifiers, curves."""
    matrix = confusion_of(outcomes)
    cells = {
        actual: {predicted: int(count) for predicted, count in zip(outcomes.classes, row)}
        for actual, row in zip(outcomes.classes, matrix)
    }
    if len(outcomes.classes) != 2:
        constant = classification.best_constant_multiclass(matrix)
        return {"confusion_matrix": cells, **{name: _figure(value) for name, value in constant.items()}}
    swept = sweep_of(outcomes)
    (false_rates, true_rates), (precisions, recalls) = (
        classification.roc_curve(swept),
        classification.precision_recall_curve(swept),
    )
    constant = classification.best_constant_binary(matrix, outcomes.positive)
    return {
        "confusion_matrix": cells,
        **{name: _figure(value) for name, value in constant.items()},
        "receiver_operating_characteristic_curve": {
            "false_positive_rates": false_rates,
            "true_positive_rates": true_rates,
        },
        "precision_recall_curve": {"precisions": precisions, "recalls": recalls},
    }


def suggest(performance: Performance) -> dict[str, QualityConstraint]:
    """SageMaker's suggestion: the measured value is the threshold, the operator the side that is worse."""
    return {
        name: QualityConstraint(value, GREATER if name in LOWER_IS_BETTER else LESS)
        for name, value in performance.metrics().items()
        if math.isfinite(value)
    }


def constraints_document(problem: ProblemType, constraints: QualityConstraints) -> dict[str, Any]:
    """The constraints in SageMaker's schema."""
    named = {
        name: {"threshold": one.threshold, "comparison_operator": one.comparison_operator}
        for name, one in constraints.items()
    }
    return {"version": 0.0, f"{_STEMS[problem]}_constraints": named}


def read_constraints(data: bytes, problem: ProblemType) -> dict[str, QualityConstraint]:
    """The constraints of a document for this problem; others in it are left alone.

    Raises:
        InvalidArgument: it is no such document; the message names the place.
    """
    named = read_object(data, CONSTRAINTS_DOCUMENT).get(f"{_STEMS[problem]}_constraints")
    if not isinstance(named, dict):
        raise InvalidArgument(f"{CONSTRAINTS_DOCUMENT} has no object {_STEMS[problem]}_constraints")
    return {str(name): _constraint(str(name), value) for name, value in named.items()}


def _constraint(name: str, value: object) -> QualityConstraint:
    place = f"{CONSTRAINTS_DOCUMENT}: {name[:80]!r}"
    if not isinstance(value, dict):
        raise InvalidArgument(f"{place} is not an object")
    threshold, operator = value.get("threshold"), value.get("comparison_operator")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise InvalidArgument(f"{place} has no number as threshold")
    if operator not in (GREATER, LESS):
        raise InvalidArgument(f"{place}: comparison_operator is {GREATER} or {LESS}")
    return QualityConstraint(float(threshold), operator)


def measured_rows(statistics: bytes) -> int:
    """The rows that a statistics document tells of; 0 when it tells nothing."""
    if not statistics:
        return 0
    dataset = read_object(statistics, STATISTICS_DOCUMENT).get("dataset")
    count = dataset.get("item_count") if isinstance(dataset, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def read_object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object from outside, at most 4 MiB.

    Raises:
        InvalidArgument: it is something else; `name` says which document.
    """
    if len(data) > _MOST_BYTES:
        raise InvalidArgument(f"{name} is longer than {_MOST_BYTES >> 20} MiB")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{name} is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidArgument(f"{name} is not a JSON object")
    return found


def violations_document(results: Iterable[CheckResult]) -> dict[str, Any]:
    """The violated results of the check `model_quality`, whose `feature` is the metric."""
    return {
        "violations": [
            {"constraint_check_type": one.kind, "description": one.description, "metric_name": one.feature}
            for one in results
            if one.outcome == "violated"
        ]
    }
