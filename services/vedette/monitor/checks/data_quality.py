"""SageMaker's six data quality checks, as constraints.json says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from vedette.entities.monitors import CheckResult
from vedette.monitor.evidence import Evidence
from vedette.monitor.pairs import (
    EXCLUDED,
    MAX_NAMED,
    category_counts,
    incomparable,
    is_excluded,
    skipped,
    values,
)
from vedette.monitor.quality.outcomes import PREDICTION, PROBABILITY
from vedette.monitor.reference_data.constraints import (
    Constraints,
    DistributionConstraints,
    FeatureConstraints,
    MonitoringConfig,
)
from vedette.monitor.significance import deequ_chi_squared
from vedette.profiles import ColumnProfile, distances

FITTING: dict[str, tuple[str, ...]] = {
    "Integral": ("Integral", "Boolean"),
    "Fractional": ("Fractional", "Integral", "Boolean"),
    "Boolean": ("Boolean",),
}
"""What counts as a value of each type; a text column (String) may hold anything, Unknown is not checked."""
MAX_SHOWN = 3
"""Values outside of a domain that a description shows."""


@dataclass(frozen=True, slots=True)
class DataQuality:
    """SageMaker's six data quality checks, as constraints.json says.

    `data_type_check`, `completeness_check`, `categorical_values_check` and `baseline_drift_check` look at each column,
    `missing_column_check` and `extra_column_check` at the table. Thresholds, the way of comparing and overrides for
    single features stand in the baseline's constraints.json and are edited there. Columns that are excluded from
    capture are not missing, and predictions no extra columns while the constraints name none. With `ChiSquared` a
    p-value below the threshold is drift.
    """

    name: ClassVar[str] = "data_quality"

    non_negative: bool = False
    """Whether values below zero are a violation (`non_negative_check`) where the constraints say `is_non_negative`.
    SageMaker writes that constraint and checks it nowhere."""

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        constraints, window = evidence.constraints, evidence.window
        if constraints is None:
            return [skipped(self.name, "The baseline has no constraints to check.")]
        if not window.rows:
            return [skipped(self.name, "The window is empty.")]
        if constraints.monitoring_config.evaluate_constraints != "Enabled":
            return [skipped(self.name, "The constraints switch their evaluation off.")]
        results = [*_missing_columns(evidence, constraints), *_extra_columns(evidence, constraints)]
        for feature in constraints.features:
            column = window.columns.get(feature.name)
            config = constraints.config_of(feature)
            if column is not None and column.rows and config.evaluate_constraints == "Enabled":
                results += _feature(evidence, feature, config, column)
                if self.non_negative:
                    results += _non_negative(feature, column)
        return results


def _feature(
    evidence: Evidence, feature: FeatureConstraints, config: MonitoringConfig, column: ColumnProfile
) -> Iterator[CheckResult]:
    yield from _completeness(feature, column)
    yield from _data_type(feature, config, column)
    yield from _categorical_values(feature, config, column)
    if config.distribution_constraints.perform_comparison == "Enabled":
        yield _drift(evidence, feature, config.distribution_constraints, column)


def _result(kind: str, feature: str, value: float, threshold: float, complaint: str) -> CheckResult:
    """Violated with a complaint, ok without."""
    outcome: Literal["ok", "violated"] = "violated" if complaint else "ok"
    return CheckResult("data_quality", feature, outcome, value, threshold, kind=kind, description=complaint)


def _missing_columns(evidence: Evidence, constraints: Constraints) -> list[CheckResult]:
    kind, columns = "missing_column_check", evidence.window.columns
    absent = [f.name for f in constraints.features if f.name not in columns or not columns[f.name].rows]
    hidden = [name for name in absent if is_excluded(evidence, name)]
    missing = [name for name in absent if not is_excluded(evidence, name)]
    return [
        *_schema(kind, "missing", missing, evidence, constraints),
        *(CheckResult("data_quality", name, "skipped", kind=kind, description=EXCLUDED) for name in hidden[:MAX_NAMED]),
    ]


def _extra_columns(evidence: Evidence, constraints: Constraints) -> list[CheckResult]:
    named = {feature.name for feature in constraints.features}
    with_outputs = any(_is_output(name, evidence) for name in named)
    found = [
        *(name for name, column in evidence.window.columns.items() if column.rows),
        *evidence.window.unknown_columns,
    ]
    extra = [name for name in found if name not in named and (with_outputs or not _is_output(name, evidence))]
    return _schema("extra_column_check", "extra", extra, evidence, constraints)


def _schema(kind: str, word: str, names: list[str], evidence: Evidence, constraints: Constraints) -> list[CheckResult]:
    """One violation per column, as far as `MAX_NAMED`; the last one counts the rest."""
    if not names:
        return [_result(kind, "", 0.0, 0.0, "")]
    columns = evidence.window.columns
    current = sum(1 for column in columns.values() if column.rows) + len(evidence.window.unknown_columns)
    text = (
        f"There are {word} columns in current dataset. Number of columns in current dataset: {current}, "
        f"Number of columns in baseline constraints: {len(constraints.features)}"
    )
    results = [_result(kind, name, 1.0, 0.0, text) for name in names[:MAX_NAMED]]
    more = len(names) - MAX_NAMED
    if more > 0:
        results.append(_result(kind, "", float(more), 0.0, f"{text}. {more} more are {word}."))
    return results


def _is_output(name: str, evidence: Evidence) -> bool:
    signature = evidence.signature
    if name in signature.feature_names:
        return False
    if name == PREDICTION or name.startswith(PROBABILITY):
        return True
    return any(name.rpartition("_")[0] == output.name or name == output.name for output in signature.outputs)


def _completeness(feature: FeatureConstraints, column: ColumnProfile) -> Iterator[CheckResult]:
    if feature.completeness is None:
        return
    share, wanted = column.completeness, feature.completeness
    complaint = _unmet(share, f"At least {wanted:.6g} of the values must not be missing.") if share < wanted else ""
    yield _result("completeness_check", feature.name, share, wanted, complaint)


def _data_type(feature: FeatureConstraints, config: MonitoringConfig, column: ColumnProfile) -> Iterator[CheckResult]:
    fitting = FITTING.get(feature.inferred_type)
    if fitting is None or not column.present:
        return
    wanted = config.datatype_check_threshold
    share = sum(column.types[name] for name in fitting) / column.present
    kind = feature.inferred_type
    complaint = (
        f"Data type match requirement is not met. Expected data type: {kind}, Expected match: {wanted * 100}%. "
        f"Observed: Only {share * 100}% of data is {kind}."
    )
    yield _result("data_type_check", feature.name, share, wanted, complaint if share < wanted else "")


def _categorical_values(
    feature: FeatureConstraints, config: MonitoringConfig, column: ColumnProfile
) -> Iterator[CheckResult]:
    total = column.categories.total
    if not feature.domains or column.kind != "text" or not total:
        return
    domain, counts = set(feature.domains), column.categories.counts
    share = sum(count for name, count in counts.items() if name in domain) / total
    wanted = config.domain_content_threshold
    foreign = [name for name in counts if name not in domain][:MAX_SHOWN]
    shown = f" Outside of the domain: {', '.join(ascii(name[:40]) for name in foreign)}." if foreign else ""
    complaint = _unmet(share, f"At least {wanted:.6g} of the values must be in the domain.{shown}")
    yield _result("categorical_values_check", feature.name, share, wanted, complaint if share < wanted else "")


def _non_negative(feature: FeatureConstraints, column: ColumnProfile) -> Iterator[CheckResult]:
    least = column.moments.minimum if column.kind == "numeric" and column.moments.count else math.nan
    if feature.is_non_negative and math.isfinite(least):
        complaint = _unmet(least, "No value may be below zero.") if least < 0 else ""
        yield _result("non_negative_check", feature.name, least, 0.0, complaint)


def _unmet(value: float, rule: str) -> str:
    """SageMaker's words, then ours."""
    return f"Value: {value} does not meet the constraint requirement! {rule}"


def _drift(
    evidence: Evidence, feature: FeatureConstraints, rules: DistributionConstraints, column: ColumnProfile
) -> CheckResult:
    kind = "baseline_drift_check"
    before = evidence.baseline.columns.get(feature.name) if evidence.baseline else None
    reason = incomparable(before, column) if before else "There are no statistics of the baseline to compare with."
    if before is None or reason:
        return CheckResult("data_quality", feature.name, "skipped", kind=kind, description=reason)
    if column.kind == "text" and rules.categorical_drift_method == "ChiSquared":
        return _chi_squared(feature.name, rules.categorical_threshold, before, column)
    numeric = column.kind == "numeric"
    threshold = rules.comparison_threshold if numeric else rules.categorical_threshold
    simple = (
        distances.deequ_simple(before, column) if numeric else distances.l_infinity(*category_counts(before, column))
    )
    robust = rules.comparison_method == "Robust"
    score = distances.deequ_robust(simple, values(before), values(column)) if robust else simple
    complaint = f"Baseline drift distance: {score} exceeds threshold: {threshold}"
    return _result(kind, feature.name, score, threshold, complaint if score > threshold else "")


def _chi_squared(feature: str, threshold: float, before: ColumnProfile, column: ColumnProfile) -> CheckResult:
    kind = "baseline_drift_check"
    p_value = deequ_chi_squared(*category_counts(before, column))
    if p_value != p_value:
        reason = "Fewer than two categories are frequent enough to be tested."
        return CheckResult("data_quality", feature, "skipped", kind=kind, description=reason)
    complaint = f"Baseline drift p-value: {p_value} is below threshold: {threshold}" if p_value < threshold else ""
    outcome: Literal["ok", "violated"] = "violated" if complaint else "ok"
    return CheckResult("data_quality", feature, outcome, p_value, threshold, p_value, kind, complaint)
