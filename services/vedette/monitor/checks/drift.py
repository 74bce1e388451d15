"""Drift of features and predictions, calibrated: the check that monitors make when nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import LARGEST, Pair, at_least, between, pair_columns, values
from vedette.monitor.significance import (
    Independence,
    chi_squared_p_value,
    displacement,
    displacement_p_value,
    holm,
    independence,
    merged_counts,
)
from vedette.profiles import distances

CAUTION = 2.0
"""p-values are doubled: they are limits for large samples, and how far rows repeat is an estimate. It costs a shift
of 0.2 standard errors and makes the level hold in measurements as well as on average."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A column has drifted when its change is both certain and large.

    Certain: the p-value of a two-sample test, corrected by Holm over all columns of the window, is at most `alpha`,
    which bounds the chance that a window without drift raises any alarm at all. Numbers take the Kolmogorov-Smirnov
    and the Mann-Whitney test, less what the sketches may be off by; categories the chi-squared test of homogeneity.
    The sizes of window and baseline both count, as numbers of independent rows (`significance.independence`).

    Large: numbers moved by more than `numeric_effect` standard deviations of the baseline (first Wasserstein
    distance; of a constant baseline: by more than that share of the values), categories by more than
    `categorical_effect` (total variation distance, rare categories taken as one).

    A large window makes every difference certain and a small one every difference large; both together do neither.
    """

    name: ClassVar[str] = "drift"
    alpha: float = 0.01
    """How often a window without drift may raise an alarm, at most."""
    numeric_effect: float = 0.1
    """How far numbers must move, in standard deviations of the baseline."""
    categorical_effect: float = 0.1
    """What share of the rows must change its category."""

    def __post_init__(self) -> None:
        between("alpha", self.alpha)
        at_least("numeric_effect", self.numeric_effect, 0.0)
        at_least("categorical_effect", self.categorical_effect, 0.0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        pairs, results = pair_columns(evidence, check=self.name)
        if evidence.baseline is None or not pairs:
            return results
        worth = independence(evidence.baseline, evidence.window)
        changes = [_numeric(pair, worth) if pair.kind == "numeric" else _categorical(pair, worth) for pair in pairs]
        adjusted = holm([min(1.0, CAUTION * change.p_value) for change in changes])
        return results + [self._result(pair, change, p) for pair, change, p in zip(pairs, changes, adjusted)]

    def _result(self, pair: Pair, change: _Change, p_value: float) -> CheckResult:
        threshold = self.numeric_effect if pair.kind == "numeric" else self.categorical_effect
        certain, large = p_value <= self.alpha, change.effect > threshold
        verdict = (
            "exceeds" if large else "is within"
        ) + f" {threshold:.4g}; p {p_value:.2g} {'is at most' if certain else 'is above'} {self.alpha:.4g}"
        return CheckResult(
            self.name,
            pair.name,
            "violated" if certain and large else "ok",
            min(change.effect, LARGEST),
            threshold,
            p_value,
            kind=self.name,
            description=f"{change.what} {change.effect:.4g} {verdict}.",
        )


@dataclass(frozen=True, slots=True)
class _Change:
    """How far one column moved, in words and numbers, and the p-value before correction."""

    what: str
    effect: float
    p_value: float


def _numeric(pair: Pair, worth: Independence) -> _Change:
    left, right = pair.baseline, pair.window
    spread = left.moments.std
    moved = displacement(left.quantiles, right.quantiles, scale=spread)
    p_value = displacement_p_value(moved, values(left) * worth.baseline, values(right) * worth.window)
    if spread > 0.0:
        return _Change("Wasserstein distance in standard deviations", moved.wasserstein, p_value)
    return _Change("Share of values other than the baseline's constant", moved.ks, p_value)


def _categorical(pair: Pair, worth: Independence) -> _Change:
    baseline, window = merged_counts(pair, worth)
    effect = distances.tvd(baseline, window)
    return _Change("Total variation distance of categories", effect, chi_squared_p_value(baseline, window))
