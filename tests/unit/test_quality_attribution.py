"""Shapley values against exact ones, nDCG, Clarify's explanations, and the attribution drift check."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from vedette.core.errors import InvalidArgument, ModelFailed
from vedette.core.models import Signature
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.checks.feature_attribution import FeatureAttribution
from vedette.monitor.evidence import Evidence
from vedette.monitor.quality import attribution as documents
from vedette.monitor.quality.attribution import Explainer
from vedette.monitor.quality.outcomes import NotComparable, Outcomes
from vedette.monitor.quality.shapley import AGGREGATIONS, Attribution, ndcg, rows_asked, shapley_values
from vedette.profiles import Profile

WEIGHTS = {"a": 3.0, "b": -2.0, "c": 0.5, "d": 0.0}


def table(rows, *, names="abcd", seed=0):
    r = np.random.default_rng(seed)
    return {name: r.normal(size=rows) for name in names}


def linear(columns):
    return np.stack([sum(WEIGHTS[name] * columns[name] for name in columns)], axis=1)


def interacting(columns):
    """Products and a threshold: nothing additive."""
    a, b, c, d = (columns[name] for name in "abcd")
    return np.stack([a * b + np.where(c > 0, d, -d) + a, a * b * c * d], axis=1)


def exact(model, rows, background):
    """By full enumeration of all subsets of features."""
    names = list(rows)
    explained, features = len(rows[names[0]]), len(names)

    def value(row, subset):
        mixed = {
            name: np.full(len(background[name]), rows[name][row]) if name in subset else background[name]
            for name in names
        }
        return model(mixed).mean(axis=0)

    found = np.zeros((explained, features, model(rows).shape[1]))
    for row in range(explained):
        for place, name in enumerate(names):
            others = [other for other in names if other != name]
            for size in range(features):
                weight = math.factorial(size) * math.factorial(features - size - 1) / math.factorial(features)
                for subset in itertools.combinations(others, size):
                    found[row, place] += weight * (value(row, {*subset, name}) - value(row, set(subset)))
    return found


def test_linear_models_are_explained_exactly() -> None:
    """Weight times distance from the mean of the background, from any sample of permutations."""
    rows, background = table(20, seed=1), table(5, seed=2)
    wanted = np.stack([WEIGHTS[name] * (rows[name] - background[name].mean()) for name in rows], axis=1)
    np.testing.assert_allclose(shapley_values(linear, rows, background)[:, :, 0], wanted, atol=1e-12)
    np.testing.assert_allclose(exact(linear, rows, background)[:, :, 0], wanted, atol=1e-12)


def test_interactions_converge_to_the_exact_values() -> None:
    """The mean over many seeds is what full enumeration gives: the estimate has no bias."""
    rows, background = table(3, seed=3), table(4, seed=4)
    draws = np.array([shapley_values(interacting, rows, background, seed=seed) for seed in range(400)])
    error = draws.std(axis=0) / math.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - exact(interacting, rows, background)) <= 5 * error + 1e-9).all()
    assert error[:, :, 0].max() < 1e-12  # pairs of features are exact already: each order comes with its reverse
    assert error[:, :, 1].max() < 0.1


def test_values_add_up_to_the_answer() -> None:
    """Efficiency: whatever permutations were drawn, and with columns of text."""
    rows, background = table(30, seed=5), table(6, seed=6)
    values = shapley_values(interacting, rows, background, seed=9)
    wanted = interacting(rows) - interacting(background).mean(axis=0)
    np.testing.assert_allclose(values.sum(axis=1), wanted, atol=1e-10)


def test_texts_and_missing_values_are_features_too() -> None:
    """They are exchanged as they are."""
    names = np.array(["x", None, "y"], dtype=object)
    rows = {"a": np.array([1, 2, 3]), "t": names}
    background = {"a": np.array([np.nan, 0.0]), "t": names[:2]}

    def model(columns):
        assert columns["t"].dtype == object
        assert set(columns["t"]) <= {"x", "y", None}
        return np.stack([np.nan_to_num(columns["a"]) + (columns["t"] == "x")], axis=1)

    np.testing.assert_allclose(
        shapley_values(model, rows, background)[:, :, 0], [[1, 0.5], [2, -0.5], [3, -0.5]], atol=1e-12
    )


def test_the_model_is_asked_for_as_many_rows_as_foretold() -> None:
    """In calls of bounded size, the same under the same seed."""
    asked = []

    def model(columns):
        asked.append(len(columns["a"]))
        return linear(columns)

    rows, background = table(25, seed=1), table(3, seed=2)
    first = shapley_values(model, rows, background, seed=4)
    assert sum(asked) == rows_asked(25, 3, 4)
    np.testing.assert_array_equal(first, shapley_values(model, rows, background, seed=4))


def test_large_tables_are_cut_into_calls(monkeypatch) -> None:
    """No call holds more values than its bound, and the result is the same."""
    rows, background = table(25, seed=1), table(3, seed=2)
    whole = shapley_values(interacting, rows, background)
    monkeypatch.setattr("vedette.monitor.quality.shapley._MOST_CELLS", 28)
    largest = []

    def model(columns):
        largest.append(len(columns["a"]))
        return interacting(columns)

    np.testing.assert_array_equal(shapley_values(model, rows, background), whole)
    assert max(largest) == 7


def test_global_values_are_aggregated_as_clarify_names_it() -> None:
    """Over rows, by feature."""
    values = np.array([[1.0, -2.0], [-3.0, 0.0], [2.0, 1.0]])
    assert AGGREGATIONS["mean_abs"](values).tolist() == [2.0, 1.0]
    assert AGGREGATIONS["median"](values).tolist() == [2.0, 1.0]
    np.testing.assert_allclose(AGGREGATIONS["mean_sq"](values), [14 / 3, 5 / 3])


def test_ndcg_of_the_documented_example() -> None:
    """The order of three features turned round: 0.6877."""
    baseline = Attribution({"SAT": 0.70, "GPA": 0.50, "class rank": 0.05})
    live = Attribution({"SAT": 0.10, "GPA": 0.20, "class rank": 0.70})
    assert ndcg(baseline, live.ranked()) == pytest.approx(0.6877, abs=1e-4)
    assert ndcg(baseline, baseline.ranked()) == 1.0
    assert ndcg(Attribution({"a": 0.0, "b": 0.0}), ["b", "a"]) == 1.0


def model_of(weights):
    """A regression that weighs its features so."""
    return lambda columns: {"prediction": sum(weights[name] * columns[name] for name in weights)}


def scaled(rows, scales, *, seed=0):
    r = np.random.default_rng(seed)
    return {name: scale * r.normal(size=rows) for name, scale in scales.items()}


EQUAL = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}
SIGNATURE = Signature(inputs=(), outputs=(), feature_names=("a", "b", "c", "d"))


def evidence(window, reference, predict=None, **parts) -> Evidence:
    return Evidence(
        window=Profile(),
        outcomes=Outcomes.of(window),
        reference_outcomes=Outcomes.of(reference),
        predict=predict or model_of({"a": 4.0, "b": 2.0, "c": 1.0, "d": 0.1}),
        **{"signature": SIGNATURE, **parts},
    )


def test_attribution_drift_is_found_when_another_feature_rules() -> None:
    """The least important feature varies a hundred times as much as in the baseline."""
    reference = scaled(500, EQUAL, seed=1)
    (calm,) = FeatureAttribution().evaluate(evidence(scaled(500, EQUAL, seed=2), reference))
    assert (calm.outcome, calm.feature, calm.kind) == ("ok", "label0", "feature_attribution_drift_check")
    assert calm.value == pytest.approx(1.0)
    moved = scaled(500, {**EQUAL, "d": 100.0, "a": 0.01}, seed=2)
    (shaken,) = FeatureAttribution().evaluate(evidence(moved, reference))
    assert shaken.outcome == "violated"
    assert shaken.description.startswith(f"Feature attribution drift {shaken.value:.6g} exceeds threshold 0.9")
    assert "now d (" in shaken.description
    assert documents.violations_document([calm, shaken]) == {
        "version": "1.0",
        "violations": [
            {
                "label": "label0",
                "metric_name": "shap",
                "constraint_check_type": "feature_attribution_drift_check",
                "description": shaken.description,
            }
        ],
    }


def test_unchanged_windows_stay_quiet() -> None:
    """40 windows of a model with many features of falling importance."""
    weights = {f"f{i}": 0.8**i for i in range(12)}
    signature = Signature(inputs=(), outputs=(), feature_names=tuple(weights))
    reference = scaled(500, dict.fromkeys(weights, 1.0), seed=99)
    found = [
        FeatureAttribution(num_rows=50).evaluate(
            evidence(
                scaled(200, dict.fromkeys(weights, 1.0), seed=seed), reference, model_of(weights), signature=signature
            )
        )[0]
        for seed in range(40)
    ]
    assert {one.outcome for one in found} == {"ok"}


def test_the_baseline_may_tell_its_values_in_clarifys_schema() -> None:
    """Written by us and read back; the model is then asked about the window alone."""
    found = Explainer(model_of({"a": 4.0, "b": 2.0, "c": 1.0, "d": 0.1}), scaled(5, EQUAL)).attributions(
        scaled(100, EQUAL, seed=1)
    )
    document = documents.explanations_document(found)
    assert json.loads(json.dumps(document)) == document
    assert set(document["explanations"]["kernel_shap"]["label0"]) == {"global_shap_values", "expected_value"}
    data = json.dumps(document).encode()
    assert documents.read_explanations(data) == found
    (calm,) = FeatureAttribution().evaluate(
        evidence(scaled(200, EQUAL, seed=2), scaled(200, EQUAL, seed=3), documents={"analysis.json": data})
    )
    assert calm.outcome == "ok"
    turned = documents.explanations_document({"label0": Attribution({"a": 0.0, "b": 0.1, "c": 0.5, "d": 0.9})})
    (shaken,) = FeatureAttribution().evaluate(
        evidence(
            scaled(200, EQUAL, seed=2),
            scaled(200, EQUAL, seed=3),
            documents={"analysis.json": json.dumps(turned).encode()},
        )
    )
    assert shaken.outcome == "violated"


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b'{"explanations": 1}',
        b'{"explanations": {"kernel_shap": []}}',
        b'{"explanations": {"kernel_shap": {"label0": {}}}}',
        b'{"explanations": {"kernel_shap": {"label0": {"global_shap_values": {"a": "1"}}}}}',
        b'{"explanations": {"kernel_shap": {"label0": {"global_shap_values": {"a": NaN}}}}}',
    ],
)
def test_a_broken_analysis_skips_the_check(document) -> None:
    """With the document's name in the reason."""
    given = evidence(scaled(200, EQUAL), scaled(200, EQUAL), documents={"analysis.json": document})
    (result,) = FeatureAttribution(num_rows=10).evaluate(given)
    assert result.outcome == "skipped"
    assert "analysis.json" in result.description


def test_each_class_is_explained() -> None:
    """Of two the second, of three each; names without numbers cannot be."""
    rows = scaled(50, EQUAL)

    def classifier(names):
        return lambda columns: {f"probability_{name}": columns["a"] * i for i, name in enumerate(names)}

    assert list(Explainer(classifier(("no", "yes")), rows).attributions(rows)) == ["label0"]
    assert list(Explainer(classifier(("x", "y", "z")), rows).attributions(rows)) == ["x", "y", "z"]
    with pytest.raises(NotComparable):
        Explainer(lambda columns: {"prediction": np.full(len(columns["a"]), "x", object)}, rows).attributions(rows)


def test_what_a_model_may_be_asked_is_bounded() -> None:
    """Fewer rows are explained within the budget; with none left the check says so."""
    asked = []

    def predict(columns):
        asked.append(len(columns["a"]))
        return {"prediction": columns["a"]}

    check = FeatureAttribution(max_model_rows=1000)
    (result,) = check.evaluate(evidence(scaled(200, EQUAL), scaled(200, EQUAL), predict))
    assert result.outcome == "ok"
    assert sum(asked) <= 2 * 1000 + 2 * 10
    (result,) = FeatureAttribution(max_model_rows=50).evaluate(
        evidence(scaled(200, EQUAL), scaled(200, EQUAL), predict)
    )
    assert "too many" in result.description


def failing(columns):
    raise ModelFailed("the model raised an error")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Evidence(window=Profile()), "not at hand"),
        (Evidence(window=Profile(), predict=failing), "no reference data"),
        (evidence(scaled(200, EQUAL), scaled(200, EQUAL), failing), "raised an error"),
        (evidence(scaled(5, EQUAL), scaled(200, EQUAL)), "too few"),
        (evidence(scaled(200, EQUAL), scaled(15, EQUAL)), "too few"),
        (evidence(scaled(200, {"a": 1.0}), scaled(200, EQUAL)), "'b' is not among"),
        (evidence({"z": np.zeros(200)}, scaled(200, EQUAL), signature=Signature(inputs=(), outputs=())), "no feature"),
    ],
)
def test_what_is_missing_is_skipped_with_the_reason(given, reason) -> None:
    """Never an alarm, never an exception."""
    (result,) = FeatureAttribution().evaluate(given)
    assert result.outcome == "skipped"
    assert reason in result.description


@pytest.mark.parametrize(
    "wrong", [{"threshold": 2.0}, {"num_rows": 1}, {"num_background": 0}, {"max_model_rows": 0}, {"agg_method": "sum"}]
)
def test_parameters_are_checked_when_a_monitor_is_made(wrong) -> None:
    """Not when its first window ends."""
    with pytest.raises(InvalidArgument):
        make_check(CheckSettings("feature_attribution", wrong))
