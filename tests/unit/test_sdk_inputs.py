"""From what a caller has to the tensors that a model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette import InvalidArgument
from vedette.core.models import TensorSpec
from vedette.core.tensors import InferResponse, Tensor
from vedette.sdk.documents import SignatureDetails
from vedette.sdk.inputs import EndpointMetadata, tensors_from
from vedette.sdk.prediction import Prediction, prediction_from

MATRIX = EndpointMetadata("m", inputs=(TensorSpec("x", "FP32", (-1, 3)),), signature=SignatureDetails(("a", "b", "c")))
MIXED = EndpointMetadata("m", inputs=(TensorSpec("age", "FP32", (-1, 1)), TensorSpec("city", "BYTES", (-1, 1))))


def one(datatype: str, shape: tuple[int, ...] = (-1,)) -> EndpointMetadata:
    """Metadata of a model with one input."""
    return EndpointMetadata("m", inputs=(TensorSpec("x", datatype, shape),))


@given(st.permutations(["a", "b", "c"]))
def test_columns_go_where_their_names_say(order: list[str]) -> None:
    """A DataFrame, a dict of columns and a list of rows mean the same in any order of columns."""
    frame = pd.DataFrame({"a": [1, 4], "b": [2, 5], "c": [3, 6]})[order]
    for data in (frame, {name: frame[name].tolist() for name in order}, frame.to_dict("records")):
        (tensor,) = tensors_from(data, MATRIX)
        assert tensor.array.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert tensor.array.dtype == np.float32


def test_missing_and_unknown_columns_are_named_together() -> None:
    """One look at the message is enough to repair the call."""
    with pytest.raises(InvalidArgument, match=r"missing columns: c; unknown columns: d, e; it takes a, b, c"):
        tensors_from(pd.DataFrame({"a": [1], "b": [1], "d": [1], "e": [1]}), MATRIX)


def test_a_model_without_column_names_wants_an_array() -> None:
    """Guessing the order of columns would be wrong silently."""
    with pytest.raises(InvalidArgument, match="does not know its column names"):
        tensors_from(pd.DataFrame({"a": [1]}), one("FP32", (-1, 1)))


def test_one_tensor_for_each_column() -> None:
    """A pipeline that takes columns by name gets text as BYTES and numbers as its number type."""
    for data in (
        pd.DataFrame({"city": ["Ulm", "Bern"], "age": [3, 4]}),
        {"age": [3, 4], "city": np.array([["Ulm"], ["Bern"]])},
    ):
        age, city = tensors_from(data, MIXED)
        assert (age.array.tolist(), age.datatype) == ([[3.0], [4.0]], "FP32")
        assert city.array.tolist() == [[b"Ulm"], [b"Bern"]]
    age, city = tensors_from(np.array([[3, "Ulm"]], dtype=object), MIXED)
    assert (age.array.tolist(), city.array.tolist()) == ([[3.0]], [[b"Ulm"]])


@pytest.mark.parametrize(
    ("data", "metadata", "text"),
    [
        ([[1, 2], [3]], MATRIX, "different lengths"),
        ([[1, 2, "a"]], MATRIX, "takes numbers; 'a' is not one"),
        ({"x": [1.5]}, one("INT32"), "do not fit without loss"),
        ([300], one("UINT8"), "out of its range"),
        ([-1], one("UINT8"), "out of its range"),
        ([1e300], one("FP32"), "out of its range"),
        ([1], one("BYTES"), "takes text"),
        ([2], one("BOOL"), "do not fit"),
        ([object()], one("FP32"), "not all values are numbers"),
        ([[1, 2, 3]], MIXED, "takes 2 columns"),
        ({"age": [1], "city": ["a", "b"], "zip": [1]}, MIXED, "unknown inputs: zip"),
        ({"a": [1], "b": [1, 2], "c": [1]}, MATRIX, "different lengths"),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1}], MATRIX, "row 1 has other columns"),
        ([[1j]], MATRIX, "do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(data: Any, metadata: EndpointMetadata, text: str) -> None:
    """Nothing is rounded, cut or guessed to make it fit."""
    with pytest.raises(InvalidArgument, match=text):
        tensors_from(data, metadata)


def test_none_is_a_missing_number() -> None:
    """None and NaN mean the same to a model of floats."""
    (tensor,) = tensors_from([[1, None, 3]], MATRIX)
    assert np.isnan(tensor.array[0, 1])


def test_text_of_a_known_category_becomes_its_index() -> None:
    """Trees over category codes take the words that their categories list, and no others."""
    metadata = EndpointMetadata(
        "m", inputs=MATRIX.inputs, signature=SignatureDetails(("a", "b", "c"), categories={"b": ("red", "blue")})
    )
    (tensor,) = tensors_from({"a": [1], "b": ["blue"], "c": [2]}, metadata)
    assert tensor.array.tolist() == [[1, 1, 2]]
    with pytest.raises(InvalidArgument, match="'green' is not one; it knows red, blue"):
        tensors_from({"a": [1], "b": ["green"], "c": [2]}, metadata)


@pytest.mark.parametrize(
    ("data", "shape", "expected"),
    [
        ([1, 2, 3], (-1, 3), (1, 3)),
        ([1, 2], (-1, 1), (2, 1)),
        (np.zeros((8, 8)), (-1, 8, 8), (1, 8, 8)),
        (np.zeros((2, 8, 8)), (-1, 8, 8), (2, 8, 8)),
        (5, (-1,), (1,)),
    ],
)
def test_a_single_row_may_leave_out_the_batch(data: Any, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """One row, one image or one number is a batch of one; a flat list for one column is many rows."""
    (tensor,) = tensors_from(data, one("FP32", shape))
    assert tensor.array.shape == expected


def test_bf16_goes_out_and_comes_back_as_numbers() -> None:
    """Callers never see bit patterns."""
    (tensor,) = tensors_from([1.0, -2.5, 3.0], one("BF16"))
    assert (tensor.datatype, tensor.array.dtype) == ("BF16", np.dtype(np.uint16))
    answer = prediction_from(InferResponse("m", "1", "p", [Tensor("y", "BF16", tensor.array)]))
    assert answer.array.tolist() == [1.0, -2.5, 3.0]


def test_text_comes_back_as_text_and_other_bytes_as_bytes() -> None:
    """BYTES that are UTF-8 are str; what is not stays as it is."""
    array = np.array([b"gr\xc3\xbcn", b"\xff"], dtype=object)
    assert prediction_from(InferResponse("m", "1", "p", [Tensor("y", "BYTES", array)])).array.tolist() == [
        "grün",
        b"\xff",
    ]


def test_labels_by_index_by_name_and_by_score() -> None:
    """Whatever a graph returns, `labels` are the names that were registered."""
    names = ("no", "yes")
    assert Prediction("m", "1", {"label": np.array([1, 0])}, names).labels == ["yes", "no"]
    assert Prediction("m", "1", {"label": np.array(["yes"], dtype=object)}, names).label == "yes"
    assert Prediction("m", "1", {"probabilities": np.array([[0.9, 0.1]])}, names).label == "no"
    assert Prediction("m", "1", {"y": np.array([[0.2, 0.8]])}, names).label == "yes"
    assert Prediction("m", "1", {"label": np.array([2, 1])}, ("1", "2")).labels == ["2", "1"]


def test_asking_for_what_is_not_there_is_an_error() -> None:
    """One output is `.array`; several must be named; a regressor has no labels."""
    several = Prediction("m", "1", {"a": np.array([1.0]), "b": np.array([2.0])})
    with pytest.raises(InvalidArgument, match="choose one of a, b"):
        several.array  # noqa: B018
    with pytest.raises(InvalidArgument, match="no output 'c'; there are a, b"):
        several["c"]
    with pytest.raises(InvalidArgument, match="tells classes"):
        several.labels  # noqa: B018
    with pytest.raises(InvalidArgument, match="2 rows"):
        Prediction("m", "1", {"label": np.array([1, 0])}).label  # noqa: B018


def test_arrays_that_fit_are_not_copied() -> None:
    """A large batch of the right type goes out as it is."""
    rows = np.zeros((4, 3), np.float32)
    (tensor,) = tensors_from(rows, MATRIX)
    assert np.shares_memory(tensor.array, rows)
