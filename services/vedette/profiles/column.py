"""Everything a profile knows of one column.

Rule: a value that does not fit the column's kind is counted by its own type and never raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array
from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.distinct import Distinct, mixed
from vedette.profiles.layout import ColumnLayout, Kind
from vedette.profiles.moments import Moments
from vedette.profiles.quantiles import Quantiles
from vedette.profiles.texts import TYPES, digest_of, key_of, type_of

Floats = NDArray[np.float64]


class ColumnProfile:
    """The summary of one column: numeric columns have moments, quantiles and bins, text columns categories."""

    def __init__(self, layout: ColumnLayout) -> None:
        self.layout = layout
        self.rows = 0
        self.missing = 0
        self.infinite = 0
        self.types: dict[str, int] = dict.fromkeys(TYPES, 0)
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
        """The sketch of the column's quantiles."""
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
        """Add one value per row; NaN and None are missing."""
        if values.dtype.kind in "fiub":
            self._fold_numbers(values)
        else:
            self._fold_texts(values)

    def _fold_numbers(self, values: Array) -> None:
        floats = np.sort(values.astype(np.float64))
        present = floats[: len(floats) - int(np.count_nonzero(np.isnan(floats)))]
        finite = present[np.isfinite(present)]
        self.rows += len(floats)
        self.missing += len(floats) - len(present)
        self.infinite += len(present) - len(finite)
        self._count_types(values.dtype.kind, floats, present, finite)
        if self.kind == "text":
            self._fold_keys(Counter(_text(value) for value in present.tolist()))
            return
        self._fold_finite(finite)

    def _count_types(self, kind: str, floats: Floats, present: Floats, finite: Floats) -> None:
        self.types["Unknown"] += len(floats) - len(present)
        if kind == "b":
            self.types["Boolean"] += len(present)
        elif kind in "iu":
            self.types["Integral"] += len(present)
        else:
            whole = int(np.count_nonzero(np.rint(finite) == finite))
            self.types["Integral"] += whole
            self.types["Fractional"] += len(present) - whole

    def _fold_finite(self, values: Floats) -> None:
        """Add finite values in ascending order."""
        self.moments.fold(values)
        self.quantiles.fold(values)
        self.bins.fold_sorted(values)
        self.distinct.fold(mixed((values + 0.0).view(np.uint64)))

    def _fold_texts(self, values: Array) -> None:
        counted = Counter(values.tolist())
        self.rows += len(values)
        missing = sum(count for value, count in counted.items() if _is_missing(value))
        self.missing += missing
        self.types["Unknown"] += missing
        texts = {str(value): count for value, count in counted.items() if not _is_missing(value)}
        for text, count in texts.items():
            self.types[type_of(text)] += count
        if self.kind == "text":
            keys: Counter[str] = Counter()
            for text, count in texts.items():
                keys[key_of(text)] += count
            self._fold_keys(keys)
            return
        numbers = [float(t) for t in texts for _ in range(texts[t]) if type_of(t) in ("Integral", "Fractional")]
        floats = np.sort(np.array(numbers, dtype=np.float64))
        self._fold_finite(floats[np.isfinite(floats)])

    def _fold_keys(self, counts: Counter[str]) -> None:
        self.distinct.fold(_hashes(counts))
        self.categories.fold(counts)

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


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _hashes(keys: Iterable[str]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(digest_of(key, 8) for key in keys), dtype="<u8").astype(np.uint64)
