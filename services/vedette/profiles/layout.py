"""What profiles must have in common to be merged and compared: kinds of columns, edges of bins, known categories.

Rule: a layout is taken from the baseline's profile once and never changes; windows are folded over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from vedette.profiles.column import ColumnProfile
    from vedette.profiles.profile import Profile

Kind = Literal["numeric", "text"]

BINS = 20


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """How one column is counted."""

    kind: Kind
    edges: tuple[float, ...] = ()
    """Of a numeric column: minimum, the 5 %, 10 %, ... 95 % quantiles and maximum of the baseline, without repeats.
    A maximum that is itself such a quantile gets a bin of its own, one float wide."""
    categories: tuple[str, ...] = ()
    """Of a text column: those that the baseline counted by name."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a baseline; empty: anything goes and nothing has bins."""

    columns: Mapping[str, ColumnLayout] = field(default_factory=dict)

    @staticmethod
    def of(profile: Profile) -> Layout:
        """The layout under which windows are comparable with `profile`."""
        return Layout({name: _column(column) for name, column in profile.columns.items()})


def _column(column: ColumnProfile) -> ColumnLayout:
    if column.kind == "text":
        return ColumnLayout("text", categories=tuple(sorted(column.categories.counts)))
    return ColumnLayout("numeric", edges=_edges(column))


def _edges(column: ColumnProfile) -> tuple[float, ...]:
    if not column.moments.count:
        return ()
    inner = column.quantiles.quantile(np.arange(1, BINS) / BINS)
    low, high = column.moments.minimum, column.moments.maximum
    edges = np.unique(np.concatenate(([low], inner, [high])))
    if inner[-1] == high and high < np.finfo(np.float64).max:
        edges = np.append(edges, np.nextafter(high, np.inf))
    return tuple(edges.tolist())
