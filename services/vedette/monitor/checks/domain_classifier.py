"""Drift of all columns together: can a classifier tell the window's rows from the baseline's?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import at_least, between, skipped
from vedette.monitor.quality.boosting import binned_columns, boosted
from vedette.monitor.significance import MOST_ALIKE, Codes, Independence, alike, auc_p_value, independence, row_codes
from vedette.profiles.hashing import mixed

MIN_ROWS = 50
MOST_NAMED = 3
MOST_COLUMNS = 500


@dataclass(frozen=True, slots=True)
class DomainClassifier:
    """Drift of all columns together: can a classifier tell the window's rows from the baseline's?

    Boosted trees learn it on one half of both samples of rows and are judged on the other, and the other way round.
    The score is the mean area under the ROC curve: 0.5 is a guess, 1 is certainty; it finds what single columns do
    not show, such as two features that are no longer correlated. An alarm needs an area above `threshold` and a
    Mann-Whitney p-value of at most `alpha`, corrected for the two halves and for rows that repeat. Equal rows are
    never on both sides of a split. At most 500 columns take part. Method: Lopez-Paz and Oquab, "Revisiting
    classifier two-sample tests", 2017.
    """

    name: ClassVar[str] = "domain_classifier"
    threshold: float = 0.55
    """The area under the ROC curve must be larger for an alarm."""
    alpha: float = 0.01
    """The p-value must be at most this for an alarm."""
    seed: int = 0
    """Chooses the halves."""

    def __post_init__(self) -> None:
        between("threshold", self.threshold)
        between("alpha", self.alpha)
        at_least("seed", self.seed, 0)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        if evidence.baseline is None:
            return [skipped(self.name, evidence.no_baseline)]
        table = _table(evidence)
        if table is None:
            return [skipped(self.name, "Baseline and window have no column in common.")]
        least = min(np.count_nonzero(table.labels == side) for side in (0, 1))
        if least < MIN_ROWS:
            return [skipped(self.name, f"A sample has {least} rows; {MIN_ROWS} are needed.")]
        halves = _halves(table, self.seed)
        if any(len(set(table.labels[half].tolist())) < 2 for half in (halves, ~halves)):
            return [skipped(self.name, "Rows repeat so much that they cannot be split into two halves.")]
        found = _cross_validated(table, halves, independence(evidence.baseline, evidence.window))
        return [self._result(found)]

    def _result(self, found: _Separation) -> CheckResult:
        certain, large = found.p_value <= self.alpha, found.auc > self.threshold
        text = (
            f"A classifier tells window from baseline with AUC {found.auc:.3f}, which "
            f"{'exceeds' if large else 'is within'} {self.threshold:.4g}; "
            f"p {found.p_value:.2g} {'is at most' if certain else 'is above'} {self.alpha:.4g}."
        )
        if certain and large:
            text += f" Most telling: {', '.join(ascii(name[:40]) for name in found.telling)}."
        outcome: Literal["ok", "violated"] = "violated" if certain and large else "ok"
        return CheckResult(self.name, "", outcome, found.auc, self.threshold, found.p_value, self.name, text)


@dataclass(frozen=True, slots=True)
class _Table:
    """Both samples as one table of codes; labels are 0 for the baseline's rows and 1 for the window's."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    labels: NDArray[np.float64]
    rows: tuple[Codes, Codes]


@dataclass(frozen=True, slots=True)
class _Separation:
    """How well the classifier did."""

    auc: float
    p_value: float
    telling: tuple[str, ...]


def _table(evidence: Evidence) -> _Table | None:
    before = evidence.baseline.sample.columns() if evidence.baseline else {}
    after = evidence.window.sample.columns()
    rows = row_codes(before, after)
    if rows is None:
        return None
    names = tuple(sorted(before.keys() & after.keys())[:MOST_COLUMNS])
    columns = [np.concatenate(binned_columns(before[name], after[name])) for name in names]
    labels = np.repeat([0.0, 1.0], [len(rows[0]), len(rows[1])])
    return _Table(names, np.column_stack(columns), labels, rows)


def _halves(table: _Table, seed: int) -> NDArray[np.bool_]:
    """Which rows are in the first half: equal rows together, unless rows are too simple to be told apart."""
    codes = np.concatenate(table.rows)
    if alike(table.rows[0]) > MOST_ALIKE:
        codes = np.arange(len(codes), dtype=np.uint64)
    return np.asarray(mixed(codes ^ mixed(np.array([seed % 2**64], dtype=np.uint64))) >> np.uint64(63) == 0)


def _cross_validated(table: _Table, halves: NDArray[np.bool_], worth: Independence) -> _Separation:
    aucs, p_values, gains = [], [], np.zeros(len(table.names))
    for learn in (halves, ~halves):
        forest = boosted(table.codes[learn], table.labels[learn])
        auc = area_under_curve(forest.score(table.codes[~learn]), table.labels[~learn])
        rows = int(np.count_nonzero(~learn))
        window = float(table.labels[~learn].sum())
        aucs.append(auc)
        p_values.append(auc_p_value(auc, (rows - window) * worth.baseline, window * worth.window))
        gains += forest.gains
    telling = tuple(table.names[place] for place in np.argsort(-gains, kind="stable")[:MOST_NAMED] if gains[place] > 0)
    return _Separation(math.fsum(aucs) / 2, min(1.0, 2 * min(p_values)), telling)


def area_under_curve(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """The chance that a row with label 1 scores higher than one with label 0; ties count half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    ones = float(labels.sum())
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones)))
