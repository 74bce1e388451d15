"""The profile of a table: one `ColumnProfile` per column and a sample of rows.

Rule: folding never raises for what the data holds; what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array
from vedette.profiles import wire
from vedette.profiles.column import NUMBERS, ColumnProfile
from vedette.profiles.hashing import Hashes, mixed, text_hashes
from vedette.profiles.layout import ColumnLayout, Kind, Layout
from vedette.profiles.sample import SAMPLE_ROWS, RowSample
from vedette.profiles.texts import key_of

Columns = Mapping[str, Array]
"""A table: columns of one length, numbers (NaN: missing) or objects of str or None (missing)."""

MAX_UNKNOWN = 1000
OTHER_COLUMNS = "(other)"
"""Under this name unknown columns are counted once there are too many of them."""

_PENDING_CELLS = 1 << 17
"""Of 8 bytes: small tables wait until they are 1 MB together."""


class Profile:
    """A mergeable summary of a table.

    With a layout it has the layout's columns and counts others by name; without one it takes every column that comes.
    Small tables are gathered (at most 1 MB) and summarised together: 30 columns cost 3 ms at a time, not per table.
    """

    def __init__(self, layout: Layout | None = None, *, sample_rows: int = SAMPLE_ROWS) -> None:
        self.layout = layout
        self.rows = 0
        self.unknown_columns: dict[str, int] = {}
        """Rows per column that the layout does not have."""
        self._columns = {name: ColumnProfile(column) for name, column in layout.columns.items()} if layout else {}
        self._sample = RowSample(sample_rows)
        self._pending: list[tuple[dict[str, Array], Hashes]] = []
        self._pending_cells = 0

    @property
    def columns(self) -> dict[str, ColumnProfile]:
        """The columns with everything folded so far; to be read again after the next `fold`."""
        self._settle()
        return self._columns

    @property
    def sample(self) -> RowSample:
        """The sample of the rows folded so far."""
        self._settle()
        return self._sample

    def fold(self, columns: Columns, keys: Sequence[str] | None = None) -> None:
        """Add rows. `keys` name them, so that a replay draws the same sample; else their position does.

        Raises:
            InvalidArgument: the columns or the keys are not of one length.
        """
        rows = _rows(columns, keys)
        if not rows:
            return
        hashes = (
            text_hashes(keys) if keys is not None else mixed(np.arange(self.rows, self.rows + rows, dtype=np.uint64))
        )
        self.rows += rows
        table = {}
        for name, values in columns.items():
            key = key_of(name)
            if self.layout is None or key in self._columns:
                table[key] = values
            else:
                _count_name(self.unknown_columns, key, rows)
        self._gather(table, hashes)

    def _gather(self, table: dict[str, Array], hashes: Hashes) -> None:
        """Summarise a large table at once; keep a small one until there are enough, or their columns change."""
        if self._pending and not _alike(self._pending[-1][0], table):
            self._settle()
        cells = len(table) * len(hashes)
        if cells <= _PENDING_CELLS // 4:
            cells += _characters(table) // 8
        if cells > _PENDING_CELLS // 4:
            self._settle()
            self._summarise(table, hashes)
            return
        self._pending.append(({name: values.copy() for name, values in table.items()}, hashes))
        self._pending_cells += cells
        if self._pending_cells > _PENDING_CELLS:
            self._settle()

    def _settle(self) -> None:
        if not self._pending:
            return
        tables, hashes = zip(*self._pending)
        self._pending, self._pending_cells = [], 0
        if len(tables) == 1:
            self._summarise(tables[0], hashes[0])
            return
        joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        self._summarise(joined, np.concatenate(hashes))

    def _summarise(self, table: dict[str, Array], hashes: Hashes) -> None:
        chosen = self._sample.chosen(hashes)
        cells = {}
        for name, values in table.items():
            column = self._column(name, values)
            column.fold(values)
            if len(chosen):
                cells[name] = column.cells(values[chosen])
        self._sample.fold(cells, hashes[chosen])

    def _column(self, name: str, values: Array) -> ColumnProfile:
        column = self._columns.get(name)
        kind: Kind = "numeric" if values.dtype.kind in NUMBERS else "text"
        if column is None:
            column = self._columns[name] = ColumnProfile(ColumnLayout(kind))
        elif self.layout is None and column.kind != kind and not column.present:
            column = self._columns[name] = column.retyped(kind)
        return column

    def merge(self, other: Profile) -> Profile:
        """Both together: what folding both tables into one profile gives.

        Raises:
            InvalidArgument: the layouts differ, or a column is of numbers here and of text there.
        """
        if self.layout != other.layout:
            raise InvalidArgument("profiles with different layouts cannot be merged")
        merged = Profile(self.layout, sample_rows=0)
        merged.rows = self.rows + other.rows
        mine, theirs = self.columns, other.columns
        for name in dict.fromkeys((*mine, *theirs)):
            one = mine.get(name) or ColumnProfile(theirs[name].layout)
            merged._columns[name] = _merged(one, theirs.get(name) or ColumnProfile(one.layout))
        for counts in (self.unknown_columns, other.unknown_columns):
            for name, count in counts.items():
                _count_name(merged.unknown_columns, name, count)
        merged._sample = self.sample.merge(other.sample)
        return merged

    def to_bytes(self, *, compression: int = 1) -> bytes:
        """The profile in its versioned format; `compression` is zlib's level, 0 being ten times as fast."""
        return wire.encode(self, compression)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """The profile that `to_bytes` wrote.

        Raises:
            DataLoss: the bytes are damaged, or of a version that is not known here.
        """
        parts = wire.decode(data)
        profile = cls(parts.layout, sample_rows=parts.sample.limit)
        profile.rows, profile.unknown_columns = parts.rows, parts.unknown_columns
        profile._columns, profile._sample = parts.columns, parts.sample
        return profile


def _rows(columns: Columns, keys: Sequence[str] | None) -> int:
    lengths = {len(values) for values in columns.values()} | ({len(keys)} if keys is not None else set())
    if len(lengths) > 1 or any(values.ndim != 1 for values in columns.values()):
        raise InvalidArgument("the columns of a table, and the keys of its rows, must be of one length")
    return lengths.pop() if lengths else 0


def _alike(first: Columns, second: Columns) -> bool:
    """Whether two tables have the same columns of the same types, so that one can stand below the other."""
    return first.keys() == second.keys() and all(first[name].dtype == second[name].dtype for name in first)


def _characters(table: Columns) -> int:
    """The length of all texts of a table."""
    texts = (values.tolist() for values in table.values() if values.dtype.kind not in NUMBERS)
    return sum(len(text) for column in texts for text in column if isinstance(text, str | bytes))


def _count_name(counts: dict[str, int], name: str, rows: int) -> None:
    if name not in counts and len(counts) >= MAX_UNKNOWN:
        name = OTHER_COLUMNS
    counts[name] = counts.get(name, 0) + rows


def _merged(first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
    """Both profiles of one column. Where there is no layout, one that never had a value takes on the other's kind."""
    if first.kind != second.kind:
        if not second.present and (first.present or first.kind == "numeric"):
            second = second.retyped(first.kind)
        elif not first.present:
            first = first.retyped(second.kind)
    return first.merge(second)
