"""The largest difference of one category's share, with a fixed threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import Limit, at_least, by_category, compare
from vedette.profiles import distances


@dataclass(frozen=True, slots=True)
class LInfinity:
    """The largest difference of one category's share, with a fixed threshold.

    Deequ's and SageMaker's LInfinity for categories, without correction for the sizes of the samples.
    """

    name: ClassVar[str] = "l_infinity"
    threshold: float = 0.1
    """A larger score is a violation."""

    def __post_init__(self) -> None:
        at_least("threshold", self.threshold, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        limit = Limit(self.name, self.threshold, "Largest difference of a share")
        return compare(evidence, limit, {"text": by_category(distances.l_infinity)})
