"""The profile of a table: one `ColumnProfile` per column and a sample of rows.

Rule: folding never raises for what the data holds; what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array
from vedette.profiles.column import ColumnProfile
from vedette.profiles.layout import ColumnLayout, Layout
from vedette.profiles.sample import SAMPLE_ROWS, RowSample, hashes_of
from vedette.profiles.texts import key_of

Columns = Mapping[str, Array]
"""A table: columns of one length, numbers (NaN: missing) or objects of str or None (missing)."""

MAX_UNKNOWN = 1000


class Profile:
    """A mergeable summary of a table. With a layout only its columns are kept; others are counted by name."""

    def __init__(self, layout: Layout | None = None, *, sample_rows: int = SAMPLE_ROWS) -> None:
        self.layout = layout or Layout()
        self.rows = 0
        self.columns = {name: ColumnProfile(column) for name, column in self.layout.columns.items()}
        self.unknown_columns: dict[str, int] = {}
        """Rows per column that the layout does not have."""
        self.sample = RowSample(sample_rows)

    def fold(self, columns: Columns, keys: Sequence[str] | None = None) -> None:
        """Add rows. `keys` name them, so that a replay draws the same sample; else they are named by position.

        Raises:
            InvalidArgument: the columns or the keys are not of one length.
        """
        rows = _rows(columns, keys)
        known = {}
        for name, values in columns.items():
            column = self._column(name, values)
            if column is None:
                self.unknown_columns[key_of(name)] = self.unknown_columns.get(key_of(name), 0) + rows
                continue
            column.fold(values)
            known[name] = values
        if rows:
            self.sample.fold(known, hashes_of(range(self.rows, self.rows + rows) if keys is None else keys))
        self.rows += rows

    def _column(self, name: str, values: Array) -> ColumnProfile | None:
        if name not in self.columns and not self.layout.columns:
            self.columns[name] = ColumnProfile(ColumnLayout("numeric" if values.dtype.kind in "fiub" else "text"))
        return self.columns.get(name)

    def merge(self, other: Profile) -> Profile:
        """Both together; InvalidArgument when the layouts differ."""
        if self.layout != other.layout:
            raise InvalidArgument("profiles with different layouts cannot be merged")
        merged = Profile(self.layout, sample_rows=self.sample.limit)
        merged.rows = self.rows + other.rows
        for name in {**self.columns, **other.columns}:
            mine, theirs = self.columns.get(name), other.columns.get(name)
            either = mine or theirs
            assert either is not None  # noqa: S101 - a name of one of the two
            merged.columns[name] = mine.merge(theirs) if mine and theirs else either.merge(ColumnProfile(either.layout))
        for counts in (self.unknown_columns, other.unknown_columns):
            for name, count in counts.items():
                merged.unknown_columns[name] = merged.unknown_columns.get(name, 0) + count
        merged.sample = self.sample.merge(other.sample)
        return merged

    def to_bytes(self) -> bytes:
        """The profile in its versioned format."""
        from vedette.profiles.wire import encode

        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """The profile that `to_bytes` wrote.

        Raises:
            DataLoss: the bytes are damaged, or of a version that is not known here.
        """
        from vedette.profiles.wire import decode

        return decode(data)


def _rows(columns: Columns, keys: Sequence[str] | None) -> int:
    lengths = {len(values) for values in columns.values()} | ({len(keys)} if keys is not None else set())
    if len(lengths) > 1 or any(np.ndim(values) != 1 for values in columns.values()):
        raise InvalidArgument("the columns of a table, and the keys of its rows, must be of one length")
    return lengths.pop() if lengths else 0
