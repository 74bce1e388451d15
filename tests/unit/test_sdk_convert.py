"""Converters: the same numbers as the original, or a refusal that shows the worst row."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC, OneClassSVM

from vedette import InvalidArgument
from vedette.sdk.convert import from_lightgbm, from_sklearn, from_xgboost
from vedette.sdk.convert.comparison import compare


def run(onnx: bytes, feeds: dict):
    """The graph's outputs by name, and its declared inputs and outputs."""
    import onnxruntime as ort

    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True)), session


def test_loading_the_converters_loads_no_framework() -> None:
    """Frameworks are passed in: `vedette.sdk.convert` imports none of them."""
    frameworks = {"sklearn", "onnx", "onnxruntime", "skl2onnx", "onnxmltools", "lightgbm", "xgboost", "pandas"}
    code = f"import sys, vedette.sdk.convert; print(*{frameworks} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_a_pipeline_becomes_one_graph_with_its_scaler() -> None:
    """Raw rows in, probabilities of the original out; label names and feature names are kept."""
    data = load_breast_cancer(as_frame=True)
    model = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=20, random_state=0))
    model.fit(data.data.to_numpy(), data.target)
    made = from_sklearn(model, data.data.to_numpy(), feature_names=data.feature_names, label_names=data.target_names)
    assert made.signature.label_names == ("malignant", "benign")
    assert made.signature.feature_names == tuple(data.feature_names)
    assert made.rows_compared == len(data.data)
    assert made.largest_difference < 1e-5
    outputs, _ = run(made.onnx, {"x": data.data.to_numpy(np.float32)})
    assert set(outputs) == {"label", "probabilities"}
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(data.data.to_numpy()), atol=1e-4)


def test_a_regressor_gives_one_output_called_prediction() -> None:
    """The converter's own output name, `variable`, does not reach a client."""
    data = load_diabetes()
    made = from_sklearn(make_pipeline(StandardScaler(), LinearRegression()).fit(data.data, data.target), data.data)
    outputs, session = run(made.onnx, {"x": data.data.astype(np.float32)})
    assert list(outputs) == ["prediction"]
    assert session.get_inputs()[0].shape == ["N", 10]


def test_images_keep_their_shape() -> None:
    """A model that was trained on flat pixels takes images once converted."""
    data = load_digits()
    model = make_pipeline(MinMaxScaler(), LogisticRegression(max_iter=300)).fit(data.data, data.target)
    made = from_sklearn(model, data.images)
    outputs, session = run(made.onnx, {"x": data.images[:3].astype(np.float32)})
    assert session.get_inputs()[0].shape == ["N", 8, 8]
    assert made.signature.kind == "image"
    assert outputs["label"].tolist() == model.predict(data.data[:3]).tolist()


@pytest.fixture
def people() -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with numbers and text, and a target that depends on both."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, 200),
            "city": rng.choice(["Bern", "Ulm", "Graz"], 200),
            "income": rng.normal(50, 9, 200),
        }
    )
    return frame, ((frame.city == "Ulm") | (frame.income > 55)).to_numpy().astype(int)


def mixed_pipeline() -> object:
    """A pipeline that treats columns by name."""
    columns = ColumnTransformer(
        [("number", StandardScaler(), ["age", "income"]), ("text", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )
    return make_pipeline(columns, LogisticRegression())


def test_a_frame_with_text_becomes_one_input_for_each_column(people) -> None:
    """Text stays text on the wire, and the signature knows the categories that the encoder was fitted with."""
    frame, target = people
    model = mixed_pipeline().fit(frame, target)
    made = from_sklearn(model, frame[frame.city != "Graz"])
    assert made.signature.feature_names == ("age", "city", "income")
    assert made.signature.categories == {"city": ("Bern", "Graz", "Ulm")}
    feeds = {"age": frame[["age"]].to_numpy(np.float32), "income": frame[["income"]].to_numpy(np.float32)}
    outputs, _ = run(made.onnx, feeds | {"city": frame[["city"]].to_numpy(object)})
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(frame), atol=1e-4)


def test_columns_by_name_need_a_frame(people) -> None:
    """An array has no names to choose columns by."""
    frame, target = people
    model = mixed_pipeline().fit(frame, target)
    with pytest.raises(InvalidArgument, match="DataFrame"):
        from_sklearn(model, np.zeros((3, 3)))


def test_missing_text_is_refused(people) -> None:
    """A client could not send it, so the conversion says so first."""
    frame, target = people
    model = mixed_pipeline().fit(frame, target)
    frame.loc[3, "city"] = None
    with pytest.raises(InvalidArgument, match="city has missing text"):
        from_sklearn(model, frame)


def test_a_graph_that_differs_is_refused_with_its_worst_row() -> None:
    """A model changed behind the converter's back is caught on real rows, and the row is shown."""
    data = load_diabetes()
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(data.data, data.target)
    made = from_sklearn(model, data.data)
    wrong = model.predict(data.data)
    wrong[17] += 1.0
    with pytest.raises(InvalidArgument, match=r"on 1 of 442 rows; row 17: prediction is"):
        compare(made.onnx, {"x": data.data.astype(np.float32)}, {"prediction": wrong}, data.data)


def test_a_wrong_label_is_refused_unless_two_classes_are_level() -> None:
    """Rounding may choose either of two equal classes; anything else is a different model."""
    data = load_iris()
    model = LogisticRegression(max_iter=500).fit(data.data, data.target)
    made = from_sklearn(model, data.data)
    labels, scores = model.predict(data.data), model.predict_proba(data.data)
    labels[5] = 2
    feeds = {"x": data.data.astype(np.float32)}
    with pytest.raises(InvalidArgument, match="row 5: label is 0"):
        compare(made.onnx, feeds, {"label": labels, "probabilities": scores}, data.data)
    scores[5] = 1 / 3
    with pytest.raises(InvalidArgument, match="row 5: probabilities"):
        compare(made.onnx, feeds, {"label": labels, "probabilities": scores}, data.data)


def test_a_classifier_without_probabilities_is_compared_by_label() -> None:
    """LinearSVC has scores only; its labels still must agree."""
    data = load_iris()
    made = from_sklearn(LinearSVC(random_state=0).fit(data.data, data.target), data.data)
    outputs, _ = run(made.onnx, {"x": data.data.astype(np.float32)})
    assert "label" in outputs


def test_what_cannot_be_converted_is_said_plainly() -> None:
    """An estimator the converter does not know ends in our error, not in a stack of its own."""

    class Own(LinearRegression):
        pass

    data = load_diabetes()
    with pytest.raises(InvalidArgument, match="cannot convert"):
        from_sklearn(Own().fit(data.data, data.target), data.data)


@pytest.mark.parametrize("model", [KMeans(2, n_init=1), OneClassSVM(), PCA(1), StandardScaler()])
def test_other_models_hear_what_can_be_converted(model) -> None:
    """Clusterers, detectors of outliers and transformers: the message says what is supported."""
    rows = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(InvalidArgument, match="classifiers and regressors can be converted"):
        from_sklearn(model.fit(rows), rows)


@pytest.mark.parametrize("convert", [from_lightgbm, from_xgboost])
def test_category_columns_are_called_so(convert) -> None:
    """By name, and with what to do; they are no text."""
    frame = pd.DataFrame({"age": [1.0, 2.0], "city": pd.Categorical(["Ulm", "Bern"])})
    with pytest.raises(InvalidArgument, match=r"pandas category columns .*: city; .*cat\.codes"):
        convert(object(), frame)


def test_label_names_must_fit_the_classes() -> None:
    """Names go by index, so their number and the classes must agree."""
    data = load_iris()
    model = LogisticRegression(max_iter=500).fit(data.data, data.target + 1)
    with pytest.raises(InvalidArgument, match="2 label names for 3 classes"):
        from_sklearn(model, data.data, label_names=["a", "b"])
    with pytest.raises(InvalidArgument, match="classes 0 to 2"):
        from_sklearn(model, data.data, label_names=["a", "b", "c"])
    assert from_sklearn(model, data.data).signature.label_names == ("1", "2", "3")


def test_forests_of_text_classes_keep_their_names() -> None:
    """Classes that are text come back as text."""
    data = load_iris()
    names = data.target_names[data.target]
    made = from_sklearn(
        RandomForestClassifier(5, random_state=0).fit(data.data.astype(np.float32), names), data.data.astype(np.float32)
    )
    outputs, _ = run(made.onnx, {"x": data.data[:1].astype(np.float32)})
    assert outputs["label"].tolist() == ["setosa"]
    assert made.signature.label_names == ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize("bad", [np.zeros((0, 4)), np.zeros(4), np.array([["a", "b"]])])
def test_a_sample_must_be_rows_of_numbers(bad: np.ndarray) -> None:
    """Nothing is converted unseen."""
    with pytest.raises(InvalidArgument, match="sample"):
        from_sklearn(LinearRegression(), bad)


def test_lightgbm_declares_shapes_that_hold_for_every_batch(capfd) -> None:
    """The label is declared by batch, so that ONNX Runtime does not warn on each request."""
    import lightgbm

    data = load_breast_cancer(as_frame=True)
    model = lightgbm.LGBMClassifier(n_estimators=15, verbose=-1).fit(data.data, data.target)
    made = from_lightgbm(model, data.data, label_names=data.target_names)
    outputs, session = run(made.onnx, {"x": data.data.to_numpy(np.float32)})
    assert {output.name: output.shape for output in session.get_outputs()} == {
        "label": ["N"],
        "probabilities": ["N", 2],
    }
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(data.data), atol=1e-4)
    assert "Expected shape" not in capfd.readouterr().err
    assert made.signature.feature_names == tuple(data.feature_names)


def test_lightgbm_regressor_and_bare_booster() -> None:
    """The regressor's answer is called prediction; a bare booster converts as its objective says."""
    import lightgbm

    data = load_diabetes()
    model = lightgbm.LGBMRegressor(n_estimators=15, verbose=-1).fit(data.data, data.target)
    for original in (model, model.booster_):
        outputs, _ = run(from_lightgbm(original, data.data).onnx, {"x": data.data.astype(np.float32)})
        assert list(outputs) == ["prediction"]
    data = load_breast_cancer()
    booster = lightgbm.LGBMClassifier(n_estimators=15, verbose=-1).fit(data.data, data.target).booster_
    assert from_lightgbm(booster, data.data).largest_difference < 1e-4


def test_xgboost_with_column_names_of_its_own() -> None:
    """Models trained on frames convert although the converter only knows f0, f1, ...; the model is not changed."""
    import xgboost

    data = load_iris(as_frame=True)
    model = xgboost.XGBClassifier(n_estimators=10).fit(data.data, data.target)
    made = from_xgboost(model, data.data, label_names=data.target_names)
    outputs, _ = run(made.onnx, {"x": data.data.to_numpy(np.float32)})
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(data.data), atol=1e-4)
    assert model.get_booster().feature_names == list(data.feature_names)


def test_xgboost_regressor_and_bare_booster() -> None:
    """Both kinds of model of the library convert."""
    import xgboost

    data = load_diabetes()
    model = xgboost.XGBRegressor(n_estimators=10).fit(data.data, data.target)
    for original in (model, model.get_booster()):
        outputs, _ = run(from_xgboost(original, data.data).onnx, {"x": data.data.astype(np.float32)})
        np.testing.assert_allclose(outputs["prediction"].ravel(), model.predict(data.data), rtol=1e-4)


def test_the_same_model_gives_the_same_bytes() -> None:
    """So that registering it again finds the version that is there."""
    import lightgbm
    import onnx

    data = load_diabetes()
    linear = LinearRegression().fit(data.data, data.target)
    trees = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(data.data, data.target)
    assert from_sklearn(linear, data.data).onnx == from_sklearn(linear, data.data).onnx
    made = from_lightgbm(trees, data.data).onnx
    assert from_lightgbm(trees, data.data).onnx == made
    domains = [used.domain for used in onnx.load_model_from_string(made).opset_import]
    assert domains == sorted(set(domains))
