"""From labelled reference data to violations and documents: builder, registry, windows, labels, files in one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitor_rig import Rig, watching
from tests.unit.capture_batches import rows_of

from vedette.core.errors import NotFound
from vedette.entities.alerts import AlertState, Webhook
from vedette.entities.monitors import CONSTRAINTS_FILE, STATISTICS_FILE, CheckSettings, Execution
from vedette.monitor.checks import make_check
from vedette.monitor.desk import Results
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality.outcomes import Outcomes
from vedette.monitor.reference_data.baselines import Baselines
from vedette.monitor.reference_data.measurement import Measurement
from vedette.monitor.results.execution_files import VIOLATIONS_FILE
from vedette.monitor.results.window_documents import constraints_name
from vedette.monitor.revisions import Round
from vedette.ports.baselines import ANALYSIS_FILE, QUALITY_CONSTRAINTS_FILE
from vedette.profiles import Profile

QUALITY = CheckSettings("model_quality", {"min_labels": 10})
BIAS = CheckSettings("bias", {"facets": ("sex=f", "age>40"), "metrics": ("DPPL", "AD")})
CONFIG = json.dumps(
    {
        "label_values_or_threshold": ["yes"],
        "facet": [
            {"name_or_index": "sex", "value_or_threshold": ["f"]},
            {"name_or_index": "age", "value_or_threshold": [40]},
        ],
    }
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A registry that knows the version, with a baseline of 1,000 rows, nine in ten of them right."""
    rig = await Rig(tmp_path).know(baseline=False)
    baselines = Baselines(rig.registry, folder=tmp_path / "data", max_bytes=1 << 20)
    baselines.prepare()
    await baselines.create("m", 1, format="csv", chunks=_lines(), measurement=Measurement(analysis=CONFIG))
    yield rig
    rig.close()


async def _lines() -> AsyncIterator[bytes]:
    """Reference data as the windows' rows are drawn."""
    yield b"age,height,sex,prediction,probability_no,probability_yes,label\n"
    for number, (age, height, sex) in enumerate(rows_of(1_000, seed=5).tolist()):
        yes = int(age > 40)
        came = yes if number % 10 else 1 - yes
        yield f"{age},{height},{'fm'[int(sex)]},{yes},{1 - 0.8 * yes},{0.8 * yes},{('no', 'yes')[came]}\n".encode()


async def labelled(rig: Rig, start: int, *, right: float) -> Execution:
    """A window of 400 requests that the model got right this often, with its labels; its last result."""
    first = rig.sent
    await rig.traffic(start, rows=400)
    await rig.traffic(start + 20, rows=2)
    await rig.read()
    answers = np.concatenate([rows_of(200, seed=first + 1), rows_of(200, seed=first + 201)])[:, 0] > 40
    wrong = np.random.default_rng(start).random(400) > right
    came = answers ^ wrong
    lines = [b'{"id": "p-%06d", "label": %d}' % (first + number, value) for number, value in enumerate(came)]
    assert (await rig.labels.accept("e", b"\n".join(lines)))["joined"] == 400
    await rig.read()
    return next(each for each in rig.results() if each.start == rig.results()[0].start + start)


def documents(rig: Rig, execution: Execution) -> dict[str, Any]:
    """Its files, read."""
    results = Results(rig.store, rig.references, clock=rig.clock)
    names = (STATISTICS_FILE, CONSTRAINTS_FILE, VIOLATIONS_FILE)
    return {name: json.loads(results.file(execution.id, name)) for name in names}


async def kept(rig: Rig, file: str) -> dict[str, Any]:
    """A document of the baseline."""
    baseline = await rig.registry.baseline("m", 1, "default")
    found: dict[str, Any] = json.loads(await rig.registry.baseline_file(baseline, file))
    return found


async def edit(rig: Rig, file: str, document: dict[str, Any]) -> None:
    """Replace a document, as people do."""
    was = await rig.registry.baseline("m", 1, "default")
    files = {each.path: await rig.registry.baseline_file(was, each.path) for each in was.files}
    files[file] = json.dumps(document).encode()
    await rig.registry.put_baseline("m", 1, "default", files, rows=was.rows, columns=was.columns)
    rig.clock.advance(60.0)  # what was believed of it is asked for again


async def test_a_model_that_gets_worse_is_found_by_its_labels(rig: Rig) -> None:
    """As good as the baseline: no violation; a coin: accuracy and more, with the documents of model quality."""
    await rig.begin(watching(checks=(QUALITY,)))
    fine = await labelled(rig, 0, right=0.9)
    assert (fine.labels, fine.violations) == (400, ())
    worse = await labelled(rig, 40, right=0.5)
    assert {"accuracy", "recall", "precision"} <= {each.feature for each in worse.violations}
    found = documents(rig, worse)
    assert found[CONSTRAINTS_FILE] == await kept(rig, QUALITY_CONSTRAINTS_FILE)
    assert found[CONSTRAINTS_FILE]["binary_classification_constraints"]["accuracy"]["threshold"] == pytest.approx(0.9)
    assert found[STATISTICS_FILE]["dataset"] == {"item_count": 400}
    (accuracy,) = [each for each in worse.results if each.feature == "accuracy"]
    told = found[STATISTICS_FILE]["binary_classification_metrics"]["accuracy"]
    assert told["value"] == pytest.approx(accuracy.value)
    assert told["standard_deviation"] > 0
    assert {each["metric_name"] for each in found[VIOLATIONS_FILE]["violations"]} == {
        each.feature for each in worse.violations
    }


async def test_labels_that_come_windows_later_fire(rig: Rig) -> None:
    """25 s late on windows of 10 s, and wrong from the third window on: fires with the first bad one, and ends."""
    await rig.begin(watching(checks=(CheckSettings("drift"), QUALITY)))
    fired = []
    for window in range(10):
        rig.clock.advance(10.0)
        await rig.traffic(10 * window, rows=100)
        await rig.read()
        if window >= 3:
            await _label(rig, window - 3, right=0.5 if 2 <= window - 3 < 4 else 0.9)
        with rig.store.read() as snapshot:
            fired.append([each.feature for each in snapshot.alerts.alerts(limit=99, state=AlertState.FIRING)[0]])
    assert fired[:5] == [[]] * 5
    assert "accuracy" in fired[5]
    assert "accuracy" in fired[6]
    assert fired[8:] == [[]] * 2


@pytest.mark.parametrize(("bad", "told"), [((1, 5), 0), ((1, 5, 9), 1), ((1, 2, 8, 9), 1)])
async def test_late_labels_of_many_windows_are_one_message(rig: Rig, bad: tuple[int, ...], told: int) -> None:
    """Ten windows in one file: what has ended meanwhile is told of to nobody, what fires in the end is told once."""
    await rig.begin(watching(checks=(QUALITY,), segments=("sex",)))
    with rig.store.transaction() as tx:
        tx.alerts.insert_webhook(Webhook("w", "https://example.com"))
    for window in range(11):
        rig.clock.advance(10.0)
        await rig.traffic(10 * window, rows=100)
    await rig.read()
    lines = [_lines_of(window, right=0.4 if window in bad else 0.9) for window in range(10)]
    await rig.labels.accept("e", b"\n".join(lines))
    await rig.read()
    with rig.store.read() as snapshot:
        assert snapshot.reopened(9) == []
        sent = [snapshot.alerts.delivery(each.id) for each in {each.id: each for each in rig.told}.values()]
        firing = snapshot.alerts.alerts(limit=99, state=AlertState.FIRING)[0]
    assert len(sent) == told
    assert bool(firing) is bool(told)
    for alert in [alert for each in sent for alert in each.bulletin.alerts]:
        assert alert.state is AlertState.FIRING
        assert alert.start == rig.results()[0].start + 90
        with rig.store.read() as snapshot:
            execution = snapshot.execution(alert.execution)
        (result,) = [each for each in execution.results if each.feature == alert.feature]
        assert (result.value, result.description) == (alert.value, alert.description)


async def test_a_round_that_was_cut_short_is_told_after_the_restart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks go with the message: until then a new life makes the round again."""
    await rig.begin(watching(checks=(QUALITY,)))
    with rig.store.transaction() as tx:
        tx.alerts.insert_webhook(Webhook("w", "https://example.com"))
    for window in range(4):
        rig.clock.advance(10.0)
        await rig.traffic(10 * window, rows=100)
    await rig.read()
    await rig.labels.accept("e", b"\n".join(_lines_of(window, right=0.4) for window in range(3)))
    with monkeypatch.context() as patch:
        patch.setattr(Round, "close", _dies)
        with pytest.raises(KeyboardInterrupt):
            await rig.executions.step()
    assert [each.revision for each in rig.results()] == [2, 2, 2]
    assert rig.told == []
    await rig.begin()
    await rig.read()
    assert len({each.id for each in rig.told}) == 1


def _dies(*_args: object, **_fields: object) -> Any:
    raise KeyboardInterrupt


async def test_labels_that_nobody_can_use_are_counted(rig: Rig) -> None:
    """A class that the model has not makes no row of a metric: counts and texts say how many there are."""
    await rig.begin(watching(checks=(QUALITY,)))
    await rig.traffic(0, rows=100)
    await rig.traffic(20, rows=2)
    await rig.read()
    lines = _lines_of(0, right=0.9).splitlines()
    strange = [b'{"id": "p-%06d", "label": %s}' % (number, (b'"never"', b"7")[number % 2]) for number in range(30)]
    assert (await rig.labels.accept("e", b"\n".join([*strange, *lines[30:]])))["joined"] == 100
    await rig.read()
    (execution,) = [each for each in rig.results() if each.labels]
    assert (execution.labels, execution.counts["unusable_labels"]) == (100, 30)
    for result in execution.results:
        assert "on 70 labelled rows" in result.description
        assert "30 more could not be used" in result.description
    await rig.labels.accept("e", b"\n".join(lines))
    await rig.read()
    assert "unusable_labels" not in next(each for each in rig.results() if each.labels).counts


async def test_labels_of_the_baseline_are_no_feature(rig: Rig) -> None:
    """Traffic has none, and no check says in every window that it has none."""
    await rig.begin(watching(checks=(CheckSettings("drift"), CheckSettings("psi"), CheckSettings("data_quality"))))
    await rig.traffic(0, rows=400)
    await rig.traffic(20, rows=2)
    await rig.read()
    results = rig.results()[0].results
    assert {"age", "prediction"} <= {each.feature for each in results}
    assert "label" not in {each.feature for each in results}


async def _label(rig: Rig, window: int, *, right: float) -> None:
    """Ground truth of the window's 100 requests; the model was right this often."""
    assert (await rig.labels.accept("e", _lines_of(window, right=right)))["joined"] == 100
    await rig.read()


def _lines_of(window: int, *, right: float) -> bytes:
    first = 100 * window
    drawn = np.concatenate([rows_of(50, seed=first + 1), rows_of(50, seed=first + 51)])
    lines = [
        b'{"id": "p-%06d", "label": %d}' % (first + number, (row[0] > 40) ^ (number % 10 >= 10 * right))
        for number, row in enumerate(drawn)
    ]
    return b"\n".join(lines)


async def test_edited_quality_constraints_hold(rig: Rig) -> None:
    """From the next window on: what was a violation is none, and metrics that are not named are not compared."""
    await rig.begin(watching(checks=(QUALITY,)))
    assert (await labelled(rig, 0, right=0.5)).violations
    constraint = {"threshold": 0.3, "comparison_operator": "LessThanThreshold"}
    edited = {"version": 0.0, "binary_classification_constraints": {"accuracy": constraint}}
    await edit(rig, QUALITY_CONSTRAINTS_FILE, edited)
    found = await labelled(rig, 40, right=0.5)
    assert [(each.feature, each.outcome, each.threshold) for each in found.results] == [("accuracy", "ok", 0.3)]
    assert documents(rig, found)[CONSTRAINTS_FILE] == edited


async def test_bias_is_held_to_clarifys_analysis(rig: Rig) -> None:
    """The same bias is none; with the baseline's edited to nothing it is one; documents are Clarify's."""
    await rig.begin(watching(checks=(BIAS,)))
    same = await labelled(rig, 0, right=0.9)
    assert [each.outcome for each in same.results] == ["ok"] * 4
    analysis = await kept(rig, ANALYSIS_FILE)
    facets = analysis["post_training_bias_metrics"]["facets"]
    for metric in facets["age"][0]["metrics"]:
        metric["value"] = 0.0
    await edit(rig, ANALYSIS_FILE, analysis)
    found = await labelled(rig, 40, right=0.9)
    assert [each.feature for each in found.violations] == ["age>40:DPPL"]
    files = documents(rig, found)
    assert files[CONSTRAINTS_FILE] == analysis
    live = files[STATISTICS_FILE]["post_training_bias_metrics"]
    assert [metric["name"] for metric in live["facets"]["sex"][0]["metrics"]] == ["AD", "DPPL"]
    (old,) = live["facets"]["age"]
    assert old["value_or_threshold"].startswith("(40.0, ")
    assert {metric["name"]: metric["value"] for metric in old["metrics"]}["DPPL"] == -1.0
    (violation,) = files[VIOLATIONS_FILE]["violations"]
    assert (violation["facet"], violation["metric_name"]) == ("age", "DPPL")


async def test_a_window_without_labels_has_no_quality_statistics(rig: Rig) -> None:
    """And says so; its constraints and (no) violations are there."""
    await rig.begin(watching(checks=(QUALITY,)))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    results, (execution, *_) = Results(rig.store, rig.references, clock=rig.clock), rig.results()
    assert json.loads(results.file(execution.id, VIOLATIONS_FILE)) == {"violations": []}
    assert "binary_classification_constraints" in json.loads(results.file(execution.id, CONSTRAINTS_FILE))
    with pytest.raises(NotFound, match=STATISTICS_FILE):
        results.file(execution.id, STATISTICS_FILE)


async def test_a_monitor_of_data_and_labels_has_the_documents_of_data(rig: Rig) -> None:
    """Columns in statistics and constraints; violations of both kinds in one file."""
    await rig.begin(watching(checks=(QUALITY, CheckSettings("data_quality"))))
    found = documents(rig, await labelled(rig, 0, right=0.5))
    assert {each["name"] for each in found[STATISTICS_FILE]["features"]} >= {"age", "prediction"}
    assert "features" in found[CONSTRAINTS_FILE]
    assert any("metric_name" in each for each in found[VIOLATIONS_FILE]["violations"])


@pytest.mark.parametrize(
    ("checks", "file"),
    [
        (("model_quality",), QUALITY_CONSTRAINTS_FILE),
        (("model_quality", "cbpe"), QUALITY_CONSTRAINTS_FILE),
        (("cbpe",), CONSTRAINTS_FILE),
        (("bias",), ANALYSIS_FILE),
        (("bias", "feature_attribution"), ANALYSIS_FILE),
        (("feature_attribution",), ANALYSIS_FILE),
        (("bias", "model_quality"), CONSTRAINTS_FILE),
        (("data_quality", "drift"), CONSTRAINTS_FILE),
        (("model_quality", "drift"), CONSTRAINTS_FILE),
        ((), CONSTRAINTS_FILE),
    ],
)
def test_a_monitors_checks_say_its_kind(checks: tuple[str, ...], file: str) -> None:
    """One kind only when nothing else is checked."""
    assert constraints_name([CheckSettings(name) for name in checks]) == file


@given(
    threshold=st.floats(-2, 2, allow_nan=False),
    less=st.booleans(),
    right=st.integers(0, 60),
)
def test_an_edited_threshold_is_the_threshold(threshold: float, less: bool, right: int) -> None:
    """Whatever stands there: the plain rule compares the window's figure with it and with nothing else."""
    labels = np.array([1.0] * right + [0.0] * (60 - right))
    outcomes = Outcomes({"prediction": np.ones(60)}, labels)
    operator = "LessThanThreshold" if less else "GreaterThanThreshold"
    constraint = {"accuracy": {"threshold": threshold, "comparison_operator": operator}}
    document = json.dumps({"binary_classification_constraints": constraint}).encode()
    evidence = Evidence(Profile(), outcomes=outcomes, documents={QUALITY_CONSTRAINTS_FILE: document})
    check = make_check(CheckSettings("model_quality", {"problem_type": "BinaryClassification", "standard_errors": 0}))
    (result,) = check.evaluate(evidence)
    value = right / 60
    assert (result.value, result.threshold) == (pytest.approx(value), threshold)
    assert (result.outcome == "violated") == (value < threshold if less else value > threshold)
