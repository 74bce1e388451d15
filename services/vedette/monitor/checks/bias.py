"""Bias drift: Clarify's bias metrics of live predictions against those of the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from vedette.core.errors import InvalidArgument, VedetteError
from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import at_least
from vedette.monitor.quality.bias import POST_TRAINING, PRE_TRAINING, FacetTable, answers_of, table_of
from vedette.monitor.quality.bias_documents import (
    ANALYSIS_DOCUMENT,
    FacetBias,
    bounded,
    constraint,
    feature_of,
    read_analysis,
)
from vedette.monitor.quality.facets import Facet, expanded, parse_facets
from vedette.monitor.quality.outcomes import Outcomes, Roles
from vedette.monitor.quality.performance import Reading, reading_of
from vedette.monitor.quality.reference import reference_of, window_of
from vedette.monitor.wording import left_out

_KIND = "bias_drift_check"


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What one facet's metrics are compared with."""

    values: Mapping[str, float]
    table: FacetTable | None = None
    """The reference rows that were measured; None: the values come from a document."""
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bias(Roles):
    """Compares each bias metric of each facet with the baseline's: farther from 0 is a violation.

    The baseline's values are those of its `analysis.json` in Clarify's schema; where it has none they are
    measured on the reference rows. Chance is allowed for as Clarify does it, by a normal bootstrap interval: the
    interval around the live value, `standard_errors` wide on either side, must lie wholly outside the range from
    -|baseline| to |baseline|; where the baseline's own rows are at hand, their error widens it. The plain rule
    |live| > |baseline| is `standard_errors = 0`. Mind that DI is 1 for equal treatment: it is violated when it
    grows; that it falls shows in DPPL.

    Metrics of predictions alone (DPPL, DI, CDDPL, FT) need no labels; the others wait for them.
    """

    name: ClassVar[str] = "bias"

    facets: tuple[str, ...] = ()
    """Whom to watch: `Sex=F` (a value), `Age>45` (more than, exclusive) or `Sex` (each of its values)."""
    label_values_or_threshold: tuple[str, ...] = ()
    """The favourable classes, or one number that favourable values exceed; empty: the positive class."""
    group_variable: str = ""
    """The column whose groups CDDPL and CDDL look into; empty: all rows are one group."""
    metrics: tuple[str, ...] = ()
    """Clarify's short names; empty: all post-training metrics."""
    standard_errors: float = 3.0
    """How many standard errors beyond the allowed range a metric must lie; 0: any distance."""
    min_rows: int = 30
    """With fewer rows in the facet or outside it nothing is compared."""

    def __post_init__(self) -> None:
        Roles.__post_init__(self)
        parse_facets(self.facets)
        at_least("standard_errors", self.standard_errors, 0)
        at_least("min_rows", self.min_rows, 1)
        unknown = set(self.metrics) - {*POST_TRAINING, *PRE_TRAINING}
        if unknown:
            known = ", ".join((*POST_TRAINING, *PRE_TRAINING))
            raise InvalidArgument(f"{min(unknown)[:80]!r} is no bias metric; there are: {known}")

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        """One result per facet and metric; `feature` is `Sex=F:DPPL`."""
        try:
            if not self.facets:
                return [self._skipped("", "no facet is named")]
            return self._evaluate(evidence)
        except VedetteError as error:
            return [self._skipped("", error.message)]

    def _evaluate(self, evidence: Evidence) -> list[CheckResult]:
        live = window_of(evidence)
        document = read_analysis(evidence.documents.get(ANALYSIS_DOCUMENT, b"{}"))
        reference = None if document else reference_of(evidence, self)
        sources = [source for source in (reference, live) if source is not None]
        reading = reading_of(self, evidence.signature, *sources)
        metrics = self.metrics or POST_TRAINING
        results: list[CheckResult] = []
        for facet in expanded(parse_facets(self.facets), *sources):
            table = self._table(reading, live, facet, metrics)
            if reference is not None:
                allowed = self._measured(self._table(reading, reference, facet, metrics), metrics)
            else:
                allowed = _documented(document, facet, metrics)
            results += self._compared(facet, table, allowed, metrics)
        return results

    def _table(self, reading: Reading, outcomes: Outcomes, facet: Facet, metrics: Sequence[str]) -> FacetTable:
        answers = answers_of(reading, outcomes, self.label_values_or_threshold)
        return table_of(outcomes, answers, facet=facet, group_variable=self.group_variable, metrics=metrics)

    def _measured(self, table: FacetTable, metrics: Sequence[str]) -> _Allowed:
        enough = [name for name in metrics if min(table.rows(name)) >= self.min_rows]
        values = {name: table.value(name) for name in enough}
        return _Allowed(values, table, table.errors(enough) if self.standard_errors else {})

    def _compared(
        self, facet: Facet, table: FacetTable, allowed: _Allowed, metrics: Sequence[str]
    ) -> list[CheckResult]:
        errors = table.errors(metrics) if self.standard_errors else {}
        return [self._judged(facet, name, table, allowed, errors) for name in metrics]

    def _judged(
        self, facet: Facet, name: str, table: FacetTable, allowed: _Allowed, errors: Mapping[str, float]
    ) -> CheckResult:
        feature = feature_of(facet, name)
        outside, inside = table.rows(name)
        if min(outside, inside) < self.min_rows:
            return self._skipped(
                feature, f"{inside} rows in the facet and {outside} outside it: {self.min_rows} each are compared"
            )
        if name not in allowed.values:
            return self._skipped(feature, "the baseline has no such metric for this facet, or too few rows for it")
        value, baseline = table.value(name), allowed.values[name]
        margin = self.standard_errors * self._error(name, table, allowed, errors) if self.standard_errors else 0.0
        if math.isnan(margin) or (self.standard_errors and not math.isfinite(value)):
            return self._skipped(feature, f"{name} divides by nothing, or nearly, on {inside} rows in the facet")
        violated = abs(value) > abs(baseline) + margin
        return CheckResult(
            check=self.name,
            feature=feature,
            outcome="violated" if violated else "ok",
            value=bounded(value),
            threshold=bounded(baseline),
            kind=_KIND,
            description=_told(bounded(value), bounded(baseline), margin, (inside, outside), violated=violated),
        )

    def _error(self, name: str, table: FacetTable, allowed: _Allowed, errors: Mapping[str, float]) -> float:
        """The standard error of the difference; rows too few to differ are as unsure as the baseline's would be."""
        error = errors.get(name, math.nan)
        if allowed.table is None:
            return error
        known = allowed.errors.get(name, math.nan)
        fewer = math.sqrt(min(allowed.table.rows(name)) / min(table.rows(name)))
        return math.hypot(max(error, known * fewer), known)

    def _skipped(self, feature: str, why: str) -> CheckResult:
        return left_out(self.name, why, feature=feature, kind=_KIND)


def _documented(analysis: Sequence[FacetBias], facet: Facet, metrics: Sequence[str]) -> _Allowed:
    found = {name: constraint(analysis, facet, name) for name in metrics}
    return _Allowed({name: value for name, value in found.items() if value is not None})


def _told(value: float, baseline: float, margin: float, rows: tuple[int, int], *, violated: bool) -> str:
    of = f"{rows[0]} rows in the facet, {rows[1]} outside it"
    if violated:
        return f"Metric value {value:.6g} doesn't meet the baseline constraint requirement {baseline:.6g} ({of})"
    if abs(value) > abs(baseline):
        within = f"but within what chance does ({margin:.3g}; {of})"
        return f"Metric value {value:.6g} is farther from 0 than the baseline's {baseline:.6g}, {within}"
    return f"Metric value {value:.6g} meets the baseline constraint requirement {baseline:.6g} ({of})"
