"""The binary tensor extension: identity both ways, and bytes that are not the tensor they claim to be."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.codec_tensors import assert_same, tensors

from vedette.codec import bfloat16
from vedette.codec.binary import decode_tensor, encode_tensor, object_array
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import DATATYPES, Tensor


@given(tensors(), st.integers(0, 7))
def test_every_tensor_survives_at_any_offset(tensor: Tensor, offset: int) -> None:
    """decode(encode(t)) is t bit for bit for every datatype and shape, wherever in the body it lies."""
    raw = bytes(encode_tensor(tensor))
    body = memoryview(b"\0" * offset + raw)
    assert_same(decode_tensor("x", tensor.datatype, tensor.array.shape, body[offset:]), tensor)


def test_an_aligned_tensor_is_a_view() -> None:
    """A megabyte that lies aligned costs no copy and cannot be written through."""
    body = bytes(np.arange(1 << 18, dtype="<f4"))
    array = decode_tensor("x", "FP32", [1 << 18], body).array
    assert np.shares_memory(array, np.frombuffer(body, "<f4"))
    assert not array.flags.writeable


def test_other_layouts_are_written_row_major_and_little_endian() -> None:
    """Transposed and big-endian arrays leave as the protocol's bytes."""
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    assert bytes(encode_tensor(Tensor("x", "INT32", array))) == struct.pack("<6i", 0, 3, 1, 4, 2, 5)


def test_bytes_elements_carry_their_length() -> None:
    """Each BYTES element is a 4-byte little-endian length and its bytes; text goes as UTF-8."""
    tensor = Tensor("s", "BYTES", object_array([b"ab", "é", b""]))
    assert bytes(encode_tensor(tensor)) == b"\2\0\0\0ab\2\0\0\0\xc3\xa9\0\0\0\0"


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "says"),
    [
        ("FP32", [2], b"\0" * 7, "7 bytes"),
        ("FP32", [2], b"\0" * 9, "takes 8"),
        ("FP32", [1], b"", "0 bytes"),
        ("FP32", [0], b"\0", "1 bytes"),
        ("FP32", [-1], b"\0" * 4, "negative"),
        ("FP32", [2**63], b"", "larger than can be addressed"),
        ("INT8", [2**32, 2**32], b"", "larger than can be addressed"),
        ("INT8", [0, 2**63], b"", "larger than can be addressed"),
        ("INT8", [2**61], b"", "takes 2305843009213693952"),
        ("INT8", [1] * 33, b"\0", "33 dimensions"),
        ("COMPLEX64", [1], b"\0" * 8, "unknown datatype"),
        ("BOOL", [2], b"\0\2", "neither 0 nor 1"),
        ("BYTES", [1], b"", "too few"),
        ("BYTES", [1], b"\1\0\0", "too few"),
        ("BYTES", [1], b"\1\0\0\0", "element 0 is cut off"),
        ("BYTES", [1], b"\xff\xff\xff\xff", "element 0 is cut off"),
        ("BYTES", [2], b"\2\0\0\0ab\0\0", "length of BYTES element 1 is cut off"),
        ("BYTES", [1], b"\0\0\0\0x", "1 bytes are left over"),
        ("BYTES", [0], b"x", "1 bytes are left over"),
        ("BYTES", [2**58], b"\0" * 64, "too few"),
    ],
)
def test_wrong_bytes_are_refused(datatype: str, shape: list[int], raw: bytes, says: str) -> None:
    """Whatever does not make exactly the tensor is an error that names it and says what is wrong."""
    with pytest.raises(InvalidArgument, match=says) as caught:
        decode_tensor("the-input", datatype, shape, raw)
    assert "'the-input'" in caught.value.message


def test_a_huge_claim_costs_no_memory() -> None:
    """A shape far beyond the bytes is refused before anything is allocated for it."""
    tracemalloc.start()
    try:
        for datatype in DATATYPES:
            with pytest.raises(InvalidArgument):
                decode_tensor("x", datatype, [2**40], b"\0" * 1024)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=40), st.lists(st.integers(-2, 5), max_size=3), st.sampled_from(sorted(DATATYPES)))
def test_any_bytes_give_a_tensor_or_a_clear_error(raw: bytes, shape: list[int], datatype: str) -> None:
    """No input raises anything but InvalidArgument, and what is accepted is written back as it came."""
    try:
        tensor = decode_tensor("x", datatype, shape, raw)
    except InvalidArgument:
        return
    assert bytes(encode_tensor(tensor)) == raw


@pytest.mark.parametrize("element", [3, None, [b"x"]])
def test_only_bytes_and_text_are_bytes(element: object) -> None:
    """A BYTES tensor that holds something else is refused and not pickled or printed."""
    with pytest.raises(InvalidArgument, match="BYTES element is a"):
        encode_tensor(Tensor("s", "BYTES", object_array([element])))


def test_text_that_is_not_unicode_is_refused() -> None:
    """A lone surrogate cannot be written as UTF-8 and says so."""
    with pytest.raises(InvalidArgument, match="not Unicode"):
        encode_tensor(Tensor("s", "BYTES", object_array(["\ud800"])))


@given(st.floats(width=32))
def test_bfloat16_rounds_to_nearest_even(value: float) -> None:
    """No other BF16 is nearer than the one chosen, and exact ones stay what they are."""
    single = np.array([value], np.float32)
    pattern = bfloat16.narrow(single)
    back = bfloat16.widen(pattern)
    assert bfloat16.narrow(back).tolist() == pattern.tolist() or np.isnan(value)
    if np.isfinite(back[0]):
        neighbours = bfloat16.widen(np.array([(int(pattern[0]) + step) % 2**16 for step in (-1, 1)], np.uint16)).astype(
            np.float64
        )
        distance = abs(float(back[0]) - float(single[0]))
        assert all(distance <= abs(n - float(single[0])) for n in neighbours if np.isfinite(n))


def test_bfloat16_ties_and_limits() -> None:
    """Halfway goes to the even pattern; past the largest is infinity; NaN stays NaN."""
    values = np.array([1.00390625, 1.01171875, 3.4e38, -np.inf, np.nan], np.float32)
    assert bfloat16.narrow(values).tolist() == [0x3F80, 0x3F82, 0x7F80, 0xFF80, 0x7FC0]
