"""The checks before parsing: depth, UTF-8 and shapes, exactly and in linear time."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.codec import checks
from vedette.codec.checks import check_json, check_shape
from vedette.codec.parameters import check_parameters
from vedette.core.errors import InvalidArgument, Unimplemented

VALUES = st.recursive(
    st.integers() | st.text('[]{}"\\é', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=3),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(60, 70), st.sampled_from([1, 7, 1 << 20]))
def test_depth_is_counted_exactly(value: Any, wrap: int, chunk: int) -> None:
    """Brackets in strings and keys do not count, whatever is escaped and wherever a chunk ends."""
    for _ in range(wrap):
        value = [value]
    body = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_CHUNK", chunk)
        if depth_of(value) <= checks.MAX_JSON_DEPTH:
            check_json(body)
        else:
            with pytest.raises(InvalidArgument, match="64 deep"):
                check_json(body)


def test_width_is_not_depth() -> None:
    """A million brackets side by side are fine."""
    check_json(b"[" + b"[],{}," * 500_000 + b"[]]")


@given(st.binary(max_size=30), st.sampled_from([1, 2, 3, 1 << 20]))
def test_utf8_is_checked_across_chunks(body: bytes, chunk: int) -> None:
    """The answer is Python's own, even where a character lies on a boundary."""
    try:
        body.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_CHUNK", chunk)
        if valid:
            check_json(body)
        else:
            with pytest.raises(InvalidArgument, match="UTF-8"):
                check_json(body)


@given(st.lists(st.integers(0, 2**70), max_size=5))
def test_counts_are_exact_or_refused(shape: list[int]) -> None:
    """No product of dimensions overflows: it is right or it is an error."""
    try:
        assert check_shape("x", "FP32", shape) == math.prod(shape)
    except InvalidArgument:
        assert math.prod(dim or 1 for dim in shape) * 4 > checks.MAX_TENSOR_BYTES


def test_errors_about_huge_shapes_are_short() -> None:
    """An error does not repeat a shape that would fill the answer."""
    with pytest.raises(InvalidArgument) as caught:
        check_shape("x", "FP32", [10**4000] * 30)
    assert len(caught.value.message) < 400


def test_parameters_that_are_not_reserved_pass() -> None:
    """Any name and value of the protocol; reserved ones that ask for nothing special too."""
    check_parameters({"my": "own", "n": -5, "f": 1.5, "b": True, "sequence_id": 0, "sequence_start": False})
    check_parameters({"sequence_id": "", "timeout": 0, "priority": 1, "triton_enable_empty_final_response": True})


@pytest.mark.parametrize("parameters", [{"sequence_id": "a"}, {"sequence_id": 1}, {"sequence_end": True}])
def test_sequences_are_unimplemented(parameters: dict[str, Any]) -> None:
    """A sequence is refused and not served as if it were none."""
    with pytest.raises(Unimplemented):
        check_parameters(parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"timeout": -1},
        {"timeout": 1.5},
        {"priority": "1"},
        {"headers": "x"},
        {"triton_final_response": True},
        {"triton_enable_empty_final_response": 1},
        {"n": 2**64},
        {"n": -(2**63) - 1},
    ],
)
def test_reserved_names_and_oversized_numbers_are_refused(parameters: dict[str, Any]) -> None:
    """What the server could not honour or echo is an error that names it."""
    with pytest.raises(InvalidArgument, match=next(iter(parameters))):
        check_parameters(parameters)
