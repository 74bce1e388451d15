"""Model quality: the metrics of labelled predictions against their constraints, as SageMaker's monitor has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vedette.core.errors import VedetteError
from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import at_least
from vedette.monitor.quality.outcomes import NotComparable, Outcomes, Roles
from vedette.monitor.quality.performance import Performance, Reading, reading_of
from vedette.monitor.quality.quality_documents import (
    CONSTRAINTS_DOCUMENT,
    STATISTICS_DOCUMENT,
    QualityConstraint,
    measured_rows,
    read_constraints,
    suggest,
)
from vedette.monitor.quality.reference import reference_of
from vedette.monitor.wording import left_out, readable


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the window's metrics are compared with."""

    constraints: Mapping[str, QualityConstraint]
    rows: int = 0
    """Rows that the thresholds were measured on; 0: somebody chose them."""
    errors: Mapping[str, float] | None = None
    """Standard errors of the metrics on those rows."""


@dataclass(frozen=True, slots=True)
class ModelQuality(Roles):
    """Compares each metric of the window's labelled rows with the baseline's constraint.

    The constraints are those of the baseline's `model_quality_constraints.json`; without that file, the metrics
    of the baseline's own labelled rows. A metric is violated when it lies beyond its threshold by more than
    `standard_errors` of its standard error (bootstrap over the labelled rows; the baseline's is added when the
    threshold was measured on rows too). SageMaker's plain rule is `standard_errors = 0`: it calls about every
    second unchanged window a violation of each metric.
    """

    name: ClassVar[str] = "model_quality"

    standard_errors: float = 3.0
    """How many standard errors beyond its threshold a metric must lie; 0: any distance."""
    min_labels: int = 50
    """With fewer labelled rows nothing is compared."""

    def __post_init__(self) -> None:
        Roles.__post_init__(self)
        at_least("standard_errors", self.standard_errors, 0)
        at_least("min_labels", self.min_labels, 1)

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        """One result per metric with a constraint; `feature` is the metric's name."""
        try:
            return self._evaluate(evidence)
        except VedetteError as error:
            return [self._skipped("", error.message)]

    def _evaluate(self, evidence: Evidence) -> list[CheckResult]:
        outcomes = evidence.outcomes
        if outcomes is None or outcomes.labelled < self.min_labels:
            known = outcomes.labelled if outcomes else 0
            return [self._skipped("", f"{known} labels of this window are known yet, fewer than {self.min_labels}")]
        reference = self._reference(evidence)
        reading = reading_of(self, evidence.signature, *([reference] if reference else []), outcomes)
        live = reading.performance(outcomes)
        if live.rows < self.min_labels:
            few = f"{live.rows} rows have a label and a prediction, fewer than {self.min_labels}"
            return [self._skipped("", few + _beside(outcomes.labelled - live.rows))]
        expected = self._expected(evidence, reading, reference)
        values = live.metrics()
        errors = live.standard_errors() if self.standard_errors else {}
        return [
            self._judged(
                name,
                constraint,
                values[name],
                self._error(name, errors, expected, live.rows),
                live,
                beside=outcomes.labelled - live.rows,
            )
            for name, constraint in expected.constraints.items()
            if name in values
        ]

    def _reference(self, evidence: Evidence) -> Outcomes | None:
        try:
            return reference_of(evidence, self)
        except NotComparable:
            if CONSTRAINTS_DOCUMENT in evidence.documents:
                return None
            raise

    def _expected(self, evidence: Evidence, reading: Reading, reference: Outcomes | None) -> _Expected:
        document = evidence.documents.get(CONSTRAINTS_DOCUMENT)
        if document is not None:
            rows = measured_rows(evidence.documents.get(STATISTICS_DOCUMENT, b""))
            return _Expected(read_constraints(document, reading.problem), rows)
        performance = reading.performance(reference) if reference else None
        if performance is None or performance.rows < self.min_labels:
            raise NotComparable("the baseline's data has too few labelled predictions to compare with")
        errors = performance.standard_errors() if self.standard_errors else {}
        return _Expected(suggest(performance), performance.rows, errors)

    def _error(self, name: str, errors: Mapping[str, float], expected: _Expected, rows: int) -> float:
        """The standard error of the difference.

        Few rows of a class can agree by chance and seem to be sure: the baseline's own error, scaled to the
        window's rows, is the least.
        """
        if not self.standard_errors:
            return 0.0
        error = errors[name]
        if expected.errors is not None:
            error = max(error, expected.errors[name] * math.sqrt(expected.rows / rows))
        return error * math.sqrt(1 + rows / expected.rows) if expected.rows else error

    def _judged(
        self, name: str, constraint: QualityConstraint, value: float, error: float, live: Performance, *, beside: int
    ) -> CheckResult:
        if not math.isfinite(value) or not math.isfinite(error):
            return self._skipped(name, f"{name} does not exist on these {live.rows} labelled rows: one class only?")
        margin = self.standard_errors * error
        violated = constraint.violated(value, margin=margin)
        return CheckResult(
            check=self.name,
            feature=name,
            outcome="violated" if violated else "ok",
            value=value,
            threshold=constraint.threshold,
            kind=constraint.comparison_operator,
            description=readable(
                _told(name, constraint, value, margin, live.rows, violated=violated) + _beside(beside)
            ),
        )

    def _skipped(self, feature: str, why: str) -> CheckResult:
        return left_out(self.name, why, feature=feature)


def _told(name: str, constraint: QualityConstraint, value: float, margin: float, rows: int, *, violated: bool) -> str:
    operator, threshold = constraint.comparison_operator, constraint.threshold
    seen = f"Metric {name} with {value:.6g} on {rows} labelled rows"
    if violated:
        return f"{seen} was {operator} {threshold:.6g}" + (f", by more than chance ({margin:.3g})" if margin else "")
    if constraint.violated(value):
        return f"{seen} was {operator} {threshold:.6g}, but within what chance does ({margin:.3g})"
    return f"{seen} was not {operator} {threshold:.6g}"


def _beside(rows: int) -> str:
    """What is to be said of labelled rows that are not among those that were measured."""
    return f"; {rows} more could not be used: their label or prediction is no class of the model" if rows > 0 else ""
