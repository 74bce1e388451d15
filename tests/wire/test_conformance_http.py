"""Open Inference Protocol v2 over HTTP, as any server of it should behave."""

from __future__ import annotations

import gzip
import json
import zlib

import httpx
import numpy as np
import pytest
from tests.wire.target import DATATYPES, Identity, Target

HEADER = "Inference-Header-Content-Length"
IN_JSON = [datatype for datatype in DATATYPES if datatype not in ("FP16", "BF16")]


@pytest.fixture
def identity(target: Target) -> Identity:
    """The FP32 identity model."""
    return target.identity("FP32")


def document(identity: Identity, **extra: object) -> dict[str, object]:
    """A request in JSON with flat data."""
    tensor = {"name": identity.takes, "datatype": identity.datatype, "shape": list(identity.shape)}
    return {"inputs": [{**tensor, "data": identity.values()}], **extra}


def binary_body(identity: Identity, **extra: object) -> tuple[bytes, dict[str, str]]:
    """A request with its tensor behind the JSON, and the header that says where."""
    raw = identity.raw()
    tensor = {"name": identity.takes, "datatype": identity.datatype, "shape": list(identity.shape)}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], **extra}).encode()
    return head + raw, {HEADER: str(len(head))}


def infer(http: httpx.Client, identity: Identity, **extra: object) -> httpx.Response:
    """Send the JSON request."""
    return http.post(f"/v2/models/{identity.model}/infer", json=document(identity, **extra))


def nested(values: list[object], shape: tuple[int, ...]) -> object:
    """Row-major values as lists in lists."""
    if len(shape) == 1:
        return values
    step = len(values) // shape[0]
    return [nested(values[at : at + step], shape[1:]) for at in range(0, len(values), step)]


def split(response: httpx.Response) -> tuple[dict, bytes]:
    """The JSON of an answer and the bytes behind it."""
    length = int(response.headers[HEADER])
    return json.loads(response.content[:length]), response.content[length:]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_the_server_is_live_and_ready(http: httpx.Client, path: str) -> None:
    """Both health paths answer 200."""
    assert http.get(path).status_code == 200


def test_a_model_is_ready_and_a_stranger_is_not(http: httpx.Client, identity: Identity) -> None:
    """200 for a model that serves, 4xx for one that does not exist."""
    assert http.get(f"/v2/models/{identity.model}/ready").status_code == 200
    assert 400 <= http.get("/v2/models/no-such-model/ready").status_code < 500


def test_server_metadata(http: httpx.Client) -> None:
    """Name, version and a list of extensions."""
    told = http.get("/v2").json()
    assert isinstance(told["name"], str)
    assert isinstance(told["version"], str)
    assert all(isinstance(extension, str) for extension in told["extensions"])


def test_model_metadata(http: httpx.Client, identity: Identity) -> None:
    """Name, versions, platform, and each tensor with name, datatype and shape."""
    told = http.get(f"/v2/models/{identity.model}").json()
    assert told["name"] == identity.model
    assert told["platform"]
    for tensor in (*told["inputs"], *told["outputs"]):
        assert set(tensor) >= {"name", "datatype", "shape"}
        assert all(isinstance(dim, int) for dim in tensor["shape"])
    for version in told["versions"]:
        assert http.get(f"/v2/models/{identity.model}/versions/{version}").status_code == 200
        assert http.get(f"/v2/models/{identity.model}/versions/{version}/ready").status_code == 200


@pytest.mark.parametrize("form", ["flat", "nested"])
@pytest.mark.parametrize("datatype", IN_JSON)
def test_values_in_json_come_back(http: httpx.Client, target: Target, datatype: str, form: str) -> None:
    """Every datatype that the protocol has in JSON, flat and nested, to the last digit."""
    identity = target.identity(datatype)
    request = document(identity)
    if form == "nested":
        request["inputs"][0]["data"] = nested(identity.values(), identity.shape)
    answer = http.post(f"/v2/models/{identity.model}/infer", json=request)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["datatype"]) == (identity.gives, datatype)
    assert tuple(output["shape"]) == identity.shape
    got = output["data"]
    while got and isinstance(got[0], list):
        got = [value for row in got for value in row]
    if datatype == "FP32":  # the shortest text that reads back as the same FP32
        got = [float(DATATYPES[datatype](value)) for value in got]
    assert got == identity.values()


@pytest.mark.ours
@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_are_plain_numbers_in_json(http: httpx.Client, target: Target, datatype: str) -> None:
    """Beyond the protocol: FP16 and BF16 may be written as numbers."""
    identity = target.identity(datatype)
    answer = infer(http, identity)
    assert answer.status_code == 200, answer.text
    got = np.array(answer.json()["outputs"][0]["data"], np.float32)
    bits = got.astype(np.float16).view(np.uint16) if datatype == "FP16" else got.view(np.uint32) >> 16
    assert bits.tolist() == identity.sample().view(np.uint16).ravel().tolist()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_binary_tensors_come_back(http: httpx.Client, target: Target, datatype: str) -> None:
    """Every datatype as binary both ways, bit for bit."""
    identity = target.identity(datatype)
    body, headers = binary_body(identity, parameters={"binary_data_output": True})
    answer = http.post(f"/v2/models/{identity.model}/infer", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    told, rest = split(answer)
    assert told["outputs"][0]["parameters"]["binary_data_size"] == len(rest)
    assert rest == identity.raw()


def test_binary_in_and_json_out(http: httpx.Client, identity: Identity) -> None:
    """Without a wish the answer is JSON."""
    body, headers = binary_body(identity)
    answer = http.post(f"/v2/models/{identity.model}/infer", content=body, headers=headers)
    assert HEADER not in answer.headers
    assert len(answer.json()["outputs"][0]["data"]) > 0


def test_json_in_and_binary_out(http: httpx.Client, identity: Identity) -> None:
    """A single output may be asked for as binary, over the request's default."""
    outputs = [{"name": identity.gives, "parameters": {"binary_data": True}}]
    answer = infer(http, identity, outputs=outputs, parameters={"binary_data_output": False})
    assert split(answer)[1] == identity.raw()


def test_the_answer_names_model_version_and_id(http: httpx.Client, identity: Identity) -> None:
    """The request's id comes back; a version is named."""
    told = infer(http, identity, id="request-7").json()
    assert (told["model_name"], told["id"]) == (identity.model, "request-7")
    assert told["model_version"]


def test_a_version_can_be_pinned(http: httpx.Client, identity: Identity) -> None:
    """The versioned path answers with that version; one that is not there is a 4xx."""
    version = http.get(f"/v2/models/{identity.model}").json()["versions"][-1]
    path = f"/v2/models/{identity.model}/versions"
    assert http.post(f"{path}/{version}/infer", json=document(identity)).json()["model_version"] == version
    assert 400 <= http.post(f"{path}/987654/infer", json=document(identity)).status_code < 500


def test_requested_outputs(http: httpx.Client, identity: Identity) -> None:
    """A named output is given; an unknown one is a 4xx with a text."""
    told = infer(http, identity, outputs=[{"name": identity.gives}]).json()
    assert [output["name"] for output in told["outputs"]] == [identity.gives]
    refused = infer(http, identity, outputs=[{"name": "no-such-output"}])
    assert 400 <= refused.status_code < 500
    assert isinstance(refused.json()["error"], str)


def change(**fields: object):
    """A change of the request's one input."""
    return lambda request: request["inputs"][0].update(fields)


@pytest.mark.parametrize(
    "spoil",
    [
        change(name="no-such-input"),
        change(datatype="FLOAT"),
        change(datatype="INT64"),
        change(shape=[1, 2, 3, 4, 5]),
        change(shape=[-2, -4]),
        change(data=[1.0]),
        change(data=["text"] * 8),
        lambda request: request.pop("inputs"),
        lambda request: request.update(inputs=[]),
    ],
)
def test_a_wrong_request_is_a_400_with_a_text(http: httpx.Client, identity: Identity, spoil) -> None:
    """Wrong name, datatype, shape, count or value: 400 and {"error": "..."}."""
    request = document(identity)
    spoil(request)
    answer = http.post(f"/v2/models/{identity.model}/infer", json=request)
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"inputs": 7}'])
def test_what_is_not_a_request_is_a_400(http: httpx.Client, identity: Identity, body: bytes) -> None:
    """Anything but a JSON object of the protocol."""
    answer = http.post(f"/v2/models/{identity.model}/infer", content=body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


def test_an_unknown_model_is_a_4xx_with_a_text(http: httpx.Client, identity: Identity) -> None:
    """Metadata and inference alike."""
    for answer in (
        http.get("/v2/models/no-such-model"),
        http.post("/v2/models/no-such-model/infer", json=document(identity)),
    ):
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["error"], str)


def test_wrong_methods_and_paths(http: httpx.Client, identity: Identity) -> None:
    """405 for a wrong method, 404 for a path that does not exist."""
    assert http.get(f"/v2/models/{identity.model}/infer").status_code == 405
    assert http.get("/v2/no-such-path").status_code == 404


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_request_is_understood(http: httpx.Client, identity: Identity, coding: str, pack) -> None:
    """gzip and deflate."""
    body = pack(json.dumps(document(identity)).encode())
    answer = http.post(f"/v2/models/{identity.model}/infer", content=body, headers={"Content-Encoding": coding})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_an_answer_is_compressed_on_request(target: Target, coding: str, unpack) -> None:
    """Accept-Encoding is followed for an answer of some size, and the length told is that of what is sent."""
    identity = target.identity("FP32", rows=512)
    with (
        target.client() as client,
        client.stream(
            "POST", f"/v2/models/{identity.model}/infer", json=document(identity), headers={"Accept-Encoding": coding}
        ) as answer,
    ):
        raw = b"".join(answer.iter_raw())
    assert answer.headers["Content-Encoding"] == coding
    assert int(answer.headers["Content-Length"]) == len(raw)
    assert json.loads(unpack(raw))["outputs"]


def test_lengths_and_types_are_told(http: httpx.Client, identity: Identity) -> None:
    """Content-Length is exact; JSON is called JSON, and binary is not."""
    answer = infer(http, identity)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers["Content-Type"].startswith("application/json")
    body, headers = binary_body(identity, parameters={"binary_data_output": True})
    answer = http.post(f"/v2/models/{identity.model}/infer", content=body, headers=headers)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers["Content-Type"] == "application/octet-stream"


def test_statistics_count_what_ran(http: httpx.Client, identity: Identity) -> None:
    """One more inference, one more success; every part of the extension is there."""

    def stats() -> dict:
        (line,) = http.get(f"/v2/models/{identity.model}/stats").json()["model_stats"]
        return line

    infer(http, identity)
    before = stats()
    infer(http, identity)
    after = stats()
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert after["inference_count"] > before["inference_count"]
    assert set(after["inference_stats"]) >= {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
    }  # fmt: skip
    assert after["last_inference"] >= before["last_inference"] > 0
    listed = http.get("/v2/models/stats").json()["model_stats"]
    assert identity.model in [line["name"] for line in listed]


def test_the_repository_lists_the_model(http: httpx.Client, identity: Identity) -> None:
    """POST /v2/repository/index: name, version, state, reason."""
    lines = http.post("/v2/repository/index", content=b"").json()
    (line,) = [line for line in lines if line["name"] == identity.model]
    assert line["state"] == "READY"


def test_model_configuration(http: httpx.Client, identity: Identity) -> None:
    """Triton's extension: name, tensors, max_batch_size."""
    told = http.get(f"/v2/models/{identity.model}/config").json()
    assert told["name"] == identity.model
    assert [tensor["name"] for tensor in told["input"]] == [identity.takes]
    assert told["max_batch_size"] >= 0


@pytest.mark.ours
def test_a_raw_request_needs_no_json(http: httpx.Client, identity: Identity) -> None:
    """Header value 0: the body is the tensor, and so is the answer's."""
    answer = http.post(f"/v2/models/{identity.model}/infer", content=identity.raw(), headers={HEADER: "0"})
    assert answer.status_code == 200, answer.text
    assert split(answer)[1] == identity.raw()


@pytest.mark.ours
def test_outputs_come_in_the_order_asked_for(http: httpx.Client) -> None:
    """Two outputs, one or both, in either order."""
    row = {"datatype": "FP32", "shape": [1, 4]}
    inputs = [{"name": "a", **row, "data": [5, 6, 7, 8]}, {"name": "b", **row, "data": [1, 2, 3, 4]}]
    for names in (["difference"], ["difference", "sum"], ["sum", "difference"]):
        request = {"inputs": inputs, "outputs": [{"name": name} for name in names]}
        outputs = http.post("/v2/models/pair/infer", json=request).json()["outputs"]
        assert [output["name"] for output in outputs] == names
        assert {output["name"]: output["data"][0] for output in outputs}.items() <= {"sum": 6, "difference": 4}.items()


@pytest.mark.ours
def test_parameters_come_back(http: httpx.Client, identity: Identity) -> None:
    """The caller's own parameters are echoed; the protocol's are not."""
    told = infer(http, identity, parameters={"mine": 7, "flag": True, "timeout": 5_000_000}).json()
    assert told["parameters"] == {"mine": 7, "flag": True}


@pytest.mark.ours
def test_each_pinned_version_answers_with_its_own_model(http: httpx.Client) -> None:
    """Version 1 multiplies by one, version 2 by two; no pin goes to the variant that has weight."""
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    for path, version, first in (("", "1", 1), ("/versions/1", "1", 1), ("/versions/2", "2", 2)):
        told = http.post(f"/v2/models/scale{path}/infer", json=request).json()
        assert (told["model_version"], told["outputs"][0]["data"][0]) == (version, first)
    assert http.post("/v2/models/scale/versions/3/infer", json=request).status_code == 404


@pytest.mark.ours
def test_classification_gives_value_index_and_label(http: httpx.Client) -> None:
    """Top two of three classes, each row by itself."""
    request = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [0.25, 1, 0.5, 3, 2, 1]}],
        "outputs": [{"name": "y", "parameters": {"classification": 2}}],
    }
    (output,) = http.post("/v2/models/labelled/infer", json=request).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    rows = [text.split(":") for text in output["data"]]
    assert [(float(value), index, label) for value, index, label in rows] == [
        (1, "1", "dog"), (0.5, "2", "owl"), (3, "0", "cat"), (2, "1", "dog"),
    ]  # fmt: skip


@pytest.mark.ours
def test_nan_in_json_is_an_error_that_advises_binary(http: httpx.Client) -> None:
    """Never a silent null; as binary the same answer arrives."""
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, -1, 4, 9]}]}
    answer = http.post("/v2/models/root/infer", json=request)
    assert answer.status_code == 400
    assert "binary" in answer.json()["error"]
    request["parameters"] = {"binary_data_output": True}
    assert http.post("/v2/models/root/infer", json=request).status_code == 200


@pytest.mark.ours
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/models/identity-fp32/generate"),
        ("POST", "/v2/models/identity-fp32/generate_stream"),
    ],
)
def test_what_is_not_done_says_so(http: httpx.Client, method: str, path: str) -> None:
    """501 with a plain message."""
    answer = http.request(method, path)
    assert answer.status_code == 501
    assert answer.json()["error"]
