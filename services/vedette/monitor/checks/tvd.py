"""Total variation distance of categories, with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Limit, at_least, by_category, compare
from vedette.profiles import distances


@dataclass(frozen=True, slots=True)
class TotalVariation:
    """Total variation distance of categories, with a fixed threshold.

    Half of the sum of the differences of shares: the share of rows that would have to change their category.
    """

    name: ClassVar[str] = "tvd"
    threshold: float = 0.1
    """A larger score is a violation."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, "Total variation distance")
        return compare(evidence, limit, {"text": by_category(distances.tvd)})
