"""Facets: which rows belong to a sensitive group, said as `Sex=F`, `Age>45` or `Sex` for each value of it.

Rule: rows whose value is missing are on neither side.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array
from vedette.monitor.quality.outcomes import NotComparable, Outcomes, present, value_text

_SPECIFICATION = re.compile(r"(?P<column>[^=>]{1,200})(?:(?P<sign>[=>])(?P<value>.{1,200}))?", re.DOTALL)
_RANGE = re.compile(r"\((?P<lower>[^,]+),")
_MOST_VALUES = 20
"""Facets made of the values of one column."""
_MOST_TEXT = 200
_CONTINUOUS = 0.05
"""Whole numbers with a larger share of distinct values are continuous (Clarify's rule)."""


@dataclass(frozen=True, slots=True)
class Facet:
    """The rows whose column has a value, or exceeds a threshold."""

    column: str
    value: str = ""
    threshold: float | None = None
    """Exclusive; None: the value counts."""

    def __str__(self) -> str:
        return f"{self.column}={self.value}" if self.threshold is None else f"{self.column}>{self.threshold:g}"

    def flags(self, outcomes: Outcomes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows are in the facet, and of which it is known.

        Raises:
            NotComparable: there is no such column, or it holds texts where numbers are compared.
        """
        column = outcomes.columns.get(self.column)
        if column is None:
            raise NotComparable(f"there is no column {self.column!r} for the facet {self}")
        known = present(column)
        if self.threshold is None:
            return np.array([value_text(value) == self.value for value in column.tolist()], np.bool_) & known, known
        if column.dtype == object:
            raise NotComparable(f"the column {self.column!r} holds texts, which no threshold splits")
        with np.errstate(invalid="ignore"):
            return column.astype(np.float64) > self.threshold, known

    def shown(self, column: Array) -> str:
        """The facet's value as Clarify writes it: `F`, or `(45.0, 90.0]` up to the largest value."""
        if self.threshold is None:
            return self.value
        known = column[present(column)].astype(np.float64)
        return f"({self.threshold}, {max(float(known.max(initial=-math.inf)), self.threshold)}]"

    def matches(self, shown: str) -> bool:
        """Whether Clarify's text of a value means this facet; where a range ends is the data's matter."""
        if self.threshold is None:
            return value_text(shown) == self.value
        found = _RANGE.match(shown)
        try:
            return found is not None and math.isclose(float(found["lower"]), self.threshold)
        except ValueError:
            return False


def parse_facets(specifications: Sequence[str]) -> tuple[Facet, ...]:
    """Facets as they were written; one without a value or threshold stands for all values of its column.

    Raises:
        InvalidArgument: one is none of the three forms.
    """
    return tuple(_parse(one) for one in specifications)


def _parse(specification: str) -> Facet:
    match = _SPECIFICATION.fullmatch(specification)
    if match is None:
        raise InvalidArgument(f"{specification[:80]!r} is not a facet: write COLUMN, COLUMN=value or COLUMN>number")
    column = match["column"].strip()
    if match["sign"] == ">":
        try:
            return Facet(column, threshold=_finite(match["value"]))
        except ValueError:
            raise InvalidArgument(f"{specification[:80]!r}: after '>' stands a number") from None
    return Facet(column, value_text(match["value"]) if match["value"] else "")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def facets_of(column: str, values: Sequence[bool | int | float | str], outcomes: Outcomes) -> tuple[Facet, ...]:
    """Clarify's `value_or_threshold`: one number splits a continuous column, else every value is a facet.

    Without values the facet stands for each value of its column.
    """
    found = outcomes.columns.get(column)
    if found is not None and len(values) == 1 and not isinstance(values[0], bool | str):
        known = found[present(found)]
        if _is_continuous(known, len(set(known.tolist()))):
            return (Facet(column, threshold=_finite(str(values[0]))),)
    return tuple(Facet(column, value_text(value)) for value in values) or (Facet(column),)


def expanded(facets: Sequence[Facet], *sources: Outcomes) -> tuple[Facet, ...]:
    """The same with each facet that stands for all values of its column replaced by those seen in `sources`.

    Raises:
        NotComparable: such a column is not there, continuous, or has more than 20 values.
    """
    found: list[Facet] = []
    for facet in facets:
        if facet.value or facet.threshold is not None:
            found.append(facet)
        else:
            found += [Facet(facet.column, value) for value in _values(facet.column, sources)]
    return tuple(dict.fromkeys(found))


def _values(column: str, sources: Sequence[Outcomes]) -> list[str]:
    seen: set[str] = set()
    for source in sources:
        if column in source.columns:
            values = source.columns[column]
            known = values[present(values)]
            distinct = set(known.tolist())
            if _is_continuous(known, len(distinct)):
                raise NotComparable(f"the column {column!r} is continuous: say where to split it, as {column}>number")
            seen |= {value_text(value) for value in distinct}
    if not seen:
        raise NotComparable(f"there is no column {column!r} for a facet, or it is empty")
    if len(seen) > _MOST_VALUES:
        raise NotComparable(f"the column {column!r} has {len(seen)} values: name those to watch, as {column}=value")
    if any(len(value) > _MOST_TEXT for value in seen):
        raise NotComparable(f"the column {column!r} has values too long to watch each")
    return sorted(seen)


def _is_continuous(values: Array, distinct: int) -> bool:
    """Clarify's rule; rows travel as floats here, so whole ones count as integers."""
    if values.dtype.kind not in "fiu" or distinct <= 2:
        return False
    whole = values.dtype.kind != "f" or bool((values == np.round(values.astype(np.float64))).all())
    return not whole or (distinct > _MOST_VALUES and distinct >= _CONTINUOUS * values.size)
