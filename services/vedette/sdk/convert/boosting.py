"""LightGBM and XGBoost: their scikit-learn classes and their bare boosters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.sdk.convert.comparison import compare
from vedette.sdk.convert.conversion import Conversion, imported
from vedette.sdk.convert.graphs import INPUT, finish
from vedette.sdk.convert.pipelines import expected_of, label_names_of
from vedette.sdk.convert.samples import Sample, sample_of
from vedette.sdk.documents import SignatureDetails


def from_lightgbm(
    model: Any, sample: Any, *, feature_names: Sequence[str] = (), label_names: Sequence[str] = (), target: str = ""
) -> Conversion:
    """Convert an LGBMClassifier, LGBMRegressor or Booster and compare the graph with it on `sample`.

    Raises:
        InvalidArgument: not convertible, or the graph differs from the model by more than 1e-4.
        Unavailable: onnxmltools is not installed.
    """
    rows = _numeric(sample)
    expected = expected_of(model, rows.rows) if hasattr(model, "fit") else _booster_expected(model.predict(rows.rows))
    graph = _converted("convert_lightgbm", model, rows, zipmap=False)
    return _finished(graph, model, rows, expected, feature_names, label_names, target)


def from_xgboost(
    model: Any, sample: Any, *, feature_names: Sequence[str] = (), label_names: Sequence[str] = (), target: str = ""
) -> Conversion:
    """Convert an XGBClassifier, XGBRegressor or Booster and compare the graph with it on `sample`.

    Raises:
        InvalidArgument: not convertible, or the graph differs from the model by more than 1e-4.
        Unavailable: onnxmltools is not installed.
    """
    rows = _numeric(sample)
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    if "c" in (booster.feature_types or ()):
        raise InvalidArgument("categorical splits of XGBoost cannot be converted: encode the columns in front of it")
    expected = expected_of(model, rows.rows) if hasattr(model, "fit") else _booster_expected(_raw(model, rows))
    graph = _converted("convert_xgboost", _nameless(model), rows)
    return _finished(graph, model, rows, expected, feature_names, label_names, target)


def _numeric(sample: Any) -> Sample:
    rows = sample_of(sample)
    categorical = [name for name in rows.text_columns if str(rows.rows[name].dtype) == "category"]
    if categorical:
        raise InvalidArgument(
            f"pandas category columns cannot be converted: {', '.join(categorical)}; "
            "train and convert with their numbers instead (frame[column].cat.codes)"
        )
    if rows.text_columns:
        raise InvalidArgument(f"columns of text cannot be converted here: {', '.join(rows.text_columns)}; encode them")
    return rows


def _raw(booster: Any, rows: Sample) -> Any:
    return booster.inplace_predict(np.asarray(rows.rows, dtype=np.float32), validate_features=False)


def _booster_expected(raw: Any) -> dict[str, Any]:
    """A bare booster's answer: a matrix is probabilities by class, a vector is settled by the graph's outputs."""
    raw = np.asarray(raw)
    return {"probabilities": raw} if raw.ndim == 2 else {"raw": raw}


def _nameless(model: Any) -> Any:
    """A copy without column names: the converter understands none but f0, f1, ..."""
    nameless = copy.deepcopy(model)
    booster = nameless.get_booster() if hasattr(nameless, "get_booster") else nameless
    booster.feature_names = None
    booster.feature_types = None
    return nameless


def _converted(function: str, model: Any, rows: Sample, **options: bool) -> Any:
    convert: Callable[..., Any] = getattr(imported("onnxmltools"), function)
    kind = imported("onnxmltools.convert.common.data_types").FloatTensorType([None, rows.width])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert(model, initial_types=[(INPUT, kind)], **options)
    except Exception as error:  # the converter raises whatever comes to it
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidArgument(f"the converter cannot convert this model: {text[:300]}") from error


def _finished(
    graph: Any,
    model: Any,
    rows: Sample,
    expected: dict[str, Any],
    feature_names: Sequence[str],
    label_names: Sequence[str],
    target: str,
) -> Conversion:
    classifier = len(graph.graph.output) == 2
    finish(graph, ("label", "probabilities") if classifier else ("prediction",))
    if "raw" in expected:
        raw = expected.pop("raw")
        expected |= {"probabilities": np.stack([1 - raw, raw], axis=1)} if classifier else {"prediction": raw}
    onnx = graph.SerializeToString()
    difference = compare(onnx, rows.matrix_feed(), expected, rows.rows)
    names = label_names_of(model, label_names) if hasattr(model, "classes_") else tuple(map(str, label_names))
    signature = SignatureDetails(
        tuple(str(name) for name in feature_names) or rows.feature_names, {}, names, "tabular", target
    )
    return Conversion(onnx, signature, len(rows.rows), difference)
