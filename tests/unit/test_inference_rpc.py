"""The protocol's methods on real gRPC servers of both kinds, over a data plane that runs no model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from tests.grpc_transports import Transport

from vedette.chassis.grpc_calls import CODE_KEY
from vedette.core.errors import InvalidArgument, ModelFailed, NotFound, Overloaded, Unimplemented, VedetteError
from vedette.core.metrics import NoMetrics
from vedette.core.models import Signature, TensorSpec
from vedette.core.ports import RepositoryEntry
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.dataplane import Encode, EndpointMetadata, ServerMetadata
from vedette.inference.rpc import rpc_service
from vedette.inference.rpc_stream import WINDOW, stream_answers
from vedette.inference.statistics import BatchStatistics, Duration, MemoryUsage, ModelStatistics
from vedette.proto.inference.v1 import inference_pb2 as pb

FAILURES: dict[str, VedetteError] = {
    "missing": NotFound("endpoint 'missing' does not exist"),
    "broken": ModelFailed("the model raised"),
    "busy": Overloaded("full"),
    "wrong": InvalidArgument("wrong"),
}


class EchoPlane:
    """Answers with its inputs; some endpoints fail, and `slow` waits until it is cancelled or let go."""

    def __init__(self) -> None:
        self.requests: list[InferRequest] = []
        self.asked: list[tuple[str, object]] = []
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.answered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.why = ""
        self.unreadable: list[tuple[InferRequest, str]] = []

    async def unread(self, request: InferRequest, error: VedetteError, *, received: float) -> None:
        self.unreadable.append((request, error.code))

    async def infer(
        self,
        request: InferRequest,
        encode: Encode[pb.ModelInferResponse],
        *,
        protocol: str,
        received: float | None = None,
    ) -> pb.ModelInferResponse:
        assert protocol == "grpc"
        assert received is not None
        assert received <= time.monotonic()
        self.requests.append(request)
        if request.endpoint in FAILURES:
            raise FAILURES[request.endpoint]
        if request.endpoint == "defect":
            raise RuntimeError("secret /etc/path")
        if request.endpoint == "slow":
            self.started.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        self.answered.set()
        version = request.version or "3"
        response = InferResponse(request.endpoint, version, "primary", request.inputs, request.id, request.parameters)
        return await encode(request, response)

    def live(self) -> bool:
        return True

    def ready(self) -> str:
        return self.why

    def model_ready(self, endpoint: str, version: str = "") -> bool:
        if endpoint in FAILURES:
            raise FAILURES[endpoint]
        return version in ("", "3")

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("vedette", "0", ("parameters",))

    def metadata(self, endpoint: str, version: str = "") -> EndpointMetadata:
        if endpoint in FAILURES:
            raise FAILURES[endpoint]
        spec = TensorSpec("x", "FP32", (-1, 4))
        return EndpointMetadata(endpoint, ("2", "3"), "onnxruntime_onnx", Signature((spec,), (spec,)))

    def config(self, endpoint: str, version: str = "") -> dict[str, object]:
        tensor = {"name": "x", "data_type": "TYPE_STRING", "dims": [4]}
        return {
            "name": endpoint,
            "max_batch_size": 8,
            "input": [{**tensor, "format": "FORMAT_NONE"}],
            "output": [{**tensor, "label_filename": ""}],
            "version_policy": {"specific": {"versions": [2, 3]}},
            "instance_group": [{"name": "g", "kind": "KIND_CPU", "count": 1, "gpus": []}],
            "model_warmup": [],
        }

    def statistics(self, endpoint: str = "", version: str = "") -> list[ModelStatistics]:
        parts = [Duration(count, count * 10) for count in range(1, 7)]
        batch = BatchStatistics(4, Duration(1, 2), Duration(3, 4), Duration(5, 6))
        return [ModelStatistics(endpoint, "3", 7, 8, 9, *parts, (batch,), memory_usage=(MemoryUsage("CPU", 0, 99),))]

    async def index(self, *, ready_only: bool = False) -> list[RepositoryEntry]:
        entries = [RepositoryEntry("a", "3", "READY"), RepositoryEntry("b", "", "UNAVAILABLE", "why")]
        return entries[:1] if ready_only else entries

    async def load(self, endpoint: str, parameters=None) -> None:
        if parameters:
            raise Unimplemented("load takes no parameters")
        self.asked.append(("load", endpoint))

    async def unload(self, endpoint: str, parameters=None) -> None:
        self.asked.append(("unload", dict(parameters)))


@asynccontextmanager
async def serving(transport: Transport, plane: EchoPlane) -> AsyncIterator[grpc.aio.Channel]:
    """The table on a server of its own, and a channel to it."""
    server = transport((rpc_service(plane),), service="inference", metrics=NoMetrics(), max_message_bytes=1 << 20)
    await server.start("127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.stop(0)


def method(channel: grpc.aio.Channel, name: str):
    response = getattr(pb, f"{name}Response")
    return channel.unary_unary(
        f"/inference.GRPCInferenceService/{name}",
        request_serializer=getattr(pb, f"{name}Request").SerializeToString,
        response_deserializer=response.FromString,
    )


def stream(channel: grpc.aio.Channel):
    return channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )


def request(model: str = "echo", **fields) -> pb.ModelInferRequest:
    """One FP32 input of two elements as raw contents."""
    message = pb.ModelInferRequest(model_name=model, **fields)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    message.raw_input_contents.append(np.array([1, 2], np.float32).tobytes())
    return message


async def test_an_inference_comes_back_with_id_version_and_parameters(transport: Transport) -> None:
    """What the data plane answers arrives whole, tensors as raw contents."""
    message = request(id="i-7", model_version="2")
    message.parameters["own"].double_param = 0.5
    message.parameters["big"].uint64_param = 2**64 - 1
    message.parameters["flag"].bool_param = False
    async with serving(transport, EchoPlane()) as channel:
        answer = await method(channel, "ModelInfer")(message)
    assert (answer.model_name, answer.model_version, answer.id) == ("echo", "2", "i-7")
    assert answer.parameters == message.parameters
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("x", "FP32", [1, 2])
    assert list(answer.raw_output_contents) == list(message.raw_input_contents)


async def test_the_callers_deadline_reaches_the_data_plane(transport: Transport) -> None:
    """A call with a time limit carries a deadline on the monotonic clock; one without carries none."""
    plane = EchoPlane()
    async with serving(transport, plane) as channel:
        before = time.monotonic()
        await method(channel, "ModelInfer")(request(), timeout=30)
        await method(channel, "ModelInfer")(request())
    limited, free = plane.requests
    assert limited.deadline is not None
    # The time limit travels rounded up to one of gRPC's units, here 100 ms or less.
    assert before + 25 < limited.deadline <= time.monotonic() + 30 + 1
    assert free.deadline is None


async def test_the_inference_id_and_the_target_variant_come_as_metadata(transport: Transport) -> None:
    """As in the headers of HTTP, for requests of a known form too; a stream's requests are not all given one id."""
    plane = EchoPlane()
    headers = (("x-amzn-sagemaker-inference-id", "order-1"), ("x-amzn-sagemaker-target-variant", "canary"))
    async with serving(transport, plane) as channel:
        for _ in range(3):
            await method(channel, "ModelInfer")(request(), metadata=headers)
        await method(channel, "ModelInfer")(request())
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )(iter([request()]), metadata=headers)
        assert [answer.error_message async for answer in call] == [""]
    told = [(asked.inference_id, asked.target_variant) for asked in plane.requests]
    assert told == [("order-1", "canary")] * 3 + [("", ""), ("", "canary")]


async def test_a_cancelled_call_cancels_its_inference(transport: Transport) -> None:
    """A caller who goes away stops the work."""
    plane = EchoPlane()
    async with serving(transport, plane) as channel:
        call = method(channel, "ModelInfer")(request("slow"))
        await plane.started.wait()
        call.cancel()
        await asyncio.wait_for(plane.cancelled.wait(), 10)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("missing", grpc.StatusCode.NOT_FOUND, "not_found"),
        ("broken", grpc.StatusCode.INTERNAL, "model_failed"),
        ("busy", grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
        ("wrong", grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument"),
        ("defect", grpc.StatusCode.INTERNAL, "internal"),
    ],
)
async def test_errors_arrive_as_statuses_with_their_code(
    transport: Transport, model: str, status: grpc.StatusCode, code: str
) -> None:
    """Each error has the status of the table, its code in trailing metadata, and leaks nothing."""
    async with serving(transport, EchoPlane()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "ModelInfer")(request(model))
    assert caught.value.code() is status
    assert dict(caught.value.trailing_metadata())[CODE_KEY] == code
    assert "secret" not in caught.value.details()


async def test_a_stream_answers_in_order_and_survives_a_failed_request(transport: Transport) -> None:
    """An error is a message of its own with the request's id; each answer says that it is final."""
    messages = [request(id="1"), request("missing", id="2"), request(id="3")]
    messages[0].parameters["triton_enable_empty_final_response"].bool_param = True
    async with serving(transport, EchoPlane()) as channel:
        answers = [answer async for answer in stream(channel)(iter(messages))]
    assert [answer.infer_response.id for answer in answers] == ["1", "2", "3"]
    assert [answer.error_message for answer in answers] == ["", "endpoint 'missing' does not exist", ""]
    assert all(answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers)


async def test_requests_of_one_stream_run_together(transport: Transport) -> None:
    """The second request starts while the first still waits; the answers keep their order."""
    plane = EchoPlane()
    async with serving(transport, plane) as channel:
        call = stream(channel)()
        await call.write(request("slow", id="1"))
        await call.write(request(id="2"))
        await asyncio.wait_for(plane.answered.wait(), 10)
        plane.go_on.set()
        await call.done_writing()
        assert [answer.infer_response.id async for answer in call] == ["1", "2"]


async def test_a_cancelled_stream_cancels_its_inference(transport: Transport) -> None:
    """A caller who hangs up in the middle of a stream stops the work."""
    plane = EchoPlane()
    async with serving(transport, plane) as channel:
        call = stream(channel)(iter([request("slow")]))
        await plane.started.wait()
        call.cancel()
        await asyncio.wait_for(plane.cancelled.wait(), 10)


async def test_a_stream_holds_a_bounded_number_of_requests_and_drops_them_all() -> None:
    """With nobody taking answers the reader stops; leaving the stream cancels every request that it holds."""
    running, ended = 0, 0

    async def infer(message: pb.ModelInferRequest) -> pb.ModelInferResponse:
        nonlocal running, ended
        running += 1
        try:
            if message.id != "0":
                await asyncio.Event().wait()
        finally:
            ended += 1
        return pb.ModelInferResponse()

    async def endless() -> AsyncIterator[pb.ModelInferRequest]:
        number = 0
        while True:
            yield pb.ModelInferRequest(id=str(number))
            number += 1

    answers = stream_answers(endless(), infer, errors_end_stream=False)
    await anext(answers)
    for _ in range(100):  # turns of the loop in which an unbounded reader would go on
        await asyncio.sleep(0)
    assert running <= WINDOW + 2
    await answers.aclose()
    assert running == ended


async def test_errors_end_the_stream_for_clients_that_ask_for_it(transport: Transport) -> None:
    """With metadata triton_grpc_error the first failure is the stream's status."""
    messages = [request(id="1"), request("missing", id="2"), request(id="3")]
    async with serving(transport, EchoPlane()) as channel:
        call = stream(channel)(iter(messages), metadata=(("triton_grpc_error", "true"),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [answer async for answer in call]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_defect_ends_the_stream_without_a_secret(transport: Transport) -> None:
    """An unknown exception in one request shows an id, never its text."""
    async with serving(transport, EchoPlane()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [answer async for answer in stream(channel)(iter([request("defect")]))]
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in caught.value.details()


async def test_health_of_server_and_models(transport: Transport) -> None:
    """Live, ready with a reason, and a model that does not exist is not ready rather than an error."""
    plane = EchoPlane()
    async with serving(transport, plane) as channel:
        assert (await method(channel, "ServerLive")(pb.ServerLiveRequest())).live
        assert (await method(channel, "ServerReady")(pb.ServerReadyRequest())).ready
        plane.why = "loading"
        assert not (await method(channel, "ServerReady")(pb.ServerReadyRequest())).ready
        ready = method(channel, "ModelReady")
        assert (await ready(pb.ModelReadyRequest(name="echo", version="3"))).ready
        assert not (await ready(pb.ModelReadyRequest(name="echo", version="9"))).ready
        assert not (await ready(pb.ModelReadyRequest(name="missing"))).ready


async def test_metadata_config_and_statistics_are_rendered_whole(transport: Transport) -> None:
    """Every field that the data plane knows is in the message."""
    async with serving(transport, EchoPlane()) as channel:
        server = await method(channel, "ServerMetadata")(pb.ServerMetadataRequest())
        model = await method(channel, "ModelMetadata")(pb.ModelMetadataRequest(name="echo"))
        config = (await method(channel, "ModelConfig")(pb.ModelConfigRequest(name="echo"))).config
        (stats,) = (await method(channel, "ModelStatistics")(pb.ModelStatisticsRequest(name="echo"))).model_stats
    assert (server.name, list(server.extensions)) == ("vedette", ["parameters"])
    assert (model.name, list(model.versions), model.platform) == ("echo", ["2", "3"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("x", "FP32", [-1, 4])]
    assert model.outputs == model.inputs
    assert list(config.version_policy.specific.versions) == [2, 3]
    assert (config.input[0].data_type, list(config.output[0].dims)) == (pb.TYPE_STRING, [4])
    assert (stats.last_inference, stats.inference_count, stats.execution_count) == (7, 8, 9)
    totals = stats.inference_stats
    parts = (totals.success, totals.fail, totals.queue, totals.compute_input, totals.compute_infer)
    assert [(part.count, part.ns) for part in (*parts, totals.compute_output)] == [(n, n * 10) for n in range(1, 7)]
    assert (stats.batch_stats[0].batch_size, stats.batch_stats[0].compute_output.ns) == (4, 6)
    assert stats.memory_usage[0].byte_size == 99


async def test_the_repository_is_listed_loaded_and_unloaded(transport: Transport) -> None:
    """Index with and without `ready`; load and unload reach the data plane with their parameters."""
    plane = EchoPlane()
    async with serving(transport, plane) as channel:
        index = method(channel, "RepositoryIndex")
        everything = await index(pb.RepositoryIndexRequest())
        assert [(line.name, line.state, line.reason) for line in everything.models] == [
            ("a", "READY", ""), ("b", "UNAVAILABLE", "why"),
        ]  # fmt: skip
        assert [line.name for line in (await index(pb.RepositoryIndexRequest(ready=True))).models] == ["a"]
        await method(channel, "RepositoryModelLoad")(pb.RepositoryModelLoadRequest(model_name="a"))
        unload = pb.RepositoryModelUnloadRequest(model_name="a")
        unload.parameters["unload_dependents"].bool_param = False
        await method(channel, "RepositoryModelUnload")(unload)
        assert plane.asked == [("load", "a"), ("unload", {"unload_dependents": False})]
        override = pb.RepositoryModelLoadRequest(model_name="a")
        override.parameters["config"].string_param = "{}"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "RepositoryModelLoad")(override)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await index(pb.RepositoryIndexRequest(repository_name="other"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "name",
    [
        *(f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")),
        "TraceSetting",
        "LogSettings",
    ],
)
async def test_what_is_not_done_says_so(transport: Transport, name: str) -> None:
    """Each declared and unsupported method answers UNIMPLEMENTED in words of ours."""
    async with serving(transport, EchoPlane()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, name)(getattr(pb, f"{name}Request")())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "does not support" in caught.value.details()


async def test_a_request_that_cannot_be_read_is_told_to_the_data_plane(transport: Transport) -> None:
    """Which captures it: with its name, version and deadline, without tensors."""
    plane = EchoPlane()
    wrong = pb.ModelInferRequest(model_name="echo", model_version="3", raw_input_contents=[b"12345"])
    wrong.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    async with serving(transport, plane) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer(wrong, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    ((request, code),) = plane.unreadable
    assert (request.endpoint, request.version, request.content_type) == ("echo", "3", "application/grpc")
    assert (request.inputs, code, request.deadline is None) == ([], "invalid_argument", False)
    assert plane.requests == []
