"""Population stability index of numbers and categories, with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Limit, at_least, binned, by_category, compare
from vedette.profiles import distances


@dataclass(frozen=True, slots=True)
class PopulationStability:
    """Population stability index of numbers and categories, with a fixed threshold.

    Numbers are compared over bins of equal shares of the baseline; a share of 0 counts as 0.0001. By the rule of
    thumb of credit scoring 0.1 is a small change and 0.2 a large one.
    """

    name: ClassVar[str] = "psi"
    threshold: float = 0.2
    """A larger score is a violation."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, "Population stability index")
        return compare(evidence, limit, {"numeric": binned(distances.psi), "text": by_category(distances.psi)})
