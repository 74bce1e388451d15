"""A bounded sample of whole rows, drawn by the hash of each row's key.

Rule: the rows with the smallest hashes are kept, so the sample depends on which rows there are and on nothing else:
order, chunks, merges and replays give the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import adler32, crc32

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array
from vedette.profiles.distinct import mixed
from vedette.profiles.texts import key_of

SAMPLE_ROWS = 2000


class RowSample:
    """Up to `limit` rows; numeric columns as float64 (NaN: missing), text as objects (None: missing)."""

    __slots__ = ("_columns", "hashes", "limit")

    def __init__(self, limit: int = SAMPLE_ROWS) -> None:
        self.limit = limit
        self.hashes: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._columns: dict[str, Array] = {}

    @classmethod
    def of(cls, columns: dict[str, Array], hashes: NDArray[np.uint64], limit: int) -> RowSample:
        """A sample from its parts, rows in ascending order of their hashes."""
        sample = cls(limit)
        sample.hashes, sample._columns = hashes, columns
        return sample

    def __len__(self) -> int:
        return len(self.hashes)

    def columns(self) -> dict[str, Array]:
        """The sampled rows, column by column, in the order of their hashes."""
        return dict(self._columns)

    def fold(self, columns: Mapping[str, Array], hashes: NDArray[np.uint64]) -> None:
        """Offer rows by the hashes of their keys (`hashes_of`)."""
        if not self.limit:
            return
        taken = np.arange(len(hashes)) if len(self) < self.limit else np.flatnonzero(hashes < self.hashes[-1])
        if len(taken) > self.limit:
            taken = taken[np.argpartition(hashes[taken], self.limit - 1)[: self.limit]]
        if len(taken):
            self._add({name: _kept(column, taken) for name, column in columns.items()}, hashes[taken])

    def merge(self, other: RowSample) -> RowSample:
        """The sample of all rows of both."""
        merged = RowSample(min(self.limit, other.limit))
        merged.hashes, merged._columns = self.hashes, dict(self._columns)
        merged._add(other._columns, other.hashes)
        return merged

    def _add(self, columns: Mapping[str, Array], hashes: NDArray[np.uint64]) -> None:
        both = np.concatenate((self.hashes, hashes))
        order = np.argsort(both, kind="stable")[: self.limit]
        joined = {}
        for name in sorted({*self._columns, *columns}):
            parts = (self._columns.get(name), columns.get(name))
            joined[name] = _joined(parts, (len(self.hashes), len(hashes)))[order]
        self.hashes, self._columns = both[order], joined


def hashes_of(keys: Sequence[str] | range) -> NDArray[np.uint64]:
    """One hash per key, the same in every process; a range of positions names rows that have no key."""
    if isinstance(keys, range):
        return mixed(np.arange(keys.start, keys.stop, dtype=np.uint64))
    encoded = (key.encode("utf-8", "surrogatepass") for key in keys)
    return mixed(np.array([crc32(key) | adler32(key) << 32 for key in encoded], dtype=np.uint64))


def _kept(column: Array, rows: NDArray[np.intp]) -> Array:
    values = column[rows]
    if values.dtype.kind != "O":
        return values.astype(np.float64)
    kept = np.empty(len(values), dtype=object)
    kept[:] = [None if value is None else key_of(str(value)) for value in values.tolist()]
    return kept


def _joined(parts: tuple[Array | None, Array | None], lengths: tuple[int, int]) -> Array:
    text = any(part is not None and part.dtype.kind == "O" for part in parts)
    full = [np.full(n, None if text else np.nan) if part is None else part for part, n in zip(parts, lengths)]
    return np.concatenate(full)
