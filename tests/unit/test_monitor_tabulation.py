"""Tables made of captured tensors: names, kinds, and data that is not what it should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.capture_batches import SIGNATURE, batch, column, rows_of

from vedette.codec.binary import object_array
from vedette.codec.captures import TensorColumn, decode_captures, encode_captures
from vedette.core.models import Signature, TensorSpec
from vedette.monitor.traffic.tabulation import MAX_TEXT, feature_names, tabulate


def test_features_and_outputs_have_their_names() -> None:
    """Features by the signature, a category by its name, the label and each class's probability."""
    x = np.array([[30, 170, 0], [50, 180, 1]], np.float32)
    table = tabulate(decode_captures(encode_captures(batch([1.0, 2.0], rows=x))), SIGNATURE)
    assert list(table.columns) == ["age", "height", "sex", "prediction", "probability_no", "probability_yes"]
    assert table.columns["age"].tolist() == [30, 50]
    assert table.columns["sex"].tolist() == ["f", "m"]
    assert table.columns["prediction"].tolist() == [0, 1]
    assert table.columns["probability_yes"].tolist() == [0, pytest.approx(0.8)]
    assert (table.requests.tolist(), table.counts) == ([0, 1], {})


def test_failed_requests_have_no_rows() -> None:
    """Whatever was captured of them."""
    captures = batch([1.0, 2.0, 3.0], codes=["OK", "invalid_argument", "OK"])
    outputs = {
        name: replace(tensor, values=np.delete(tensor.values.reshape(3, -1), 1, 0).reshape(-1),
                      shapes=[tensor.shapes[0], None, tensor.shapes[2]])
        for name, tensor in captures.outputs.items()
    }  # fmt: skip
    table = tabulate(replace(captures, outputs=outputs), SIGNATURE)
    assert table.requests.tolist() == [0, 2]
    assert table.columns["age"].tolist() == captures.inputs["x"].values.reshape(3, 3)[[0, 2], 0].tolist()
    assert {len(values) for values in table.columns.values()} == {2}


def test_rows_of_one_request_stay_together() -> None:
    """Each row knows its request."""
    captures = batch([1.0, 2.0])
    x = TensorColumn("x", "FP32", rows_of(5).reshape(-1), [(2, 3), (3, 3)])
    table = tabulate(replace(captures, inputs={"x": x}, outputs={}, rows=np.array([2, 3])), SIGNATURE)
    assert table.requests.tolist() == [0, 0, 1, 1, 1]
    assert len(table.columns["age"]) == 5


def test_excluded_columns_are_absent_and_the_others_keep_their_names() -> None:
    """The rows hold what is left."""
    captures = batch([1.0, 2.0])
    left = column("x", "FP32", rows_of(2)[:, [0, 2]])
    table = tabulate(replace(captures, inputs={"x": left}, outputs={}, excluded=("height",)), SIGNATURE)
    assert list(table.columns) == ["age", "sex"]


def test_inputs_without_names_are_numbered() -> None:
    """By input; several inputs share the feature names in the order of the signature."""
    assert feature_names(Signature((TensorSpec("x", "FP32", (-1, -1)),), ()), {"x": 2}) == {"x": ["x_0", "x_1"]}
    both = (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "BYTES", (-1, 1)))
    named = Signature(both, (), feature_names=("p", "q", "r"))
    assert feature_names(named, {"a": 2, "b": 1}) == {"a": ["p", "q"], "b": ["r"]}
    assert feature_names(named, {"b": 1}) == {"b": ["r"]}
    assert feature_names(named, {"a": 1, "b": 1}, ["q"]) == {"a": ["p"], "b": ["r"]}
    assert feature_names(replace(named, feature_names=("p",)), {"a": 2, "b": 1}) == {"a": ["a_0", "a_1"], "b": ["b_0"]}
    assert feature_names(Signature((), ()), {"z": 1}) == {"z": ["z_0"]}


@pytest.mark.parametrize(
    ("datatype", "shape", "labels", "name", "expected"),
    [
        ("FP32", 1, (), "variable", ["prediction"]),
        ("BYTES", 1, ("a", "b"), "output_label", ["prediction"]),
        ("FP32", 2, ("a", "b"), "output", ["probability_a", "probability_b"]),
        ("FP32", 2, ("a", "b"), "logits", ["logits_0", "logits_1"]),
        ("FP32", 3, (), "probabilities", ["probability_0", "probability_1", "probability_2"]),
        ("FP32", 3, (), "embedding", ["embedding_0", "embedding_1", "embedding_2"]),
        ("FP32", 1, ("a", "b"), "prob", ["prob_0"]),
    ],
)
def test_outputs_are_named_by_what_they_are(
    datatype: str, shape: int, labels: tuple[str, ...], name: str, expected: list[str]
) -> None:
    """A single value predicts, as many floats as classes are probabilities, the rest is numbered."""
    signature = Signature((), (TensorSpec(name, datatype, (-1, shape)),), label_names=labels)
    values = object_array([b"a", b"b"]).reshape(2, 1) if datatype == "BYTES" else np.zeros((2, shape), np.float32)
    captures = replace(batch([1.0, 2.0]), inputs={}, outputs={name: column(name, datatype, values)})
    assert list(tabulate(captures, signature).columns) == expected


def test_only_one_output_is_the_prediction() -> None:
    """A second single value keeps its own name."""
    outputs = {name: column(name, "FP32", np.zeros((2, 1), np.float32)) for name in ("first", "second")}
    signature = Signature((), tuple(TensorSpec(name, "FP32", (-1, 1)) for name in outputs))
    captures = replace(batch([1.0, 2.0]), inputs={}, outputs=outputs)
    assert list(tabulate(captures, signature).columns) == ["prediction", "second_0"]


def test_what_is_no_column_is_counted() -> None:
    """A stranger, rows that do not fit, shapes that differ, scalars, images: the rest of the batch stays."""
    good = batch([1.0, 2.0])
    odd = {
        "stranger": column("stranger", "FP32", np.zeros((2, 1), np.float32)),
        "ragged": TensorColumn("ragged", "FP32", np.zeros(5, np.float32), [(1, 2), (1, 3)]),
        "scalar": TensorColumn("scalar", "FP32", np.zeros(2, np.float32), [(), ()]),
        "twice": TensorColumn("twice", "FP32", np.zeros(4, np.float32), [(2, 1), (2, 1)]),
        "image": column("image", "UINT8", np.zeros((2, 50, 50), np.uint8)),
    }
    table = tabulate(replace(good, inputs={**good.inputs, **odd}), SIGNATURE)
    assert table.counts == {"unknown_column": 2, "unreadable": 6, "too_wide": 2}
    assert "age" in table.columns
    assert table.rows == 2


def test_texts_are_bounded_and_never_raise() -> None:
    """10 MB, bytes that are no text, and nothing at all."""
    values = object_array([b"x" * 10_000_000, b"\xff\xfe", b""])
    signature = Signature((TensorSpec("t", "BYTES", (-1, 1)),), (), feature_names=("word",))
    captures = batch([1.0] * 3)
    table = tabulate(replace(captures, inputs={"t": column("t", "BYTES", values.reshape(3, 1))}, outputs={}), signature)
    assert table.columns["word"].tolist() == ["x" * MAX_TEXT, "��", None]


def test_categories_out_of_range_show_as_numbers() -> None:
    """NaN is missing; infinities, negatives and fractions are values of their own."""
    x = np.zeros((6, 3), np.float32)
    x[:, 2] = [1, 2, -1, 0.5, np.nan, np.inf]
    table = tabulate(batch([1.0] * 6, rows=x), SIGNATURE)
    assert table.columns["sex"].tolist() == ["m", "2", "-1", "0.5", None, "inf"]


def test_a_changed_type_is_still_a_column() -> None:
    """Text where numbers were expected goes on as text: the profile counts it by its type."""
    captures = batch([1.0, 2.0])
    x = column("x", "BYTES", object_array([b"1", b"2", b"f", b"x", b"y", b"m"]).reshape(2, 3))
    table = tabulate(replace(captures, inputs={"x": x}, outputs={}), SIGNATURE)
    assert table.columns["age"].tolist() == ["1", "x"]


def test_an_empty_batch_is_an_empty_table() -> None:
    """No rows, no error."""
    assert tabulate(batch([]), SIGNATURE).rows == 0
