"""Clarify's bias documents: analysis.json as a baseline's constraints, and the violations.

Rule: pure functions between figures and documents; a document from outside is checked where it is read.
Infinite values travel as the number that SageMaker puts in their place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import CheckResult
from vedette.monitor.quality.bias_metrics import FLIP_TEST, POST_TRAINING, PRE_TRAINING
from vedette.monitor.quality.facets import Facet
from vedette.monitor.quality.quality_documents import read_object
from vedette.ports.baselines import ANALYSIS_FILE

ANALYSIS_DOCUMENT = ANALYSIS_FILE
INFINITE = 2.348543e108

_SECTIONS = {
    "post_training_bias_metrics": {metric.name: metric.description for metric in POST_TRAINING}
    | {FLIP_TEST[0]: FLIP_TEST[1]},
    "pre_training_bias_metrics": {metric.name: metric.description for metric in PRE_TRAINING},
}


@dataclass(frozen=True, slots=True)
class FacetBias:
    """The metrics of one facet."""

    column: str
    value: str
    """As Clarify writes it: a value, or a range `(lower, upper]`."""
    metrics: Mapping[str, float] = field(default_factory=dict)


def analysis_document(label: str, label_value: str, facets: Iterable[FacetBias]) -> dict[str, Any]:
    """Figures in Clarify's schema; metrics that do not exist are left out."""
    measured = list(facets)
    document: dict[str, Any] = {"version": "1.0"}
    for section, names in _SECTIONS.items():
        by_column: dict[str, list[dict[str, Any]]] = {}
        for one in measured:
            figures = [
                {"name": name, "description": text, "value": bounded(one.metrics[name])}
                for name, text in names.items()
                if not math.isnan(one.metrics.get(name, math.nan))
            ]
            if figures:
                by_column.setdefault(one.column, []).append({"value_or_threshold": one.value, "metrics": figures})
        if by_column:
            document[section] = {"label": label, "facets": by_column, "label_value_or_threshold": label_value}
    return document


def bounded(value: float) -> float:
    """The value, or SageMaker's number for an infinite one."""
    return math.copysign(INFINITE, value) if math.isinf(value) else value


def read_analysis(data: bytes) -> list[FacetBias]:
    """The facets of a document with their metrics, one entry for each section that has them.

    Raises:
        InvalidArgument: it is no such document; the message names the place.
    """
    document = read_object(data, ANALYSIS_DOCUMENT)
    found: list[FacetBias] = []
    for section in _SECTIONS:
        facets = _object(document.get(section, {}), section).get("facets", {})
        for column, entries in _object(facets, f"{section}.facets").items():
            if not isinstance(entries, list):
                raise InvalidArgument(f"{ANALYSIS_DOCUMENT}: facet {column[:80]!r} is not a list")
            found += [_facet(str(column), entry) for entry in entries]
    return found


def _facet(column: str, entry: object) -> FacetBias:
    place = f"facet {column[:80]!r}"
    told = _object(entry, place)
    metrics = told.get("metrics")
    if not isinstance(metrics, list):
        raise InvalidArgument(f"{ANALYSIS_DOCUMENT}: {place} has no list of metrics")
    named: dict[str, float] = {}
    for metric in metrics:
        name, value = _object(metric, place).get("name"), _object(metric, place).get("value")
        if isinstance(value, int | float) and not isinstance(value, bool):
            named[str(name)] = math.copysign(math.inf, value) if abs(value) >= INFINITE else float(value)
    return FacetBias(column, str(told.get("value_or_threshold", "")), named)


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{ANALYSIS_DOCUMENT}: {place} is not an object")
    return value


def constraint(analysis: Iterable[FacetBias], facet: Facet, metric: str) -> float | None:
    """The baseline's value of a metric for a facet; None when the document has none."""
    for one in analysis:
        if one.column == facet.column and facet.matches(one.value) and metric in one.metrics:
            return one.metrics[metric]
    return None


def feature_of(facet: Facet, metric: str) -> str:
    """How a result names its facet and metric: `Sex=F:DPPL`."""
    return f"{facet}:{metric}"


def violations_document(results: Iterable[CheckResult]) -> dict[str, Any]:
    """The violated results of the check `bias` in Clarify's schema."""
    return {"version": "1.0", "violations": [_violation(one) for one in results if one.outcome == "violated"]}


def _violation(result: CheckResult) -> dict[str, Any]:
    facet, _, metric = result.feature.rpartition(":")
    sign = min((at for at in (facet.find("="), facet.find(">")) if at >= 0), default=len(facet))
    return {
        "facet": facet[:sign],
        "facet_value": facet[sign:].removeprefix("="),
        "metric_name": metric,
        "constraint_check_type": result.kind,
        "description": result.description,
    }
