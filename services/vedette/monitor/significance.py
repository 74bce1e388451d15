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
from vedette.monitor.pairs import Pair
from vedette.profiles import Categories, Profile
from vedette.profiles.distinct import mixed

Floats = NDArray[np.float64]

MIN_EXPECTED = 5.0
"""Cochran's rule: a cell of a contingency table with a smaller expected count is merged with others."""
MOST_ALIKE = 0.02
"""When more pairs of the baseline's rows than this are alike, rows are too simple to tell a repetition by."""
MIN_INDEPENDENT = 30.0
"""However much rows repeat, they count as so many: a feed that is stuck on one row must still be noticed."""
ROUGH = 20.0
"""A category kept by a side that is over its cap is compared when its count is so many times its possible error."""
UNSEEN = 3.0
"""Alike pairs that may be there when a sample shows none, with 95 % confidence (the rule of three)."""


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: at or below alpha only with family-wise error of at most alpha, whatever the
    dependence. Source: Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def merged_counts(pair: Pair, weights: tuple[float, float]) -> tuple[Floats, Floats]:
    """Counts by category of the baseline and of the window, times `weights`, with rare categories as one.

    Which cells are rare is decided by both sides together, so that the choice favours neither side. Where a side
    was over its cap of categories only names that it counted well are compared; all others are one cell.
    """
    left, right = pair.baseline.categories, pair.window.categories
    names = sorted({*left.counts, *right.counts})
    well = [name for name in names if _counted(left, name) and _counted(right, name)]
    table = np.array([[side.counts.get(name, 0) for name in well] for side in (left, right)], dtype=np.float64)
    table = np.column_stack((table, np.array([left.total, right.total]) - table.sum(axis=1)))
    table *= np.array(weights)[:, None]
    baseline, window = _without_rare(table)
    return baseline, window


def _counted(categories: Categories, name: str) -> bool:
    """Whether this side's count of a name is exact, or off by little: see `Categories` for the bound."""
    if not categories.other or name in categories.known:
        return True
    bound = (categories.other + sum(categories.fresh.values())) / (categories.limit + 1)
    return categories.fresh.get(name, 0) > ROUGH * bound


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
    codes = _row_codes(baseline.sample.columns(), window.sample.columns())
    if codes is None:
        return Independence()
    within_baseline, within_window = _alike(codes[0]), _alike(codes[1])
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


def _row_codes(
    baseline: Mapping[str, Array], window: Mapping[str, Array]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]] | None:
    """One number per sampled row over the columns that both sides have, equal for equal rows; None without rows."""
    shared = sorted(baseline.keys() & window.keys())
    sizes = [len(next(iter(columns.values()))) if columns else 0 for columns in (baseline, window)]
    if not shared or min(sizes) < 2:
        return None
    codes = np.zeros(sum(sizes), dtype=np.uint64)
    for name in shared:
        codes = mixed(codes ^ mixed(_value_codes(baseline[name], window[name])))
    return codes[: sizes[0]], codes[sizes[0] :]


def _value_codes(baseline: Array, window: Array) -> NDArray[np.uint64]:
    if baseline.dtype.kind == "O" or window.dtype.kind == "O":
        numbers: dict[object, int] = {}
        texts = [*baseline.tolist(), *window.tolist()]
        return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.uint64)
    both = np.concatenate((baseline, window)).astype(np.float64) + 0.0  # -0.0 becomes 0.0
    both[np.isnan(both)] = np.nan  # one of the many bit patterns
    return both.view(np.uint64)


def _alike(codes: NDArray[np.uint64]) -> float:
    """The share of pairs of different rows that are alike."""
    counts = np.unique(codes, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum()) / (len(codes) * (len(codes) - 1))


def _alike_across(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """The share of pairs of a row of one side and a row of the other that are alike."""
    (names, counts), (others, more) = (np.unique(codes, return_counts=True) for codes in (left, right))
    _, here, there = np.intersect1d(names, others, assume_unique=True, return_indices=True)
    return float((counts[here].astype(np.float64) * more[there]).sum()) / (len(left) * len(right))
