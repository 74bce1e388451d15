"""A bounded sample of whole rows, drawn by the hash of each row's key.

Rule: the rows with the smallest hashes are kept, so the sample depends on which rows there are and on nothing else:
order, chunks, merges and replays give the same one. Every row has the same chance (a bottom-k sample; Cohen and
Kaplan, "Summarizing data using bottom-k sketches", 2007).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array
from vedette.profiles.hashing import Hashes, mixed, text_hashes

SAMPLE_ROWS = 2000


class RowSample:
    """Up to `limit` rows; numeric columns as float64 (NaN: missing), text as objects (None: missing)."""

    __slots__ = ("_columns", "hashes", "limit")

    def __init__(
        self, limit: int = SAMPLE_ROWS, columns: Mapping[str, Array] | None = None, hashes: Hashes | None = None
    ) -> None:
        self.limit = limit
        self.hashes: Hashes = np.zeros(0, dtype=np.uint64) if hashes is None else hashes
        """Of the rows kept, ascending."""
        self._columns = dict(columns or {})

    def __len__(self) -> int:
        return len(self.hashes)

    def columns(self) -> dict[str, Array]:
        """The sampled rows, column by column, in the order of their hashes."""
        return dict(self._columns)

    def chosen(self, hashes: Hashes) -> NDArray[np.intp]:
        """Which of the rows with these hashes the sample would take."""
        if not self.limit:
            return np.zeros(0, dtype=np.intp)
        taken = np.arange(len(hashes)) if len(self) < self.limit else np.flatnonzero(hashes <= self.hashes[-1])
        if len(taken) <= self.limit:
            return taken
        highest = np.partition(hashes[taken], self.limit - 1)[self.limit - 1]
        return np.asarray(taken[hashes[taken] <= highest])

    def fold(self, columns: Mapping[str, Array], hashes: Hashes) -> None:
        """Add rows that `chosen` named, as `ColumnProfile.cells` gives them."""
        if not len(hashes):
            return
        sizes = (len(self), len(hashes))
        names = list(dict.fromkeys((*self._columns, *columns)))
        joined = {name: _joined(self._columns.get(name), columns.get(name), sizes) for name in names}
        both = np.concatenate((self.hashes, hashes))
        order = _order(joined, both)[: self.limit]
        self.hashes, self._columns = both[order], {name: column[order] for name, column in joined.items()}

    def merge(self, other: RowSample) -> RowSample:
        """The sample of all rows of both; of two limits the smaller one holds."""
        merged = RowSample(min(self.limit, other.limit))
        merged.fold(self._columns, self.hashes)
        merged.fold(other._columns, other.hashes)
        return merged


def _order(columns: Mapping[str, Array], hashes: Hashes) -> NDArray[np.intp]:
    """Rows by hash; rows of one hash, which only rows without keys of their own should have, by what they hold."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return order
    content = np.zeros(len(hashes), dtype=np.uint64)
    for name in sorted(columns):
        values = columns[name]
        bits = text_hashes(map(repr, values.tolist())) if values.dtype.kind == "O" else values.view(np.uint64)
        content = mixed(content ^ bits)
    return np.lexsort((content, hashes))


def _joined(first: Array | None, second: Array | None, sizes: tuple[int, int]) -> Array:
    """One column below the other; where there is none, missing values."""
    present = [part for part in (first, second) if part is not None]
    filler = None if any(part.dtype.kind == "O" for part in present) else np.nan
    return np.concatenate([np.full(n, filler) if part is None else part for part, n in zip((first, second), sizes)])
