"""npy bodies: identity, casts that lose nothing, and files that are not plain arrays."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.codec_tensors import assert_same, tensors

from vedette.codec import npy
from vedette.codec.binary import object_array
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Array, Tensor


def signature(datatype: str, *shape: int) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), ())


def saved(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


@given(tensors(finite=True, text=True))
def test_every_tensor_survives(tensor: Tensor) -> None:
    """encode and decode are inverse for all datatypes but BYTES that end in zeros, which are refused."""
    if tensor.datatype == "BYTES":
        assume(not any(element.endswith(b"\0") for element in tensor.array.ravel().tolist()))
    assert_same(npy.decode(npy.encode([tensor]), signature(tensor.datatype, *tensor.array.shape))[0], tensor)


def test_column_order_and_byte_order_are_undone() -> None:
    """Fortran order and big-endian files are the same tensor."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for form in (np.asfortranarray(array), array.astype(">f4"), np.asfortranarray(array.astype(">f4"))):
        assert_same(npy.decode(saved(form), signature("FP32", -1, 3))[0], Tensor("x", "FP32", array))


@pytest.mark.parametrize(
    ("array", "datatype", "expected"),
    [
        (np.array([0.5, np.nan]), "FP32", np.array([0.5, np.nan], np.float32)),
        (np.array([1, 2]), "FP64", np.array([1.0, 2.0])),
        (np.array([1.0, 2.0]), "INT64", np.array([1, 2])),
        (np.array([1, 0]), "BOOL", np.array([True, False])),
        (np.array([1.0]), "BF16", np.array([0x3F80], np.uint16)),
        (np.array([200], np.uint8), "INT16", np.array([200], np.int16)),
    ],
)
def test_arrays_are_cast_to_the_input(array: Array, datatype: str, expected: Array) -> None:
    """float64 and int64, numpy's defaults, fit whatever the model takes if their values do."""
    assert_same(npy.decode(saved(array), signature(datatype, -1))[0], Tensor("x", datatype, expected))


def test_text_arrays_are_bytes() -> None:
    """Fixed-length text and byte strings become BYTES."""
    for array in (np.array(["é", "b"]), np.array(["é".encode(), b"b"])):
        decoded = npy.decode(saved(array), signature("BYTES", -1))[0]
        assert decoded.array.tolist() == ["é".encode(), b"b"]


def test_a_single_row_is_a_batch_of_one() -> None:
    """An array that lacks only the first dimension gets it."""
    assert npy.decode(saved(np.zeros(3, np.float32)), signature("FP32", -1, 3))[0].array.shape == (1, 3)


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array([1.5]), "INT64"),
        (np.array([np.nan]), "INT64"),
        (np.array([2.0**63]), "INT64"),
        (np.array([300]), "UINT8"),
        (np.array([-1]), "UINT64"),
        (np.array([2]), "BOOL"),
        (np.array([1e39]), "FP32"),
        (np.array([1e5]), "FP16"),
        (np.array([3.4e38]), "BF16"),
        (np.array(["a"]), "FP32"),
        (np.array([1.0]), "BYTES"),
        (np.array([1j]), "FP32"),
        (np.array(["2020-01-01"], "M8[D]"), "INT64"),
        (np.zeros(1, [("a", "f4")]), "FP32"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(array: Array, datatype: str) -> None:
    """No fraction, range, kind or field is dropped to make a value fit."""
    with pytest.raises(InvalidArgument):
        npy.decode(saved(array), signature(datatype, -1))


def test_pickles_are_never_read() -> None:
    """An object array is refused by its header; nothing in it runs."""
    body = saved(np.array([{"a": 1}], dtype=object))
    with pytest.raises(InvalidArgument, match="plain array"):
        npy.decode(body, signature("FP32", -1))


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
BROKEN = [
    b"",
    b"\x93NUMPY",
    b"PK\x03\x04 an archive",
    b"\x93NUMPY\x01\x00\xff\xff",
    b"\x93NUMPY\x03\x00\x00\x00\x00\x00",
    b"\x93NUMPY\x09\x00\x00\x00",
    with_header(GOOD, b"\0" * 3),
    with_header(GOOD, b"\0" * 5),
    with_header("{}"),
    with_header("__import__('os')"),
    with_header("[" * 9_000),
    with_header(GOOD + " " * 20_000, b"\0" * 4),
    with_header(GOOD.replace("(1,)", "(-1,)"), b"\0" * 4),
    with_header(GOOD.replace("(1,)", "(10**9,)")),
    with_header(GOOD.replace("(1,)", "(1000000000000,)"), b"\0" * 4),
    with_header(GOOD.replace("(1,)", "(9223372036854775808,)"), b"\0" * 4),
    with_header(GOOD.replace("(1,)", "(4294967296, 4294967296)"), b""),
    with_header(GOOD.replace("<f4", "|O"), b"\0" * 8),
    with_header(GOOD.replace("<f4", "garbage"), b"\0" * 4),
    with_header(GOOD.replace("<f4", "|S0").replace("(1,)", "(1000000000000,)")),
    with_header(GOOD.replace("<f4", "|b1"), b"\2"),
    with_header(GOOD.replace("<f4", "<U1"), b"\xff\xff\xff\xff"),
    with_header(GOOD.replace("<f4", "<U1"), b"\x00\xd8\x00\x00"),
]


@pytest.mark.parametrize("body", BROKEN, ids=[repr(body)[:50] for body in BROKEN])
def test_broken_files_are_refused_without_memory(body: bytes) -> None:
    """A header that lies or cannot be read is an error, before anything is allocated for it."""
    tracemalloc.start()
    try:
        for datatype in ("FP32", "BOOL", "BYTES"):
            with pytest.raises(InvalidArgument):
                npy.decode(body, signature(datatype, -1))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(tail: bytes) -> None:
    """Whatever follows the magic is a tensor or an InvalidArgument."""
    for body in (tail, b"\x93NUMPY\x01\x00" + tail, with_header(GOOD, tail)):
        try:
            npy.decode(body, signature("FP32", -1))
        except InvalidArgument:
            pass


def test_only_single_tensors_travel_as_npy() -> None:
    """Several inputs or outputs, and bytes that numpy would cut, are refused by name."""
    both = Signature(signature("FP32", -1).inputs * 2, ())
    with pytest.raises(InvalidArgument, match="the model takes 2"):
        npy.decode(saved(np.zeros(1)), both)
    tensor = Tensor("y", "BYTES", object_array([b"a\0"]))
    with pytest.raises(InvalidArgument, match="end in zeros"):
        npy.encode([tensor])
    with pytest.raises(InvalidArgument, match="gives 2: 'y', 'y'"):
        npy.encode([tensor, tensor])
