"""SageMaker's constraints.json: what a window must look like, suggested from a baseline and edited by people.

Rule: the classes mirror the file, member by member. Reading refuses a member with a wrong type or range and passes
over members that it does not know. Thresholds that are suggested are those that Model Monitor's own jobs write
(1.0 for types and domains, `Robust`), and not the 0.1 of its documentation, which as a share of matching values
would let nine wrong values in ten pass. A file that leaves a threshold out gets the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from vedette.codec.checks import check_json
from vedette.core.errors import InvalidArgument, TooLarge
from vedette.profiles import ColumnProfile, Profile

InferredType = Literal["Integral", "Fractional", "String", "Boolean", "Unknown"]
Switch = Literal["Enabled", "Disabled"]

MAX_BYTES = 32 * 1024 * 1024
MAX_FEATURES = 10_000
MAX_DOMAIN = 100
"""Text columns with more different values get no domain: then a new value is no surprise. SageMaker does not say
where it cuts."""
NUMERIC = ("Integral", "Fractional")
_OVERRIDES = ("monitoringConfigOverrides", "monitoring_config_overrides")


@dataclass(frozen=True, slots=True)
class DistributionConstraints:
    """How far a window's distribution may be from the baseline's."""

    perform_comparison: Switch = "Enabled"
    comparison_threshold: float = 0.1
    comparison_method: Literal["Simple", "Robust"] = "Robust"
    categorical_comparison_threshold: float | None = None
    """None: the `comparison_threshold`."""
    categorical_drift_method: Literal["LInfinity", "ChiSquared"] = "LInfinity"

    @property
    def categorical_threshold(self) -> float:
        """What applies to text columns."""
        given = self.categorical_comparison_threshold
        return self.comparison_threshold if given is None else given


@dataclass(frozen=True, slots=True)
class MonitoringConfig:
    """Which checks run and where they begin to complain; thresholds are shares from 0 to 1."""

    evaluate_constraints: Switch = "Enabled"
    emit_metrics: Switch = "Enabled"
    datatype_check_threshold: float = 1.0
    """Share of values that must have the inferred type."""
    domain_content_threshold: float = 1.0
    """Share of values that must be in the domain."""
    distribution_constraints: DistributionConstraints = DistributionConstraints()


@dataclass(frozen=True, slots=True)
class NumericConstraints:
    """Of a numeric feature."""

    is_non_negative: bool | None = None


@dataclass(frozen=True, slots=True)
class TextConstraints:
    """Of a text feature."""

    domains: tuple[str, ...] = ()
    """The values it may have; empty: any."""


@dataclass(frozen=True, slots=True)
class FeatureConstraints:
    """What one column must look like."""

    name: str
    inferred_type: InferredType = "Unknown"
    completeness: float | None = None
    """Least share of values that are not missing; None: not checked."""
    num_constraints: NumericConstraints | None = None
    string_constraints: TextConstraints | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    """Members of `MonitoringConfig` that are different for this feature, as they stand in the file."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The values it may have; empty: any."""
        return self.string_constraints.domains if self.string_constraints else ()

    @property
    def is_non_negative(self) -> bool:
        """Whether the baseline had no value below zero. A fact for readers: none of the six checks looks at it."""
        return bool(self.num_constraints and self.num_constraints.is_non_negative)


@dataclass(frozen=True, slots=True)
class Constraints:
    """A whole constraints.json."""

    features: tuple[FeatureConstraints, ...]
    monitoring_config: MonitoringConfig = MonitoringConfig()
    version: float = 0.0

    def feature(self, name: str) -> FeatureConstraints | None:
        """The constraints of one column; None when the file has none."""
        return next((feature for feature in self.features if feature.name == name), None)

    def config_of(self, feature: FeatureConstraints) -> MonitoringConfig:
        """What applies to this feature: the file's configuration with the feature's overrides."""
        return _merged(self.monitoring_config, feature)


def suggest(profile: Profile, *, without: Collection[str] = ()) -> Constraints:
    """Constraints that the profiled data itself meets; `without` are columns that windows do not have (labels)."""
    found = (_suggested(name, column) for name, column in profile.columns.items() if name not in without)
    return Constraints(tuple(found))


def read_constraints(data: bytes) -> Constraints:
    """The constraints of a file.

    Raises:
        InvalidArgument: names the member that is no constraint.
        TooLarge: more than `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge(f"constraints.json may have at most {MAX_BYTES} bytes")
    check_json(data)
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
        features = msgspec.convert(document.get("features", []), list[dict[str, Any]])
        read = msgspec.convert({**document, "features": list(map(_with_overrides, features))}, Constraints)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"constraints.json: {str(error)[:300]}") from None
    _check(read)
    return read


def constraints_document(constraints: Constraints) -> dict[str, Any]:
    """The JSON document; what is None or empty is left out."""
    document = _without_none(msgspec.to_builtins(constraints))
    for feature in document["features"]:
        overrides = feature.pop("overrides", {})
        if overrides:
            feature["monitoringConfigOverrides"] = overrides
    return {"version": document["version"], **document}


def constraints_file(constraints: Constraints) -> bytes:
    """The bytes of constraints.json."""
    return msgspec.json.format(msgspec.json.encode(constraints_document(constraints)), indent=2)


def inferred_type(column: ColumnProfile) -> InferredType:
    """SageMaker's type of a column: of a numeric one the narrowest that holds all of its numbers.

    A column of nothing but booleans is `Boolean`, which is Deequ's name and not among SageMaker's four.
    """
    seen = {name for name, count in column.types.items() if count and name != "Unknown"}
    if column.kind == "text":
        return "String" if seen else "Unknown"
    if "Fractional" in seen:
        return "Fractional"
    if "Integral" in seen:
        return "Integral"
    return "Boolean" if "Boolean" in seen else "Unknown"


def _suggested(name: str, column: ColumnProfile) -> FeatureConstraints:
    kind = inferred_type(column)
    numeric = kind in NUMERIC and column.moments.count > 0
    return FeatureConstraints(
        name,
        kind,
        completeness=column.completeness,
        num_constraints=NumericConstraints(column.moments.minimum >= 0) if numeric else None,
        string_constraints=TextConstraints(_domain(column)) if kind == "String" and _domain(column) else None,
        overrides=_allowance(column, kind),
    )


def _allowance(column: ColumnProfile, kind: InferredType) -> dict[str, Any]:
    """Texts in a numeric column of the baseline itself: as many are allowed in a window."""
    if kind not in NUMERIC or not column.types["String"]:
        return {}
    return {"datatype_check_threshold": 1 - column.types["String"] / column.present}


def _domain(column: ColumnProfile) -> tuple[str, ...]:
    counts = column.categories.counts
    closed = column.categories.other == 0 and len(counts) <= MAX_DOMAIN
    return tuple(sorted(counts)) if closed else ()


def _with_overrides(feature: dict[str, Any]) -> dict[str, Any]:
    """The feature with its overrides under one name; AWS's files have them in two places and spellings."""
    text = feature.get("string_constraints")
    places = [feature, text if isinstance(text, dict) else {}]
    found = [place[key] for place in places for key in _OVERRIDES if place.get(key) is not None]
    known = {key: value for key, value in feature.items() if key != "overrides"}
    return {**known, "overrides": found[0]} if found else known


def _merged(config: MonitoringConfig, feature: FeatureConstraints) -> MonitoringConfig:
    if not feature.overrides:
        return config
    whole = msgspec.to_builtins(config)
    given = dict(feature.overrides)
    distribution = given.pop("distribution_constraints", None)
    try:
        inner = msgspec.convert(distribution or {}, dict[str, Any])
        whole["distribution_constraints"] |= inner
        merged = msgspec.convert({**whole, **given}, MonitoringConfig)
    except msgspec.MsgspecError as error:
        raise InvalidArgument(f"constraints.json: overrides of {feature.name[:80]!r}: {str(error)[:300]}") from None
    return merged


def _check(constraints: Constraints) -> None:
    if len(constraints.features) > MAX_FEATURES:
        raise TooLarge(f"constraints.json has more than {MAX_FEATURES} features")
    _check_config(constraints.monitoring_config, "monitoring_config")
    seen: set[str] = set()
    for feature in constraints.features:
        if feature.name in seen:
            raise InvalidArgument(f"constraints.json: feature {feature.name[:80]!r} stands there twice")
        seen.add(feature.name)
        if feature.completeness is not None:
            _check_share(feature.completeness, f"completeness of {feature.name[:80]!r}")
        _check_config(constraints.config_of(feature), f"overrides of {feature.name[:80]!r}")


def _check_config(config: MonitoringConfig, where: str) -> None:
    _check_share(config.datatype_check_threshold, f"{where}: datatype_check_threshold")
    _check_share(config.domain_content_threshold, f"{where}: domain_content_threshold")
    distribution = config.distribution_constraints
    _check_share(distribution.comparison_threshold, f"{where}: comparison_threshold")
    _check_share(distribution.categorical_threshold, f"{where}: categorical_comparison_threshold")


def _check_share(value: float, where: str) -> None:
    if not 0 <= value <= 1:
        raise InvalidArgument(f"constraints.json: {where} is {value:g}, not from 0 to 1")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
