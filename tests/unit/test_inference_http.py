"""The HTTP protocols over real small models, through the route table but without a server."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, first, inference

from vedette.chassis.http import HttpRequest as Request
from vedette.chassis.http import HttpResponse, Route
from vedette.chassis.routing import Router as Paths
from vedette.codec.captures import CaptureBatch, decode_captures
from vedette.core.errors import InvalidArgument, VedetteError
from vedette.core.models import CaptureSettings, Limits, Variant
from vedette.inference.config import InferenceSettings
from vedette.inference.http.kserve import KserveHttp
from vedette.inference.http.oip import OipHttp
from vedette.inference.http.sagemaker import SageMakerHttp
from vedette.storage.memory import MemoryEventStream


class Http:
    """Calls a handler as the chassis would: match, run, render errors."""

    def __init__(self, rig: Rig, settings: InferenceSettings | None = None) -> None:
        self.rig = rig
        settings = settings or InferenceSettings()
        tables = (OipHttp(rig.dataplane), KserveHttp(rig.dataplane), SageMakerHttp(rig.dataplane, settings))
        self.routes = [route for table in tables for route in table.routes()]
        self._paths: Paths[Route] = Paths([(route.method, route.pattern, route) for route in self.routes])

    async def __call__(self, method: str, path: str, body: Any = b"", **headers: str) -> HttpResponse:
        match = self._paths.match(path)
        assert match is not None, path
        route, params = match.targets[method]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(method, path, "", named, data, dict(params), "r-1")
        try:
            return await route.handler(request)
        except VedetteError as error:
            return route.render_error(error)

    async def json(self, method: str, path: str, body: Any = b"", **headers: str) -> Any:
        """The document of an answer that must be 200."""
        response = await self(method, path, body, **headers)
        assert response.status == 200, response.body
        return json.loads(response.body)


async def captures(http: Http) -> CaptureBatch:
    """The one batch that was captured."""
    await http.rig.capture.flush()
    (delivery,) = await http.rig.stream.read("captures", 0, 9)
    return decode_captures(delivery.message.value)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """Routes over a rig with an adder (versions 1 and 2), a table and an identity."""
    async with inference(tmp_path) as rig:
        rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
        rig.register("table", models.gatherer())
        rig.register("same", models.identity("FP32", (-1, 3)))
        await rig.deploy("adder", Variant("one", 1), Variant("two", 2, weight=0), limits=Limits(max_batch_rows=9999))
        await rig.deploy("table")
        await rig.deploy("same", capture=CaptureSettings(sampling_percent=100))
        yield Http(rig)


def infer_body(values: list[float] | None = None, **fields: Any) -> dict[str, Any]:
    """A V2 request for the adder."""
    values = values or [1.0]
    return {"inputs": [{"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": values}], **fields}


def headers_of(response: HttpResponse) -> dict[str, str]:
    """Response headers by lower-case name."""
    return {name.lower(): value for name, value in response.headers}


async def test_infer_answers_in_json(http: Http) -> None:
    """The protocol's document, id and own parameters echoed."""
    asked = infer_body([1.0, 2.0], id="42", parameters={"trace": "t", "timeout": 60_000_000})
    assert await http.json("POST", "/v2/models/adder/infer", asked) == {
        "model_name": "adder",
        "model_version": "1",
        "id": "42",
        "parameters": {"trace": "t"},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [2.0, 3.0]}],
    }


async def test_a_version_in_the_path_pins_it(http: Http) -> None:
    """Versions that are deployed answer; others are 404."""
    document = await http.json("POST", "/v2/models/adder/versions/2/infer", infer_body())
    assert (document["model_version"], document["outputs"][0]["data"]) == ("2", [3.0])
    assert (await http("POST", "/v2/models/adder/versions/3/infer", infer_body())).status == 404


async def test_binary_tensors_go_both_ways(http: Http) -> None:
    """The header says where JSON ends; binary_data_output asks for binary; the answer says where its JSON ends."""
    head = {
        "inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    body = text + struct.pack("<2f", 1, 2)
    response = await http("POST", "/v2/models/adder/infer", body, inference_header_content_length=str(len(text)))
    assert response.status == 200
    length = int(headers_of(response)["inference-header-content-length"])
    assert headers_of(response)["content-type"] == "application/octet-stream"
    assert json.loads(response.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", response.body[length:]) == (2.0, 3.0)


async def test_one_output_overrides_the_requests_binary_wish(http: Http) -> None:
    """`binary_data` of an output wins over `binary_data_output` of the request."""
    asked = infer_body(
        outputs=[{"name": "y", "parameters": {"binary_data": False}}], parameters={"binary_data_output": True}
    )
    assert (await http.json("POST", "/v2/models/adder/infer", asked))["outputs"][0]["data"] == [2.0]
    asked = infer_body(outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    assert "inference-header-content-length" in headers_of(await http("POST", "/v2/models/adder/infer", asked))


async def test_header_value_zero_is_a_raw_request(http: Http) -> None:
    """The body is the only input's bytes; rows follow from its length."""
    response = await http(
        "POST", "/v2/models/adder/infer", struct.pack("<3f", 1, 2, 3), inference_header_content_length="0"
    )
    length = int(headers_of(response)["inference-header-content-length"])
    assert struct.unpack("<3f", response.body[length:]) == (2.0, 3.0, 4.0)
    bad = await http("POST", "/v2/models/adder/infer", b"123", inference_header_content_length="0")
    assert bad.status == 400


@pytest.mark.parametrize("header", ["", "-1", "1e3", "99999999999999999999999", "10", "zwei", "٣"])
async def test_a_malformed_binary_header_is_400(http: Http, header: str) -> None:
    """Whatever stands in Inference-Header-Content-Length, the answer is an error of the protocol."""
    response = await http("POST", "/v2/models/adder/infer", infer_body(), inference_header_content_length=header)
    assert response.status == 400
    assert list(json.loads(response.body)) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v2/models/ghost/infer", infer_body(), 404),
        ("GET", "/v2/models/ghost", b"", 404),
        ("GET", "/v2/models/ghost/ready", b"", 404),
        ("GET", "/v2/models/ghost/stats", b"", 404),
        ("GET", "/v2/models/adder/versions/7/config", b"", 404),
        ("POST", "/v2/models/adder/infer", b"", 400),
        ("POST", "/v2/models/adder/infer", b"[" * 250_000, 400),
        ("POST", "/v2/models/adder/infer", {"inputs": []}, 400),
        (
            "POST",
            "/v2/models/adder/infer",
            {"inputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": []}]},
            400,
        ),
        ("POST", "/v2/repository/index", b"no json", 400),
        ("POST", "/v2/repository/index", {"ready": "yes"}, 400),
        ("POST", "/v2/repository/models/adder/load", {"parameters": {"config": "{}"}}, 501),
        ("POST", "/v2/repository/models/adder/load", {"parameters": {"file:1/model.onnx": "AA"}}, 501),
        ("POST", "/v2/repository/models/ghost/load", b"", 404),
        ("GET", "/v2/systemsharedmemory/status", b"", 501),
        ("POST", "/v2/cudasharedmemory/region/r/register", b"", 501),
        ("POST", "/v2/trace/setting", b"", 501),
        ("GET", "/v2/logging", b"", 501),
        ("POST", "/v2/models/adder/generate", b"", 501),
        ("POST", "/v2/models/adder/versions/1/generate_stream", b"", 501),
    ],
)
async def test_errors_have_the_protocols_shape_and_status(
    http: Http, method: str, path: str, body: Any, status: int
) -> None:
    """`{"error": text}` and nothing else, with the status of the reference."""
    response = await http(method, path, body)
    assert response.status == status, response.body
    assert list(json.loads(response.body)) == ["error"]


async def test_nan_in_a_json_answer_is_an_error_that_advises_binary(http: Http) -> None:
    """Never a silent null."""
    head = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}]}
    text = json.dumps(head).encode()
    body = text + np.array([1, np.nan, 2], np.float32).tobytes()
    response = await http("POST", "/v2/models/same/infer", body, inference_header_content_length=str(len(text)))
    assert response.status == 400
    assert "binary" in json.loads(response.body)["error"]


async def test_health_and_metadata(http: Http) -> None:
    """Live, ready, who answers and what is served."""
    assert await http.json("GET", "/v2/health/live") == {"live": True}
    assert await http.json("GET", "/v2/health/ready") == {"ready": True}
    assert await http.json("GET", "/v2/models/adder/versions/2/ready") == {"name": "adder", "ready": True}
    assert (await http.json("GET", "/v2"))["name"] == "vedette"
    document = await http.json("GET", "/v2/models/adder")
    assert document["versions"] == ["1", "2"]
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    assert set(document["signature"]) == {"feature_names", "categories", "label_names", "kind", "target"}


async def test_not_ready_is_400(tmp_path: Path) -> None:
    """As Triton answers: for the server and for a model that failed to load."""
    async with inference(tmp_path) as rig:
        rig.registry.add_version("net", 1, {"model.onnx": b"no"}, signature=models.mlp().signature)
        rig.registry.down = True
        http = Http(rig)
        assert (await http("GET", "/v2/health/ready")).status in (200, 400)
        rig.registry.down = False
        await rig.deploy("net", state="failed")
        assert (await http("GET", "/v2/models/net/ready")).status == 400
        assert (await http("POST", "/v2/models/net/infer", infer_body())).status == 503


async def test_statistics_in_the_extensions_shape(http: Http) -> None:
    """Counts and nanoseconds under Triton's names, for one model, one version and all."""
    await http.json("POST", "/v2/models/adder/infer", infer_body([1.0, 2.0]))
    (line,) = (await http.json("GET", "/v2/models/adder/versions/1/stats"))["model_stats"]
    assert (line["name"], line["version"], line["inference_count"], line["execution_count"]) == ("adder", "1", 2, 1)
    assert line["inference_stats"]["success"]["count"] == 1
    assert set(line["inference_stats"]) == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
    }  # fmt: skip
    assert line["batch_stats"][0]["batch_size"] == 2
    everything = (await http.json("GET", "/v2/models/stats"))["model_stats"]
    assert [(entry["name"], entry["version"]) for entry in everything] == [
        ("adder", "1"), ("adder", "2"), ("same", "1"), ("table", "1"),
    ]  # fmt: skip


async def test_the_repository_api(http: Http) -> None:
    """Index, unload and load of the one repository; a name of another is refused, not ignored."""
    names = [(entry["name"], entry["state"]) for entry in await http.json("POST", "/v2/repository/index")]
    assert names == [("adder", "READY"), ("adder", "READY"), ("same", "READY"), ("table", "READY")]
    assert (await http("POST", "/v2/repository/models/table/unload")).status == 200
    ready = await http.json("POST", "/v2/repository/index", {"ready": True})
    assert "table" not in {entry["name"] for entry in ready}
    for path in ("index", "models/table/load", "models/table/unload"):
        refused = await http("POST", f"/v2/repository/main/{path}")
        assert refused.status == 501
        assert b"one repository" in refused.body
    assert (await http("POST", "/v2/repository/models/table/load", {"parameters": {}})).status == 200
    assert (await http.json("GET", "/v1/models/table"))["ready"]


async def test_kserve_v1(http: Http) -> None:
    """Instances in, predictions out; other verbs say what they are."""
    assert await http.json("POST", "/v1/models/adder:predict", {"instances": [[1.0], [2.0]]}) == {
        "predictions": [[2.0], [3.0]]
    }
    assert (await http.json("GET", "/v1/models"))["models"] == ["adder", "same", "table"]
    assert (await http("POST", "/v1/models/adder:explain", b"{}")).status == 501
    assert (await http("POST", "/v1/models/adder", b"{}")).status == 404
    assert (await http("POST", "/v1/models/ghost:predict", {"instances": [[1]]})).status == 404
    assert (await http("POST", "/v1/models/adder:predict", infer_body())).status == 400


async def test_long_texts_are_read_and_written_beside_the_loop(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long body goes to a thread and comes back right; a short one stays on the loop."""
    hops: list[str] = []
    real = asyncio.to_thread

    async def counted(work: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(work.__name__)
        return await real(work, *args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    values = [float(n) for n in range(4000)]
    text = "".join(f"{value}\n" for value in values * 2)
    await http.json("POST", "/v2/models/adder/infer", infer_body())
    assert (await http("POST", CSV, b"1", content_type="text/csv")).body == b"2.0\n"
    assert hops == []
    long = await http.json("POST", "/v2/models/adder/infer", infer_body(values * 2, pad="x" * 40_000))
    assert long["outputs"][0]["data"] == [value + 1 for value in values * 2]
    lines = await http("POST", CSV, text.encode(), content_type="text/csv")
    assert lines.body.splitlines()[-1] == b"4000.0"
    rows = {"instances": [[value] for value in values], "pad": "x" * 40_000}
    assert len((await http.json("POST", "/v1/models/adder:predict", rows))["predictions"]) == 4000
    assert hops == ["decode_request", "encode_response", "decode", "_encoded", "decode"]


CSV = "/endpoints/adder/invocations"


@pytest.mark.parametrize(
    ("content_type", "body", "accept", "answer"),
    [
        ("text/csv", b"1\n2\n", "", b"2.0\n3.0\n"),
        ("text/csv; charset=utf-8", b"1\n", "application/json", b'{"predictions":[[2.0]]}'),
        ("application/json", b'{"instances": [[1]]}', "", b'{"predictions":[[2.0]]}'),
        ("", b'{"instances": [[1]]}', "*/*", b'{"predictions":[[2.0]]}'),
        ("application/jsonlines", b"[1]\n[2]\n", "text/csv", b"2.0\n3.0\n"),
    ],
)
async def test_invocations_in_every_format(
    http: Http, content_type: str, body: bytes, accept: str, answer: bytes
) -> None:
    """Content-Type says how to read, Accept how to answer; the variant is named."""
    named = {"content_type": content_type, "accept": accept}
    response = await http("POST", CSV, body, **{name: value for name, value in named.items() if value})
    assert (response.status, response.body) == (200, answer)
    assert headers_of(response)["x-amzn-invoked-production-variant"] == "one"


async def test_invocations_take_v2_json(http: Http) -> None:
    """A V2 document under application/json is answered as one."""
    document = await http.json("POST", CSV, infer_body(), content_type="application/json")
    assert document["outputs"][0]["data"] == [2.0]


async def test_a_target_variant_and_an_inference_id(http: Http) -> None:
    """Headers pick the variant and name the capture; custom attributes do not come back by themselves."""
    response = await http(
        "POST", CSV, b"1", content_type="text/csv", x_amzn_sagemaker_target_variant="two",
        x_amzn_sagemaker_custom_attributes="a=b",
    )  # fmt: skip
    assert (response.body, headers_of(response)["x-amzn-invoked-production-variant"]) == (b"3.0\n", "two")
    assert "x-amzn-sagemaker-custom-attributes" not in headers_of(response)
    await http(
        "POST", "/endpoints/same/invocations", b"1,2,3", content_type="text/csv", x_amzn_sagemaker_inference_id="i-9",
        x_amzn_sagemaker_custom_attributes="a=b", accept="application/json",
    )  # fmt: skip
    captured = await captures(http)
    assert (captured.inference_ids, captured.custom_attributes) == (["i-9"], ["a=b"])
    assert (captured.request_types, captured.response_types) == (["text/csv"], ["application/json"])


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "code", "text"),
    [
        ("/endpoints/ghost/invocations", {}, b"1", 400, "ValidationError",
         "Endpoint ghost of account 000000000000 not found."),
        (CSV, {"x_amzn_sagemaker_target_variant": "nine"}, b"1", 400, "ValidationError", "no variant 'nine'"),
        (CSV, {"x_amzn_sagemaker_inference_id": "i" * 65}, b"1", 400, "ValidationError", "1 to 64"),
        (CSV, {"x_amzn_sagemaker_target_model": "m.tar.gz"}, b"1", 400, "ValidationError", "multi-model"),
        (CSV, {"x_amzn_sagemaker_custom_attributes": "ä"}, b"1", 400, "ValidationError", "ASCII"),
        (CSV, {}, b"1" * (6 * 1024 * 1024 + 1), 413, "ValidationError", "exceeded 6291456 bytes"),
        (CSV, {}, b"one", 424, "ModelError", "Received client error (400) from primary"),
        (CSV, {"content_type": "image/png"}, b"1", 424, "ModelError", "Received client error (415) from primary"),
        (CSV, {"accept": "image/png"}, b"1", 424, "ModelError", "Received client error (406) from primary"),
        ("/endpoints/adder/async-invocations", {}, b"", 501, "NotImplemented", "asynchronous"),
        ("/endpoints/adder/invocations-response-stream", {}, b"", 501, "NotImplemented", "response streams"),
        ("/invocations", {}, b"1", 400, "ValidationError", "3 are deployed"),
    ],
)  # fmt: skip
async def test_errors_in_awss_shapes(
    http: Http, path: str, headers: dict[str, str], body: bytes, status: int, code: str, text: str
) -> None:
    """The code in x-amzn-errortype, the text in Message; ModelError carries the model's side."""
    response = await http("POST", path, body, **{"content_type": "text/csv", **headers})
    document = json.loads(response.body)
    assert (response.status, headers_of(response)["x-amzn-errortype"]) == (status, code)
    assert text in document["Message"]
    if code == "ModelError":
        assert document["OriginalStatusCode"] == int(text.partition("(")[2][:3])
        assert document["LogStreamArn"].startswith("arn:aws:logs:")
        assert document["OriginalMessage"] in document["Message"]


async def test_a_failing_model_is_never_answered_with_a_status_that_boto3_sends_again(http: Http) -> None:
    """What may have run is 424, even for a defect of ours."""
    response = await http("POST", "/endpoints/table/invocations", b"99", content_type="text/csv")
    assert response.status == 424

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    http.rig.dataplane._execute = broken  # type: ignore[assignment, method-assign]
    response = await http("POST", CSV, b"1", content_type="text/csv")
    assert response.status == 424
    assert b"defect" not in response.body


async def test_the_container_contract(tmp_path: Path) -> None:
    """/ping is an empty 200; /invocations serves the default endpoint, else the only one, with plain statuses."""
    async with inference(tmp_path) as rig:
        rig.register("adder", models.constant_adder(1.0))
        rig.register("other", models.constant_adder(5.0))
        await rig.deploy("adder")
        http = Http(rig)
        pong = await http("GET", "/ping")
        assert (pong.status, pong.body) == (200, b"")
        assert (await http("POST", "/invocations", b"1", content_type="text/csv")).body == b"2.0\n"
        assert (await http("POST", "/invocations", b"x", content_type="text/csv")).status == 400
        assert (await http("POST", "/invocations", b"x", content_type="image/png")).status == 415
        await rig.deploy("other")
        assert (await http("POST", "/invocations", b"1", content_type="text/csv")).status == 400
        chosen = Http(rig, InferenceSettings(default_endpoint="other"))
        assert (await chosen("POST", "/invocations", b"1", content_type="text/csv")).body == b"6.0\n"


async def test_invocations_do_not_guess_among_endpoints_of_which_one_is_absent(tmp_path: Path) -> None:
    """An endpoint that failed or is loading counts: requests meant for it must not run on the other."""
    async with inference(tmp_path) as rig:
        rig.registry.add_version("broken", 1, {"model.onnx": b"no"}, signature=models.mlp().signature)
        rig.register("adder", models.constant_adder(1.0))
        await rig.deploy("broken", state="failed")
        http = Http(rig)
        assert (await http("POST", "/invocations", b"1", content_type="text/csv")).status == 503
        await rig.deploy("adder")
        refused = await http("POST", "/invocations", b"1", content_type="text/csv")
        assert (refused.status, headers_of(refused)["x-amzn-errortype"]) == (400, "ValidationError")
        rig.registry.remove("broken")
        await rig.registry.reported("broken", "removed")
        assert (await http("POST", "/invocations", b"1", content_type="text/csv")).body == b"2.0\n"


async def test_every_route_has_an_action_and_renders_errors(http: Http) -> None:
    """Predictions are `predict`, load and unload `deploy`, the rest `read`."""
    actions = {(route.method, route.pattern): route.action for route in http.routes}
    assert set(actions.values()) == {"predict", "read", "deploy"}
    assert all((action == "deploy") == pattern.endswith("load") for (_, pattern), action in actions.items())
    writes = [pattern for (_, pattern), action in actions.items() if action == "predict"]
    assert all(word in "".join(writes) for word in ("infer", "invocations", "/v1/models/{model}"))


@pytest.fixture
async def mixed(tmp_path: Path) -> AsyncIterator[Http]:
    """Two endpoints of two variants each: `pair` with the inputs in another order, `kinds` with another datatype."""
    async with inference(tmp_path) as rig:
        pair = models.two_inputs()
        swapped = replace(pair, signature=replace(pair.signature, inputs=pair.signature.inputs[::-1]))
        rig.register("pair", pair, swapped)
        rig.register("kinds", models.identity("FP32", (-1, 2)), models.identity("INT32", (-1, 2)))
        for name in ("pair", "kinds"):
            await rig.deploy(name, Variant("one", 1), Variant("two", 2))
        yield Http(rig)


def json_part(response: HttpResponse) -> Any:
    """The document in front of an answer's binary tensors."""
    assert response.status == 200, response.body
    return json.loads(response.body[: int(headers_of(response)["inference-header-content-length"])])


PAIR = "/endpoints/pair/invocations"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", b"5,7,1,2"),
        ("application/json", b'{"instances": [[5,7,1,2]]}'),
        ("application/jsonlines", b"[5,7,1,2]"),
    ],
)
async def test_the_variant_that_answers_is_the_one_whose_signature_read_the_request(
    mixed: Http, content_type: str, body: bytes
) -> None:
    """Columns go to the inputs in the order of the variant that answers; every variant gets its share."""
    expected = {"one": [4.0, 5.0], "two": [-4.0, -5.0]}
    seen: Counter[str] = Counter()
    for _ in range(40):
        response = await mixed("POST", PAIR, body, content_type=content_type, accept="application/json")
        variant = headers_of(response)["x-amzn-invoked-production-variant"]
        assert json.loads(response.body)["predictions"][0]["difference"] == expected[variant]
        seen[variant] += 1
    assert seen["one"] in range(18, 23)
    counted = mixed.rig.metrics.value("vedette_requests_total", endpoint="pair", variant="one", code="OK")
    assert counted == seen["one"]


async def test_v1_reads_with_the_variant_that_answers(mixed: Http) -> None:
    """Both variants answer, each right for its own order of inputs; the target header picks one."""
    path, body = "/v1/models/pair:predict", {"instances": [[5, 7, 1, 2]]}
    seen = [(await mixed.json("POST", path, body))["predictions"][0]["difference"] for _ in range(20)]
    counted = mixed.rig.metrics.value("vedette_requests_total", endpoint="pair", variant="one", protocol="kserve")
    assert seen.count([4.0, 5.0]) == counted
    assert seen.count([-4.0, -5.0]) == 20 - counted
    assert 8 <= counted <= 12
    aimed = [await mixed.json("POST", path, body, x_amzn_sagemaker_target_variant="two") for _ in range(4)]
    assert [document["predictions"][0]["difference"] for document in aimed] == [[-4.0, -5.0]] * 4
    assert (await mixed("POST", path, body, x_amzn_sagemaker_target_variant="nine")).status == 400


async def test_v1_names_the_capture(http: Http) -> None:
    """The inference id reaches the record, as it does with V2."""
    await http.json(
        "POST", "/v1/models/same:predict", {"instances": [[1, 2, 3]]}, x_amzn_sagemaker_inference_id="i-7"
    )  # fmt: skip
    captured = await captures(http)
    assert (captured.inference_ids, captured.response_types) == (["i-7"], ["application/json"])


async def test_v2_tells_the_capture_what_it_read_and_wrote(http: Http) -> None:
    """JSON and binary answers are told apart; a request without a content type has none."""
    path, body = (
        "/v2/models/same/infer",
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
    )
    await http.json("POST", path, body, content_type="application/json; charset=utf-8")
    await http("POST", path, {**body, "parameters": {"binary_data_output": True}})
    captured = await captures(http)
    assert captured.request_types == ["application/json; charset=utf-8", ""]
    assert captured.response_types == ["application/json", "application/octet-stream"]


async def test_strict_capture_that_fails_is_500_in_every_http_protocol(tmp_path: Path) -> None:
    """OIP and V1 answer 500, SageMaker's runtime ModelError (boto3 must not send it again), all without the answer."""

    class Refusing(MemoryEventStream):
        async def publish(self, topic: Any, messages: Any) -> list[int]:
            raise InvalidArgument("no")

    async with inference(tmp_path, stream=Refusing()) as rig:
        rig.register("adder", models.constant_adder(1.0))
        await rig.deploy("adder", capture=CaptureSettings(sampling_percent=100, mode="strict"))
        http = Http(rig)
        answers = [
            await http("POST", "/v2/models/adder/infer", infer_body()),
            await http("POST", "/v1/models/adder:predict", {"instances": [[1]]}),
            await http("POST", "/invocations", b"1", content_type="text/csv"),
            await http("POST", "/endpoints/adder/invocations", b"1", content_type="text/csv"),
        ]
    assert [answer.status for answer in answers] == [500, 500, 500, 424]
    assert all(b"could not be stored" in answer.body for answer in answers)
    assert headers_of(answers[2])["x-amzn-errortype"] == "InternalFailure"
    assert json.loads(answers[3].body)["OriginalStatusCode"] == 500


async def test_raw_requests_are_read_with_the_variant_that_answers(mixed: Http) -> None:
    """Bytes alone are whatever the variant takes: every request runs, as its own datatype."""
    path, raw = "/v2/models/kinds/infer", struct.pack("<2f", 1.0, 2.0)
    seen: Counter[str] = Counter()
    for _ in range(20):
        document = json_part(await mixed("POST", path, raw, inference_header_content_length="0"))
        seen[document["outputs"][0]["datatype"]] += 1
        assert document["model_version"] == {"FP32": "1", "INT32": "2"}[document["outputs"][0]["datatype"]]
    assert seen["FP32"] in range(8, 13)
    pinned = "/v2/models/kinds/versions/1/infer"
    response = await mixed("POST", pinned, raw, inference_header_content_length="0")
    assert response.body.endswith(raw)
    assert json_part(response)["model_version"] == "1"


async def test_a_variant_chosen_before_a_deployment_answers_after_it(http: Http) -> None:
    """What was chosen stays loaded until its request is answered, although its route is gone."""
    rig = http.rig
    with rig.dataplane.choose("adder", target="two") as choice:
        await rig.deploy("adder", Variant("one", 1))
        assert first(await rig.infer("adder", [[1.0]], choice=choice)) == [[3.0]]
    await rig.loader.settled()
    with pytest.raises(InvalidArgument, match="no variant 'two'"), rig.dataplane.choose("adder", target="two"):
        raise AssertionError("unreachable")


@pytest.mark.parametrize(
    ("path", "body", "content_type", "protocol", "status"),
    [
        ("/v2/models/same/infer", {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32"}]}, "", "http", 400),
        ("/v1/models/same:predict", {"instances": [[None, 1, 2]]}, "", "kserve", 400),
        ("/endpoints/same/invocations", {"instances": [[None, 1, 2]]}, "application/json", "sagemaker", 424),
    ],
)
async def test_an_answer_that_cannot_be_written_is_a_failed_request(
    http: Http, path: str, body: Any, content_type: str, protocol: str, status: int
) -> None:
    """NaN is not JSON: metrics, statistics and the capture say what the caller heard, and nothing says OK."""
    sent: Any = body
    headers = {"content_type": content_type} if content_type else {}
    if protocol == "http":
        body["inputs"][0]["parameters"] = {"binary_data_size": 12}
        head = json.dumps(body).encode()
        sent, headers = head + struct.pack("<3f", np.nan, 1, 2), {"inference_header_content_length": str(len(head))}
    assert (await http("POST", path, sent, **headers)).status == status
    metrics = http.rig.metrics
    assert metrics.value("vedette_requests_total", endpoint="same", protocol=protocol, code="invalid_argument") == 1
    assert metrics.value("vedette_requests_total", endpoint="same", code="OK") == 0
    (line,) = http.rig.dataplane.statistics("same")
    assert (line.success.count, line.fail.count, line.inference_count) == (0, 1, 0)
    captured = await captures(http)
    assert (captured.codes, captured.outputs["y"].shapes) == (["invalid_argument"], [None])


V2_SAME, V1_SAME, CSV_SAME = "/v2/models/same/infer", "/v1/models/same:predict", "/endpoints/same/invocations"


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (V2_SAME, b"{", {}),
        (V2_SAME, b'{"inputs": 1}' + b" " * 40_000, {}),
        (f"{V2_SAME.replace('/infer', '')}/versions/1/infer", b"[]", {}),
        (V2_SAME, b"{}", {"inference_header_content_length": "x"}),
        (V2_SAME, b"123", {"inference_header_content_length": "0"}),
        (V1_SAME, b'{"instances": "x"}', {}),
        (CSV_SAME, b"1,2,x", {"content_type": "text/csv"}),
        (CSV_SAME, b"1,2,3", {"content_type": "image/png"}),
    ],
)
@pytest.mark.parametrize("mode", ["best_effort", "strict"])
async def test_a_request_that_cannot_be_read_leaves_a_record(
    http: Http, mode: Any, path: str, body: bytes, headers: dict[str, str]
) -> None:
    """With its code and ids, without tensors, in every protocol; strict, before the answer."""
    await http.rig.deploy("same", capture=CaptureSettings(sampling_percent=100, mode=mode))
    known = {"x_amzn_sagemaker_inference_id": "i-5", "x_amzn_sagemaker_custom_attributes": "a=b"}
    response = await http("POST", path, body, **headers, **known)
    assert 400 <= response.status < 500
    if mode == "best_effort":
        await http.rig.capture.flush()
    (delivery,) = await http.rig.stream.read("captures", 0, 9)
    found = decode_captures(delivery.message.value)
    assert (found.endpoint, found.version, found.rows.tolist()) == ("same", "1", [0])
    assert found.codes in (["invalid_argument"], ["unsupported_media_type"])
    assert (found.inference_ids, found.custom_attributes) == (["i-5"], ["a=b"])
    assert found.request_types == [headers.get("content_type", "")]
    assert [shape for tensor in found.inputs.values() for shape in tensor.shapes] == [None]
    assert found.latencies_us[0] >= 0


async def test_a_request_that_cannot_be_read_runs_into_full_strict_capture(http: Http) -> None:
    """Where there is no room for its record the caller is told that; where nothing is captured, only its own error."""
    await http.rig.deploy("same", capture=CaptureSettings(sampling_percent=100, mode="strict"))
    http.rig.capture._closed = "disk"
    assert (await http("POST", V2_SAME, b"{")).status == 503
    http.rig.capture._closed = ""
    for path in ("/v2/models/adder/infer", "/v2/models/nobody/infer"):
        assert (await http("POST", path, b"{")).status == 400
    await http.rig.capture.flush()
    assert await http.rig.stream.read("captures", 0, 9) == []
