"""Bias metrics: how a model and its data treat the rows in a facet (d) and those outside it (a).

The formulas and names are those of SageMaker Clarify. All but two follow from a table of counts, so they are
functions of that table, and a resampled table is enough to tell how sure they are.

Rule: pure functions; 0/0 is 0 and x/0 infinite, and two equal infinities differ by 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""Rows by (group, facet, label, prediction); the last three are 0 or 1, 1: in the facet, favourable."""
Flags = NDArray[np.bool_]

NEIGHBOURS = 5
_FEW_ROWS = 9
"""With no more rows the flip test asks one neighbour."""


@dataclass(frozen=True, slots=True)
class BiasMetric:
    """One metric by its short name."""

    name: str
    title: str
    formula: Callable[[Counts], float]
    needs_labels: bool = True

    @property
    def description(self) -> str:
        """As Clarify writes it."""
        return f"{self.title} ({self.name})"


def count(facet: Flags, labels: Flags, predicted: Flags, groups: NDArray[np.int64] | None = None) -> Counts:
    """Rows counted by group (all one group if None), facet, label and prediction."""
    coded = facet * 4 + labels * 2 + predicted
    number = 1 if groups is None or not groups.size else int(groups.max()) + 1
    cells = np.bincount(coded if groups is None else groups * 8 + coded, minlength=8 * number)
    return cells.reshape(number, 2, 2, 2).astype(np.float64)


def resampled(counts: Counts, generator: np.random.Generator) -> Counts:
    """The counts of a bootstrap resample of the same rows."""
    rows = counts.sum()
    return generator.multinomial(int(rows), counts.ravel() / rows).reshape(counts.shape).astype(np.float64)


def divide(part: float, whole: float) -> float:
    """Clarify's division: 0/0 is 0, x/0 is infinite."""
    if whole == 0:
        return 0.0 if part == 0 else math.copysign(math.inf, part)
    return part / whole


def _difference(one: float, other: float) -> float:
    return 0.0 if one == other else one - other


@dataclass(frozen=True, slots=True)
class _Side:
    """The counts of one side of the facet, over all groups."""

    tp: float
    fp: float
    fn: float
    tn: float

    @property
    def rows(self) -> float:
        return self.tp + self.fp + self.fn + self.tn

    @property
    def accepted(self) -> float:
        return self.tp + self.fp

    @property
    def rejected(self) -> float:
        return self.fn + self.tn


def _sides(counts: Counts) -> tuple[_Side, _Side]:
    """The sides a (outside the facet) and d (in it)."""
    by_side = counts.sum(axis=0)
    a, d = (_Side(float(side[1, 1]), float(side[0, 1]), float(side[1, 0]), float(side[0, 0])) for side in by_side)
    return a, d


def _disparity(of_side: Callable[[_Side], float]) -> Callable[[Counts], float]:
    """The metric's value on side a minus that on side d."""

    def formula(counts: Counts) -> float:
        a, d = _sides(counts)
        return _difference(of_side(a), of_side(d))

    return formula


def _reversed(of_side: Callable[[_Side], float]) -> Callable[[Counts], float]:
    """The metric's value on side d minus that on side a."""

    def formula(counts: Counts) -> float:
        a, d = _sides(counts)
        return _difference(of_side(d), of_side(a))

    return formula


def disparate_impact(counts: Counts) -> float:
    """Share predicted favourably in the facet over the share outside it."""
    a, d = _sides(counts)
    return divide(divide(d.accepted, d.rows), divide(a.accepted, a.rows))


def _conditional_disparity(favourable: NDArray[np.float64]) -> float:
    """Demographic disparity averaged over groups; `favourable` counts (group, facet, 0 or 1)."""
    sizes = favourable.sum(axis=(1, 2))
    disparities = [
        divide(float(group[1, 0]), float(group[:, 0].sum())) - divide(float(group[1, 1]), float(group[:, 1].sum()))
        for group in favourable
    ]
    return divide(float(sizes @ np.array(disparities)), float(sizes.sum()))


def generalized_entropy(counts: Counts) -> float:
    """Half the squared coefficient of variation of the benefit b = prediction - label + 1 (alpha = 2)."""
    cells = counts.sum(axis=(0, 1))
    benefits = np.array([[1.0, 2.0], [0.0, 1.0]])
    rows = float(cells.sum())
    mean = divide(float((cells * benefits).sum()), rows)
    if mean == 0:
        return 0.0
    return divide(0.5 * float((cells * ((benefits / mean) ** 2 - 1)).sum()), rows)


POST_TRAINING: tuple[BiasMetric, ...] = (
    BiasMetric("AD", "Accuracy Difference", _disparity(lambda s: divide(s.tp + s.tn, s.rows))),
    BiasMetric(
        "CDDPL",
        "Conditional Demographic Disparity in Predicted Labels",
        lambda counts: _conditional_disparity(counts.sum(axis=2)),
        needs_labels=False,
    ),
    BiasMetric("DAR", "Difference in Acceptance Rates", _disparity(lambda s: divide(s.tp, s.accepted))),
    BiasMetric("DCA", "Difference in Conditional Acceptance", _disparity(lambda s: divide(s.tp + s.fn, s.accepted))),
    BiasMetric("DCR", "Difference in Conditional Rejection", _reversed(lambda s: divide(s.fp + s.tn, s.rejected))),
    BiasMetric("DI", "Disparate Impact", disparate_impact, needs_labels=False),
    BiasMetric(
        "DPPL",
        "Difference in Positive Proportions in Predicted Labels",
        _disparity(lambda s: divide(s.accepted, s.rows)),
        needs_labels=False,
    ),
    BiasMetric("DRR", "Difference in Rejection Rates", _reversed(lambda s: divide(s.tn, s.rejected))),
    BiasMetric("GE", "Generalized Entropy", generalized_entropy),
    BiasMetric("RD", "Recall Difference", _disparity(lambda s: divide(s.tp, s.tp + s.fn))),
    BiasMetric("SD", "Specificity Difference", _reversed(lambda s: divide(s.tn, s.tn + s.fp))),
    BiasMetric("TE", "Treatment Equality", _reversed(lambda s: divide(s.fn, s.fp))),
)
"""The metrics of a model's predictions; `FT`, the flip test, needs the rows themselves."""

FLIP_TEST = ("FT", "Flip Test (FT)")


def _distributions(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of unfavourable and favourable labels outside and in the facet."""
    by_side = counts.sum(axis=(0, 3))
    a, d = (np.array([divide(float(one), float(side.sum())) for one in side]) for side in by_side)
    return a, d


def _kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    terms = [x * math.log(x / y) if y > 0 else math.inf for x, y in zip(p.tolist(), q.tolist()) if x > 0]
    return math.fsum(terms) if all(map(math.isfinite, terms)) else math.inf


def _kullback_leibler(counts: Counts) -> float:
    return _kl(*_distributions(counts))


def _jensen_shannon(counts: Counts) -> float:
    a, d = _distributions(counts)
    return 0.5 * (_kl(a, (a + d) / 2) + _kl(d, (a + d) / 2))


def _norm(of_difference: Callable[[NDArray[np.float64]], float]) -> Callable[[Counts], float]:
    def formula(counts: Counts) -> float:
        a, d = _distributions(counts)
        return of_difference(a - d)

    return formula


def _class_imbalance(counts: Counts) -> float:
    a, d = _sides(counts)
    return divide(a.rows - d.rows, a.rows + d.rows)


PRE_TRAINING: tuple[BiasMetric, ...] = (
    BiasMetric(
        "CDDL",
        "Conditional Demographic Disparity in Labels",
        lambda counts: _conditional_disparity(counts.sum(axis=3)),
    ),
    BiasMetric("CI", "Class Imbalance", _class_imbalance),
    BiasMetric(
        "DPL", "Difference in Positive Proportions in Labels", _disparity(lambda s: divide(s.tp + s.fn, s.rows))
    ),
    BiasMetric("JS", "Jensen-Shannon Divergence", _jensen_shannon),
    BiasMetric("KL", "Kullback-Liebler Divergence", _kullback_leibler),
    BiasMetric("KS", "Kolmogorov-Smirnov Distance", _norm(lambda gap: float(np.abs(gap).max()))),
    BiasMetric("LP", "L-p Norm", _norm(lambda gap: float(np.sqrt((gap**2).sum())))),
    BiasMetric("TVD", "Total Variation Distance", _norm(lambda gap: 0.5 * float(np.abs(gap).sum()))),
)
"""The metrics of the labels alone."""


def flips(features: NDArray[np.float64], facet: Flags, predicted: Flags) -> NDArray[np.int64]:
    """For each row in the facet whether its nearest rows outside it are predicted otherwise.

    1: it is rejected where they are accepted, -1: the reverse, 0: as they are. The nearest are the 5 (1 with 9
    rows or fewer) by Euclidean distance over the features, each divided by its standard deviation; empty when
    the facet or its outside is.
    """
    outside, inside = np.flatnonzero(~facet), np.flatnonzero(facet)
    if not outside.size or not inside.size:
        return np.zeros(0, np.int64)
    scale = features.std(axis=0)
    scaled = features / np.where(scale > 0, scale, 1.0)
    wanted = min(NEIGHBOURS if facet.size > _FEW_ROWS else 1, outside.size)
    votes = np.empty(inside.size)
    for start in range(0, inside.size, 256):  # 256 x 2,000 distances at a time
        block = inside[start : start + 256]
        near = np.argsort(_squared_distances(scaled[block], scaled[outside]), axis=1, kind="stable")[:, :wanted]
        votes[start : start + 256] = predicted[outside][near].mean(axis=1)
    return (votes > 0.5).astype(np.int64) - predicted[inside].astype(np.int64)


def _squared_distances(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2.0 * rows @ others.T
    return np.asarray(
        np.round(squares, 9), np.float64
    )  # equal rows have equal distances, whatever the order of summation


def flip_test(flipped: NDArray[np.int64]) -> float:
    """The flip test: (rejected but for the facet - accepted but for it) / rows in the facet."""
    return float(flipped.mean()) if flipped.size else 0.0
