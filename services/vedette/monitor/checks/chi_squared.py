"""Chi-squared test of categories, with a fixed level of significance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import between, category_counts, pair_columns, skipped
from vedette.monitor.significance import deequ_chi_squared


@dataclass(frozen=True, slots=True)
class ChiSquared:
    """Chi-squared test of categories as Deequ makes it, with a fixed level of significance.

    The baseline's shares are taken as the truth, so a small baseline raises false alarms, and so do large windows
    for changes of no importance; every column is tested by itself. The score is the p-value; below `threshold` is
    a violation.
    """

    name: ClassVar[str] = "chi_squared"
    threshold: float = 0.05
    """A smaller p-value is a violation."""

    def __post_init__(self) -> None:
        between("threshold", self.threshold)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        pairs, results = pair_columns(evidence, check=self.name, kinds=["text"])
        for pair in pairs:
            p_value = deequ_chi_squared(*category_counts(pair.baseline, pair.window))
            results.append(self._result(pair.name, p_value))
        return results

    def _result(self, feature: str, p_value: float) -> CheckResult:
        if math.isnan(p_value):
            return skipped(self.name, "Fewer than two categories are frequent enough to be tested.", feature=feature)
        under = p_value < self.threshold
        text = f"Chi-squared p-value {p_value:.2g} is {'below' if under else 'not below'} {self.threshold:.4g}."
        outcome: Literal["ok", "violated"] = "violated" if under else "ok"
        return CheckResult(self.name, feature, outcome, p_value, self.threshold, p_value, self.name, text)
