"""Open Inference Protocol v2 over gRPC, driven through generated code that is not ours."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from tests.wire.target import DATATYPES, LEAK, Identity, Target
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

Code = grpc.StatusCode

LISTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


@pytest.fixture(scope="module")
def stub(grpc_address: str) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """A client generated from Triton's own files."""
    with grpc.insecure_channel(grpc_address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def identity(target: Target) -> Identity:
    """The FP32 identity model."""
    return target.identity("FP32")


def request(identity: Identity, *, raw: bool = True, **fields) -> pb.ModelInferRequest:
    """The identity's sample, raw or typed."""
    made = pb.ModelInferRequest(model_name=identity.model, **fields)
    tensor = made.inputs.add(name=identity.takes, datatype=identity.datatype, shape=identity.shape)
    if raw:
        made.raw_input_contents.append(identity.raw())
    else:
        getattr(tensor.contents, LISTS[identity.datatype]).extend(identity.sample().ravel().tolist())
    return made


def output_bytes(answer: pb.ModelInferResponse) -> bytes:
    """The first output as raw bytes, however the server chose to send it."""
    if answer.raw_output_contents:
        return answer.raw_output_contents[0]
    (output,) = answer.outputs
    values = getattr(output.contents, LISTS[output.datatype])
    if output.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return np.array(list(values), DATATYPES[output.datatype]).tobytes()


def refused(call, message, **options) -> grpc.RpcError:
    """The error that the call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30, **options)
    return caught.value


def test_the_server_is_live_and_ready(stub) -> None:
    """Both say yes."""
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=30).live
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=30).ready


def test_a_model_is_ready_and_a_stranger_is_not(stub, identity: Identity) -> None:
    """True for a model that serves; false or NOT_FOUND for one that does not exist."""
    assert stub.ModelReady(pb.ModelReadyRequest(name=identity.model), timeout=30).ready
    call = stub.ModelReady.future(pb.ModelReadyRequest(name="no-such-model"), timeout=30)
    assert call.code() is Code.NOT_FOUND or not call.result().ready


def test_metadata_of_server_and_model(stub, identity: Identity) -> None:
    """Everything that the protocol names is filled in."""
    server = stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=30)
    assert server.name
    assert server.version
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name=identity.model), timeout=30)
    assert (model.name, model.inputs[0].name, model.inputs[0].datatype) == (identity.model, identity.takes, "FP32")
    assert len(model.inputs[0].shape) == len(identity.shape)
    assert model.platform
    for version in model.versions:
        assert stub.ModelReady(pb.ModelReadyRequest(name=identity.model, version=version), timeout=30).ready


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_tensors_come_back(stub, target: Target, datatype: str) -> None:
    """Every datatype as raw contents, bit for bit."""
    identity = target.identity(datatype)
    answer = stub.ModelInfer(request(identity), timeout=30)
    assert (answer.outputs[0].name, answer.outputs[0].datatype) == (identity.gives, datatype)
    assert tuple(answer.outputs[0].shape) == identity.shape
    assert output_bytes(answer) == identity.raw()


@pytest.mark.parametrize("datatype", LISTS)
def test_typed_tensors_come_back(stub, target: Target, datatype: str) -> None:
    """Every datatype that has a typed list."""
    identity = target.identity(datatype)
    answer = stub.ModelInfer(request(identity, raw=False), timeout=30)
    assert output_bytes(answer) == identity.raw()


def test_the_answer_names_model_version_and_id(stub, identity: Identity) -> None:
    """The request's id comes back; a version can be pinned."""
    answer = stub.ModelInfer(request(identity, id="request-7"), timeout=30)
    assert (answer.model_name, answer.id) == (identity.model, "request-7")
    assert answer.model_version
    pinned = stub.ModelInfer(request(identity, model_version=answer.model_version), timeout=30)
    assert pinned.model_version == answer.model_version
    assert refused(stub.ModelInfer, request(identity, model_version="987654")).code() in (
        Code.NOT_FOUND, Code.UNAVAILABLE, Code.INVALID_ARGUMENT,
    )  # fmt: skip


def test_requested_outputs(stub, identity: Identity) -> None:
    """A named output is given; an unknown one is INVALID_ARGUMENT."""
    made = request(identity)
    made.outputs.add(name=identity.gives)
    assert [output.name for output in stub.ModelInfer(made, timeout=30).outputs] == [identity.gives]
    made.outputs[0].name = "no-such-output"
    assert refused(stub.ModelInfer, made).code() is Code.INVALID_ARGUMENT


def test_an_unknown_model_is_not_found(stub, identity: Identity) -> None:
    """Metadata and inference alike."""
    made = request(identity)
    made.model_name = "no-such-model"
    assert refused(stub.ModelInfer, made).code() is Code.NOT_FOUND
    assert refused(stub.ModelMetadata, pb.ModelMetadataRequest(name="no-such-model")).code() is Code.NOT_FOUND


def change(**fields):
    """A change of the request's one input."""

    def spoil(made: pb.ModelInferRequest) -> None:
        made.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**fields))

    return spoil


def other_raw(raw: list[bytes]):
    """Other raw contents."""

    def spoil(made: pb.ModelInferRequest) -> None:
        del made.raw_input_contents[:]
        made.raw_input_contents.extend(raw)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        change(name="no-such-input"),
        change(datatype="FLOAT"),
        change(datatype="INT64"),
        change(shape=[1, 2, 3]),
        change(shape=[-1]),
        change(shape=[2**62, 2**62]),
        change(contents=pb.InferTensorContents(fp32_contents=[1.0])),
        other_raw([]),
        other_raw([b"\0"]),
        other_raw([b"\0" * 4, b"\0" * 4]),
        lambda made: made.inputs.pop(),
        lambda made: made.inputs.append(made.inputs[0]),
    ],
)
def test_a_wrong_request_is_an_invalid_argument(stub, identity: Identity, spoil) -> None:
    """Wrong name, datatype, shape, count or contents."""
    made = request(identity)
    spoil(made)
    error = refused(stub.ModelInfer, made)
    assert error.code() is Code.INVALID_ARGUMENT
    assert error.details()


def test_a_stream_answers_each_request_in_order(stub, identity: Identity) -> None:
    """Triton's ModelStreamInfer: a message a request, an error among them as a message."""
    unknown = request(identity, id="2")
    unknown.model_name = "no-such-model"
    answers = list(stub.ModelStreamInfer(iter([request(identity, id="1"), unknown, request(identity, id="3")])))
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert [answers[at].infer_response.id for at in (0, 2)] == ["1", "3"]
    assert output_bytes(answers[2].infer_response) == identity.raw()


def test_statistics_configuration_and_index(stub, identity: Identity) -> None:
    """Triton's extensions as messages."""
    stub.ModelInfer(request(identity), timeout=30)
    (line,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=identity.model), timeout=30).model_stats
    assert line.inference_stats.success.count >= 1
    assert line.inference_stats.success.ns > 0
    config = stub.ModelConfig(pb.ModelConfigRequest(name=identity.model), timeout=30).config
    assert (config.name, config.input[0].name) == (identity.model, identity.takes)
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=30).models
    assert (identity.model, "READY") in [(entry.name, entry.state) for entry in index]


@pytest.mark.ours
def test_http_and_grpc_tell_the_same(stub, http, identity: Identity) -> None:
    """Metadata, configuration and statistics are one truth in two encodings."""
    told = http.get(f"/v2/models/{identity.model}").json()
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name=identity.model), timeout=30)
    assert told["versions"] == list(model.versions)
    assert told["inputs"] == [
        {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in model.inputs
    ]
    config = stub.ModelConfig(pb.ModelConfigRequest(name=identity.model), timeout=30).config
    told = http.get(f"/v2/models/{identity.model}/config").json()
    assert told["max_batch_size"] == config.max_batch_size
    assert told["input"][0]["dims"] == list(config.input[0].dims)


@pytest.mark.ours
def test_a_deadline_ends_the_call_and_nothing_else(stub, target: Target) -> None:
    """DEADLINE_EXCEEDED in time, also as the request's own `timeout`, and the server goes on."""
    slow = pb.ModelInferRequest(model_name="slow", raw_input_contents=[b"\0\0\0\0"])
    slow.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(slow, timeout=0.02)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    slow.parameters["timeout"].int64_param = 1000
    assert refused(stub.ModelInfer, slow).code() is Code.DEADLINE_EXCEEDED
    assert stub.ModelInfer(request(target.identity("FP32")), timeout=30).outputs


@pytest.mark.ours
def test_a_failing_model_is_an_internal_error_in_plain_words(stub) -> None:
    """INTERNAL with the code in trailing metadata, and not a word of where in which library it failed."""
    raw = [bytes(12), struct.pack("<q", 7)]
    made = pb.ModelInferRequest(model_name="reshaped", raw_input_contents=raw)
    made.inputs.add(name="x", datatype="FP32", shape=[3])
    made.inputs.add(name="shape", datatype="INT64", shape=[1])
    error = refused(stub.ModelInfer, made)
    assert error.code() is Code.INTERNAL
    assert dict(error.trailing_metadata())["vedette-code"] == "model_failed"
    assert not LEAK.search(error.details())


@pytest.mark.ours
def test_a_value_that_the_graph_refuses_is_an_invalid_argument(stub) -> None:
    """An index outside the model's table is the caller's mistake."""
    made = pb.ModelInferRequest(model_name="lookup", raw_input_contents=[struct.pack("<q", 7)])
    made.inputs.add(name="index", datatype="INT64", shape=[1])
    error = refused(stub.ModelInfer, made)
    assert error.code() is Code.INVALID_ARGUMENT
    assert not LEAK.search(error.details())


@pytest.mark.ours
@pytest.mark.parametrize(
    "method", ["SystemSharedMemoryStatus", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings"]
)
def test_what_is_not_done_says_so(stub, method: str) -> None:
    """UNIMPLEMENTED with a plain message."""
    error = refused(getattr(stub, method), getattr(pb, f"{method}Request")())
    assert error.code() is Code.UNIMPLEMENTED
    assert "support" in error.details()
