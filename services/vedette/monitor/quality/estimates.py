"""Estimated and realised figures beside each other, judged by how much the reference itself varies.

A figure is too bad when it is worse than on the reference rows by more than `deviations` standard deviations
that the realised figure has over samples of the reference as large as the window (NannyML: over its chunks;
here by bootstrap), together with how unsure the reference's own figure is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vedette.entities.monitors import CheckResult
from vedette.monitor.quality.outcomes import Outcomes
from vedette.monitor.quality.performance import LOWER_IS_BETTER, Performance, Reading
from vedette.monitor.wording import left_out

ESTIMATED, REALIZED = "estimated_", "realized_"
_LEAST_LABELS = 50
"""With fewer labelled rows nothing is called realised."""


@dataclass(frozen=True, slots=True)
class Range:
    """The reference's realised figures and their standard errors on its own rows."""

    values: Mapping[str, float]
    errors: Mapping[str, float]
    rows: int

    @classmethod
    def of(cls, reference: Performance) -> Range:
        """Measured on labelled reference rows."""
        return cls(reference.metrics(), reference.standard_errors(), reference.rows)

    def worst(self, metric: str, *, rows: int, deviations: float) -> float:
        """The worst figure that a window of so many rows of the same kind may show; NaN when there is none."""
        margin = deviations * self.errors[metric] * math.sqrt(1 + self.rows / max(rows, 1))
        return self.values[metric] + (margin if metric in LOWER_IS_BETTER else -margin)


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics of a window, and of how many of its rows."""

    values: Mapping[str, float]
    rows: int


def realized_of(reading: Reading, window: Outcomes) -> Figures | None:
    """What the window's labelled rows show; None while there are too few."""
    performance = reading.performance(window)
    return Figures(performance.metrics(), performance.rows) if performance.rows >= _LEAST_LABELS else None


def compared(
    check: str,
    metrics: Sequence[str],
    *,
    estimated: Figures,
    realized: Figures | None,
    allowed: Range,
    deviations: float,
) -> list[CheckResult]:
    """For each metric one result of the estimate, and one of what was realised where labels are known."""
    results: list[CheckResult] = []
    for metric in metrics:
        for prefix, figures in ((ESTIMATED, estimated), (REALIZED, realized)):
            if figures is not None:
                results.append(_judged(check, prefix, metric, figures, allowed, deviations))
    return results


def _judged(check: str, prefix: str, metric: str, figures: Figures, allowed: Range, deviations: float) -> CheckResult:
    value, usual = figures.values[metric], allowed.values[metric]
    worst = allowed.worst(metric, rows=figures.rows, deviations=deviations)
    what = "Estimated" if prefix == ESTIMATED else "Realized"
    if not (math.isfinite(value) and math.isfinite(worst)):
        why = f"{what} {metric} does not exist on these {figures.rows} rows, or not on the reference's"
        return left_out(check, why, feature=prefix + metric)
    lower_is_better = metric in LOWER_IS_BETTER
    violated = value > worst if lower_is_better else value < worst
    return CheckResult(
        check=check,
        feature=prefix + metric,
        outcome="violated" if violated else "ok",
        value=value,
        threshold=worst,
        kind=check,
        description=(
            f"{what} {metric} on {figures.rows} rows is {value:.6g}, {'worse' if violated else 'no worse'} than "
            f"{'at most' if lower_is_better else 'at least'} {worst:.6g}; the reference has {usual:.6g}"
        ),
    )
