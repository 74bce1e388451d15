"""What every check holds, found by reflection: also those that are written later."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from tests.unit.checks_tables import SIGNATURE, Table, compared, people, profiled, texts, with_labels

from vedette.entities.monitors import CheckResult, CheckSettings
from vedette.monitor.check_descriptions import describe_checks
from vedette.monitor.checks import Check, check_classes, check_names, make_check, parameter_types
from vedette.monitor.evidence import Evidence
from vedette.profiles import Layout, Profile

CHECKS = check_names()
BASELINE = people(600, seed=1)


def shaped(change: Callable[[dict[str, np.ndarray]], object], rows: int = 400) -> Table:
    """A window of people with something done to it."""
    table = people(rows, seed=2)
    change(table)
    return table


def column(name: str, values: object) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda table: table.update({name: np.resize(np.asarray(values), len(table[name]))})


WINDOWS: dict[str, Table] = {
    "like the baseline": people(400, seed=2),
    "empty": people(0),
    "one row": people(1),
    "ten rows": people(10),
    "constant number": shaped(column("age", [3.0])),
    "one row again and again": {name: np.repeat(values[:1], 400) for name, values in people(400).items()},
    "all missing": shaped(lambda t: t.update(age=np.full(400, np.nan), city=texts([None] * 400))),
    "some missing": shaped(column("age", [1.0, np.nan, 2.0])),
    "infinities": shaped(column("income", [np.inf, -np.inf, np.nan, 1.0])),
    "only infinities": shaped(column("income", [np.inf])),
    "huge numbers": shaped(column("income", [1.7e308, -1.7e308, 5e-324])),
    "new category": shaped(column("city", texts(["Bonn", "\x1b[31mRom\n", "Ulm" * 100]))),
    "many categories": shaped(lambda t: t.update(city=texts([f"c{n}" for n in range(3000)][: len(t["city"])])), 3000),
    "text for numbers": shaped(column("age", texts(["old", "12", None, "nan"]))),
    "numbers for text": shaped(column("city", [1.0, 2.5])),
    "booleans": shaped(column("age", [True, False])),
    "unknown column": shaped(lambda t: t.update(colour=np.zeros(400), **{"bad\nname": np.ones(400)})),
    "missing column": shaped(lambda t: t.pop("age")),
    "no predictions": shaped(lambda t: [t.pop(name) for name in [*t] if name.startswith("pr")]),
    "one class": shaped(column("prediction", texts(["yes"]))),
}


PARTIAL = (
    "no baseline", "nothing at all", "empty baseline", "baseline without columns", "constant baseline",
    "window without a layout", "broken documents", "like the baseline, labelled", "one class, labelled",
)  # fmt: skip


@pytest.fixture(scope="module")
def evidences() -> dict[str, Evidence]:
    """Every window, against a whole baseline; then with parts of the evidence missing."""
    made = {name: compared(BASELINE, window) for name, window in WINDOWS.items()}
    usual = made["like the baseline"]
    layout = Layout.of(profiled(BASELINE))
    made["no baseline"] = Evidence(usual.window)
    made["nothing at all"] = Evidence(Profile())
    made["empty baseline"] = Evidence(usual.window, Profile(layout), signature=SIGNATURE)
    made["baseline without columns"] = Evidence(usual.window, Profile(), signature=SIGNATURE)
    made["constant baseline"] = compared({"age": np.ones(500), "city": texts(["Ulm"] * 500)}, WINDOWS["some missing"])
    made["window without a layout"] = Evidence(profiled(people(400)), usual.baseline, usual.constraints, SIGNATURE)
    made["broken documents"] = Evidence(
        usual.window, usual.baseline, usual.constraints, SIGNATURE,
        documents={"constraints.json": b"{", "analysis.json": b"[]", "model_quality_constraints.json": b"\xff"},
    )  # fmt: skip
    for name in ("like the baseline", "one class"):
        made[f"{name}, labelled"] = with_labels(made[name], BASELINE, WINDOWS[name])
    assert tuple(made) == (*WINDOWS, *PARTIAL)
    return made


@pytest.fixture(params=CHECKS)
def check(request: pytest.FixtureRequest) -> Check:
    """Each check with its defaults."""
    return make_check(CheckSettings(request.param))


def test_the_checks_that_the_documentation_promises_are_there() -> None:
    """A file that is lost or broken does not vanish in silence."""
    promised = {"data_quality", "drift", "ks", "psi", "jensen_shannon", "wasserstein", "hellinger", "sagemaker"}
    promised |= {"chi_squared", "tvd", "l_infinity", "domain_classifier", "model_quality"}
    assert promised <= set(CHECKS)


def test_every_parameter_is_described() -> None:
    """For the reference page and the command line, from the source of the check."""
    for each in describe_checks():
        assert each.summary.endswith((".", "?")), each.check
        assert [one.name for one in each.parameters if len(one.meaning) < 10] == [], each.check
    assert [each.check for each in describe_checks()] == CHECKS


def test_a_check_is_documented_and_its_parameters_are_typed(check: Check) -> None:
    """The docstring says what it is, and every parameter has a type that settings can carry and a default."""
    kind = check_classes()[check.name]
    doc = inspect.getdoc(kind) or ""
    assert len(doc.splitlines()[0]) > 20
    assert doc.splitlines()[0].endswith((".", "?"))
    assert f"{kind.__name__}(" not in doc, "that is what dataclasses write, not a person"
    for name, wanted in parameter_types(kind).items():
        assert wanted in (bool, int, float, str, tuple[str, ...]) or "Literal" in str(wanted), name
    assert all(p.default is not inspect.Parameter.empty for p in inspect.signature(kind).parameters.values())


def test_hyper_parameters_are_readable_under_their_names(check: Check) -> None:
    """What a check was made with can be shown, and makes the same check again."""
    kind = check_classes()[check.name]
    values = {name: getattr(check, name) for name in parameter_types(kind)}
    again = make_check(CheckSettings(check.name, values))
    assert {name: getattr(again, name) for name in values} == values


def test_a_check_can_be_pickled(check: Check, evidences: dict[str, Evidence]) -> None:
    """Checks may travel to another process."""
    again = pickle.loads(pickle.dumps(check))
    evidence = evidences["like the baseline"]
    assert again.evaluate(evidence) == check.evaluate(evidence)


def state(evidence: Evidence) -> list[object]:
    """Everything that a check could write to."""
    profiles = [p.to_bytes() for p in (evidence.window, evidence.baseline) if p is not None]
    tables = [o.columns | {"": o.labels} for o in (evidence.outcomes, evidence.reference_outcomes) if o is not None]
    cells = [[(name, values.tolist()) for name, values in table.items()] for table in tables]
    return [*profiles, *cells, evidence.constraints, dict(evidence.documents)]


@pytest.mark.parametrize("name", [*WINDOWS, *PARTIAL])
def test_a_check_survives(check: Check, evidences: dict[str, Evidence], name: str) -> None:
    """Whatever the window and however much of the evidence is missing: results of the promised shape, the same each
    time, and the evidence as it was."""
    evidence = evidences[name]
    before = state(evidence)
    found = check.evaluate(evidence)
    assert found, "a check that says nothing cannot be told from one that did not run"
    for result in found:
        assert_sound(result, check.name)
    assert check.evaluate(evidence) == found
    assert state(evidence) == before


def assert_sound(result: CheckResult, name: str) -> None:
    assert result.check == name
    assert result.outcome in ("ok", "violated", "skipped")
    for number in (result.value, result.threshold, result.p_value):
        assert number is None or (type(number) in (int, float) and math.isfinite(number)), result
    assert result.p_value is None or 0 <= result.p_value <= 1
    assert len(result.description) <= 500
    assert result.description.isprintable(), ascii(result.description)
    assert (result.description and result.value is None) or result.outcome != "skipped", result
    assert result.description or result.outcome == "ok"
    assert result.value is not None or result.outcome == "skipped" or result.kind != name
    assert result.kind


@pytest.mark.parametrize("name", ["empty", "one row", "ten rows", "no baseline", "nothing at all", "empty baseline"])
def test_too_little_to_compare_raises_no_alarm(check: Check, evidences: dict[str, Evidence], name: str) -> None:
    """An empty or tiny window, or one without a baseline, is skipped and says why."""
    evidence = evidences[name]
    found = check.evaluate(evidence)
    if check.name == "data_quality":  # one value of a wrong type is wrong in a window of any size
        found = [result for result in found if result.kind in ("baseline_drift_check", "data_quality")]
    assert {result.outcome for result in found} == {"skipped"}
