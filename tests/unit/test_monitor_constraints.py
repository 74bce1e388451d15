"""constraints.json: what is suggested, written, read back, and refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.monitor.reference_data import constraints
from vedette.monitor.reference_data.constraints import (
    Constraints,
    DistributionConstraints,
    FeatureConstraints,
    MonitoringConfig,
    constraints_document,
    constraints_file,
    read_constraints,
    suggest,
)
from vedette.profiles import Columns, Profile


def profile(columns: Columns) -> Profile:
    found = Profile()
    found.fold(columns)
    return found


def texts(*values: str | None) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


TABLE: Columns = {
    "whole": np.array([0.0, 2.0, np.nan, 4.0]),
    "part": np.array([-1.5, 2.0, 3.0, 4.0]),
    "flag": np.array([True, False, True, True]),
    "colour": texts("red", "blue", None, "red"),
    "digits": texts("1", "2", "3", "4"),
    "empty": np.array([np.nan] * 4),
}


def test_what_is_suggested_is_what_model_monitor_writes() -> None:
    """Types, completeness, sign and domains, under the thresholds of its own jobs."""
    document = constraints_document(suggest(profile(TABLE)))
    assert document == {
        "version": 0.0,
        "features": [
            {
                "name": "whole",
                "inferred_type": "Integral",
                "completeness": 0.75,
                "num_constraints": {"is_non_negative": True},
            },
            {
                "name": "part",
                "inferred_type": "Fractional",
                "completeness": 1.0,
                "num_constraints": {"is_non_negative": False},
            },
            {"name": "flag", "inferred_type": "Boolean", "completeness": 1.0},
            {
                "name": "colour",
                "inferred_type": "String",
                "completeness": 0.75,
                "string_constraints": {"domains": ["blue", "red"]},
            },
            {
                "name": "digits",
                "inferred_type": "String",
                "completeness": 1.0,
                "string_constraints": {"domains": ["1", "2", "3", "4"]},
            },
            {"name": "empty", "inferred_type": "Unknown", "completeness": 0.0},
        ],
        "monitoring_config": {
            "evaluate_constraints": "Enabled",
            "emit_metrics": "Enabled",
            "datatype_check_threshold": 1.0,
            "domain_content_threshold": 1.0,
            "distribution_constraints": {
                "perform_comparison": "Enabled",
                "comparison_threshold": 0.1,
                "comparison_method": "Robust",
                "categorical_drift_method": "LInfinity",
            },
        },
    }


def test_labels_are_left_out() -> None:
    """No window ever has them."""
    found = suggest(profile(TABLE), without=("colour", "flag"))
    assert [feature.name for feature in found.features] == ["whole", "part", "digits", "empty"]


def test_a_text_column_of_many_values_has_no_domain() -> None:
    """A new name is no surprise there."""
    for count, bounded in ((constraints.MAX_DOMAIN, True), (constraints.MAX_DOMAIN + 1, False), (5_000, False)):
        (feature,) = suggest(profile({"name": texts(*(f"n{i}" for i in range(count)))})).features
        assert bool(feature.domains) is bounded


def test_texts_in_a_numeric_column_are_allowed_for() -> None:
    """The baseline itself meets what is suggested from it."""
    from vedette.profiles import ColumnLayout, Layout

    found = Profile(Layout({"n": ColumnLayout("numeric")}))
    found.fold({"n": texts("1", "2.5", "n.a.", None, "3")})
    suggested = suggest(found)
    (feature,) = suggested.features
    assert feature.inferred_type == "Fractional"
    assert suggested.config_of(feature).datatype_check_threshold == 0.75
    assert suggested.monitoring_config.datatype_check_threshold == 1.0


def test_what_is_written_is_read_back() -> None:
    """Member by member, overrides too."""
    feature = FeatureConstraints("f", overrides={"distribution_constraints": {"comparison_threshold": 0.3}})
    config = MonitoringConfig(distribution_constraints=DistributionConstraints(categorical_comparison_threshold=0.2))
    for each in (suggest(profile(TABLE)), Constraints((feature,), config), Constraints(())):
        assert read_constraints(constraints_file(each)) == each


AWS = {
    "version": 0,
    "features": [
        {"name": "Churn", "inferred_type": "Integral", "completeness": 1.0, "more": {"a": [1]}},
        {
            "name": "State",
            "inferred_type": "String",
            "completeness": 1.0,
            "string_constraints": {
                "domains": ["CT", "MA"],
                "monitoring_config_overrides": {"domain_content_threshold": 0.7},
            },
        },
        {"name": "Mins", "monitoringConfigOverrides": {"distribution_constraints": {"comparison_method": "Simple"}}},
    ],
    "monitoring_config": {
        "evaluate_constraints": "Enabled",
        "datatype_check_threshold": 0.5,
        "distribution_constraints": {"comparison_threshold": 0.2},
        "unknown": 1,
    },
}


def test_files_of_aws_are_read() -> None:
    """Unknown members are passed over, what is left out has its default, overrides in both places and spellings."""
    read = read_constraints(json.dumps(AWS).encode())
    churn, state, mins = read.features
    assert read.config_of(churn) == read.monitoring_config
    assert read.monitoring_config.distribution_constraints.comparison_threshold == 0.2
    assert read.monitoring_config.distribution_constraints.categorical_threshold == 0.2
    assert state.domains == ("CT", "MA")
    assert read.config_of(state).domain_content_threshold == 0.7
    assert read.config_of(state).datatype_check_threshold == 0.5
    merged = read.config_of(mins).distribution_constraints
    assert (merged.comparison_method, merged.comparison_threshold) == ("Simple", 0.2)
    assert read_constraints(constraints_file(read)) == read
    assert read.feature("State") == state
    assert read.feature("other") is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "object"),
        ({"features": {}}, "array"),
        ({"features": [1]}, "object"),
        ({"features": [{}]}, "name"),
        ({"features": [{"name": 1}]}, "name"),
        ({"features": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"features": [{"name": "a", "inferred_type": "Number"}]}, "Number"),
        ({"features": [{"name": "a", "completeness": 2}]}, "completeness of 'a' is 2"),
        ({"features": [{"name": "a", "completeness": "1"}]}, "float"),
        ({"features": [{"name": "a", "string_constraints": {"domains": [1]}}]}, "domains"),
        ({"features": [{"name": "a", "num_constraints": {"is_non_negative": 1}}]}, "is_non_negative"),
        ({"features": [], "monitoring_config": {"datatype_check_threshold": -1}}, "datatype_check_threshold"),
        (
            {"features": [], "monitoring_config": {"distribution_constraints": {"comparison_method": "X"}}},
            "comparison_method",
        ),
        ({"features": [{"name": "a", "monitoringConfigOverrides": {"evaluate_constraints": 1}}]}, "overrides of 'a'"),
        ({"features": [{"name": "a", "monitoringConfigOverrides": 1}]}, "overrides"),
        (
            {"features": [{"name": "a", "monitoringConfigOverrides": {"domain_content_threshold": 9}}]},
            "overrides of 'a'",
        ),
    ],
)
def test_what_is_no_constraint_is_refused(document: Any, words: str) -> None:
    """The message names the member."""
    with pytest.raises(InvalidArgument) as caught:
        read_constraints(json.dumps(document).encode())
    assert words in caught.value.message


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"[" * 100_000, b'{"features": [NaN]}', b"null"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    """With one clear error."""
    with pytest.raises(InvalidArgument):
        read_constraints(data)


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its bytes and by its features."""
    monkeypatch.setattr(constraints, "MAX_FEATURES", 3)
    monkeypatch.setattr(constraints, "MAX_BYTES", 1_000)
    for data in (b" " * 1_001, json.dumps({"features": [{"name": str(n)} for n in range(4)]}).encode()):
        with pytest.raises(TooLarge):
            read_constraints(data)
