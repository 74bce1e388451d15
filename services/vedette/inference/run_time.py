"""How long a model takes for so many rows, and what follows from it.

Rule: measured when the model is loaded, corrected by what is seen; never asked of an operator.
"""

from __future__ import annotations

from dataclasses import dataclass

INLINE_LIMIT_S = 0.0005
"""Longest estimated run on the event loop: a thread hop costs about 0.05 ms and callers notice about 1 ms."""

MERGING_S = 0.000015
"""What a request pays for being merged on the event loop: a future, a second turn, its part in copies. Measured at 8
to 14 us with 8 and 32 together, on a busy machine; a run that costs no more than this beyond its rows is not shared."""

MOST_ROWS = 64
"""Rows of a merged run unless the operator says otherwise; the common graphs are within 2 % of their best by then."""

_GAIN = 0.02
_UNMEASURED_S = 0.1
"""Over this for one row, several were not measured at load: nothing is known to be won, and waits would be long."""


@dataclass(slots=True)
class RunTime:
    """What the loader measured: seconds for a run as base + per row, corrected by what is seen later."""

    base_s: float
    row_s: float
    slowness: float = 1.0
    """Moving average of seen / expected: zeros at warm-up may be quicker than real input."""

    def estimate(self, rows: int) -> float:
        """Seconds that a run with so many rows will likely take."""
        return (self.base_s + self.row_s * rows) * self.slowness

    def saw(self, rows: int, seconds: float) -> None:
        """Correct the estimate by one run.

        A run counts for at most four times what was expected, so that a preempted one (a thousand times, on a
        busy machine) changes little, while lasting slowness still doubles the estimate every five runs.
        """
        ratio = seconds / (self.base_s + self.row_s * rows + 1e-6)
        self.slowness += (min(ratio, 4 * self.slowness) - self.slowness) * 0.05

    def rows_within(self, seconds: float) -> int:
        """The most rows that likely take no longer than this; at least 1."""
        spare = seconds / self.slowness - self.base_s
        return max(1, int(spare / self.row_s)) if self.row_s > 0 else MOST_ROWS

    def rows_that_pay(self) -> int:
        """Rows beyond which a larger batch wins less than 2 % for each of them and only makes its callers wait."""
        if self.row_s <= 0:
            return MOST_ROWS if self.base_s < _UNMEASURED_S else 1
        return max(1, min(MOST_ROWS, int(self.base_s / (self.row_s * _GAIN))))
