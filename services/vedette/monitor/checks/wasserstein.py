"""Wasserstein distance of numbers, with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Limit, at_least, compare
from vedette.profiles import ColumnProfile, distances


@dataclass(frozen=True, slots=True)
class Wasserstein:
    """Wasserstein distance of numbers in standard deviations of the baseline, with a fixed threshold.

    How far the average value would have to move to make one distribution of the other. Any move away from a constant
    baseline is infinitely many standard deviations and shown as 1e12.
    """

    name: ClassVar[str] = "wasserstein"
    threshold: float = 0.1
    """A larger score is a violation."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, "Wasserstein distance in standard deviations")
        return compare(evidence, limit, {"numeric": _normalised})


def _normalised(baseline: ColumnProfile, window: ColumnProfile) -> float:
    return distances.wasserstein(baseline, window, scale=baseline.moments.std)
