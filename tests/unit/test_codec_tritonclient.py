"""The V2 codec against tritonclient's own encoder and decoder, without a server between them."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.http as triton

from vedette.codec import v2json
from vedette.codec.binary import object_array
from vedette.core.tensors import Array, InferResponse, Tensor

ARRAYS: dict[str, Array] = {
    "BOOL": np.array([[True, False]]),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "FP16": np.array([[0.5, -2]], np.float16),
    "FP32": np.array([[0.1, 1e-9]], np.float32),
    "FP64": np.array([[0.1, 1e300]]),
    "BYTES": object_array(["é".encode(), b""]).reshape(1, 2),
}


@pytest.mark.parametrize(
    ("datatype", "binary"),
    [(datatype, binary) for datatype in sorted(ARRAYS) for binary in (True, False) if binary or datatype != "FP16"],
)
def test_its_requests_are_read(datatype: str, binary: bool) -> None:
    """Inputs, requested outputs and parameters as tritonclient writes them (it refuses FP16 in JSON itself)."""
    tensor = triton.InferInput("x", [1, 2], datatype)
    tensor.set_data_from_numpy(ARRAYS[datatype], binary_data=binary)
    wanted = [triton.InferRequestedOutput("y", binary_data=binary, class_count=2)]
    body, length = triton.InferenceServerClient.generate_request_body(
        [tensor], outputs=wanted, request_id="7", timeout=5, parameters={"mine": "x"}
    )
    request = v2json.decode_request(bytes(body), length)
    assert request.inputs[0].array.tolist() == ARRAYS[datatype].tolist()
    assert request.inputs[0].datatype == datatype
    assert (request.id, request.parameters) == ("7", {"timeout": 5, "mine": "x"})
    assert [(output.name, output.classification, output.binary) for output in request.outputs] == [("y", 2, binary)]


def test_it_asks_for_everything_in_binary_when_it_names_no_output() -> None:
    """Without requested outputs tritonclient sets binary_data_output."""
    tensor = triton.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(ARRAYS["FP32"])
    request = v2json.decode_request(*triton.InferenceServerClient.generate_request_body([tensor]))
    assert request.binary_output


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", sorted(ARRAYS))
def test_it_reads_our_answers(datatype: str, binary: bool) -> None:
    """Outputs in JSON and in binary, next to each other."""
    outputs = [Tensor("y", datatype, ARRAYS[datatype]), Tensor("z", "INT64", np.array([5]))]
    body, length = v2json.encode_response(InferResponse("m", "1", "", outputs, id="7"), {"y": binary})
    result = triton.InferenceServerClient.parse_response_body(body, header_length=length)
    text = datatype == "BYTES" and not binary  # which tritonclient leaves as it stands in JSON
    assert result.as_numpy("y").tolist() == ([["é", ""]] if text else ARRAYS[datatype].tolist())
    assert result.as_numpy("z").tolist() == [5]
    assert result.get_response()["id"] == "7"
