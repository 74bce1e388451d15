"""The classification extension: the k largest with index and label, ties by index, NaN last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vedette.codec.binary import object_array
from vedette.codec.classification import classify
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array, Tensor

SCORES = Tensor("p", "FP32", np.array([[0.1, 0.9, 0.9], [0.8, np.nan, 0.2]], np.float32))


def test_each_row_has_its_own_top() -> None:
    """Value, index and label, the lower index first among equals, NaN after every number."""
    top = classify(SCORES, 2, ("cat", "dog"))
    assert (top.name, top.datatype) == ("p", "BYTES")
    assert top.array.tolist() == [[b"0.9:1:dog", b"0.9:2"], [b"0.8:0:cat", b"0.2:2"]]
    assert classify(SCORES, 9).array[1].tolist() == [b"0.8:0", b"0.2:2", b"nan:1"]


@pytest.mark.parametrize(
    ("datatype", "array", "expected"),
    [
        ("UINT8", np.array([0, 255, 7], np.uint8), [b"255:1", b"7:2"]),
        ("INT64", np.array([-(2**63), 2**63 - 1]), [b"9223372036854775807:1", b"-9223372036854775808:0"]),
        ("BOOL", np.array([False, True]), [b"1:1", b"0:0"]),
        ("BF16", np.array([0x3F80, 0x4000], np.uint16), [b"2.0:1", b"1.0:0"]),
        ("FP16", np.array([0.5, 0.25], np.float16), [b"0.5:0", b"0.25:1"]),
    ],
)
def test_every_numeric_datatype_has_an_order(datatype: str, array: Array, expected: list[bytes]) -> None:
    """A vector is one row of classes; no datatype wraps around or loses digits."""
    assert classify(Tensor("y", datatype, array), 2).array.tolist() == expected


def test_all_but_the_first_dimension_are_classes() -> None:
    """[batch, 2, 2] is four classes a row; no rows give no rows."""
    assert classify(Tensor("y", "INT8", np.arange(8, dtype=np.int8).reshape(2, 2, 2)), 1).array.tolist() == [
        [b"3:3"],
        [b"7:3"],
    ]
    assert classify(Tensor("y", "FP32", np.zeros((0, 3), np.float32)), 2).array.shape == (0, 2)
    assert classify(Tensor("y", "FP32", np.zeros((2, 0), np.float32)), 2).array.shape == (2, 0)
    assert classify(Tensor("y", "FP32", np.zeros(0, np.float32)), 2).array.shape == (0,)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)), st.integers(1, 8))
def test_the_top_is_what_a_stable_sort_gives(array: Array, k: int) -> None:
    """Against Python's own stable sort, row by row."""
    top = classify(Tensor("y", "FP32", array), k).array
    for row, entries in zip(array.tolist(), top.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda i: -row[i] if row[i] == row[i] else np.inf)
        finite = [i for i in ranked if row[i] == row[i] and row[i] != -np.inf]
        indices = [int(entry.split(b":")[1]) for entry in entries]
        assert len(indices) == min(k, len(row))
        assert indices[: len(finite)] == finite[:k]


@pytest.mark.parametrize(
    ("tensor", "k"),
    [
        (SCORES, 0),
        (SCORES, -1),
        (Tensor("y", "BYTES", object_array([b"a"])), 1),
        (Tensor("y", "FP32", np.array(1, np.float32)), 1),
    ],
)
def test_what_has_no_classes_is_refused(tensor: Tensor, k: int) -> None:
    """Text, scalars, and fewer than one class."""
    with pytest.raises(InvalidArgument, match=tensor.name):
        classify(tensor, k)
