"""Gradient boosted trees over binned columns, in numpy: enough to tell two small tables apart.

Rule: everything is deterministic; tables have at most some thousand rows, columns at most `BINS` different codes.
Source: Friedman, "Greedy function approximation: a gradient boosting machine", 2001; second-order gains and leaves
as in Chen and Guestrin, "XGBoost", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

BINS = 32
"""Codes of a column: 0 is missing, the others are ranges of numbers in order, or categories by frequency."""
ROUNDS = 40
DEPTH = 3
RATE = 0.2
LEAST_ROWS = 10
RIDGE = 1.0


def binned_columns(first: Array, second: Array) -> tuple[Codes, Codes]:
    """Both parts of one column as codes over the same bins."""
    if first.dtype.kind == "O" or second.dtype.kind == "O":
        texts = [None if text is None else str(text) for text in (*first.tolist(), *second.tolist())]
        codes = _text_codes(texts)
    else:
        codes = _number_codes(np.concatenate((first, second)).astype(np.float64))
    return codes[: len(first)], codes[len(first) :]


def _number_codes(values: Floats) -> Codes:
    present = values[~np.isnan(values)]
    if not len(present):
        return np.zeros(len(values), dtype=np.int64)
    edges = np.unique(np.quantile(present, np.arange(1, BINS - 1) / (BINS - 1), method="lower"))
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values, side="left")).astype(np.int64)


def _text_codes(texts: list[str | None]) -> Codes:
    names, counts = np.unique([text for text in texts if text is not None], return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")][: BINS - 2].tolist()
    numbers: dict[str | None, int] = {None: 0, **{name: place + 1 for place, name in enumerate(frequent)}}
    return np.array([numbers.get(text, BINS - 1) for text in texts], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Tree:
    """A full tree: the column and the highest code that goes left at each inner node, and the leaves' values."""

    columns: Codes
    cuts: Codes
    leaves: Floats

    def leaf_of(self, codes: Codes) -> Codes:
        """The leaf of each row of `codes` (rows, columns)."""
        places = np.zeros(len(codes), dtype=np.int64)
        rows = np.arange(len(codes))
        for _ in range(DEPTH):
            right = codes[rows, self.columns[places]] > self.cuts[places]
            places = 2 * places + 1 + right
        return np.asarray(places - (2**DEPTH - 1))


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees whose leaves add up to the log odds of the second class."""

    trees: tuple[Tree, ...]
    gains: Floats
    """How much each column brought."""

    def score(self, codes: Codes) -> Floats:
        """Log odds, up to a constant, of each row of `codes` (rows, columns)."""
        return np.asarray(np.sum([tree.leaves[tree.leaf_of(codes)] for tree in self.trees], axis=0))


def boosted(codes: Codes, labels: Floats) -> Forest:
    """Trees that tell rows with label 1 from rows with label 0; both must occur."""
    share = labels.mean()
    scores = np.full(len(labels), np.log(share / (1 - share)))
    gains = np.zeros(codes.shape[1])
    trees = []
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-scores))
        tree = _grown(codes, chance - labels, chance * (1 - chance), gains)
        trees.append(tree)
        scores = scores + tree.leaves[tree.leaf_of(codes)]
    return Forest(tuple(trees), gains)


def regressed(codes: Codes, targets: Floats) -> Forest:
    """Trees whose score is what `targets` are beyond their mean, by least squares."""
    missed = targets.mean() - targets
    curve, gains = np.ones(len(targets)), np.zeros(codes.shape[1])
    trees = []
    for _ in range(ROUNDS):
        tree = _grown(codes, missed, curve, gains)
        trees.append(tree)
        missed = missed + tree.leaves[tree.leaf_of(codes)]
    return Forest(tuple(trees), gains)


def _grown(codes: Codes, slope: Floats, curve: Floats, gains: Floats) -> Tree:
    """One tree by levels; adds what its splits brought to `gains`."""
    columns, cuts = np.zeros(2**DEPTH - 1, dtype=np.int64), np.full(2**DEPTH - 1, BINS, dtype=np.int64)
    places = np.zeros(len(codes), dtype=np.int64)
    rows = np.arange(len(codes))
    for level in range(DEPTH):
        first, nodes = 2**level - 1, 2**level
        gain = _split_gains(codes, places - first, slope, curve, nodes)
        best = gain.reshape(nodes, -1).argmax(axis=1)
        for node, place in enumerate(best):
            column, cut = divmod(int(place), BINS)
            if gain[node, column, cut] > 0:
                columns[first + node], cuts[first + node] = column, cut
                gains[column] += gain[node, column, cut]
        places = 2 * places + 1 + (codes[rows, columns[places]] > cuts[places])
    leaf = places - (2**DEPTH - 1)
    totals = np.bincount(leaf, slope, 2**DEPTH), np.bincount(leaf, curve, 2**DEPTH)
    return Tree(columns, cuts, -RATE * totals[0] / (totals[1] + RIDGE))


def _split_gains(codes: Codes, nodes_of: Codes, slope: Floats, curve: Floats, nodes: int) -> Floats:
    """What cutting each column of each node after each code brings; 0 where too few rows were left on a side."""
    width = codes.shape[1]
    cells = ((nodes_of[:, None] * width + np.arange(width)) * BINS + codes).ravel()
    shape = (nodes, width, BINS)
    g, h, n = (
        np.bincount(cells, None if each is None else np.repeat(each, width), nodes * width * BINS).reshape(shape)
        for each in (slope, curve, None)
    )
    left_g, left_h, left_n = g.cumsum(axis=2), h.cumsum(axis=2), n.cumsum(axis=2)
    all_g, all_h, all_n = left_g[..., -1:], left_h[..., -1:], left_n[..., -1:]
    gain = _worth(left_g, left_h) + _worth(all_g - left_g, all_h - left_h) - _worth(all_g, all_h)
    allowed = (left_n >= LEAST_ROWS) & (all_n - left_n >= LEAST_ROWS)
    return np.where(allowed, gain, 0.0)


def _worth(slope: Floats, curve: Floats) -> Floats:
    return np.asarray(slope**2 / (curve + RIDGE))
