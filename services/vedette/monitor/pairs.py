"""Columns of a window beside the same columns of the baseline, and how a distance between them becomes results.

Rule: what cannot be compared is named with its reason, never left out in silence and never an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from vedette.core.errors import InvalidArgument
from vedette.core.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.profiles import ColumnProfile

Kind = Literal["numeric", "text"]
BOTH: tuple[Kind, ...] = ("numeric", "text")

MIN_VALUES = 20
"""A column with fewer values, on either side, is not compared: neither shares nor asymptotic tests mean much."""
LARGEST = 1e12
"""Scores are cut off here: a distance over a spread near zero must stay a number that every format can carry."""
MAX_NAMED = 100
"""Results for columns that the baseline does not have; callers choose the names and the number of those."""


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


def pair_columns(
    evidence: Evidence, *, check: str, kinds: Collection[Kind] = BOTH
) -> tuple[list[Pair], list[CheckResult]]:
    """The columns that can be compared, and a skipped result for each that cannot, with the reason."""
    if evidence.baseline is None:
        return [], [skipped(check, "There is no baseline to compare with.")]
    if not evidence.window.rows:
        return [], [skipped(check, "The window is empty.")]
    pairs, left_out = [], _unknown(evidence, check)
    for name, column in evidence.baseline.columns.items():
        if column.kind not in kinds:
            continue
        window = evidence.window.columns.get(name)
        reason = _incomparable(column, window)
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


def _incomparable(baseline: ColumnProfile, window: ColumnProfile | None) -> str:
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


def compare(evidence: Evidence, limit: Limit, distances: dict[Kind, Distance]) -> list[CheckResult]:
    """One result per column of the kinds that have a distance: violated above the limit's threshold."""
    pairs, results = pair_columns(evidence, check=limit.check, kinds=distances)
    for pair in pairs:
        score = distances[pair.kind](pair.baseline, pair.window)
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
