"""The requests that every server gets, in the three ways of the Open Inference Protocol, and the check of answers.

Rule: one message for one model and protocol, the same bytes for every server; an answer counts only when its numbers
are those of ONNX Runtime itself.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
from numpy.typing import NDArray

from loadtests import models
from loadtests.generators import BrokenRun, Message
from vedette.proto.inference.v1 import inference_pb2 as pb

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
HEADER_LENGTH = "Inference-Header-Content-Length"
TIMEOUT_S = 30
TOLERANCE = 1e-4
"""Relative: runtimes order their sums differently."""


def json_message(name: str) -> Message:
    """V2 JSON for the one row, as a client writes it: four decimals."""
    tensor = {**_described(name), "data": [float(f"{value:.4f}") for value in models.row(name).ravel()]}
    return Message(json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})


def binary_message(name: str) -> Message:
    """The binary tensor extension, both ways."""
    raw = models.row(name).tobytes()
    tensor = {**_described(name), "parameters": {"binary_data_size": len(raw)}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Message(header + raw, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))})


def http_message(name: str, protocol: str) -> Message:
    """The message of `json` or `binary`."""
    return binary_message(name) if protocol == "binary" else json_message(name)


def grpc_message(name: str, endpoint: str = "") -> bytes:
    """ModelInferRequest with raw contents, serialized."""
    spec = pb.ModelInferRequest.InferInputTensor(name="x", shape=[1, *models.SHAPES[name]], datatype="FP32")
    request = pb.ModelInferRequest(
        model_name=endpoint or name, inputs=[spec], raw_input_contents=[models.row(name).tobytes()]
    )
    return request.SerializeToString()


def _described(name: str) -> dict[str, object]:
    return {"name": "x", "shape": [1, *models.SHAPES[name]], "datatype": "FP32"}


def check_http(url: str, name: str, protocol: str) -> int:
    """One request whose answer must be the model's; the bytes of its body.

    Raises:
        BrokenRun: it is not, or there is none.
    """
    message = http_message(name, protocol)
    request = urllib.request.Request(url, message.body, message.headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            content, length = response.read(), response.headers.get(HEADER_LENGTH)
    except urllib.error.HTTPError as error:
        raise BrokenRun(f"{error.code}: {error.read()[:300].decode(errors='replace')}") from error
    except OSError as error:
        raise BrokenRun(f"no answer: {error}") from error
    if protocol == "binary" and length is None:
        raise BrokenRun("JSON was answered to a binary request")
    check(http_answer(content, length), name)
    return len(content)


def http_answer(content: bytes, header_length: str | None) -> NDArray[np.float32]:
    """The first output of a V2 response, JSON or binary.

    Raises:
        BrokenRun: the body is no such response.
    """
    end = len(content) if header_length is None else int(header_length)
    try:
        output = json.loads(content[:end])["outputs"][0]
        values = output["data"] if "data" in output else np.frombuffer(content, np.float32, offset=end)
        return np.array(values, np.float32).reshape(output["shape"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BrokenRun(f"not a V2 response ({error!r}): {content[:200]!r}") from error


def ask_grpc(port: int, name: str, endpoint: str = "") -> bytes:
    """One call whose answer must be the model's; the response message as bytes.

    Raises:
        BrokenRun: it is not, or there is none.
    """
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            call = channel.unary_unary(GRPC_PATH, request_serializer=bytes, response_deserializer=bytes)
            answer: bytes = call(grpc_message(name, endpoint), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise BrokenRun(str(error)[:300]) from error
    check(grpc_answer(answer), name)
    return answer


def grpc_answer(answer: bytes) -> NDArray[np.float32]:
    """The first output of a ModelInferResponse, raw or typed."""
    response = pb.ModelInferResponse.FromString(answer)
    output = response.outputs[0]
    raw = response.raw_output_contents
    values = np.frombuffer(raw[0], np.float32) if raw else np.array(output.contents.fp32_contents, np.float32)
    return values.reshape(tuple(output.shape))


def check(answer: NDArray[np.float32], name: str) -> None:
    """Nothing when the answer is the model's.

    Raises:
        BrokenRun: it is another.
    """
    truth = models.expected(name)
    if answer.shape != truth.shape or not np.allclose(answer, truth, rtol=TOLERANCE, atol=1e-6):
        raise BrokenRun(f"a wrong answer: {answer} instead of {truth}")
