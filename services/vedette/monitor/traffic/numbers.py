"""The numbers that a producer of captures has given out: which have been seen, and which are missing for good.

Rule: what is known fits into a bounded list of runs. A number in a run is a duplicate when it comes again; a hole
between runs is a loss once the stream was read to its end twice without filling it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_RUNS = 1_000


@dataclass(slots=True)
class Numbers:
    """The numbers of one producer. `starts[i]` to before `ends[i]` have been seen; runs never touch."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    mark: int = 0
    """Holes below it were there when the stream had last been read to its end."""

    def see(self, numbers: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], int]:
        """Which of these had not been seen, each once, and how many were given up as lost to stay within bounds."""
        if not len(numbers):
            return np.zeros(0, np.bool_), 0
        first, last = int(numbers[0]), int(numbers[-1])
        if last - first + 1 == len(numbers) and (len(numbers) == 1 or bool((np.diff(numbers) == 1).all())):
            fresh = self._see_run(first, last + 1)
        else:
            fresh = self._see_each(numbers)
        return fresh, self._shorten()

    def settle(self) -> int:
        """The stream was read to its end: how many numbers are lost now. What is lost counts as seen."""
        lost = 0
        while len(self.starts) > 1 and self.ends[0] < self.mark and self.starts[1] <= self.mark:
            lost += self._join_first()
        if self.ends:
            self.mark = self.ends[-1]
        return lost

    def _see_run(self, start: int, end: int) -> NDArray[np.bool_]:
        """Add start to before end; the mask says which of them are new."""
        fresh = np.ones(end - start, np.bool_)
        low = bisect_left(self.ends, start)
        high = bisect_right(self.starts, end)
        for index in range(low, high):
            fresh[max(0, self.starts[index] - start) : max(0, self.ends[index] - start)] = False
        if low < high:
            start, end = min(start, self.starts[low]), max(end, self.ends[high - 1])
        self.starts[low:high] = [start]
        self.ends[low:high] = [end]
        return fresh

    def _see_each(self, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        distinct, places = np.unique(numbers, return_index=True)
        cuts = np.flatnonzero(np.diff(distinct) != 1) + 1
        fresh = np.zeros(len(numbers), np.bool_)
        at = 0
        for run in np.split(distinct, cuts):
            new = self._see_run(int(run[0]), int(run[-1]) + 1)
            fresh[places[at : at + len(run)][new]] = True
            at += len(run)
        return fresh

    def _shorten(self) -> int:
        lost = 0
        while len(self.starts) > MAX_RUNS:
            lost += self._join_first()
        return lost

    def _join_first(self) -> int:
        """Give up the lowest hole."""
        lost = self.starts[1] - self.ends[0]
        del self.starts[1], self.ends[0]
        return lost
