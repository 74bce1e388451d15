"""Rows of a table of any length, as many as fit: each has the same chance, whatever the chunks.

Rule: which rows stay follows from the seed and their places; what they take in memory is bounded.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array
from vedette.profiles import Columns

MOST_ROWS = 1_000_000
MOST_BYTES = 256 << 20
_TEXT_BYTES = 60
"""Of a text beside its characters."""


class DrawnRows:
    """Keeps every row while there is room, then every second of them at random, and so on."""

    def __init__(
        self, wanted: Collection[str], *, rows: int = MOST_ROWS, size: int = MOST_BYTES, seed: int = 0
    ) -> None:
        self._wanted = wanted
        self._most = (rows, size)
        self._random = np.random.default_rng(seed)
        self._share = 1.0
        self._ranks: list[NDArray[np.float64]] = []
        self._parts: list[Columns] = []
        self._kept = 0
        self._size = 0

    def fold(self, columns: Columns) -> None:
        """Add the rows of a chunk; only the wanted columns are kept."""
        ranks = self._random.random(len(next(iter(columns.values()), ())))
        part = {name: column for name, column in columns.items() if name in self._wanted}
        self._add(ranks, part)
        while self._kept > self._most[0] or self._size > self._most[1]:
            self._share /= 2
            ranks_before, parts_before = self._ranks, self._parts
            self._ranks, self._parts, self._kept, self._size = [], [], 0, 0
            for each, rows in zip(ranks_before, parts_before):
                self._add(each, rows)

    def _add(self, ranks: NDArray[np.float64], part: Columns) -> None:
        """Keep those whose rank is below the share."""
        stay = ranks < self._share
        if not stay.all():
            ranks, part = ranks[stay], {name: column[stay] for name, column in part.items()}
        self._ranks.append(ranks)
        self._parts.append(part)
        self._kept += len(ranks)
        self._size += sum(map(_size, part.values()))

    def columns(self) -> dict[str, Array]:
        """The kept rows in the order of the table; a column that came as numbers and as texts is one of texts."""
        names = self._parts[0] if self._parts else {}
        return {name: _joined([part[name] for part in self._parts]) for name in names}


def _size(column: Array) -> int:
    if column.dtype != object:
        return int(column.nbytes)
    return sum(_TEXT_BYTES + len(value) if isinstance(value, str) else 8 for value in column.tolist())


def _joined(parts: list[Array]) -> Array:
    if len({part.dtype == object for part in parts}) > 1:
        parts = [part if part.dtype == object else _texts(part) for part in parts]
    return np.concatenate(parts)


def _texts(numbers: Array) -> Array:
    texts = np.empty(len(numbers), dtype=object)
    texts[:] = [None if value != value else str(value) for value in numbers.tolist()]
    return texts
