"""Jensen-Shannon distance of numbers and categories, with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Limit, at_least, binned, by_category, compare
from vedette.profiles import distances


@dataclass(frozen=True, slots=True)
class JensenShannon:
    """Jensen-Shannon distance of numbers and categories, with a fixed threshold.

    The root of the divergence with base 2, from 0 to 1; numbers are compared over bins of equal shares of the baseline.
    """

    name: ClassVar[str] = "jensen_shannon"
    threshold: float = 0.1
    """A larger score is a violation."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, "Jensen-Shannon distance")
        return compare(
            evidence,
            limit,
            {"numeric": binned(distances.jensen_shannon), "text": by_category(distances.jensen_shannon)},
        )
