"""Tensors in protobuf: raw and typed contents, and everything that must be refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.codec.binary import encode_tensor, object_array
from vedette.core.errors import InvalidArgument, Unimplemented, VedetteError
from vedette.core.tensors import DATATYPES, InferResponse, Tensor
from vedette.inference.rpc_messages import decode_request, encode_response
from vedette.proto.inference.v1 import inference_pb2 as pb

LISTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def sample(datatype: str) -> Tensor:
    """Two rows of two, with the extremes of the datatype."""
    if datatype == "BYTES":
        return Tensor("x", datatype, object_array([b"", b"a", "\u00e9".encode(), b"\x00\xff"]).reshape(2, 2))
    dtype = DATATYPES[datatype].dtype
    if dtype.kind == "b":
        values = [True, False, False, True]
    elif dtype.kind == "f":
        values = [np.finfo(dtype).max, -0.5, np.nan, np.inf]
    else:
        values = [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1]
    return Tensor("x", datatype, np.array(values, dtype).reshape(2, 2))


def message(datatype: str, shape, raw: list[bytes] | None = None, **contents) -> pb.ModelInferRequest:
    """A request with one input."""
    made = pb.ModelInferRequest(model_name="m", raw_input_contents=raw or [])
    made.inputs.add(name="x", datatype=datatype, shape=shape)
    if contents:
        made.inputs[0].contents.CopyFrom(pb.InferTensorContents(**contents))
    return made


def equal(left: Tensor, right: Tensor) -> bool:
    return (left.name, left.datatype, left.array.shape, bytes(encode_tensor(left))) == (
        right.name, right.datatype, right.array.shape, bytes(encode_tensor(right)),
    )  # fmt: skip


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_give_the_tensor_of_every_datatype(datatype: str) -> None:
    """Bytes in, the same tensor out, and back again in an answer."""
    tensor = sample(datatype)
    (read,) = decode_request(message(datatype, [2, 2], [bytes(encode_tensor(tensor))]), None).inputs
    assert equal(read, tensor)
    answer = encode_response(InferResponse("m", "1", "v", [tensor]))
    assert list(answer.raw_output_contents) == [bytes(encode_tensor(tensor))]
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [2, 2])


@pytest.mark.parametrize("datatype", LISTS)
def test_typed_contents_give_the_tensor_of_every_datatype(datatype: str) -> None:
    """Each datatype is read from its own list, to its extremes."""
    tensor = sample(datatype)
    contents = {LISTS[datatype]: tensor.array.ravel().tolist()}
    (read,) = decode_request(message(datatype, [2, 2], **contents), None).inputs
    assert equal(read, tensor)


@given(values=st.lists(st.integers(-(2**31), 2**31 - 1)), datatype=st.sampled_from(["INT8", "INT16", "INT32"]))
def test_narrow_integers_are_exact_or_refused(values: list[int], datatype: str) -> None:
    """A value that the datatype does not hold is an error, never a wrapped number."""
    made = message(datatype, [len(values)], int_contents=values)
    limits = np.iinfo(DATATYPES[datatype].dtype)
    if all(limits.min <= value <= limits.max for value in values):
        assert decode_request(made, None).inputs[0].array.tolist() == values
    else:
        with pytest.raises(InvalidArgument, match="outside"):
            decode_request(made, None)


def test_raw_contents_are_viewed_and_never_writable() -> None:
    """No copy of a numeric tensor is made beyond protobuf's."""
    made = message("FP32", [2], [np.zeros(2, np.float32).tobytes()])
    array = decode_request(made, None).inputs[0].array
    assert array.base is not None
    assert not array.flags.writeable


def test_zero_elements_are_a_tensor_with_either_contents() -> None:
    """An empty tensor needs no contents at all."""
    assert decode_request(message("FP32", [0, 4]), None).inputs[0].array.shape == (0, 4)
    assert decode_request(message("FP32", [0, 4], [b""]), None).inputs[0].array.shape == (0, 4)


def both() -> pb.ModelInferRequest:
    return message("FP32", [1], [b"\0" * 4], fp32_contents=[1])


def with_parameter(where: str, name: str, **value) -> pb.ModelInferRequest:
    made = message("FP32", [1], fp32_contents=[1])
    made.outputs.add(name="y")
    place = {"request": made, "input": made.inputs[0], "output": made.outputs[0]}[where]
    place.parameters[name].CopyFrom(pb.InferParameter(**value))
    return made


def twice(kind: str) -> pb.ModelInferRequest:
    made = message("FP32", [1], fp32_contents=[1])
    if kind == "input":
        made.inputs.append(made.inputs[0])
    else:
        made.outputs.extend([pb.ModelInferRequest.InferRequestedOutputTensor(name="y")] * 2)
    return made


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (both(), InvalidArgument, "typed contents beside raw_input_contents"),
        (message("FP32", [1], [b"\0" * 4, b"\0" * 4]), InvalidArgument, "2 entries for 1 inputs"),
        (message("FP32", [2], [b"\0" * 4]), InvalidArgument, "4 bytes where"),
        (message("FP32", [2], fp32_contents=[1]), InvalidArgument, "1 elements where"),
        (message("FP32", [1]), InvalidArgument, "0 elements where"),
        (message("FP32", [1], fp64_contents=[1]), InvalidArgument, "not in fp64_contents"),
        (message("FP32", [1], fp32_contents=[1], int_contents=[1]), InvalidArgument, "not in int_contents"),
        (message("FP16", [1]), InvalidArgument, "FP16 goes in raw_input_contents only"),
        (message("BF16", [1], fp32_contents=[1]), InvalidArgument, "BF16 goes in raw_input_contents only"),
        (message("FLOAT", [1], fp32_contents=[1]), InvalidArgument, "unknown datatype"),
        (message("", [1], [b""]), InvalidArgument, "unknown datatype"),
        (message("FP32", [-1], fp32_contents=[1]), InvalidArgument, "negative"),
        (message("FP32", [2**62, 2**62], fp32_contents=[1]), InvalidArgument, "larger than"),
        (message("BYTES", [1], [b"\xff\0\0\0a"]), InvalidArgument, "cut off"),
        (message("UINT8", [1], uint_contents=[256]), InvalidArgument, "outside 0 to 255"),
        (twice("input"), InvalidArgument, "more than once"),
        (twice("output"), InvalidArgument, "more than once"),
        (with_parameter("request", "p"), InvalidArgument, "no value"),
        (with_parameter("request", "headers", string_param="x"), InvalidArgument, "reserved"),
        (with_parameter("request", "sequence_id", uint64_param=5), Unimplemented, "sequences"),
        (with_parameter("input", "shared_memory_region", string_param="r"), Unimplemented, "shared memory"),
        (with_parameter("output", "shared_memory_region", string_param="r"), Unimplemented, "shared memory"),
        (with_parameter("output", "classification", int64_param=-1), InvalidArgument, "classification"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_contradicts_itself_is_refused(made: pb.ModelInferRequest, error: type[VedetteError], words: str) -> None:
    """Every refusal names what is wrong."""
    with pytest.raises(error, match=words):
        decode_request(made, None)


def test_requested_outputs_keep_their_order_and_classification() -> None:
    """Names and top-k as asked for."""
    made = with_parameter("output", "classification", int64_param=3)
    made.outputs.add(name="z")
    assert [(output.name, output.classification) for output in decode_request(made, None).outputs] == [
        ("y", 3), ("z", 0),
    ]  # fmt: skip
