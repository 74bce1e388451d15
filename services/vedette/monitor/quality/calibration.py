"""Calibration: scores turned into chances that come true as often as they say.

Rule: pure numpy; a calibration is learned on reference rows only, and used only where it makes the reference's
scores truer (after NannyML's CBPE: expected calibration error, out of fold).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_BINS = 10
_FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A rising curve from score to chance, straight between its points and level beyond them."""

    scores: Values
    chances: Values

    def __call__(self, scores: Values) -> Values:
        """The chance at each score."""
        return np.asarray(np.interp(scores, self.scores, self.chances), np.float64)


def isotonic(scores: Values, labels: Values) -> Calibration:
    """The rising curve with the least squared error from `labels` (0 or 1): pool adjacent violators."""
    levels, inverse, weights = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, labels) / weights
    # Each block: mean, weight, first and last level.
    blocks: list[tuple[float, float, int, int]] = []
    for place, (mean, weight) in enumerate(zip(means.tolist(), weights.tolist())):
        block = (mean, float(weight), place, place)
        while blocks and blocks[-1][0] >= block[0]:
            before = blocks.pop()
            total = before[1] + block[1]
            block = ((before[0] * before[1] + block[0] * block[1]) / total, total, before[2], place)
        blocks.append(block)
    ends = [level for _, _, first, last in blocks for level in (first, last)]
    return Calibration(levels[ends], np.repeat([mean for mean, *_ in blocks], 2))


def calibration_error(scores: Values, labels: Values) -> float:
    """Expected calibration error: the mean gap between score and share of positives over 10 equal bins."""
    places = np.clip((scores * _BINS).astype(np.int64), 0, _BINS - 1)
    gaps = np.bincount(places, scores - labels, _BINS)
    return float(np.abs(gaps).sum() / scores.size)


def calibrated(scores: Values, labels: Values) -> Calibration | None:
    """The calibration of these reference rows, or None when their scores are as true as they are.

    Whether it helps is found out on rows that it was not learned on: three folds, every third row each.
    """
    folds = np.arange(scores.size) % _FOLDS
    if np.unique(labels).size < 2 or scores.size < 10 * _FOLDS:
        return None
    foretold = np.empty_like(scores)
    for fold in range(_FOLDS):
        foretold[folds == fold] = isotonic(scores[folds != fold], labels[folds != fold])(scores[folds == fold])
    if calibration_error(foretold, labels) >= calibration_error(scores, labels):
        return None
    return isotonic(scores, labels)
