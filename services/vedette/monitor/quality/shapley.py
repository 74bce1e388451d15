"""Shapley values: how much each feature moves a model's answer away from its answers to background rows.

Permutation sampling after Castro, Gomez and Tejada, "Polynomial calculation of the Shapley value based on
sampling", 2009, each permutation together with its reverse. Every explained row walks from every background row,
so that models of single features and of pairs of them are explained exactly.

Rule: pure functions around the model that is passed in; deterministic under a seed, and the number of rows that
the model is asked for is known beforehand (`rows_asked`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.profiles.profile import Columns

Values = NDArray[np.float64]
Scores = Callable[[Columns], Values]
"""The model: columns in, (rows, outputs) out."""

_MOST_CELLS = 2_000_000
"""Values in the columns of one call of the model."""


def rows_asked(explained: int, background: int, features: int) -> int:
    """Rows that `shapley_values` asks the model for."""
    return explained * background * 2 * (features + 1)


def shapley_values(model: Scores, rows: Columns, background: Columns, *, seed: int = 0) -> Values:
    """The Shapley values of `rows` against `background`: (rows, features, outputs), features in the order of `rows`.

    For each row they add up to the model's answer minus the mean of its answers to the background.
    """
    generator = np.random.default_rng(seed)
    names = list(rows)
    explained, features = len(rows[names[0]]), len(names)
    total: Values | None = None
    references = len(background[names[0]])
    for reference in range(references):
        against = {name: background[name][reference : reference + 1] for name in names}
        order = generator.permuted(np.tile(np.arange(features), (explained, 1)), axis=1)
        for path in (order, order[:, ::-1]):
            steps = _walk(model, rows, against, path)
            moved = np.empty((explained, features, steps.shape[2]))
            np.put_along_axis(moved, path[:, :, None], np.diff(steps, axis=1), axis=1)
            total = moved if total is None else total + moved
    if total is None:
        raise ValueError("there are no background rows")
    return total / (2 * references)


def _walk(model: Scores, rows: Columns, against: Columns, path: NDArray[np.int64]) -> Values:
    """The answers along each row's path, from the background row to the row itself: (rows, features + 1, outputs)."""
    explained, features = path.shape
    rank = np.argsort(path, axis=1)
    places = np.arange(explained * (features + 1))
    size = max(1, _MOST_CELLS // features)
    parts = [
        _answers(model, rows, against, rank, places[start : start + size]) for start in range(0, len(places), size)
    ]
    steps = np.concatenate(parts)
    return steps.reshape(explained, features + 1, steps.shape[1])


def _answers(
    model: Scores, rows: Columns, against: Columns, rank: NDArray[np.intp], places: NDArray[np.intp]
) -> Values:
    """The model on mixed rows: of place (row, step) the features whose rank is below the step are the row's own."""
    row, step = np.divmod(places, rank.shape[1] + 1)
    return model(
        {
            name: np.where(rank[row, feature] < step, column[row], against[name])
            for feature, (name, column) in enumerate(rows.items())
        }
    )


AGGREGATIONS: dict[str, Callable[[Values], Values]] = {
    "mean_abs": lambda values: np.abs(values).mean(axis=0),
    "median": lambda values: np.median(np.abs(values), axis=0),
    "mean_sq": lambda values: (values**2).mean(axis=0),
}
"""Clarify's agg_method: from local values (rows first) to global ones."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """How important each feature is to one output."""

    importance: Mapping[str, float]
    expected_value: float = 0.0
    """The model's mean answer to the background."""

    def ranked(self) -> list[str]:
        """Features from the most important down; equals by name."""
        return sorted(self.importance, key=lambda name: (-abs(self.importance[name]), name))


def ndcg(baseline: Attribution, live: Sequence[str]) -> float:
    """Normalised discounted cumulative gain of the live order of features; 1: the order of the baseline.

    The gain of a feature is its baseline importance; 1 as well when the baseline has no importance at all.
    """
    ideal = _gain(baseline, baseline.ranked())
    return _gain(baseline, live) / ideal if ideal > 0 else 1.0


def _gain(baseline: Attribution, order: Sequence[str]) -> float:
    return math.fsum(abs(baseline.importance.get(name, 0.0)) / math.log2(place + 2) for place, name in enumerate(order))
