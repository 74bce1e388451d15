"""Open Inference Protocol v2 over REST with Triton's extensions.

Source: kserve/open-inference-protocol; triton-inference-server, docs/protocol. Statuses are Triton's: not ready is
400, unknown 404, what is not done 501.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from vedette.chassis.auth import Action
from vedette.chassis.http import Handler, HttpRequest, HttpResponse, Route
from vedette.codec.v2json import decode_raw_request, decode_request, encode_response
from vedette.core.errors import InvalidArgument, Unimplemented, VedetteError
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.dataplane import DataPlane
from vedette.inference.http.documents import metadata_document, statistics_document
from vedette.inference.http.offload import SHORT, beside_the_loop, text_size

JSON = [("content-type", "application/json")]
_BINARY = ("content-type", "application/octet-stream")
_JSON_LENGTH = "inference-header-content-length"
_STATUS = {"already_exists": 400, "cancelled": 400}
"""Where Triton's HTTP status for a code is not ours."""


def render_error(error: VedetteError) -> HttpResponse:
    """`{"error": text}` with Triton's status."""
    status = _STATUS.get(error.code, error.http_status)
    return HttpResponse(status, msgspec.json.encode({"error": error.message}), JSON)


def json_response(document: object, status: int = 200) -> HttpResponse:
    """A JSON document as an answer."""
    return HttpResponse(status, msgspec.json.encode(document), JSON)


def json_object(body: bytes) -> dict[str, object]:
    """A body that is a JSON object, or nothing. Raises InvalidArgument."""
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument("the body must be a JSON object") from error


class OipHttp:
    """The protocol's handlers over a data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    def routes(self) -> tuple[Route, ...]:
        """The protocol's lines of the service's route table."""
        lines: list[tuple[str, str, Action, Handler]] = [
            ("GET", "/v2", "read", self.server),
            ("GET", "/v2/", "read", self.server),
            ("GET", "/v2/health/live", "read", self.live),
            ("GET", "/v2/health/ready", "read", self.ready),
            ("GET", "/v2/models/stats", "read", self.statistics),
            ("POST", "/v2/repository/index", "read", self.index),
            ("POST", "/v2/repository/models/{model}/load", "deploy", self.load),
            ("POST", "/v2/repository/models/{model}/unload", "deploy", self.unload),
            ("POST", "/v2/repository/{repository}/index", "read", _one_repository),
            ("POST", "/v2/repository/{repository}/models/{model}/load", "deploy", _one_repository),
            ("POST", "/v2/repository/{repository}/models/{model}/unload", "deploy", _one_repository),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            lines.append(("POST", f"{model}/infer", "predict", self.infer))
            lines.append(("GET", model, "read", self.metadata))
            lines.append(("GET", f"{model}/ready", "read", self.model_ready))
            lines.append(("GET", f"{model}/config", "read", self.config))
            lines.append(("GET", f"{model}/stats", "read", self.statistics))
        table = [Route(method, path, action, handler, render_error) for method, path, action, handler in lines]
        return (*table, *_refusals())

    async def infer(self, request: HttpRequest) -> HttpResponse:
        """Run the model. The hot path: straight, and nothing in it is built that the answer does not need."""
        received = time.monotonic()
        params = request.params
        length = request.headers.get(_JSON_LENGTH)
        if length and not length.strip("0"):
            return await self._infer_raw(request, received)
        try:
            if length is not None:
                json_length = _whole_number(length)
                inference = await beside_the_loop(json_length, decode_request, request.body, json_length)
            elif len(request.body) <= SHORT:
                inference = decode_request(request.body)
            else:
                inference = await asyncio.to_thread(decode_request, request.body)
        except VedetteError as error:
            unread = known_of(request, params["model"], version=params.get("version", ""))
            await self._dataplane.unread(unread, error, received=received)
            raise
        inference.endpoint = params["model"]
        if "version" in params:
            inference.version = params["version"]
        inference.target_variant, inference.inference_id = amazon_headers(request)
        note_capture(inference, request)
        return await self._dataplane.infer(inference, _encoded, protocol="http", received=received)

    async def server(self, request: HttpRequest) -> HttpResponse:
        """Server metadata."""
        return json_response(self._dataplane.server_metadata())

    async def live(self, request: HttpRequest) -> HttpResponse:
        """Server live."""
        return json_response({"live": self._dataplane.live()})

    async def ready(self, request: HttpRequest) -> HttpResponse:
        """Server ready: 400 with the reason when it is not."""
        reason = self._dataplane.ready()
        return json_response({"ready": False, "error": reason}, 400) if reason else json_response({"ready": True})

    async def model_ready(self, request: HttpRequest) -> HttpResponse:
        """Model ready: 400 when it is known and does not serve."""
        model = request.params["model"]
        ready = self._dataplane.model_ready(model, request.params.get("version", ""))
        return json_response({"name": model, "ready": ready}, 200 if ready else 400)

    async def metadata(self, request: HttpRequest) -> HttpResponse:
        """Model metadata, with the meaning of inputs as far as it is known."""
        found = self._dataplane.metadata(request.params["model"], request.params.get("version", ""))
        return json_response(metadata_document(found))

    async def config(self, request: HttpRequest) -> HttpResponse:
        """Model configuration in Triton's words."""
        return json_response(self._dataplane.config(request.params["model"], request.params.get("version", "")))

    async def statistics(self, request: HttpRequest) -> HttpResponse:
        """Statistics of one model, one version, or everything."""
        params = request.params
        found = self._dataplane.statistics(params.get("model", ""), params.get("version", ""))
        return json_response({"model_stats": [statistics_document(line) for line in found]})

    async def index(self, request: HttpRequest) -> HttpResponse:
        """Repository index; `{"ready": true}` asks for what serves."""
        ready_only = json_object(request.body).get("ready", False)
        if not isinstance(ready_only, bool):
            raise InvalidArgument("'ready' must be true or false")
        return json_response(await self._dataplane.index(ready_only=ready_only))

    async def load(self, request: HttpRequest) -> HttpResponse:
        """Repository load."""
        await self._dataplane.load(request.params["model"], _parameters(request.body))
        return HttpResponse(200)

    async def unload(self, request: HttpRequest) -> HttpResponse:
        """Repository unload."""
        await self._dataplane.unload(request.params["model"], _parameters(request.body))
        return HttpResponse(200)

    async def _infer_raw(self, request: HttpRequest, received: float) -> HttpResponse:
        """A body that is one tensor's bytes and nothing else: only the signature says which tensor."""
        model, version = request.params["model"], request.params.get("version", "")
        target, inference_id = amazon_headers(request)
        with self._dataplane.choose(model, version=version, target=target) as choice:
            try:
                inference = decode_raw_request(request.body, choice.signature)
            except VedetteError as error:
                unread = known_of(request, model, version=version)
                await self._dataplane.unread(unread, error, received=received, choice=choice)
                raise
            inference.endpoint, inference.version = model, version
            inference.target_variant, inference.inference_id = target, inference_id
            note_capture(inference, request)
            return await self._dataplane.infer(inference, _encoded, protocol="http", received=received, choice=choice)


def amazon_headers(request: HttpRequest) -> tuple[str, str]:
    """The target variant and the inference id, honoured in every protocol; empty where absent."""
    headers = request.headers
    return headers.get("x-amzn-sagemaker-target-variant") or "", headers.get("x-amzn-sagemaker-inference-id") or ""


def note_capture(inference: InferRequest, request: HttpRequest) -> None:
    """Set what only a capture tells of: the content type and the custom attributes as they came."""
    headers = request.headers
    inference.content_type = headers.get("content-type") or ""
    inference.custom_attributes = headers.get("x-amzn-sagemaker-custom-attributes") or ""


def known_of(request: HttpRequest, endpoint: str, *, version: str = "") -> InferRequest:
    """What a capture tells of a request whose body could not be read."""
    inference = InferRequest(endpoint, [], version)
    inference.target_variant, inference.inference_id = amazon_headers(request)
    note_capture(inference, request)
    return inference


async def _encoded(request: InferRequest, response: InferResponse) -> HttpResponse:
    """The answer's bytes. Part of the hot path."""
    binary = _binary_outputs(request, response)
    if binary or text_size(response.outputs) <= SHORT:
        body, json_length = encode_response(response, binary)
    else:
        body, json_length = await asyncio.to_thread(encode_response, response, binary)
    response.content_type = "application/json" if json_length is None else "application/octet-stream"
    if json_length is None:
        return HttpResponse(200, body, JSON)
    return HttpResponse(200, body, [_BINARY, (_JSON_LENGTH, str(json_length))])


def _whole_number(header: str) -> int:
    if not (header.isascii() and header.isdigit()):
        raise InvalidArgument("Inference-Header-Content-Length must be a whole number")
    return int(header[:20])


def _binary_outputs(request: InferRequest, response: InferResponse) -> Mapping[str, bool]:
    """Which outputs go as binary: as each requested output says, else as the request says."""
    default = request.binary_output
    if not request.outputs:
        return {tensor.name: True for tensor in response.outputs} if default else {}
    return {output.name: default if output.binary is None else output.binary for output in request.outputs}


def _parameters(body: bytes) -> dict[str, object]:
    parameters = json_object(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidArgument("'parameters' must be an object")
    return parameters


_NOT_DONE = (
    ("GET", "/v2/logging", "log settings"),
    ("POST", "/v2/logging", "log settings"),
    ("GET", "/v2/trace/setting", "trace settings"),
    ("POST", "/v2/trace/setting", "trace settings"),
    ("GET", "/v2/models/{model}/trace/setting", "trace settings"),
    ("POST", "/v2/models/{model}/trace/setting", "trace settings"),
    ("POST", "/v2/models/{model}/generate", "text generation"),
    ("POST", "/v2/models/{model}/generate_stream", "text generation"),
    ("POST", "/v2/models/{model}/versions/{version}/generate", "text generation"),
    ("POST", "/v2/models/{model}/versions/{version}/generate_stream", "text generation"),
    *(
        (method, f"/v2/{kind}{region}/{verb}", "shared memory")
        for kind in ("systemsharedmemory", "cudasharedmemory")
        for region in ("", "/region/{region}")
        for method, verb in (("GET", "status"), ("POST", "register"), ("POST", "unregister"))
    ),
)
"""Triton's routes that are refused: method, path, what is not supported."""


async def _one_repository(_: HttpRequest) -> HttpResponse:
    raise Unimplemented("there is one repository; leave its name out of the path")


def _refusals() -> list[Route]:
    return [Route(method, path, "read", _refusal(what), render_error) for method, path, what in _NOT_DONE]


def _refusal(what: str) -> Handler:
    async def refuse(_: HttpRequest) -> HttpResponse:
        raise Unimplemented(f"{what}: vedette does not do this; see the limits in the README")

    return refuse
