"""Distances between two samples, sketches or tables of counts; pure functions.

Rule: every function names its source and formula, and says what it gives for empty input (NaN: there is no answer).
Distances of distributions take values (arrays; NaN and infinities are left out), sketches or column profiles; distances
of counts take two arrays of counts over the same categories or bins (`paired`, `binned`). The first is the baseline.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vedette.core.errors import InvalidArgument
from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.column import ColumnProfile
from vedette.profiles.layout import column_layout
from vedette.profiles.quantiles import Quantiles

Floats = NDArray[np.float64]
Distribution = ArrayLike | Quantiles | ColumnProfile

OTHER = "(other)"
"""Stands for all categories without a name of their own."""


@dataclass(frozen=True, slots=True)
class ChiSquared:
    """A chi-squared test; NaN where fewer than two categories are left."""

    statistic: float
    p_value: float
    degrees: int


def ks(first: Distribution, second: Distribution) -> float:
    """Kolmogorov-Smirnov distance: sup |F1(x) - F2(x)|, in [0, 1]; NaN when one of the two is empty.

    On sketches each CDF is off by at most the sketch's rank error. Source: Smirnov, 1939; `scipy.stats.ks_2samp`.
    """
    grid, one, two = _cdfs(first, second)
    return float(np.max(np.abs(one - two))) if len(grid) else math.nan


def wasserstein(first: Distribution, second: Distribution, *, scale: float = 1.0) -> float:
    """First Wasserstein distance: integral of |F1(x) - F2(x)| dx, divided by `scale`; NaN when one of the two is empty.

    With the baseline's standard deviation as `scale` it is free of units. A scale of 0 (a constant baseline) gives 0
    when nothing moved and infinity when anything did. Source: Vallender, 1974; `scipy.stats.wasserstein_distance`.
    """
    grid, one, two = _cdfs(first, second)
    if not len(grid):
        return math.nan
    with np.errstate(over="ignore"):
        # In halves: the distance of two floats of different signs may itself be none.
        area = 2.0 * float(np.sum(np.abs(one - two)[:-1] * np.diff(grid / 2)))
    if scale == 0.0:
        return math.inf if area else 0.0
    return area / scale


def psi(expected: ArrayLike, observed: ArrayLike, *, floor: float = 1e-4) -> float:
    """Population stability index: sum of (q - p) ln(q / p) over shares p and q; NaN when one of the two is empty.

    A share below `floor` counts as `floor`, so that an empty bin costs a finite amount; a bin empty in both is left
    out. Source: Siddiqi, "Credit risk scorecards", 2006 (above 0.1 a change, above 0.25 a large one, by custom).
    """
    shares = _shares(expected, observed)
    if shares is None:
        return math.nan
    p, q = (np.maximum(share[(shares[0] > 0) | (shares[1] > 0)], floor) for share in shares)
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(expected: ArrayLike, observed: ArrayLike) -> float:
    """Jensen-Shannon distance: root of (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, logarithms to base 2.

    In [0, 1]; NaN when one of the two is empty. Source: Endres and Schindelin, 2003;
    `scipy.spatial.distance.jensenshannon(p, q, base=2)`.
    """
    shares = _shares(expected, observed)
    if shares is None:
        return math.nan
    p, q = shares
    middle = (p + q) / 2
    return math.sqrt(max(0.0, _relative_entropy(p, middle) + _relative_entropy(q, middle)) / (2 * math.log(2)))


def hellinger(expected: ArrayLike, observed: ArrayLike) -> float:
    """Hellinger distance: |sqrt(p) - sqrt(q)| / sqrt(2), in [0, 1]; NaN when one of the two is empty.

    Source: Hellinger, 1909, normalised as in Nikulin, Encyclopedia of Mathematics.
    """
    shares = _shares(expected, observed)
    return float(np.linalg.norm(np.sqrt(shares[0]) - np.sqrt(shares[1])) / math.sqrt(2)) if shares else math.nan


def tvd(expected: ArrayLike, observed: ArrayLike) -> float:
    """Total variation distance: half of sum |p - q|, in [0, 1]; NaN when one of the two is empty.

    The largest difference of the probabilities of any event. Source: Levin and Peres, "Markov chains and mixing
    times", proposition 4.2.
    """
    shares = _shares(expected, observed)
    return float(np.abs(shares[0] - shares[1]).sum() / 2) if shares else math.nan


def l_infinity(expected: ArrayLike, observed: ArrayLike) -> float:
    """The largest |p - q| of one category, in [0, 1]; NaN when one of the two is empty.

    Source: Deequ's `Distance.categoricalDistance` with LInfinity, simple.
    """
    shares = _shares(expected, observed)
    return float(np.max(np.abs(shares[0] - shares[1]))) if shares else math.nan


def chi_squared(expected: ArrayLike, observed: ArrayLike, *, merge: bool = True) -> ChiSquared:
    """Pearson's test of observed counts against expected ones, scaled to the observed total.

    NaN when one of the two is empty or fewer than two categories are left. With `merge` small categories are joined
    as Deequ's `Distance.categoricalDistance` with ChiSquared does: as long as more than 20 % of the categories (or,
    of two, any) expect fewer than 5 (of two, 10), the one that expects the fewest goes into the next smallest. Beyond
    Deequ, a category that is not expected at all is always joined, for it would divide by zero.
    """
    if _shares(expected, observed) is None:
        return ChiSquared(math.nan, math.nan, 0)
    e, o = _counts(expected), _counts(observed)
    e = e * (o.sum() / e.sum())
    e, o = _joined(e, o, merge=merge)
    if len(e) < 2:
        return ChiSquared(math.nan, math.nan, 0)
    statistic = float(np.sum((o - e) ** 2 / e))
    return ChiSquared(statistic, chi_squared_tail(statistic, len(e) - 1), len(e) - 1)


def _joined(expected: Floats, observed: Floats, *, merge: bool) -> tuple[Floats, Floats]:
    """Expected and observed counts, the two that expect the fewest joined until none, or few enough, are small."""
    heap = list(zip(expected.tolist(), observed.tolist()))
    heapq.heapify(heap)
    small = int(np.count_nonzero(expected < 5))
    while len(heap) >= 2 and (heap[0][0] == 0.0 or (merge and _too_small(heap, small))):
        (e1, o1), (e2, o2) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (e1 + e2, o1 + o2))
        small += (e1 + e2 < 5) - (e1 < 5) - (e2 < 5)
    e, o = np.array(heap).T
    return e, o


def _too_small(heap: list[tuple[float, float]], small: int) -> bool:
    return heap[0][0] < 10 if len(heap) == 2 else small > 0.2 * len(heap)


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for a chi-squared variable, within 1e-9 of itself.

    Source: Abramowitz and Stegun 26.4.4 and 26.4.5, the finite sums for odd and even degrees of freedom.
    """
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    if degrees % 2:
        odd = np.cumsum(np.log(half / (np.arange(1, degrees // 2 + 1) - 0.5)))
        return min(1.0, math.erfc(math.sqrt(half)) + float(np.exp(odd - 0.5 * math.log(math.pi * half) - half).sum()))
    even = np.cumsum(np.log(half / np.arange(1, degrees // 2)))
    return min(1.0, math.exp(-half) + float(np.exp(even - half).sum()))


def deequ_simple(first: Distribution, second: Distribution) -> float:
    """Deequ's numeric distance, simple: the largest |F1(x) - F2(x)| over the values of both sketches; see `ks`.

    Source: Deequ 2.0.2, `Distance.numericalDistance` with `correctForLowNumberOfSamples = true` (the flag says the
    reverse of what it does). The categorical simple distance is `l_infinity`.
    """
    return ks(first, second)


def deequ_robust(distance: float, first_rows: int, second_rows: int) -> float:
    """Deequ's robust distance of a simple one: max(0, D - 1.8 sqrt((n + m) / (n m))); NaN when n or m is 0.

    1.8 is about the KS test's critical value at a level of 0.003; with 100 rows on both sides 0.25 is taken away, so
    small windows hardly ever drift. Source: Deequ 2.0.2, `Distance.selectMetrics`.
    """
    if not first_rows or not second_rows or math.isnan(distance):
        return math.nan
    return max(0.0, distance - 1.8 * math.sqrt((first_rows + second_rows) / (first_rows * second_rows)))


def binned(baseline: ColumnProfile, window: ColumnProfile) -> tuple[Floats, Floats]:
    """Counts of both in the bins of the window's layout, with the values below first and those above last.

    The baseline's are exact when it was folded over the same edges, else from its sketch; so are those of a window
    that was opened before there was a baseline, in the bins that it would have had.
    """
    edges = window.bins.edges
    if not len(edges):
        edges = np.array(column_layout(baseline).edges, np.float64)
    return _bin_counts(baseline, edges), _bin_counts(window, edges)


def paired(
    baseline: Categories | Mapping[str, int], window: Categories | Mapping[str, int]
) -> tuple[list[str], Floats, Floats]:
    """The names of all categories of both and their counts; what is counted under no name comes last.

    When the baseline itself could not name all of its categories, those of the window that it does not name may be
    among them and are counted with the rest, or rare categories would look like new ones.
    """
    (one, rest_one), (two, rest_two) = _named(baseline), _named(window)
    if rest_one:
        rest_two += sum(count for name, count in two.items() if name not in one)
        two = {name: count for name, count in two.items() if name in one}
    names = sorted({*one, *two})
    counts = [[float(side.get(name, 0)) for name in names] for side in (one, two)]
    if rest_one or rest_two:
        names.append(OTHER)
        counts = [[*counts[0], rest_one], [*counts[1], rest_two]]
    return names, np.array(counts[0]), np.array(counts[1])


def _named(categories: Categories | Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Counts by name and the count under no name."""
    if isinstance(categories, Categories):
        return categories.counts, categories.other
    return dict(categories), 0


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
    distinct, counts = np.unique(array[np.isfinite(array)], return_counts=True)
    return distinct, counts.astype(np.float64)


def _cdfs(first: Distribution, second: Distribution) -> tuple[Floats, Floats, Floats]:
    """All values of both, ascending, and both CDFs there; no values when one of the two is empty."""
    (x1, w1), (x2, w2) = _points(first), _points(second)
    if not len(x1) or not len(x2):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    values = np.concatenate((x1, x2))
    order = np.argsort(values, kind="stable")
    one = np.concatenate((w1, np.zeros(len(w2))))[order]
    two = np.concatenate((np.zeros(len(w1)), w2))[order]
    grid = values[order]
    last = np.append(grid[1:] != grid[:-1], np.True_)
    return grid[last], np.cumsum(one)[last] / w1.sum(), np.cumsum(two)[last] / w2.sum()


def _shares(expected: ArrayLike, observed: ArrayLike) -> tuple[Floats, Floats] | None:
    """Both as shares of their totals; None when one of the two counts nothing."""
    p, q = _counts(expected), _counts(observed)
    if p.shape != q.shape:
        raise InvalidArgument(f"distances compare counts of the same categories, not {len(p)} with {len(q)}")
    if not p.sum() or not q.sum():
        return None
    return p / p.sum(), q / q.sum()


def _counts(counts: ArrayLike) -> Floats:
    array = np.asarray(counts, dtype=np.float64).ravel()
    if not np.isfinite(array).all() or (array < 0).any():
        raise InvalidArgument("counts are finite and not negative")
    return array


def _relative_entropy(p: Floats, q: Floats) -> float:
    """Kullback-Leibler divergence in nats; q is positive wherever p is."""
    occurs = p > 0
    return float(np.sum(p[occurs] * np.log(p[occurs] / q[occurs])))
