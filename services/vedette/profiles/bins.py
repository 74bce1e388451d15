"""Exact counts in fixed bins, whose edges come from the baseline.

Rule: bins are half open, the last one closed; what lies outside is counted below or above.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument

Floats = NDArray[np.float64]


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class Bins:
    """A histogram of finite values; without edges it counts nothing."""

    edges: Floats
    """Ascending, one more than there are bins; empty: there are no bins."""
    counts: NDArray[np.int64] = field(default_factory=_no_counts)
    below: int = 0
    above: int = 0

    def __post_init__(self) -> None:
        if not len(self.counts) and len(self.edges):
            self.counts = np.zeros(len(self.edges) - 1, dtype=np.int64)

    @property
    def total(self) -> int:
        """Values counted, outside of the edges too."""
        return int(self.counts.sum()) + self.below + self.above

    def fold_sorted(self, values: Floats) -> None:
        """Add finite values in ascending order: few look-ups instead of one per value."""
        if not len(self.edges) or not len(values):
            return
        places = np.searchsorted(values, self.edges, side="left")
        places[-1] = np.searchsorted(values, self.edges[-1], side="right")
        self.counts += np.diff(places)
        self.below += int(places[0])
        self.above += len(values) - int(places[-1])

    def merge(self, other: Bins) -> Bins:
        """Both together; InvalidArgument when the edges differ."""
        if not np.array_equal(self.edges, other.edges):
            raise InvalidArgument("histograms over different edges cannot be merged")
        return Bins(self.edges, self.counts + other.counts, self.below + other.below, self.above + other.above)
