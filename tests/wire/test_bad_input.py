"""Hostile and broken input over HTTP and gRPC: the protocol's own status, a clear text, and a server that lives on.

Every error body is also held against `LEAK`: no path, module, stack or address reaches a caller.
"""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.wire.target import LEAK, Target
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

pytestmark = pytest.mark.ours

INFER = "/v2/models/identity-fp32/infer"
HEADER = "Inference-Header-Content-Length"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}


def body(**fields: object) -> bytes:
    """A request with one input, some of whose fields are other ones."""
    return json.dumps({"inputs": [{**TENSOR, **fields}]}).encode()


def binary(size: object, **fields: object) -> bytes:
    """The JSON of a request whose tensor is said to follow in `size` bytes."""
    bare = {name: value for name, value in TENSOR.items() if name != "data"}
    tensor = {**bare, "parameters": {"binary_data_size": size}, **fields}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.fixture(autouse=True)
def alive(http: httpx.Client, target: Target) -> Iterator[None]:
    """After each test the same process, not a successor, still gives right answers."""
    workers = target.suite.workers("inference")
    yield
    answer = http.post(INFER, content=body())
    assert answer.json()["outputs"][0]["data"] == TENSOR["data"]
    assert target.suite.workers("inference") == workers


def check(answer: httpx.Response, status: int) -> str:
    """The error's text, after the status, the shape and the secrets were checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    text = answer.json()["error"]
    assert text
    assert not LEAK.search(text), text
    return text


JSON_CASES = {
    "not JSON": b"{",
    "empty": b"",
    "blank": b"   ",
    "array": b"[]",
    "null": b"null",
    "number": b"1",
    "trailing": body() + b"x",
    "two documents": body() + body(),
    "invalid UTF-8": body().replace(b'"x"', b'"\xff"'),
    "lone surrogate": body().replace(b'"x"', b'"\\ud800"'),
    "deep": b"[" * 250_000,
    "deep and closed": b"[" * 250_000 + b"]" * 250_000,
    "deep object": b'{"a":' * 250_000 + b"1" + b"}" * 250_000,
    "deep data": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":' + b"[" * 250_000 + b"]" * 250_000,
    "NaN": body(data=[1, 2, 3, float("nan")]),
    "Infinity": body(data=[1, 2, 3, float("inf")]),
    "too large for FP32": body(data=[1, 2, 3, 1e300]),
    "huge number": body().replace(b"4]}", b"1" + b"0" * 10_000 + b"]}"),
    "no inputs": b"{}",
    "inputs no list": b'{"inputs": {}}',
    "inputs of numbers": b'{"inputs": [1]}',
    "no data": json.dumps({"inputs": [{k: v for k, v in TENSOR.items() if k != "data"}]}).encode(),
    "data no list": body(data="text"),
    "data null": body(data=None),
    "wrong name": body(name="y"),
    "name with a path": body(name="../../etc/passwd"),
    "wrong datatype": body(datatype="INT32"),
    "no datatype": body(datatype="float32"),
    "wrong rank": body(shape=[4]),
    "wrong columns": body(shape=[1, 5], data=[1, 2, 3, 4, 5]),
    "count": body(data=[1, 2, 3]),
    "negative": body(shape=[-1, 4]),
    "negative twice": body(shape=[-1, -4]),
    "overflow": body(shape=[2**62, 4]),
    "over 64 bits": body(shape=[2**70, 4]),
    "overflow to the right count": body(shape=[2**62 + 1, 4]),
    "zero rows": body(shape=[0, 4], data=[]),
    "fraction of a dimension": body(shape=[1.5, 4]),
    "boolean dimension": body(shape=[True, 4]),
    "text dimension": body(shape=["1", 4]),
    "many dimensions": body(shape=[1] * 100_000),
    "text for numbers": body(data=["1", "2", "3", "4"]),
    "null for a number": body(data=[1, 2, 3, None]),
    "boolean for a number": body(data=[1, 2, 3, True]),
    "ragged": body(shape=[2, 4], data=[[1, 2, 3, 4], [1, 2, 3]]),
    "twice": json.dumps({"inputs": [TENSOR, TENSOR]}).encode(),
    "unknown output": json.dumps({"inputs": [TENSOR], "outputs": [{"name": "z"}]}).encode(),
    "output twice": json.dumps({"inputs": [TENSOR], "outputs": [{"name": "y"}] * 2}).encode(),
    "negative classes": json.dumps(
        {"inputs": [TENSOR], "outputs": [{"name": "y", "parameters": {"classification": -1}}]}
    ).encode(),
    "parameters no object": json.dumps({"inputs": [TENSOR], "parameters": [1]}).encode(),
    "nested parameter": json.dumps({"inputs": [TENSOR], "parameters": {"a": {"b": 1}}}).encode(),
    "id no text": json.dumps({"inputs": [TENSOR], "id": {"a": 1}}).encode(),
    "negative timeout": json.dumps({"inputs": [TENSOR], "parameters": {"timeout": -5}}).encode(),
    "binary without a header": binary(16),
}


@pytest.mark.parametrize("name", JSON_CASES)
def test_a_broken_document_is_a_400(http: httpx.Client, name: str) -> None:
    """Whatever is wrong with the JSON or the tensor in it."""
    check(http.post(INFER, content=JSON_CASES[name]), 400)


ROW = np.array(TENSOR["data"], np.float32).tobytes()


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (binary(16) + ROW, "abc"),
        (binary(16) + ROW, "-1"),
        (binary(16) + ROW, "1e3"),
        (binary(16) + ROW, "\u0661".encode()),
        (binary(16) + ROW, str(10**30)),
        (binary(16) + ROW, str(len(binary(16)) + 17)),
        (binary(16) + ROW, str(len(binary(16)) - 1)),
        (binary(16) + ROW, ""),
        (binary(16) + ROW[:-1], str(len(binary(16)))),
        (binary(16) + ROW + b"\0", str(len(binary(16)))),
        (binary(12) + ROW[:12], str(len(binary(12)))),
        (binary(-16) + ROW, str(len(binary(-16)))),
        (binary(2**63) + ROW, str(len(binary(2**63)))),
        (binary("16") + ROW, str(len(binary("16")))),
        (binary(16, data=[1, 2, 3, 4]) + ROW, str(len(binary(16, data=[1, 2, 3, 4])))),
        (ROW[:-1], "0"),
        (b"", "0"),
    ],
)
def test_a_broken_binary_request_is_a_400(http: httpx.Client, content: bytes, header: str | bytes) -> None:
    """The header, the sizes and the bytes must agree exactly."""
    check(http.post(INFER, content=content, headers={HEADER: header}), 400)


def bytes_request(raw: bytes, shape: list[int]) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "datatype": "BYTES", "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {HEADER: str(len(head))}


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x01", b"\x05\0\0\0abc" * 4, b"\xff\xff\xff\xff" * 4, b"\x01\0\0\0a" * 3, b"\x01\0\0\0a" * 5],
    ids=["none", "cut length", "cut element", "endless", "too few", "too many"],
)
def test_broken_text_elements_are_a_400(http: httpx.Client, raw: bytes) -> None:
    """BYTES elements carry their own lengths, and lie at times."""
    content, headers = bytes_request(raw, [1, 4])
    check(http.post("/v2/models/identity-bytes/infer", content=content, headers=headers), 400)


def test_text_that_is_no_text_is_a_400(http: httpx.Client) -> None:
    """The model's strings are UTF-8."""
    content, headers = bytes_request(b"\x02\0\0\0\xff\xfe" * 4, [1, 4])
    check(http.post("/v2/models/identity-bytes/infer", content=content, headers=headers), 400)


@pytest.mark.parametrize(
    "name",
    [
        "no-such-model",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "a%00b",
        "%ff%fe",
        "x" * 300,
        "%E2%80%AE",
        "identity-fp32%20",
    ],
)
def test_an_unknown_or_impossible_model_is_a_4xx(http: httpx.Client, name: str) -> None:
    """Names with path tricks are names that do not exist."""
    answer = http.post(f"/v2/models/{name}/infer", content=body())
    assert answer.status_code in (400, 404)
    assert not LEAK.search(answer.text)


@pytest.mark.parametrize("version", ["2", "0", "-1", "99999999999999999999", "latest", "1.0", "01", "%2e%2e"])
def test_a_version_that_is_not_there_is_a_4xx(http: httpx.Client, version: str) -> None:
    """Only a deployed version can be pinned, written as a number."""
    answer = http.post(f"/v2/models/identity-fp32/versions/{version}/infer", content=body())
    assert answer.status_code in (400, 404)
    assert not LEAK.search(answer.text)


def test_a_broken_compressed_body_is_a_400(http: httpx.Client) -> None:
    """What says gzip and is not, or is cut short."""
    for content in (b"not gzip", gzip.compress(body())[:-4], gzip.compress(body()) + b"x"):
        check(http.post(INFER, content=content, headers={"Content-Encoding": "gzip"}), 400)
    check(http.post(INFER, content=body(), headers={"Content-Encoding": "br"}), 501)


def test_a_gzip_bomb_is_a_413(http: httpx.Client) -> None:
    """A small body that would become a large one is refused before it does."""
    bomb = gzip.compress(b" " * (256 * 1024 * 1024), 9)
    check(http.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"}), 413)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An .npy file with this header, however wrong."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


SAGEMAKER_CASES = {
    "csv of text": ("text/csv", b"a,b,c,d"),
    "csv cut": ("text/csv", b"1,2,3"),
    "csv ragged": ("text/csv", b"1,2,3,4\n1,2"),
    "csv empty": ("text/csv", b""),
    "csv quote": ("text/csv", b'"1,2,3,4'),
    "csv no UTF-8": ("text/csv", b"\xff\xfe,2,3,4"),
    "csv null byte": ("text/csv", b"1,2,3,\0"),
    "csv one huge field": ("text/csv", b"1" * 1_000_000),
    "json cut": ("application/json", b"{"),
    "json deep": ("application/json", b"[" * 250_000),
    "json other": ("application/json", b'{"rows": [[1, 2, 3, 4]]}'),
    "json no rows": ("application/json", b'{"instances": []}'),
    "json text": ("application/json", b'{"instances": [["a", "b", "c", "d"]]}'),
    "json NaN": ("application/json", b'{"instances": [[1, 2, 3, NaN]]}'),
    "json ragged": ("application/json", b'{"instances": [[1, 2, 3, 4], [1]]}'),
    "lines cut": ("application/jsonlines", b'{"features": [1, 2, 3, 4]}\n{'),
    "lines empty": ("application/jsonlines", b"\n\n"),
    "npy cut": ("application/x-npy", b"\x93NUMPY\x01\x00"),
    "npy nothing": ("application/x-npy", b""),
    "npy objects": (
        "application/x-npy",
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 4)}", b"\x80N."),
    ),
    "npy code": ("application/x-npy", npy("__import__('os').system('true')")),
    "npy huge": ("application/x-npy", npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40}, 4)}}", ROW)),
    "npy negative": ("application/x-npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", ROW)),
    "npy short": ("application/x-npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)}", ROW)),
    "npy version": ("application/x-npy", npy("{}", ROW, b"\x09\x00")),
    "npy record": ("application/x-npy", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}", ROW)),
}


@pytest.mark.parametrize("name", SAGEMAKER_CASES)
def test_a_broken_invocation_is_a_model_error(http: httpx.Client, name: str) -> None:
    """Every format of SageMaker's: 424 with 400 as the model's own status, never an inside story."""
    content_type, content = SAGEMAKER_CASES[name]
    answer = http.post("/endpoints/row-sum/invocations", content=content, headers={"Content-Type": content_type})
    told = answer.json()
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (424, "ModelError"), answer.text
    assert told["OriginalStatusCode"] == 400
    assert not LEAK.search(told["OriginalMessage"]), told


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 250_000, b"{}", b'{"instances": 1}', b'{"instances": [[1]]}'])
def test_a_broken_v1_request_is_a_400(http: httpx.Client, content: bytes) -> None:
    """KServe's older protocol."""
    check(http.post("/v1/models/row-sum:predict", content=content), 400)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(body())), cut=st.integers(0, 8), put=st.binary(max_size=8))
def test_any_change_to_a_request_is_an_answer_or_a_400(http: httpx.Client, at: int, cut: int, put: bytes) -> None:
    """Whatever a few bytes are replaced by, the server answers in the protocol's words."""
    whole = body()
    answer = http.post(INFER, content=whole[:at] + put + whole[at + cut :])
    if answer.status_code != 200:
        check(answer, 400)


def exchange(target: Target, request: bytes, *, close: bool = True) -> bytes:
    """Send raw bytes and read until the server closes or has been quiet for a while."""
    parts = urlsplit(target.http)
    got = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        try:
            connection.sendall(request)
            if close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                got += chunk
                if not close and b"\r\n\r\n" in got:
                    break
        except TimeoutError:
            raise
        except OSError:
            pass  # a server may hang up on nonsense before it has all of it
    return got


def test_a_body_over_the_limit_is_a_413_before_it_is_sent(target: Target) -> None:
    """Content-Length alone suffices: no byte of the body has to come."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n".encode()
    assert exchange(target, head, close=False).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_over_the_limit_is_a_413(target: Target) -> None:
    """A body without a length is counted as it comes; who sends on still reads the answer."""

    def endless() -> Iterator[bytes]:
        for _ in range(80):
            yield b" " * (1 << 20)

    with target.client() as client:
        answer = client.post(INFER, content=endless())
    assert "64" in check(answer, 413)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
    ],
    ids=["nonsense", "TLS", "version", "negative length", "length of letters", "two lengths", "bad chunk", "cut body",
         "long header", "long path", "bad header"],
)  # fmt: skip
def test_malformed_http_gets_no_success(target: Target, request_bytes: bytes) -> None:
    """An error or a closed connection, and nothing told about the inside."""
    got = exchange(target, request_bytes)
    assert not got.startswith(b"HTTP/1.1 2")
    assert not LEAK.search(got.decode("latin-1").partition("\r\n\r\n")[2])


@pytest.fixture(scope="module")
def channel(grpc_address: str) -> Iterator[grpc.Channel]:
    """A channel without limits of its own, so that the server's count."""
    with grpc.insecure_channel(grpc_address, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def refusal(call, message) -> grpc.RpcError:
    """The error of a call, its text checked for secrets."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=60)
    assert not LEAK.search(caught.value.details()), caught.value.details()
    return caught.value


def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.Channel) -> None:
    """Not even protobuf, over gRPC."""
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert refusal(call, b"\xff\xff\xff\xff").code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    """RESOURCE_EXHAUSTED for more than the server takes."""
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    message = pb.ModelInferRequest(model_name="identity-fp32", raw_input_contents=[bytes(65 << 20)])
    assert refusal(call, message.SerializeToString()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    """A method and a service that nobody serves."""
    for path in ("/inference.GRPCInferenceService/NoSuchMethod", "/no.such.Service/Method"):
        assert refusal(channel.unary_unary(path), b"").code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["", "no-such-model", "../../etc/passwd", "a\0b", "x" * 100_000, "\u202e"])
def test_an_impossible_model_over_grpc_is_not_found(channel: grpc.Channel, name: str) -> None:
    """In every method that names a model."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    codes = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
    assert refusal(stub.ModelInfer, pb.ModelInferRequest(model_name=name)).code() in codes
    assert refusal(stub.ModelMetadata, pb.ModelMetadataRequest(name=name)).code() in codes
    assert refusal(stub.ModelConfig, pb.ModelConfigRequest(name=name)).code() in codes
    assert refusal(stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name=name)).code() in codes
    assert refusal(stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name=name)).code() in codes


@pytest.mark.parametrize("version", ["2", "0", "-1", "latest", "9" * 5000, "01"])
def test_an_impossible_version_over_grpc_is_not_found(channel: grpc.Channel, version: str) -> None:
    """Only a deployed version can be pinned."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    message = pb.ModelInferRequest(model_name="identity-fp32", model_version=version, raw_input_contents=[ROW])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    assert refusal(stub.ModelInfer, message).code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
