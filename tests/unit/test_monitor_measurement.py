"""Labelled baselines: model quality, bias and attributions in SageMaker's documents, through the real child."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error, recall_score
from tests import onnx_models

from vedette.core.errors import InvalidArgument
from vedette.core.models import ModelVersion, Signature, TensorSpec
from vedette.monitor.quality.attribution import read_explanations
from vedette.monitor.quality.bias_documents import read_analysis
from vedette.monitor.quality.outcomes import NotComparable
from vedette.monitor.reference_data.analysis_config import FacetConfig, read_analysis_config
from vedette.monitor.reference_data.baselines import Baselines
from vedette.monitor.reference_data.drawn_rows import DrawnRows
from vedette.monitor.reference_data.measurement import LabelledRows, Measurement
from vedette.ports.baselines import ANALYSIS_FILE, FILES, QUALITY_CONSTRAINTS_FILE, QUALITY_STATISTICS_FILE
from vedette.testing.registry import MemoryRegistry

CHURN = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 2)),),
    outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
    feature_names=("age", "sex"),
    categories={"sex": ("F", "M")},
    label_names=("no", "yes"),
    target="churned",
)
SUM = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 4)),),
    outputs=(TensorSpec("y", "FP32", (-1, 1)),),
    feature_names=("a", "b", "c", "d"),
)
QUALITY = {QUALITY_CONSTRAINTS_FILE, QUALITY_STATISTICS_FILE}


def churn(rows: int = 600) -> pd.DataFrame:
    """People of whom the model is wrong about one in five, and less in favour of one sex."""
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"age": r.normal(45, 12, rows).round(3), "sex": r.choice(["F", "M"], rows)})
    sure = np.clip(r.random(rows) - 0.15 * (frame.sex == "F"), 0.001, 0.999)
    frame["prediction"] = (sure > 0.5).astype(int)  # as the model answers: by number
    frame["probability_no"], frame["probability_yes"] = 1 - sure, sure
    wrong = r.random(rows) < 0.2
    frame["churned"] = np.where(wrong ^ (sure > 0.5), "yes", "no")
    return frame


def sums(rows: int = 400, *, predictions: bool = False) -> pd.DataFrame:
    """Four features of which the first varies most, and their sum, not quite."""
    r = np.random.default_rng(1)
    frame = pd.DataFrame({name: r.normal(0, 4 - place, rows) for place, name in enumerate("abcd")})
    total = frame.sum(axis=1)
    frame["label"] = total + r.normal(size=rows)
    if predictions:
        frame["prediction"] = total
    return frame


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Bench:
    """Baselines over a registry with both models; `asked` counts who wanted the model itself."""

    def __init__(self, folder: Path) -> None:
        self.registry = MemoryRegistry()
        self.registry.add_version("churn", 1, {"model.onnx": b"never run"}, signature=CHURN)
        self.registry.add_version("sum", 1, {"model.onnx": onnx_models.row_sum()}, signature=SUM)
        self.asked = 0
        self.at_hand = True
        self._models = folder / "models"
        self.baselines = Baselines(self.registry, folder=folder / "data", max_bytes=10_000_000, graph=self._graph)
        self.baselines.prepare()

    async def _graph(self, version: ModelVersion) -> Path | None:
        self.asked += 1
        self._models.mkdir(exist_ok=True)
        await self.registry.fetch(version, self._models)
        return self._models if self.at_hand else None

    async def files(self, model: str, frame: pd.DataFrame, **said: str) -> dict[str, bytes]:
        """The files of a baseline made of these rows."""
        data = io.BytesIO()
        frame.to_csv(data, index=False)
        made = await self.baselines.create(
            model, 1, format="csv", chunks=chunks(data.getvalue()), measurement=Measurement(**said)
        )
        return {file.path: await self.registry.baseline_file(made, file.path) for file in made.files}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def told(**config: Any) -> str:
    """An analysis config."""
    return json.dumps(config)


async def test_labels_and_predictions_become_quality_documents(bench: Bench) -> None:
    """Figures as scikit-learn has them on the whole data; thresholds are the figures; the model is not asked."""
    frame = churn()
    files = await bench.files("churn", frame)
    assert set(files) == {*FILES, *QUALITY}
    statistics = json.loads(files[QUALITY_STATISTICS_FILE])
    constraints = json.loads(files[QUALITY_CONSTRAINTS_FILE])["binary_classification_constraints"]
    metrics = statistics["binary_classification_metrics"]
    answered = np.where(frame.prediction == 1, "yes", "no")
    accuracy = accuracy_score(frame.churned, answered)
    assert statistics["dataset"] == {"item_count": 600}
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy)
    assert metrics["recall"]["value"] == pytest.approx(recall_score(frame.churned, answered, pos_label="yes"))
    assert constraints["accuracy"] == {
        "threshold": pytest.approx(accuracy),
        "comparison_operator": "LessThanThreshold",
    }
    assert bench.asked == 0


async def test_the_model_predicts_what_the_data_does_not_hold(bench: Bench) -> None:
    """Fetched once, run in its own process; figures as on its true answers."""
    frame = sums()
    statistics = json.loads((await bench.files("sum", frame))[QUALITY_STATISTICS_FILE])
    error = mean_absolute_error(frame.label, frame[list("abcd")].sum(axis=1))
    assert statistics["regression_metrics"]["mae"]["value"] == pytest.approx(error, abs=1e-5)
    assert bench.asked == 1


async def test_data_without_labels_is_a_baseline_as_ever(bench: Bench) -> None:
    """Three files, and nobody fetches the model."""
    assert set(await bench.files("sum", sums().drop(columns="label"))) == {*FILES}
    assert bench.asked == 0


async def test_what_nobody_demanded_stops_no_baseline(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Labels, but no predictions and no model: three files and a line in the log; demanded, it is the caller's."""
    bench.at_hand = False
    assert set(await bench.files("sum", sums())) == {*FILES}
    assert "the model cannot be fetched" in str(vars(caplog.records[-1])["reason"])
    with pytest.raises(InvalidArgument, match="the model cannot be fetched"):
        await bench.files("sum", sums(), problem_type="Regression")


@pytest.mark.parametrize(
    ("labels", "told", "measured"),
    [
        (["maybe"] * 600, "the model's quality was not measured: no 'churned' is a class of the model, no, yes", False),
        ([None] * 600, "the model's quality was not measured: the column 'churned' is empty", False),
        (["maybe"] * 90 + ["yes", "no"] * 255, "90 rows were not measured: their 'churned' is no class of the", True),
        (["yes", "no"] * 300, "", True),
    ],
)
async def test_what_could_not_be_measured_is_in_the_answer(
    bench: Bench, labels: list[str | None], told: str, measured: bool
) -> None:
    """Labels of no class, or none at all: whoever made the baseline reads it, and nothing where all is well."""
    data = io.BytesIO()
    churn().assign(churned=labels).to_csv(data, index=False)
    made = await bench.baselines.create("churn", 1, format="csv", chunks=chunks(data.getvalue()))
    assert [each[: len(told)] for each in made.left_out] == ([told] if told else [])
    assert ({file.path for file in made.files} >= QUALITY) is measured
    assert made == await bench.registry.baseline("churn", 1, "default")


async def test_columns_may_have_other_names(bench: Bench) -> None:
    """The target is named; a label that is none of the classes counts as missing."""
    frame = churn().rename(columns={"churned": "left"})
    frame.loc[:99, "left"] = "perhaps"
    statistics = json.loads((await bench.files("churn", frame, target="left"))[QUALITY_STATISTICS_FILE])
    assert statistics["dataset"] == {"item_count": 500}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"problem_type": "Ranking"}, "problem_type"),
        ({"probability": "probability_x"}, "probability_x"),
        ({"positive_class": "perhaps"}, "perhaps"),
        ({"target": "left", "problem_type": "BinaryClassification"}, "no column 'left'"),
        ({"target": "left"}, "target: the data has no column 'left'"),
        ({"target": "chruned"}, "is it 'churned'"),
        ({"prediction": "nosuch"}, "prediction: the data has no column 'nosuch'"),
        ({"problem_type": "Regression"}, "problem_type is Regression, but the model has the classes no, yes"),
        ({"target": "age"}, "age"),
        ({"target": "churned", "analysis": told(label="left", facet=[{"name_or_index": "sex"}])}, "left"),
        ({"analysis": told(facet=[{"name_or_index": "town"}])}, "town"),
        ({"analysis": told(facet=[{"name_or_index": "sex", "value_or_threshold": ["X"]}])}, "no rows"),
        ({"analysis": told(facet=[{"name_or_index": "sex"}], group_variable="town")}, "town"),
        ({"analysis": told(facet=[{"name_or_index": "sex"}], label_values_or_threshold=["perhaps"])}, "perhaps"),
        ({"analysis": told(facet=[{"name_or_index": "age"}])}, "continuous"),
    ],
)
async def test_what_was_demanded_and_cannot_be_is_refused(bench: Bench, said: dict[str, str], message: str) -> None:
    """With words that name it; nothing is kept."""
    with pytest.raises(InvalidArgument, match=message):
        await bench.files("churn", churn(), **said)
    assert bench.registry.baselines == {}


async def test_bias_is_clarifys_analysis(bench: Bench) -> None:
    """Metrics before and after training of values, and of a column split by a number."""
    frame = churn()
    config = told(
        version="1.0",
        headers=list(frame.columns),
        label="churned",
        label_values_or_threshold=["yes"],
        facet=[
            {"name_or_index": 1, "value_or_threshold": ["F"]},
            {"name_or_index": "age", "value_or_threshold": [45]},
        ],
    )
    files = await bench.files("churn", frame, analysis=config)
    document = json.loads(files[ANALYSIS_FILE])
    assert set(files) == {*FILES, *QUALITY, ANALYSIS_FILE}
    after, before = document["post_training_bias_metrics"], document["pre_training_bias_metrics"]
    assert (after["label"], after["label_value_or_threshold"]) == ("churned", "yes")
    (entry,) = after["facets"]["sex"]
    values = {metric["name"]: metric["value"] for metric in entry["metrics"]}
    positive = frame.prediction.groupby(frame.sex).mean()
    assert entry["value_or_threshold"] == "F"
    assert values["DPPL"] == pytest.approx(positive["M"] - positive["F"])
    assert values["DPPL"] > 0.05
    (imbalance,) = [each["value"] for each in before["facets"]["sex"][0]["metrics"] if each["name"] == "CI"]
    men, women = (frame.sex == "M").sum(), (frame.sex == "F").sum()
    assert imbalance == pytest.approx((men - women) / 600)
    assert after["facets"]["age"][0]["value_or_threshold"].startswith("(45.0, ")
    assert len(read_analysis(files[ANALYSIS_FILE])) == 4


async def test_attributions_are_clarifys_kernel_shap(bench: Bench) -> None:
    """Of a sum the importance of a feature is how much it varies; labels are not needed."""
    config = told(methods={"shap": {"agg_method": "mean_abs", "num_samples": 100}})
    files = await bench.files("sum", sums().drop(columns="label"), analysis=config)
    assert set(files) == {*FILES, ANALYSIS_FILE}
    (one,) = read_explanations(files[ANALYSIS_FILE]).values()
    assert one.ranked() == ["a", "b", "c", "d"]
    assert bench.asked == 1


async def test_attributions_against_rows_of_the_config(bench: Bench) -> None:
    """The expected value is the model's answer to them; labels are measured as well where they are there."""
    config = told(methods={"shap": {"baseline": [[1, 2, 3, 4], [3, 2, 1, 0]]}})
    files = await bench.files("sum", sums(predictions=True), analysis=config)
    assert set(files) == {*FILES, *QUALITY, ANALYSIS_FILE}
    assert read_explanations(files[ANALYSIS_FILE])["label0"].expected_value == pytest.approx(8.0)
    with pytest.raises(InvalidArgument, match="4 features"):
        await bench.files("sum", sums(), analysis=told(methods={"shap": {"baseline": [[1, 2]]}}))


def test_a_config_is_read_as_clarify_takes_it() -> None:
    """Columns by name or number, one facet or several, metrics of the methods that are named."""
    read = read_analysis_config(
        told(headers=["a", "b"], label=1, facet={"name_or_index": 0}, methods={"pre_training_bias": {"methods": "all"}})
    )
    assert (read.label, read.facets) == ("b", (FacetConfig("a"),))
    assert "CI" in read.metrics
    assert "DPPL" not in read.metrics
    assert read.explanation is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ("{}", "asks for nothing"),
        ('{"facets": []}', "'facet'"),
        ('{"facet": 1}', "facet"),
        ('{"facet": [{}]}', "name_or_index"),
        ('{"facet": [{"name_or_index": 3}]}', "headers"),
        ('{"facet": [{"name_or_index": "a", "value_or_threshold": [[1]]}]}', "value_or_threshold"),
        ('{"facet": [{"name_or_index": "a", "value_or_threshold": [NaN]}]}', "value_or_threshold"),
        ('{"methods": {"pdp": {}}}', "pdp"),
        ('{"methods": {"shap": {"use_logit": true}}}', "use_logit"),
        ('{"methods": {"shap": {"num_samples": "many"}}}', "num_samples"),
        ('{"methods": {"shap": {"baseline": "s3://x"}}}', "baseline"),
        ('{"methods": {"shap": {"agg_method": "max"}}}', "agg_method"),
        ('{"methods": {"post_training_bias": {"methods": ["XX"]}}, "facet": [{"name_or_index": "a"}]}', "DPPL"),
        ('{"facet": [{"name_or_index": "a"}], "probability_threshold": 2}', "probability_threshold"),
        ('{"version": "' + "x" * 20_000 + '"}', "longer"),
        ("[" * 10_000, "JSON"),
    ],
)
def test_what_is_no_config_is_refused(text: str, message: str) -> None:
    """Before any data is read; the message names the place."""
    with pytest.raises(InvalidArgument, match=message):
        Measurement(analysis=text)


def test_rows_without_label_and_prediction_are_not_measured() -> None:
    """Labels that are all missing say so, and so does a column that is not there."""
    columns = {"age": np.ones(3), "sex": np.array(["F", "M", "F"], object), "prediction": np.array(["yes"] * 3, object)}
    rows = LabelledRows({**columns, "churned": np.full(3, np.nan)}, CHURN, ("age", "sex"))
    with pytest.raises(NotComparable, match="the column 'churned' is empty"):
        rows.measured(Measurement())
    with pytest.raises(NotComparable, match="no column 'left' with labels"):
        rows.measured(Measurement(target="left", problem_type="BinaryClassification"))


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    most=st.integers(1, 100),
    texts=st.booleans(),
)
def test_drawn_rows_do_not_depend_on_chunks(sizes: list[int], most: int, texts: bool) -> None:
    """The same rows whole and in pieces, within the limit, in order, and all of them where there is room."""
    total = sum(sizes)
    values = np.arange(total, dtype=np.float64)
    column = values if not texts else np.array([f"{value:g}" for value in values], dtype=object)
    whole, pieces = DrawnRows({"a"}, rows=most), DrawnRows({"a"}, rows=most)
    whole.fold({"a": column, "b": values})
    start = 0
    for size in sizes:
        pieces.fold({"a": column[start : start + size], "b": values[start : start + size]})
        start += size
    found = pieces.columns()["a"]
    assert whole.columns()["a"].tolist() == found.tolist()
    assert len(found) <= most
    assert total > most or len(found) == total
    assert [float(value) for value in found] == sorted(float(value) for value in found)
    assert set(pieces.columns()) == {"a"}


def test_drawn_rows_are_bounded_in_bytes() -> None:
    """Long texts leave room for fewer rows; each row has the same chance."""
    drawn = DrawnRows({"a"}, size=1_000_000)
    for start in range(0, 4_000, 500):
        drawn.fold({"a": np.array([f"{row}".ljust(1_000) for row in range(start, start + 500)], dtype=object)})
    kept = [int(text) for text in drawn.columns()["a"]]
    assert 300 < len(kept) < 950
    assert 1_700 < float(np.mean(kept)) < 2_300
