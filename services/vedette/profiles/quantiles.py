"""Quantiles and ranks of a column from an Apache DataSketches KLL sketch.

Rule: NaN and infinities never go in. A rank is off by at most 0.14 % with 99 % confidence (k = 2048) and exact
while the sketch still holds every value.
"""

from __future__ import annotations

import datasketches
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

K = 2048


class Quantiles:
    """A mergeable sketch of the distribution of finite numbers."""

    __slots__ = ("_sketch",)

    def __init__(self, sketch: datasketches.kll_doubles_sketch | None = None) -> None:
        self._sketch = datasketches.kll_doubles_sketch(K) if sketch is None else sketch

    @property
    def count(self) -> int:
        """How many values went in."""
        return int(self._sketch.n)

    @property
    def exact(self) -> bool:
        """Whether the sketch still holds every value."""
        return not self._sketch.is_estimation_mode()

    @property
    def rank_error(self) -> float:
        """The bound of the error of one rank, with 99 % confidence; 0 while exact."""
        return 0.0 if self.exact else float(self._sketch.normalized_rank_error(False))

    def fold(self, values: Floats) -> None:
        """Add finite values."""
        if len(values):
            self._sketch.update(np.ascontiguousarray(values))

    def merge(self, other: Quantiles) -> Quantiles:
        """Both together, within the rank error of one sketch."""
        merged = datasketches.kll_doubles_sketch(K)
        merged.merge(self._sketch)
        merged.merge(other._sketch)
        return Quantiles(merged)

    def points(self) -> tuple[Floats, Floats]:
        """The values kept, ascending and distinct, and how many values each stands for."""
        pairs = np.array(list(self._sketch), dtype=np.float64).reshape(-1, 2)
        values, places = np.unique(pairs[:, 0], return_inverse=True)
        return values, np.bincount(places, weights=pairs[:, 1], minlength=len(values)).astype(np.float64)

    def cdf(self, points: ArrayLike) -> Floats:
        """The share of values less than or equal to each point; NaN when nothing went in."""
        values, weights = self.points()
        shares = np.concatenate(([0.0], np.cumsum(weights))) / (weights.sum() or np.nan)
        return np.asarray(shares[np.searchsorted(values, np.asarray(points), side="right")])

    def quantile(self, shares: ArrayLike) -> Floats:
        """The smallest values kept whose share of values at or below reaches each of `shares`; NaN when empty."""
        values, weights = self.points()
        wanted = np.asarray(shares, dtype=np.float64)
        if not len(values):
            return np.full(wanted.shape, np.nan)
        reached = np.cumsum(weights) / weights.sum()
        return np.asarray(values[np.minimum(np.searchsorted(reached, wanted - 1e-12), len(values) - 1)])

    def counts(self, edges: Floats) -> tuple[NDArray[np.int64], int, int]:
        """Values in each bin of `edges` (half open, the last one closed), below and above them."""
        values, weights = self.points()
        sums = np.concatenate(([0.0], np.cumsum(weights)))
        places = np.searchsorted(values, edges, side="left")
        places[-1] = np.searchsorted(values, edges[-1], side="right")
        at = sums[places]
        return np.diff(at).astype(np.int64), int(at[0]), int(sums[-1] - at[-1])

    def to_bytes(self) -> bytes:
        """DataSketches' own format."""
        return bytes(self._sketch.serialize())

    @classmethod
    def from_bytes(cls, data: bytes) -> Quantiles:
        """The sketch that `to_bytes` wrote."""
        return cls(datasketches.kll_doubles_sketch.deserialize(data))
