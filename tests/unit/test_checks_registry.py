"""Checks by name: found by reflection, made from settings that a stranger wrote."""

from __future__ import annotations

from typing import Any

import pytest

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import check_classes, check_names, make_check


def refused(check: str, **parameters: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        make_check(CheckSettings(check, parameters))
    assert len(caught.value.message) < 500
    return caught.value.message


def test_each_check_is_one_file_under_its_own_name() -> None:
    """The name in settings is the name of the file, so that one finds the other."""
    for name, kind in check_classes().items():
        assert kind.__module__ == f"vedette.monitor.checks.{name}"
    assert check_names() == sorted(check_names())


def test_settings_make_the_check_with_their_parameters() -> None:
    """Parameters are the constructor's arguments; what is not said has its default."""
    check: Any = make_check(CheckSettings("drift", {"alpha": 0.05}))
    assert (check.alpha, check.numeric_effect) == (0.05, 0.1)


def test_a_whole_number_is_a_float_too() -> None:
    """JSON writes 1.0 as 1."""
    check: Any = make_check(CheckSettings("psi", {"threshold": 1}))
    assert check.threshold == 1.0
    assert isinstance(check.threshold, float)


def test_an_unknown_check_is_refused_with_a_near_name() -> None:
    """A misspelling is answered with what was meant."""
    assert "did you mean 'hellinger'?" in refused("helinger")
    assert "there are: " in refused("zzzz")
    assert "x" * 90 not in refused("x" * 10_000)
    assert "\\x1b" in refused("\x1b[31m")


def test_an_unknown_parameter_is_refused_with_a_near_name() -> None:
    """Or with all that there are."""
    assert "did you mean 'threshold'?" in refused("ks", treshold=0.2)
    assert "there are: non_negative" in refused("data_quality", threshold=0.2)


@pytest.mark.parametrize("value", ["0.1", True, None, [0.1], float("nan"), float("inf"), -float("inf"), 10**400, -0.1])
def test_a_threshold_that_is_no_positive_finite_number_is_refused(value: Any) -> None:
    """The message names the parameter."""
    assert "threshold" in refused("ks", threshold=value)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 1.5, -1])
def test_a_level_of_significance_lies_between_zero_and_one(value: float) -> None:
    """At 0 nothing and at 1 everything would be an alarm."""
    assert refused("drift", alpha=value) == "alpha must be between 0 and 1"


def test_a_choice_is_one_of_its_words() -> None:
    """The message lists them."""
    assert refused("sagemaker", method="robust").endswith("is one of: Simple, Robust")
    assert "is one of" in refused("sagemaker", method=["Simple"])
    assert "whole number" in refused("domain_classifier", seed=1.5)
    assert "seed" in refused("domain_classifier", seed=-1)
