"""tritonclient, unmodified: http, grpc and both of their asynchronous sides."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as tgrpc
import tritonclient.grpc.aio as tgrpc_aio
import tritonclient.http as thttp
import tritonclient.http.aio as thttp_aio
from tests.wire.target import DATATYPES, Identity, Target
from tritonclient.utils import InferenceServerException

WAIT_S = 60


@pytest.fixture(scope="module")
def web(target: Target) -> Iterator[thttp.InferenceServerClient]:
    """The HTTP client."""
    with thttp.InferenceServerClient(target.http.removeprefix("http://"), network_timeout=WAIT_S) as client:
        yield client


@pytest.fixture(scope="module")
def rpc(grpc_address: str) -> Iterator[tgrpc.InferenceServerClient]:
    """The gRPC client."""
    with tgrpc.InferenceServerClient(grpc_address) as client:
        yield client


def filled(module, identity: Identity, *, binary: bool = True):
    """The identity's sample as an input of this client."""
    tensor = module.InferInput(identity.takes, list(identity.shape), identity.datatype)
    array = identity.sample()
    if identity.datatype == "BF16":
        array = array.view(ml_dtypes.bfloat16)
    if module is thttp:
        tensor.set_data_from_numpy(array, binary_data=binary)
    else:
        tensor.set_data_from_numpy(array)
    return tensor


def same(identity: Identity, got: np.ndarray) -> None:
    """Bit for bit what was sent."""
    sent = identity.sample()
    assert got.shape == sent.shape
    if identity.datatype == "BYTES":
        assert got.tolist() == sent.tolist()
    elif identity.datatype == "BF16":
        assert got.dtype == ml_dtypes.bfloat16
        assert got.tobytes() == sent.tobytes()
    else:
        assert got.dtype == sent.dtype
        assert got.tobytes() == sent.tobytes()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_http_carries_every_datatype(web, target: Target, datatype: str) -> None:
    """Binary both ways, as the client does by default."""
    identity = target.identity(datatype)
    result = web.infer(identity.model, [filled(thttp, identity)])
    same(identity, result.as_numpy(identity.gives))


@pytest.mark.parametrize("datatype", ["BOOL", "INT64", "FP32", "FP64", "BYTES"])
def test_http_carries_json(web, target: Target, datatype: str) -> None:
    """JSON both ways, when the client is told so."""
    identity = target.identity(datatype)
    wanted = thttp.InferRequestedOutput(identity.gives, binary_data=False)
    result = web.infer(identity.model, [filled(thttp, identity, binary=False)], outputs=[wanted])
    got = result.as_numpy(identity.gives)
    if datatype == "BYTES":
        assert [text.encode() for text in got.ravel().tolist()] == identity.sample().ravel().tolist()
    else:
        assert np.array_equal(got, identity.sample())


@pytest.mark.parametrize("datatype", DATATYPES)
def test_grpc_carries_every_datatype(rpc, target: Target, datatype: str) -> None:
    """Raw contents both ways."""
    identity = target.identity(datatype)
    result = rpc.infer(identity.model, [filled(tgrpc, identity)], request_id="r-1")
    same(identity, result.as_numpy(identity.gives))
    assert result.get_response().id == "r-1"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression_both_ways(web, rpc, transport: str, target: Target, coding: str) -> None:
    """HTTP request and answer, and the gRPC call; the fast transport knows gzip alone and says so."""
    identity = target.identity("FP32")
    result = web.infer(
        identity.model, [filled(thttp, identity)],
        request_compression_algorithm=coding, response_compression_algorithm=coding,
    )  # fmt: skip
    same(identity, result.as_numpy(identity.gives))
    if (transport, coding) == ("fast", "deflate"):
        with pytest.raises(InferenceServerException, match=r"UNIMPLEMENTED.*deflate"):
            rpc.infer(identity.model, [filled(tgrpc, identity)], compression_algorithm=coding)
        return
    answer = rpc.infer(identity.model, [filled(tgrpc, identity)], compression_algorithm=coding)
    same(identity, answer.as_numpy(identity.gives))


def test_health_metadata_config_statistics_and_index(web, rpc, target: Target) -> None:
    """Every question that the clients can ask about server and model."""
    model = target.identity("FP32").model
    for client in (web, rpc):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(model)
        assert not client.is_model_ready("no-such-model")
    assert web.get_server_metadata()["name"] == rpc.get_server_metadata().name
    assert web.get_model_metadata(model)["name"] == rpc.get_model_metadata(model).name == model
    assert web.get_model_config(model)["name"] == rpc.get_model_config(model).config.name == model
    assert web.get_inference_statistics(model)["model_stats"][0]["name"] == model
    assert rpc.get_inference_statistics(model, as_json=True)["model_stats"][0]["name"] == model
    assert model in [line["name"] for line in web.get_model_repository_index()]
    assert model in [line.name for line in rpc.get_model_repository_index().models]


def test_an_unknown_model_is_an_exception_with_a_status(web, rpc, target: Target) -> None:
    """The client's own exception, with the protocol's status and a text."""
    identity = target.identity("FP32")
    with pytest.raises(InferenceServerException, match="no-such-model") as caught:
        web.infer("no-such-model", [filled(thttp, identity)])
    assert caught.value.status() in ("400", "404")
    with pytest.raises(InferenceServerException, match="no-such-model") as caught:
        rpc.infer("no-such-model", [filled(tgrpc, identity)])
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_requests_in_flight_together(web, rpc, target: Target) -> None:
    """The asynchronous calls of both synchronous clients."""
    identity = target.identity("INT32")
    pending = [web.async_infer(identity.model, [filled(thttp, identity)]) for _ in range(8)]
    for call in pending:
        same(identity, call.get_result(timeout=WAIT_S).as_numpy(identity.gives))
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    for _ in range(8):
        rpc.async_infer(identity.model, [filled(tgrpc, identity)], lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=WAIT_S)
        assert error is None
        same(identity, result.as_numpy(identity.gives))


def test_a_stream(grpc_address: str, target: Target) -> None:
    """Answers in order, each final; an error for one request leaves the stream standing."""
    identity = target.identity("FP32")
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    with tgrpc.InferenceServerClient(grpc_address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(identity.model, [filled(tgrpc, identity)], request_id="1")
        client.async_stream_infer("no-such-model", [filled(tgrpc, identity)], request_id="2")
        client.async_stream_infer(
            identity.model, [filled(tgrpc, identity)], request_id="3", enable_empty_final_response=True
        )
        first, failed, last = (answers.get(timeout=WAIT_S) for _ in range(3))
        client.stop_stream()
    assert first[0].get_response().id == "1"
    assert "no-such-model" in str(failed[1])
    assert last[0].get_response().id == "3"
    assert last[0].get_response().parameters["triton_final_response"].bool_param
    same(identity, last[0].as_numpy(identity.gives))


@pytest.mark.ours
def test_priority_timeout_and_parameters(web, rpc, target: Target) -> None:
    """What the clients' own arguments send is understood; sequences are refused in plain words."""
    identity = target.identity("FP32")
    for module, client in ((thttp, web), (tgrpc, rpc)):
        tensor = filled(module, identity)
        answer = client.infer(
            identity.model, [tensor], priority=1, timeout=30_000_000, parameters={"mine": "x"}, model_version="1"
        )
        same(identity, answer.as_numpy(identity.gives))
        with pytest.raises(InferenceServerException):
            client.infer(identity.model, [tensor], timeout=-1)
        with pytest.raises(InferenceServerException, match="sequence"):
            client.infer(identity.model, [tensor], sequence_id=7, sequence_start=True)


@pytest.mark.ours
def test_classification(web, rpc) -> None:
    """class_count of both clients: value, index and label."""
    array = np.array([[0.25, 1, 0.5]], np.float32)
    for module, client in ((thttp, web), (tgrpc, rpc)):
        tensor = module.InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(array)
        wanted = module.InferRequestedOutput("y", class_count=2)
        (row,) = client.infer("labelled", [tensor], outputs=[wanted]).as_numpy("y")
        assert [text.decode().split(":")[1:] for text in row] == [["1", "dog"], ["2", "owl"]]


@pytest.mark.ours
def test_unload_and_load(web, rpc) -> None:
    """Out of service and back, over either protocol; overrides are refused."""
    model = "coming-and-going"
    for client in (web, rpc):
        client.unload_model(model)
        assert not client.is_model_ready(model)
        client.load_model(model)
        assert client.is_model_ready(model)
        with pytest.raises(InferenceServerException, match="config"):
            client.load_model(model, config='{"max_batch_size": 1}')
        assert client.is_model_ready(model)


@pytest.mark.ours
def test_a_call_is_cancelled(rpc, target: Target) -> None:
    """The caller's cancellation arrives at once and the server goes on."""
    tensor = tgrpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    call = rpc.async_infer("slow", [tensor], lambda result, error: answers.put((result, error)))
    call.cancel()
    _, error = answers.get(timeout=WAIT_S)
    assert error.status() == "StatusCode.CANCELLED"
    identity = target.identity("FP32")
    same(identity, rpc.infer(identity.model, [filled(tgrpc, identity)]).as_numpy(identity.gives))


@pytest.mark.ours
def test_a_call_past_its_deadline(rpc) -> None:
    """client_timeout becomes DEADLINE_EXCEEDED."""
    tensor = tgrpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    with pytest.raises(InferenceServerException) as caught:
        rpc.infer("slow", [tensor], client_timeout=0.02)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


@pytest.mark.ours
def test_what_is_not_done_is_an_exception(web, rpc) -> None:
    """Shared memory, trace and log settings."""
    for client in (web, rpc):
        for ask in (
            client.get_system_shared_memory_status,
            client.get_cuda_shared_memory_status,
            client.get_trace_settings,
            client.get_log_settings,
        ):
            with pytest.raises(InferenceServerException, match="vedette does not"):
                ask()


async def test_http_aio(target: Target) -> None:
    """The asynchronous HTTP client: every datatype and the questions."""
    async with thttp_aio.InferenceServerClient(target.http.removeprefix("http://")) as client:
        assert await client.is_server_ready()
        for datatype in DATATYPES:
            identity = target.identity(datatype)
            result = await client.infer(identity.model, [filled(thttp, identity)])
            same(identity, result.as_numpy(identity.gives))
        assert (await client.get_model_metadata(identity.model))["name"] == identity.model
        with pytest.raises(InferenceServerException):
            await client.infer("no-such-model", [filled(thttp, identity)])


async def test_grpc_aio(grpc_address: str, target: Target) -> None:
    """The asynchronous gRPC client: every datatype, a stream and the questions."""
    async with tgrpc_aio.InferenceServerClient(grpc_address) as client:
        assert await client.is_server_ready()
        for datatype in DATATYPES:
            identity = target.identity(datatype)
            result = await client.infer(identity.model, [filled(tgrpc, identity)])
            same(identity, result.as_numpy(identity.gives))
        identity = target.identity("FP32")

        async def requests():
            for number in range(3):
                yield {
                    "model_name": identity.model,
                    "inputs": [filled(tgrpc, identity)],
                    "request_id": str(number),
                }

        ids = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            ids.append(result.get_response().id)
        assert ids == ["0", "1", "2"]
        with pytest.raises(InferenceServerException):
            await client.infer("no-such-model", [filled(tgrpc, identity)])
