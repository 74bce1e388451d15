"""What the hot path copies: inputs never, outputs never; and floats that are packed are numpy's."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.codec.binary import encode_tensor
from vedette.codec.jsondata import _PACKED_VALUES, flat_array
from vedette.codec.v2json import decode_raw_request, decode_request, encode_response
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import InferResponse, Tensor
from vedette.engine.session import Session

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))


def binary_body(array: np.ndarray) -> tuple[bytes, int]:
    """A request with one binary tensor, its JSON padded so that the tensor is aligned."""
    size = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": list(array.shape), "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    head += b" " * (-len(head) % 8)
    return head + array.tobytes(), len(head)


def test_a_binary_input_is_a_view_of_the_body() -> None:
    """No byte of a tensor is copied after it came: with a JSON header, and raw."""
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    body, length = binary_body(array)
    (tensor,) = decode_request(body, length).inputs
    assert np.shares_memory(tensor.array, np.frombuffer(body, np.uint8))
    assert (tensor.array == array).all()
    raw = array.tobytes()
    (tensor,) = decode_raw_request(raw, SIGNATURE).inputs
    assert np.shares_memory(tensor.array, np.frombuffer(raw, np.uint8))


def test_a_binary_output_is_written_from_the_models_own_buffer() -> None:
    """The blob that is joined to the answer is the array's memory."""
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    blob = encode_tensor(Tensor("y", "FP32", array))
    assert np.shares_memory(np.frombuffer(blob, np.uint8), array)


def test_what_the_runtime_gives_is_not_copied_by_the_session() -> None:
    """The tensor of an answer holds the very array that ONNX Runtime returned."""
    made = np.ones((1, 4), np.float32)

    class Node:
        name, type, shape = "y", "tensor(float)", [1, 4]

    class Runtime:
        def get_inputs(self) -> list[Node]:
            return [Node()]

        get_outputs = get_inputs

        def run(self, names: object, feeds: object) -> list[np.ndarray]:
            return [made]

    (tensor,) = Session(Runtime()).run({}, ["y"])  # type: ignore[arg-type]
    assert tensor.array is made


def test_an_answer_in_json_takes_no_memory_per_number_but_its_text() -> None:
    """No list of Python floats is built: writing one takes 300 bytes a number at its peak, writing the buffer 37."""
    count = 500_000
    response = InferResponse("m", "1", "v", [Tensor("y", "FP32", np.zeros(count, np.float32))])
    tracemalloc.start()
    try:
        body, _ = encode_response(response, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert json.loads(body)["outputs"][0]["shape"] == [count]
    assert peak < 64 * count


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-3e38, 3e38), max_size=20))
def test_packed_floats_are_numpys(values: list[float]) -> None:
    """Both widths, to the bit."""
    for datatype, dtype in (("FP32", np.float32), ("FP64", np.float64)):
        assert flat_array("x", datatype, values).tobytes() == np.array(values, dtype).tobytes()


@pytest.mark.parametrize("count", [1, _PACKED_VALUES, _PACKED_VALUES + 1])
def test_a_number_over_the_range_is_refused_on_both_ways(count: int) -> None:
    """Whether few values are packed or many become an array: no infinity is made."""
    with pytest.raises(InvalidArgument, match="out of the range of FP32"):
        flat_array("x", "FP32", [0.0] * (count - 1) + [1e39])
    assert len(flat_array("x", "FP32", [0.5] * count)) == count
