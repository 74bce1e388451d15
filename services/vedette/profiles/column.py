"""Everything a profile knows of one column.

Rule: a value that does not fit the column's kind is counted by its own type and never raises.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array
from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.distinct import Distinct
from vedette.profiles.hashing import mixed, text_hashes
from vedette.profiles.layout import ColumnLayout, Kind
from vedette.profiles.moments import Moments
from vedette.profiles.quantiles import Quantiles
from vedette.profiles.texts import TYPES, counted, key_of, number_of, type_of, written

Floats = NDArray[np.float64]

NUMBERS = "fiub"
"""Kinds of numpy arrays that are numbers; every other array is text."""


class ColumnProfile:
    """The summary of one column.

    A numeric column has moments, quantiles and bins, all three over its finite values; a text column has categories.
    Both have types and a distinct count. Numbers are float64: integers past 2**53 are rounded to it.
    """

    def __init__(self, layout: ColumnLayout) -> None:
        self.layout = layout
        self.rows = 0
        self.missing = 0
        self.infinite = 0
        self.types: dict[str, int] = dict.fromkeys(TYPES, 0)
        """Values by type, adding up to `rows`; arrays by dtype (whole floats are Integral), texts by parsing."""
        self.moments = Moments()
        self.quantiles = Quantiles()
        self.bins = Bins(np.array(layout.edges, dtype=np.float64))
        self.categories = Categories(dict.fromkeys(layout.categories, 0))
        self.distinct = Distinct()

    @property
    def kind(self) -> Kind:
        """How the column is counted."""
        return self.layout.kind

    @property
    def kll(self) -> Quantiles:
        """The sketch of the column's quantiles, by the name of its algorithm."""
        return self.quantiles

    @property
    def present(self) -> int:
        """Values that are not missing."""
        return self.rows - self.missing

    @property
    def completeness(self) -> float:
        """The share of values that are not missing; 1 when there are no rows."""
        return self.present / self.rows if self.rows else 1.0

    def fold(self, values: Array) -> None:
        """Add one value per row; NaN and None are missing. The array is not written."""
        if values.dtype.kind not in NUMBERS:
            self._fold_texts(*counted(values))
        elif self.kind == "text":
            self._fold_written(values)
        else:
            self._fold_numbers(values)

    def _fold_numbers(self, values: Array) -> None:
        # Adding 0.0 copies, and makes -0.0 the same value as 0.0.
        floats = values.astype(np.float64) + 0.0
        floats.sort()
        # Ascending: -inf, finite, inf, NaN. From here on everything is a look-up.
        low, high, present = np.searchsorted(floats, [-np.finfo(np.float64).max, np.inf, np.nan]).tolist()
        finite = floats[low:high]
        self._count(len(floats), len(floats) - present, present - len(finite))
        self._count_types(values.dtype.kind, finite, present)
        self._fold_finite(finite)

    def _count(self, rows: int, missing: int, infinite: int = 0) -> None:
        self.rows += rows
        self.missing += missing
        self.infinite += infinite
        self.types["Unknown"] += missing

    def _count_types(self, kind: str, finite: Floats, present: int) -> None:
        if kind != "f":
            self.types["Boolean" if kind == "b" else "Integral"] += present
            return
        whole = int(np.count_nonzero(np.rint(finite) == finite))
        self.types["Integral"] += whole
        self.types["Fractional"] += present - whole

    def _fold_finite(self, values: Floats) -> None:
        """Add finite values in ascending order, which makes the sketch five times and the bins 100 times as fast."""
        self.moments.fold(values)
        self.quantiles.fold(values)
        self.bins.fold_sorted(values)
        self.distinct.fold(mixed(values.view(np.uint64)))

    def _fold_written(self, values: Array) -> None:
        """Numbers in a text column: they keep their own type and are counted as written."""
        if values.dtype.kind == "f":
            values = values.astype(np.float64)
        distinct, counts = np.unique(values, return_counts=True)
        texts = {written(value): count for value, count in zip(distinct.tolist(), counts.tolist())}
        missing = texts.pop(None, 0)
        self._count(len(values), missing)
        finite = values[np.isfinite(values)].astype(np.float64)
        self._count_types(values.dtype.kind, finite, len(values) - missing)
        self._fold_keys({text: count for text, count in texts.items() if text is not None})

    def _fold_texts(self, texts: dict[str, int], missing: int) -> None:
        self._count(sum(texts.values()) + missing, missing)
        for text, count in texts.items():
            self.types[type_of(text)] += count
        if self.kind == "text":
            self._fold_keys(texts)
        else:
            self._fold_parsed(texts)

    def _fold_parsed(self, texts: Mapping[str, int]) -> None:
        """Texts in a numeric column: those that are numbers count as such, others only by their type."""
        parsed = [(number + 0.0, count) for text, count in texts.items() if (number := number_of(text)) is not None]
        if not parsed:
            return
        numbers, counts = np.array(parsed).T
        numbers = np.sort(np.repeat(numbers, counts.astype(np.int64)))
        finite = numbers[np.isfinite(numbers)]
        self.infinite += len(numbers) - len(finite)
        self._fold_finite(finite)

    def _fold_keys(self, texts: Mapping[str, int]) -> None:
        keys: dict[str, int] = {}
        for text, count in texts.items():
            key = key_of(text)
            keys[key] = keys.get(key, 0) + count
        self.distinct.fold(text_hashes(keys))
        self.categories.fold(keys)

    def cells(self, values: Array) -> Array:
        """Values as a sample keeps them: float64 (NaN: missing or no number) or bounded texts (None: missing)."""
        if self.kind == "numeric" and values.dtype.kind in NUMBERS:
            return values.astype(np.float64)
        texts = [written(value) for value in values.tolist()]
        if self.kind == "text":
            kept = np.empty(len(texts), dtype=object)
            kept[:] = [None if text is None else key_of(text) for text in texts]
            return kept
        numbers = [None if text is None else number_of(text) for text in texts]
        return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)

    def merge(self, other: ColumnProfile) -> ColumnProfile:
        """Both together; InvalidArgument when the layouts differ."""
        if self.layout != other.layout:
            raise InvalidArgument("columns with different layouts cannot be merged")
        merged = ColumnProfile(self.layout)
        merged.rows = self.rows + other.rows
        merged.missing = self.missing + other.missing
        merged.infinite = self.infinite + other.infinite
        merged.types = {name: self.types[name] + other.types[name] for name in TYPES}
        merged.moments = self.moments.merge(other.moments)
        merged.quantiles = self.quantiles.merge(other.quantiles)
        merged.bins = self.bins.merge(other.bins)
        merged.categories = self.categories.merge(other.categories)
        merged.distinct = self.distinct.merge(other.distinct)
        return merged

    def retyped(self, kind: Kind) -> ColumnProfile:
        """The same missing rows as a column of another kind, for a column that never had a value."""
        column = ColumnProfile(ColumnLayout(kind))
        column._count(self.rows, self.missing)
        return column
