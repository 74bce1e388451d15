"""What windows of a segment are compared with: the same segment of the baseline, folded from its sample of rows.

Rule: a segment differs from the whole by nature; where the baseline has too few rows of it nothing is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vedette.monitor.traffic.segments import OTHER, named_values, rows_in
from vedette.profiles import Layout, Profile

MIN_ROWS = 50
"""Rows of a segment in the baseline's sample with which comparing begins to mean something."""


@dataclass(frozen=True, slots=True)
class SegmentBaseline:
    """The baseline of one segment; `profile` None: nothing is compared, for this reason."""

    profile: Profile | None
    reason: str = ""


def segment_baseline(whole: Profile, layout: Layout | None, segment: str, named: tuple[str, ...]) -> SegmentBaseline:
    """The baseline of `feature=value`; `named` are the feature's values that have segments of their own."""
    feature, _, value = segment.partition("=")
    columns = whole.sample.columns()
    if feature not in columns:
        return SegmentBaseline(None, f"The baseline has no column {feature!r} to take the segment from.")
    if value != OTHER and value not in named_values(columns[feature])[0]:
        return SegmentBaseline(None, f"The sample of the baseline has no row with {segment}.")
    inside = rows_in(named, value, columns[feature])
    rows = int(np.count_nonzero(inside))
    if rows < MIN_ROWS:
        reason = f"The sample of the baseline has {rows} rows with {segment}; {MIN_ROWS} are needed."
        return SegmentBaseline(None, reason)
    profile = Profile(layout)
    profile.fold({name: column[inside] for name, column in columns.items()})
    return SegmentBaseline(profile)
