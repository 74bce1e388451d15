"""Distances between two samples, sketches or tables of counts; pure functions.

Rule: every function names its source and formula, and says what it gives for empty input (NaN: there is no answer).
Distances of distributions take values (arrays; NaN is left out), sketches or column profiles; distances of counts
take two arrays of counts over the same categories or bins (`paired`, `binned`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.column import ColumnProfile
from vedette.profiles.quantiles import Quantiles

Floats = NDArray[np.float64]
Distribution = ArrayLike | Quantiles | ColumnProfile


@dataclass(frozen=True, slots=True)
class ChiSquared:
    """A chi-squared test; NaN where fewer than two categories are left."""

    statistic: float
    p_value: float
    degrees: int


def ks(first: Distribution, second: Distribution) -> float:
    """Kolmogorov-Smirnov: sup |F1(x) - F2(x)|, in [0, 1].

    On sketches each CDF is off by at most the sketch's rank error.
    """
    grid, one, two = _cdfs(first, second)
    return float(np.max(np.abs(one - two))) if len(grid) else math.nan


def wasserstein(first: Distribution, second: Distribution, *, scale: float = 1.0) -> float:
    """First Wasserstein distance: the area between the CDFs, in units of the values, divided by `scale`.

    With `scale` the baseline's standard deviation it is normalised; a scale of 0 gives 0 for equal distributions,
    else infinity.
    """
    grid, one, two = _cdfs(first, second)
    if not len(grid):
        return math.nan
    area = float(np.sum(np.abs(one - two)[:-1] * np.diff(grid)))
    if scale == 0.0:
        return math.inf if area else 0.0
    return area / scale


def psi(expected: ArrayLike, observed: ArrayLike, *, floor: float = 1e-4) -> float:
    """Population stability index: sum of (q - p) ln(q / p) over shares; a share of 0 counts as `floor`."""
    p, q = _shares(expected, observed)
    p, q = np.maximum(p, floor), np.maximum(q, floor)
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(expected: ArrayLike, observed: ArrayLike) -> float:
    """Jensen-Shannon distance: the root of the divergence with base 2, in [0, 1]."""
    p, q = _shares(expected, observed)
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_entropy(p, middle) + _entropy(q, middle)) / 2 / math.log(2)))


def hellinger(expected: ArrayLike, observed: ArrayLike) -> float:
    """Hellinger: |sqrt(p) - sqrt(q)| / sqrt(2), in [0, 1]."""
    p, q = _shares(expected, observed)
    return float(np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / math.sqrt(2))


def tvd(expected: ArrayLike, observed: ArrayLike) -> float:
    """Total variation distance: half of sum |p - q|, in [0, 1]."""
    p, q = _shares(expected, observed)
    return float(np.abs(p - q).sum() / 2)


def l_infinity(expected: ArrayLike, observed: ArrayLike) -> float:
    """The largest |p - q| of one category; Deequ's categorical LInfinity, simple."""
    p, q = _shares(expected, observed)
    return float(np.max(np.abs(p - q), initial=0.0)) if not np.isnan(p + q).any() else math.nan


def chi_squared(expected: ArrayLike, observed: ArrayLike) -> ChiSquared:
    """Deequ's chi-squared test: expected counts scaled to the observed total."""
    e, o = _counts(expected), _counts(observed)
    e = e * (o.sum() / e.sum()) if e.sum() else e
    keep = e > 0
    e, o = e[keep], o[keep]
    if len(e) < 2:
        return ChiSquared(math.nan, math.nan, 0)
    statistic = float(np.sum((o - e) ** 2 / e))
    return ChiSquared(statistic, chi_squared_tail(statistic, len(e) - 1), len(e) - 1)


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for a chi-squared variable.

    Source: Abramowitz and Stegun 26.4.4 and 26.4.5, the finite sums for odd and even degrees of freedom.
    """
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    if degrees % 2:
        steps = np.arange(1, degrees // 2 + 1) - 0.5
        terms = np.exp(np.cumsum(np.log(half / steps)) - 0.5 * math.log(math.pi * half) - half)
        return min(1.0, math.erfc(math.sqrt(half)) + float(terms.sum()))
    steps = np.arange(1, degrees // 2)
    return min(1.0, math.exp(-half) + float(np.exp(np.cumsum(np.log(half / steps)) - half).sum()))


def deequ_simple(first: Distribution, second: Distribution) -> float:
    """Deequ's numeric Simple distance: the KS distance of the two sketches."""
    return ks(first, second)


def deequ_robust(distance: float, first_rows: int, second_rows: int) -> float:
    """Deequ's Robust distance: max(0, D - 1.8 sqrt((n + m) / (n m))) of a simple distance D."""
    if not first_rows or not second_rows:
        return math.nan
    return max(0.0, distance - 1.8 * math.sqrt((first_rows + second_rows) / (first_rows * second_rows)))


def binned(baseline: ColumnProfile, window: ColumnProfile) -> tuple[Floats, Floats]:
    """Counts of both in the bins of the window's layout, with the values below first and those above last.

    The baseline's are exact when it was folded over the same edges, else from its sketch.
    """
    edges = window.bins.edges
    return _bin_counts(baseline, edges), _bin_counts(window, edges)


def paired(
    baseline: Categories | Mapping[str, int], window: Categories | Mapping[str, int]
) -> tuple[list[str], Floats, Floats]:
    """Categories of both, by name, and their counts; what is counted under no name comes last as `other`."""
    one, two = _named(baseline), _named(window)
    names = sorted({*one, *two})
    return names, np.array([one.get(n, 0) for n in names], float), np.array([two.get(n, 0) for n in names], float)


def _named(categories: Categories | Mapping[str, int]) -> dict[str, int]:
    if isinstance(categories, Categories):
        return {**categories.counts, **({"(other)": categories.other} if categories.other else {})}
    return dict(categories)


def _bin_counts(column: ColumnProfile, edges: Floats) -> Floats:
    if not len(edges):
        return np.zeros(0)
    bins = column.bins
    if not np.array_equal(bins.edges, edges):
        counts, below, above = column.quantiles.counts(edges)
        bins = Bins(edges, counts, below, above)
    return np.concatenate(([bins.below], bins.counts, [bins.above])).astype(np.float64)


def _points(values: Distribution) -> tuple[Floats, Floats]:
    """Distinct values in ascending order and their weights."""
    if isinstance(values, ColumnProfile):
        return values.quantiles.points()
    if isinstance(values, Quantiles):
        return values.points()
    array = np.asarray(values, dtype=np.float64).ravel()
    distinct, counts = np.unique(array[~np.isnan(array)], return_counts=True)
    return distinct, counts.astype(np.float64)


def _cdfs(first: Distribution, second: Distribution) -> tuple[Floats, Floats, Floats]:
    """All values of both, ascending, and both CDFs there; nothing when one of the two is empty."""
    (x1, w1), (x2, w2) = _points(first), _points(second)
    if not len(x1) or not len(x2):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    grid = np.union1d(x1, x2)
    return grid, _cdf(x1, w1, grid), _cdf(x2, w2, grid)


def _cdf(values: Floats, weights: Floats, grid: Floats) -> Floats:
    shares = np.concatenate(([0.0], np.cumsum(weights))) / weights.sum()
    return np.asarray(shares[np.searchsorted(values, grid, side="right")])


def _counts(counts: ArrayLike) -> Floats:
    return np.asarray(counts, dtype=np.float64).ravel()


def _shares(expected: ArrayLike, observed: ArrayLike) -> tuple[Floats, Floats]:
    p, q = _counts(expected), _counts(observed)
    return p / (p.sum() or math.nan), q / (q.sum() or math.nan)


def _entropy(p: Floats, q: Floats) -> float:
    """Kullback-Leibler divergence in nats; q is positive wherever p is."""
    if np.isnan(p).any() or np.isnan(q).any():
        return math.nan
    keep = p > 0
    return float(np.sum(p[keep] * np.log(p[keep] / q[keep])))
