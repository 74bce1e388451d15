"""The distances of SageMaker's baseline_drift_check, for every column and with one threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Distance, Limit, at_least, by_category, compare, values
from vedette.profiles import ColumnProfile, distances


@dataclass(frozen=True, slots=True)
class SageMaker:
    """The distances of SageMaker's baseline_drift_check, for every column and with one threshold.

    `Simple`: the largest difference of the cumulative distributions of numbers, of the share of one category.
    `Robust`: less 1.8 sqrt((n + m) / (n m)), so that windows of a hundred rows hardly ever drift. Source: Deequ,
    `Distance.scala`. `data_quality` does the same as constraints.json says.
    """

    name: ClassVar[str] = "sagemaker"
    threshold: float = 0.1
    """A larger score is a violation."""
    method: Literal["Simple", "Robust"] = "Robust"
    """How the sizes of the samples count."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, f"{self.method} distance")
        simple: dict[Literal["numeric", "text"], Distance] = {
            "numeric": distances.deequ_simple,
            "text": by_category(distances.l_infinity),
        }
        if self.method == "Simple":
            return compare(evidence, limit, simple)
        return compare(evidence, limit, {kind: robust(distance) for kind, distance in simple.items()})


def robust(simple: Distance) -> Distance:
    """The distance less what two samples of these sizes may differ by."""

    def distance(baseline: ColumnProfile, window: ColumnProfile) -> float:
        return distances.deequ_robust(simple(baseline, window), values(baseline), values(window))

    return distance
