"""What statistics.json and constraints.json of an execution are: those of the monitor's kind, as SageMaker has them.

- Of a monitor of model quality (only `model_quality`, beside it `cbpe` or `dle`): model quality statistics of the
  window's labelled rows, and the baseline's model_quality_constraints.json.
- Of a monitor of bias or attributions (only `bias`, `feature_attribution`): the bias metrics that were judged, in
  Clarify's schema, and the baseline's analysis.json. Attributions of a window are not kept; without `bias` its
  statistics are those of the columns.
- Of every other monitor: the statistics of the window's columns, and the baseline's constraints.json.

Rule: everything is made of what the store and the baseline hold; what is not kept any more is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from vedette.core.errors import VedetteError
from vedette.entities.monitors import CONSTRAINTS_FILE, CheckSettings, Execution, Monitor
from vedette.monitor.checks import make_check
from vedette.monitor.checks.bias import Bias
from vedette.monitor.checks.model_quality import ModelQuality
from vedette.monitor.quality.bias_documents import FacetBias, analysis_document
from vedette.monitor.quality.facets import parse_facets
from vedette.monitor.quality.performance import reading_of
from vedette.monitor.quality.quality_documents import statistics_document
from vedette.monitor.reference_data.statistics import statistics_file
from vedette.monitor.references import References
from vedette.monitor.results.execution_files import execution_files
from vedette.monitor.subjects import check_of
from vedette.monitor.traffic.labels import outcomes_of
from vedette.ports.baselines import ANALYSIS_FILE, QUALITY_CONSTRAINTS_FILE
from vedette.ports.monitors import MonitorSnapshot, WindowKey
from vedette.profiles import Profile

_ABOUT_LABELS = frozenset({"model_quality", "cbpe", "dle"})
_CLARIFY = frozenset({"bias", "feature_attribution"})


def documents_of(
    execution: Execution, monitor: Monitor, snapshot: MonitorSnapshot, references: References, profile: Profile | None
) -> dict[str, bytes]:
    """The files of an execution by name. Blocks; `profile` is the window's, None when it is not kept any more."""
    constraints = references.document(
        execution.endpoint, execution.version, monitor.baseline, constraints_name(monitor.checks)
    )
    return execution_files(execution, _statistics(execution, monitor, snapshot, references, profile), constraints)


def constraints_name(checks: Sequence[CheckSettings]) -> str:
    """Which of a baseline's files a monitor with these checks is held to."""
    names = {settings.check for settings in checks}
    if "model_quality" in names and names <= _ABOUT_LABELS:
        return QUALITY_CONSTRAINTS_FILE
    return ANALYSIS_FILE if names and names <= _CLARIFY else CONSTRAINTS_FILE


def _statistics(
    execution: Execution, monitor: Monitor, snapshot: MonitorSnapshot, references: References, profile: Profile | None
) -> bytes | None:
    kind = constraints_name(monitor.checks)
    if kind == QUALITY_CONSTRAINTS_FILE:
        return _quality(execution, monitor, snapshot, references)
    if kind == ANALYSIS_FILE and any(settings.check == "bias" for settings in monitor.checks):
        return _analysis(execution, monitor, profile)
    return statistics_file(profile) if profile is not None else None


def _quality(execution: Execution, monitor: Monitor, snapshot: MonitorSnapshot, references: References) -> bytes | None:
    """Of the labelled rows as far as they are known now; None where none are, or their predictions are gone."""
    key = WindowKey(execution.monitor, execution.variant, execution.version, execution.segment, execution.start)
    roles = next(made for settings in monitor.checks if isinstance(made := make_check(settings), ModelQuality))
    try:
        outcomes = outcomes_of(snapshot, execution.endpoint, key)
        if outcomes is None:
            return None
        signature = references.signature(execution.endpoint, execution.version)
        performance = reading_of(roles, signature, outcomes).performance(outcomes)
    except VedetteError:
        return None  # the execution's own results say why nothing was measured
    return _encoded(statistics_document(performance)) if performance.rows else None


def _analysis(execution: Execution, monitor: Monitor, profile: Profile | None) -> bytes:
    checks = [made for settings in monitor.checks if isinstance(made := make_check(settings), Bias)]
    metrics: dict[str, dict[str, float]] = {}
    for result in execution.results:
        facet, colon, metric = result.feature.rpartition(":")
        if check_of(result.check) == "bias" and colon and result.value is not None:
            metrics.setdefault(facet, {})[metric] = result.value
    facets = [_facet(text, values, profile) for text, values in metrics.items()]
    label = next((check.ground_truth_attribute for check in checks if check.ground_truth_attribute), "label")
    favourable = ",".join(next((check.label_values_or_threshold for check in checks), ()))
    return _encoded(analysis_document(label, favourable, facets))


def _facet(text: str, metrics: dict[str, float], profile: Profile | None) -> FacetBias:
    """A facet as Clarify writes it: a range ends with the largest value of its column."""
    (facet,) = parse_facets([text])
    column = profile.columns.get(facet.column) if profile is not None else None
    if facet.threshold is None:
        return FacetBias(facet.column, facet.value, metrics)
    largest = column.moments.maximum if column is not None else math.nan
    end = largest if math.isfinite(largest) else facet.threshold
    return FacetBias(facet.column, f"({facet.threshold}, {max(end, facet.threshold)}]", metrics)


def _encoded(document: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
