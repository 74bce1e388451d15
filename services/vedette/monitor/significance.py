"""How sure one can be that a window differs from its baseline: p-values from profiles, and how they are corrected.

Rule: both sides are samples, so both sizes count; where an assumption fails, a p-value here errs upwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array
from vedette.monitor.pairs import Pair, category_counts
from vedette.profiles import Profile, Quantiles, distances
from vedette.profiles.hashing import mixed

Floats = NDArray[np.float64]
Codes = NDArray[np.uint64]

MIN_EXPECTED = 5.0
"""Cochran's rule: a cell of a contingency table with a smaller expected count is merged with others."""
MOST_ALIKE = 0.02
"""When more pairs of the baseline's rows than this are alike, rows are too simple to tell a repetition by."""
MIN_INDEPENDENT = 30.0
"""However much rows repeat, they count as so many: a feed that is stuck on one row must still be noticed."""
UNSEEN = 3.0
"""Alike pairs that may be there when a sample shows none, with 95 % confidence (the rule of three)."""


@dataclass(frozen=True, slots=True)
class Displacement:
    """How one distribution of numbers lies to another."""

    ks: float
    """Kolmogorov-Smirnov distance."""
    auc: float
    """The chance that a value of the second is above one of the first, ties by half."""
    wasserstein: float
    """First Wasserstein distance in units of the scale that was given."""
    rank_error: float
    """How far `ks` and `auc` may be off because of the sketches, with 99 % confidence each."""


def displacement(first: Quantiles, second: Quantiles, *, scale: float) -> Displacement:
    """Compare two sketches that are not empty, in one pass over their points: every column of every window needs it."""
    (x, counts), (y, more) = first.points(), second.points()
    values = np.concatenate((x, y))
    order = np.argsort(values, kind="stable")
    apart = np.abs(np.cumsum(np.concatenate((counts / counts.sum(), -more / more.sum()))[order]))[:-1]
    halves = np.diff(values[order] * 0.5)  # a whole difference may leave float64
    below = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
    ranks = below[np.searchsorted(x, y, "left")] + below[np.searchsorted(x, y, "right")]
    return Displacement(
        ks=float(apart.max(where=halves > 0, initial=0.0)),
        auc=float((more * ranks).sum() / more.sum() / 2),  # a BLAS product would wake threads for so little
        wasserstein=float((apart * halves).sum()) / scale * 2 if scale else math.inf,
        rank_error=first.rank_error + second.rank_error,
    )


def displacement_p_value(moved: Displacement, n: float, m: float) -> float:
    """Whether two samples of `n` and `m` independent values lie apart: the smaller p-value of two tests, doubled.

    Kolmogorov-Smirnov sees any change of shape, Mann-Whitney sees a shift with half the data. What the sketches may
    be off by is taken off both statistics.
    """
    ks = ks_p_value(max(0.0, moved.ks - moved.rank_error), n, m)
    away = max(0.0, abs(moved.auc - 0.5) - moved.rank_error)
    return min(1.0, 2 * min(ks, 2 * auc_p_value(0.5 + away, n, m)))


def ks_p_value(distance: float, n: float, m: float) -> float:
    """The chance of a two-sample Kolmogorov-Smirnov distance this large: the limit distribution, an upper bound
    for ties and small samples."""
    from scipy.special import kolmogorov

    return float(kolmogorov(math.sqrt(n * m / (n + m)) * distance))


def chi_squared_p_value(baseline: Floats, window: Floats) -> float:
    """Pearson's test of homogeneity of two rows of counts, whose rare cells were merged; 1 for a single cell."""
    from scipy.special import chdtrc

    table = np.stack((baseline, window))
    total = table.sum()
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chdtrc(table.shape[1] - 1, statistic))


def deequ_chi_squared(baseline: Floats, window: Floats) -> float:
    """The p-value of Deequ's chi-squared test: the baseline's shares are the truth; NaN with fewer than two cells.

    Small categories are merged, the smallest into the next smallest, until all expected counts of two categories
    are 10 or more, and of more categories at most 20 % are below 5 and none is 0.
    """
    expected, seen = baseline * (window.sum() / (baseline.sum() or math.nan)), window
    order = np.argsort(expected, kind="stable")
    cells = [(float(expected[i]), float(seen[i])) for i in order if expected[i] or seen[i]]
    while len(cells) > 1 and _too_small([cell[0] for cell in cells]):
        (e, o), (next_e, next_o) = cells[:2]
        cells = sorted([(e + next_e, o + next_o), *cells[2:]])
    if len(cells) < 2:
        return math.nan
    return distances.chi_squared(*zip(*cells)).p_value


def _too_small(expected: Sequence[float]) -> bool:
    if len(expected) == 2:
        return min(expected) < 10
    return min(expected) <= 0 or sum(e < 5 for e in expected) > 0.2 * len(expected)


def auc_p_value(auc: float, n: float, m: float) -> float:
    """The chance of an area under the ROC curve this large by guessing: Mann-Whitney's normal approximation, an
    upper bound for ties."""
    from scipy.special import ndtr

    return float(ndtr(-(auc - 0.5) * math.sqrt(12 * n * m / (n + m + 1))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: at or below alpha only with family-wise error of at most alpha, whatever the
    dependence. Source: Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def merged_counts(pair: Pair, worth: Independence) -> tuple[Floats, Floats]:
    """Independent rows by category of the baseline and of the window, with rare categories as one.

    Which cells are rare is decided by both sides together, so that the choice favours neither side.
    """
    before, after = category_counts(pair.baseline, pair.window)
    merged = _without_rare(np.stack((before * worth.baseline, after * worth.window)))
    return merged[0], merged[1]


def _without_rare(table: Floats) -> Floats:
    """The table with its rare columns as one, and that one with the rarest of the others while it is rare itself."""
    least = MIN_EXPECTED * table.sum() / (table.sum(axis=1).min() or math.nan)
    columns = sorted(table.T, key=lambda column: float(column.sum()))
    rest = np.zeros(2)
    while columns and (columns[0].sum() < least or 0 < rest.sum() < least):
        rest = rest + columns.pop(0)
    return np.array([rest, *columns] if rest.any() else columns).T


@dataclass(frozen=True, slots=True)
class Independence:
    """How many independent rows one row of each side is worth, at most 1."""

    baseline: float = 1.0
    window: float = 1.0


def independence(baseline: Profile, window: Profile) -> Independence:
    """How far rows repeat on each side, measured on the samples of whole rows.

    A window that replays few rows again and again holds little more than those rows: with rows i repeated m_i times
    the variance of every share and mean is that of n_eff = n^2 / sum m_i^2 independent rows (Kish's design effect).
    sum m_i^2 follows from the share q of pairs of sampled rows that are alike: n_eff = n / (1 + (n - 1) q). Rows
    may also be alike because there are few ways for a row to be: such pairs are found as often between window and
    baseline as within each, and only the excess is repetition. In tables whose rows cannot be told apart
    (`MOST_ALIKE`) an excess would be drift itself, so there rows count in full.
    """
    codes = row_codes(baseline.sample.columns(), window.sample.columns())
    if codes is None:
        return Independence()
    within_baseline, within_window = alike(codes[0]), alike(codes[1])
    if within_baseline > MOST_ALIKE:
        return Independence()
    across = _alike_across(*codes)
    return Independence(
        _worth(baseline.rows, within_baseline - across, len(codes[0])),
        _worth(window.rows, within_window - across, len(codes[1])),
    )


def _worth(rows: int, excess: float, sampled: int) -> float:
    pairs = sampled * (sampled - 1) / 2
    excess = max(0.0, excess) + (UNSEEN / pairs if pairs and rows > sampled else 0.0)
    independent = rows / (1.0 + (rows - 1) * excess)
    return max(independent, min(MIN_INDEPENDENT, rows)) / rows if rows else 1.0


def row_codes(baseline: Mapping[str, Array], window: Mapping[str, Array]) -> tuple[Codes, Codes] | None:
    """One number per sampled row over the columns that both sides have, equal for equal rows; None without rows."""
    shared = sorted(baseline.keys() & window.keys())
    sizes = [len(next(iter(columns.values()))) if columns else 0 for columns in (baseline, window)]
    if not shared or min(sizes) < 2:
        return None
    codes = np.zeros(sum(sizes), dtype=np.uint64)
    for name in shared:
        codes = mixed(codes ^ mixed(_value_codes(baseline[name], window[name])))
    return codes[: sizes[0]], codes[sizes[0] :]


def _value_codes(baseline: Array, window: Array) -> Codes:
    if baseline.dtype.kind == "O" or window.dtype.kind == "O":
        numbers: dict[object, int] = {}
        texts = [*baseline.tolist(), *window.tolist()]
        return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.uint64)
    both = np.concatenate((baseline, window)).astype(np.float64) + 0.0  # -0.0 becomes 0.0
    both[np.isnan(both)] = np.nan  # one of the many bit patterns
    return both.view(np.uint64)


def alike(codes: Codes) -> float:
    """The share of pairs of different rows that are alike."""
    counts = np.unique(codes, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum()) / (len(codes) * (len(codes) - 1))


def _alike_across(left: Codes, right: Codes) -> float:
    """The share of pairs of a row of one side and a row of the other that are alike."""
    (names, counts), (others, more) = (np.unique(codes, return_counts=True) for codes in (left, right))
    _, here, there = np.intersect1d(names, others, assume_unique=True, return_indices=True)
    return float((counts[here].astype(np.float64) * more[there]).sum()) / (len(left) * len(right))
