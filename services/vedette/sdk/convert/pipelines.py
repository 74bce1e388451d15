"""scikit-learn: a whole pipeline, preprocessing included, as one graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vedette.core.errors import InvalidArgument
from vedette.sdk.convert.comparison import compare
from vedette.sdk.convert.conversion import Conversion, imported
from vedette.sdk.convert.graphs import INPUT, finish, flatten_input
from vedette.sdk.convert.samples import MAX_CATEGORIES, Sample, sample_of
from vedette.sdk.documents import SignatureDetails


def from_sklearn(
    model: Any,
    sample: Any,
    *,
    feature_names: Sequence[str] = (),
    label_names: Sequence[str] = (),
    kind: Literal["", "tabular", "image"] = "",
    target: str = "",
) -> Conversion:
    """Convert a fitted estimator or pipeline and compare the graph with it on `sample`.

    `sample`: real rows (some hundred) as the model takes them: an array, or a DataFrame when a
    ColumnTransformer chooses columns by name (then the graph has one input for each column, text
    included). An array of more than two dimensions is images: the model takes them flat, the graph as they
    are. `label_names` go by class index.

    Raises:
        InvalidArgument: not convertible, or the graph differs from the model by more than 1e-4.
        Unavailable: skl2onnx is not installed.
    """
    if not hasattr(model, "predict"):
        raise InvalidArgument(
            f"classifiers and regressors can be converted; {type(model).__name__} has no method predict"
        )
    rows = sample_of(sample)
    by_column = bool(rows.text_columns) or _has_column_transformer(model)
    if by_column and not rows.feature_names:
        raise InvalidArgument("the pipeline chooses columns by name: pass the sample as a DataFrame")
    graph = _converted(model, rows, by_column=by_column)
    if rows.row_shape:
        flatten_input(graph, rows.row_shape)
    onnx = graph.SerializeToString()
    feeds = rows.column_feeds() if by_column else rows.matrix_feed()
    difference = compare(onnx, feeds, expected_of(model, rows.rows), rows.rows)
    signature = SignatureDetails(
        feature_names=tuple(str(name) for name in feature_names) or rows.feature_names,
        categories=rows.categories | _fitted_categories(model, rows),
        label_names=label_names_of(model, label_names),
        kind=kind or ("image" if rows.row_shape else "tabular"),
        target=target,
    )
    return Conversion(onnx, signature, len(rows.rows), difference)


def expected_of(model: Any, rows: Any) -> dict[str, Any]:
    """What the original says for these rows, by the graph's output names."""
    if not hasattr(model, "classes_"):
        return {"prediction": np.asarray(model.predict(rows))}
    expected = {"label": np.asarray(model.predict(rows))}
    if hasattr(model, "predict_proba"):
        expected["probabilities"] = np.asarray(model.predict_proba(rows))
    return expected


def label_names_of(model: Any, given: Sequence[str]) -> tuple[str, ...]:
    """Class names by class index: those given, else the classes themselves.

    Raises:
        InvalidArgument: another number of names than classes, or classes that are not their own index.
    """
    names = tuple(str(name) for name in given)
    classes = list(np.asarray(getattr(model, "classes_", ())).tolist())
    if not names:
        return tuple(str(name) for name in classes)
    if len(names) != len(classes):
        raise InvalidArgument(f"{len(names)} label names for {len(classes)} classes")
    if classes != list(range(len(classes))) and [str(name) for name in classes] != list(names):
        raise InvalidArgument(f"label names need classes 0 to {len(classes) - 1}; the model's are {classes[:10]}")
    return names


def _converted(model: Any, sample: Sample, *, by_column: bool) -> Any:
    skl2onnx = imported("skl2onnx")
    types = imported("skl2onnx.common.data_types")
    text, number = types.StringTensorType([None, 1]), types.FloatTensorType([None, 1])
    if by_column:
        inputs = [(name, text if name in sample.text_columns else number) for name in sample.feature_names]
    else:
        inputs = [(INPUT, types.FloatTensorType([None, sample.width]))]
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = skl2onnx.convert_sklearn(model, initial_types=inputs, options=options)
    except Exception as error:  # the converter raises anything from NameError to RuntimeError
        raise InvalidArgument(f"scikit-learn's converter cannot convert this model: {_first_line(error)}") from error
    return finish(graph, _outputs(model))


def _outputs(model: Any) -> tuple[str, ...]:
    if not hasattr(model, "classes_"):
        return ("prediction",)
    return ("label", "probabilities" if hasattr(model, "predict_proba") else "scores")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _has_column_transformer(model: Any) -> bool:
    return any(True for _ in _column_transformers(model))


def _column_transformers(model: Any) -> list[Any]:
    steps = [model, *getattr(model, "get_params", dict)().values()]
    return [step for step in steps if type(step).__name__ == "ColumnTransformer"]


def _fitted_categories(model: Any, sample: Sample) -> dict[str, tuple[str, ...]]:
    """The values that fitted encoders know: more than the sample happens to hold."""
    found: dict[str, tuple[str, ...]] = {}
    for transformer in _column_transformers(model):
        for _, step, columns in getattr(transformer, "transformers_", ()):
            encoder = step[-1] if hasattr(step, "steps") else step
            known = getattr(encoder, "categories_", None)
            if known is None or isinstance(columns, str) or len(known) != len(columns):
                continue
            for column, values in zip(columns, known, strict=True):
                if str(column) in sample.text_columns:
                    found[str(column)] = tuple(str(value) for value in values)[:MAX_CATEGORIES]
    return found
