"""Kolmogorov-Smirnov distance of numbers, with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Limit, at_least, compare
from vedette.profiles import distances


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """Kolmogorov-Smirnov distance of numbers, with a fixed threshold.

    The largest difference between the two cumulative distributions, from 0 to 1, taken from the sketches: each is
    off by at most 0.14 % of the rows. The sizes of the samples do not count; `drift` is the check that minds them.
    """

    name: ClassVar[str] = "ks"
    threshold: float = 0.1
    """A larger score is a violation."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, "Kolmogorov-Smirnov distance")
        return compare(evidence, limit, {"numeric": distances.ks})
