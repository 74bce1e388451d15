"""Checks of quality on hostile rows: any labels, any predictions, any features, and a model that lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.unit.checks_tables import SIGNATURE, answers, compared, people, texts

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.outcomes import Outcomes
from vedette.monitor.wording import readable
from vedette.profiles import Profile

CHECKS = {
    "model_quality": {},
    "cbpe": {},
    "dle": {"problem_type": "Regression", "inference_attribute": "income"},
    "bias": {"facets": ("city", "age>30"), "group_variable": "city"},
    "feature_attribution": {"num_rows": 10, "num_background": 2},
}
REFERENCE = people(400, seed=1)
WINDOW = people(300, seed=2)

LABELS = {
    "sound": np.array(WINDOW["prediction"]),
    "indices": (WINDOW["prediction"] == "yes").astype(float),
    "one class": texts(["yes"] * 300),
    "unknown classes": texts([f"?{i}" for i in range(300)]),
    "numbers": np.resize([-1e308, 0.0, 1e308], 300),
    "infinite": np.full(300, np.inf),
    "missing": np.full(300, np.nan),
    "hostile": texts([None, "yes", "\x1b[31m\n", "x" * 100_000, "nan", ""] * 50),
}
CHANGES = {
    "nothing": {},
    "huge": {"income": np.full(300, 1.7e308), "age": np.full(300, -1.7e308)},
    "infinite": {"income": np.array([np.inf, -np.inf, np.nan] * 100), "probability_yes": np.full(300, np.inf)},
    "missing": {"age": np.full(300, np.nan), "city": texts([None] * 300), "prediction": texts([None] * 300)},
    "beyond": {"probability_yes": np.full(300, 7.0), "probability_no": np.full(300, -6.0)},
    "texts": {"age": texts(["\x07old"] * 300), "probability_yes": texts(["much"] * 300)},
    "hostile": {"city": texts(["\x1b[31mRom\n", "x" * 5000, "="] * 100)},
    "constant": {name: np.repeat(values[:1], 300) for name, values in WINDOW.items()},
}


def asked(columns):
    """The model of `people`, refusing what it does not take as a `Predictor` does."""
    if any(columns[name].dtype == object for name in ("age", "income")):
        raise InvalidArgument("the feature holds a text, which is no number")
    return answers(columns)


def assert_sound(results, name) -> None:
    assert results
    for one in results:
        assert one.check == name
        assert one.outcome in ("ok", "violated", "skipped")
        for number in (one.value, one.threshold):
            assert number is None or (type(number) is float and math.isfinite(number)), one
        assert 0 < len(one.description) <= 500
        assert one.description.isprintable()
        assert one.kind
        assert len(one.feature) < 500


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", CHECKS)
def test_any_rows_give_sound_results_twice_the_same(name, change, label) -> None:
    """No exception, no warning, no NaN, nothing unprintable; the reference as hostile as the window."""
    check = make_check(CheckSettings(name, CHECKS[name]))
    window = Outcomes({**WINDOW, **CHANGES[change]}, LABELS[label])
    sound = Outcomes(dict(REFERENCE), np.array(REFERENCE["prediction"]))
    for reference in (sound, window):
        evidence = Evidence(
            compared(REFERENCE, WINDOW).window,
            signature=SIGNATURE,
            outcomes=window,
            reference_outcomes=reference,
            predict=asked,
        )
        found = check.evaluate(evidence)
        assert_sound(found, name)
        assert check.evaluate(evidence) == found


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("name", CHECKS)
def test_few_rows_raise_nothing(name, rows) -> None:
    """On either side."""
    check = make_check(CheckSettings(name, CHECKS[name]))
    few, many = (Outcomes(people(n), np.array(people(n)["prediction"])) for n in (rows, 300))
    for window, reference in ((few, many), (many, few), (few, few)):
        found = check.evaluate(
            Evidence(
                Profile(),
                signature=SIGNATURE,
                outcomes=window,
                reference_outcomes=reference,
                predict=asked,
            )
        )
        assert_sound(found, name)
        assert {one.outcome for one in found} == {"skipped"}


@pytest.mark.parametrize(
    "predict",
    [
        lambda columns: {},
        lambda columns: {"prediction": np.full(len(columns["age"]), np.nan)},
        lambda columns: {"prediction": np.full(len(columns["age"]), np.inf)},
        lambda columns: {"prediction": texts([None] * len(columns["age"]))},
    ],
)
def test_a_model_that_answers_nonsense_is_no_alarm(predict) -> None:
    """NaN counts as 0, names alone are skipped."""
    evidence = Evidence(
        compared(REFERENCE, WINDOW).window,
        signature=Signature((), (), SIGNATURE.feature_names),
        outcomes=Outcomes(dict(WINDOW), LABELS["sound"]),
        reference_outcomes=Outcomes(dict(REFERENCE), np.array(REFERENCE["prediction"])),
        predict=predict,
    )
    found = make_check(CheckSettings("feature_attribution", CHECKS["feature_attribution"])).evaluate(evidence)
    assert_sound(found, "feature_attribution")
    assert {one.outcome for one in found} <= {"ok", "skipped"}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("model_quality", {"standard_errors": -1.0}),
        ("model_quality", {"min_labels": 0}),
        ("cbpe", {"deviations": -1.0}),
        ("dle", {"min_rows": 1}),
        ("bias", {"min_rows": 0}),
    ],
)
def test_senseless_parameters_are_refused(name, wrong) -> None:
    """When a monitor is made."""
    with pytest.raises(InvalidArgument):
        make_check(CheckSettings(name, wrong))


def test_what_people_read_is_one_printable_line() -> None:
    """Whatever a stranger called a column."""
    assert readable("a\nb\x1b[31m") == "a?b?[31m"
    assert len(readable("x" * 10_000_000)) == 500
    assert readable("x" * 500) == "x" * 500
