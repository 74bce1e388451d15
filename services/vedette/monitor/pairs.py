"""Columns of a window beside the same columns of the baseline, and how a distance between them becomes results.

Rule: what cannot be compared is named with its reason, never left out in silence and never an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.profiles import ColumnProfile, distances

Floats = NDArray[np.float64]

Kind = Literal["numeric", "text"]
BOTH: tuple[Kind, ...] = ("numeric", "text")

MIN_VALUES = 20
"""A column with fewer values, on either side, is not compared: neither shares nor asymptotic tests mean much."""
LARGEST = 1e12
"""Scores are cut off here: a distance over a spread near zero must stay a number that every format can carry."""
ROUGH = 20.0
"""A category is compared when its share, on either side, is so many times what the cap of a side may have taken of it:
then the cap can move at most a twentieth of the rows."""
MAX_NAMED = 100
"""Results for columns that the baseline does not have; callers choose the names and the number of those."""
LABEL = "label"
"""What a column of labels is called when the model does not name its target."""
EXCLUDED = "The column is excluded from capture."


@dataclass(frozen=True, slots=True)
class Pair:
    """One column in the baseline and in the window, of one kind, with enough values on both sides."""

    name: str
    baseline: ColumnProfile
    window: ColumnProfile

    @property
    def kind(self) -> Kind:
        """How both are counted."""
        return self.baseline.kind


Distance = Callable[[ColumnProfile, ColumnProfile], float]
"""Baseline and window to a distance; NaN where there is none."""
Measure = Callable[[Floats, Floats], float]
"""Counts of the baseline and of the window, over the same cells, to a distance."""


def pair_columns(
    evidence: Evidence, *, check: str, kinds: Collection[Kind] = BOTH
) -> tuple[list[Pair], list[CheckResult]]:
    """The columns that can be compared, and a skipped result for each that cannot, with the reason."""
    if evidence.baseline is None:
        return [], [skipped(check, evidence.no_baseline)]
    if not evidence.window.rows:
        return [], [skipped(check, "The window is empty.")]
    pairs, left_out = [], _unknown(evidence, check)
    for name, column in evidence.baseline.columns.items():
        if column.kind not in kinds or is_label(evidence, name):
            continue
        window = evidence.window.columns.get(name)
        reason = EXCLUDED if is_excluded(evidence, name) else incomparable(column, window)
        if window is None or reason:
            left_out.append(skipped(check, reason, feature=name))
        else:
            pairs.append(Pair(name, column, window))
    if not pairs and not left_out:
        left_out.append(skipped(check, f"The baseline has no column of kind {' or '.join(kinds)}."))
    return pairs, left_out


def _unknown(evidence: Evidence, check: str) -> list[CheckResult]:
    known = evidence.baseline.columns if evidence.baseline else {}
    names = [name for name in (*evidence.window.columns, *evidence.window.unknown_columns) if name not in known]
    return [skipped(check, "The baseline has no such column.", feature=name) for name in names[:MAX_NAMED]]


def is_excluded(evidence: Evidence, name: str) -> bool:
    """Whether the window lacks a column because it is cut out of captures."""
    column = evidence.window.columns.get(name)
    return name in evidence.excluded and (column is None or not column.rows)


def is_label(evidence: Evidence, name: str) -> bool:
    """Whether it is a column of labels of the baseline, which traffic has not: no feature, and in no constraint."""
    column = evidence.window.columns.get(name)
    if name in evidence.signature.feature_names or (column is not None and column.rows):
        return False
    named = {feature.name for feature in evidence.constraints.features} if evidence.constraints else {name}
    return name in {evidence.signature.target, LABEL} or name not in named


def incomparable(baseline: ColumnProfile, window: ColumnProfile | None) -> str:
    """Why two columns cannot be compared, in one sentence; empty when they can."""
    if window is None or not window.rows:
        return "The window has no such column."
    if window.kind != baseline.kind:
        return f"The baseline holds {_NOUNS[baseline.kind]}, the window {_NOUNS[window.kind]}."
    for where, column in (("baseline", baseline), ("window", window)):
        if (count := values(column)) < MIN_VALUES:
            return f"The {where} has {count} values to compare here; {MIN_VALUES} are needed."
    return ""


_NOUNS = {"numeric": "numbers", "text": "texts"}


def values(column: ColumnProfile) -> int:
    """How many values of the column distances are taken of: finite numbers, or texts."""
    return int(column.moments.count) if column.kind == "numeric" else column.categories.total


def skipped(check: str, reason: str, *, feature: str = "") -> CheckResult:
    """A result that says why there is none."""
    return CheckResult(check, feature, "skipped", kind=check, description=reason)


@dataclass(frozen=True, slots=True)
class Limit:
    """A distance under its check's name and the value over which it is a violation."""

    check: str
    threshold: float
    what: str
    """The distance in words, as a description begins."""


def binned(measure: Measure) -> Distance:
    """A measure of counts over the baseline's bins: 20 that hold equal shares of it, and one beyond either end."""

    def distance(baseline: ColumnProfile, window: ColumnProfile) -> float:
        before, after = distances.binned(baseline, window)
        return measure(before, after) if len(before) else math.nan

    return distance


def by_category(measure: Measure) -> Distance:
    """A measure of counts over the categories of both."""
    return lambda baseline, window: measure(*category_counts(baseline, window))


def category_counts(baseline: ColumnProfile, window: ColumnProfile) -> tuple[Floats, Floats]:
    """Counts by category on both sides, in one order; the last cell is what is under no name.

    Where a side was over its cap of categories, only names that it counted well are compared; all others are one cell.
    """
    left, right = baseline.categories, window.categories
    here, there = left.counts, right.counts
    totals = max(1, left.total), max(1, right.total)
    doubt = left.slack / totals[0], right.slack / totals[1]

    def well_counted(name: str) -> bool:
        share = max(here.get(name, 0) / totals[0], there.get(name, 0) / totals[1])
        return all(share >= ROUGH * d or name in side.known for d, side in zip(doubt, (left, right)))

    names = sorted(name for name in {*here, *there} if well_counted(name))
    before = np.array([here.get(name, 0) for name in names], dtype=np.float64)
    after = np.array([there.get(name, 0) for name in names], dtype=np.float64)
    return np.append(before, left.total - before.sum()), np.append(after, right.total - after.sum())


def compare(evidence: Evidence, limit: Limit, by_kind: Mapping[Kind, Distance]) -> list[CheckResult]:
    """One result per column of the kinds that have a distance: violated above the limit's threshold."""
    pairs, results = pair_columns(evidence, check=limit.check, kinds=by_kind)
    for pair in pairs:
        score = by_kind[pair.kind](pair.baseline, pair.window)
        results.append(judged(limit, pair.name, score))
    return results


def judged(limit: Limit, feature: str, score: float) -> CheckResult:
    """The result of one score; a score that is no number is skipped."""
    if math.isnan(score):
        return skipped(limit.check, f"{limit.what} is not defined here.", feature=feature)
    score = min(score, LARGEST)
    over = score > limit.threshold
    relation = "exceeds" if over else "is within"
    text = f"{limit.what} {score:.4g} {relation} {limit.threshold:.4g}."
    outcome: Literal["ok", "violated"] = "violated" if over else "ok"
    return CheckResult(limit.check, feature, outcome, score, limit.threshold, kind=limit.check, description=text)


def at_least(name: str, value: float, low: float) -> None:
    """Refuse a hyper-parameter below `low`.

    Raises:
        InvalidArgument: it is, or is no number.
    """
    if not value >= low:
        raise InvalidArgument(f"{name} must be at least {low:g}")


def between(name: str, value: float, *, low: float = 0.0, high: float = 1.0) -> None:
    """Refuse a hyper-parameter that does not lie strictly between `low` and `high`.

    Raises:
        InvalidArgument: it does not.
    """
    if not low < value < high:
        raise InvalidArgument(f"{name} must be between {low:g} and {high:g}")
