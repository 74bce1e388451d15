"""SageMaker's runtime API and container contract: `/endpoints/{name}/invocations`, `/ping`, `/invocations`.

Source: botocore's sagemaker-runtime model and SageMaker's page on containers for hosting.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.codec import instances
from vedette.codec.content import Format, choose_accept, choose_format
from vedette.codec.v2json import decode_request, encode_response
from vedette.core.errors import Internal, InvalidArgument, TooLarge, Unimplemented, VedetteError
from vedette.core.models import Signature
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.config import InferenceSettings
from vedette.inference.dataplane import DataPlane, Encode
from vedette.inference.http.aws import (
    Account,
    BadCall,
    render_error,
    render_invocation_error,
)
from vedette.inference.http.offload import beside_the_loop, text_size
from vedette.inference.http.oip import known_of, note_capture
from vedette.inference.router import Choice

log = logging.getLogger(__name__)
_JSON = "application/json"
_VISIBLE = re.compile(r"[\x20-\x7e]{1,1024}")
_REFUSED_HEADERS = {
    "x-amzn-sagemaker-target-model": "multi-model endpoints",
    "x-amzn-sagemaker-target-container-hostname": "direct calls of one container",
    "x-amzn-sagemaker-enable-explanations": "online explanations",
    "x-amzn-sagemaker-inference-component": "inference components",
    "x-amzn-sagemaker-session-id": "stateful sessions",
}


class SageMakerHttp:
    """The handlers over a data plane."""

    def __init__(self, dataplane: DataPlane, settings: InferenceSettings) -> None:
        self._dataplane = dataplane
        self._default = settings.default_endpoint
        self._max_bytes = settings.max_invocation_bytes
        self._account = Account(settings.account_id, settings.region)

    def routes(self) -> tuple[Route, ...]:
        """The protocol's lines of the service's route table."""
        endpoint = "/endpoints/{endpoint}"
        return (
            Route("POST", f"{endpoint}/invocations", "predict", self.invoke_endpoint, render_error),
            Route("POST", f"{endpoint}/async-invocations", "predict", self.invoke_async, render_error),
            Route("POST", f"{endpoint}/invocations-response-stream", "predict", self.invoke_stream, render_error),
            Route("GET", "/ping", "read", self.ping, render_error),
            Route("POST", "/invocations", "predict", self.invocations, render_error),
        )

    async def invoke_endpoint(self, request: HttpRequest) -> HttpResponse:
        """InvokeEndpoint."""
        endpoint = request.params["endpoint"]
        try:
            return await self._invoke(request, endpoint)
        except VedetteError as error:
            return render_invocation_error(error, endpoint, self._account)

    async def invocations(self, request: HttpRequest) -> HttpResponse:
        """The container contract's invocation."""
        return await self._invoke(request, self._only_endpoint())

    async def ping(self, request: HttpRequest) -> HttpResponse:
        """The container contract's health check: 200 and nothing else means ready."""
        return HttpResponse(503 if self._dataplane.ready() else 200)

    async def invoke_async(self, request: HttpRequest) -> HttpResponse:
        """InvokeEndpointAsync."""
        raise Unimplemented("asynchronous invocation is not supported; see the limits in the README")

    async def invoke_stream(self, request: HttpRequest) -> HttpResponse:
        """InvokeEndpointWithResponseStream."""
        raise Unimplemented("response streams are not supported; see the limits in the README")

    async def _invoke(self, request: HttpRequest, endpoint: str) -> HttpResponse:
        received = time.monotonic()
        if len(request.body) > self._max_bytes:
            raise TooLarge(f"HTTP content length exceeded {self._max_bytes} bytes.")
        target = request.headers.get("x-amzn-sagemaker-target-variant") or ""
        inference_id = _checked_headers(request)
        with self._choose(endpoint, target) as choice:
            try:
                inference, encode = await _read(request, choice.signature)
            except VedetteError as error:
                await self._dataplane.unread(known_of(request, endpoint), error, received=received, choice=choice)
                raise
            inference.endpoint, inference.target_variant, inference.inference_id = endpoint, target, inference_id
            note_capture(inference, request)
            return await self._infer(inference, encode, received, choice)

    async def _infer(
        self, inference: InferRequest, encode: Encode[HttpResponse], received: float, choice: Choice
    ) -> HttpResponse:
        try:
            return await self._dataplane.infer(
                inference, encode, protocol="sagemaker", received=received, choice=choice
            )
        except VedetteError:
            raise
        except Exception as error:
            # a 500 would be sent again by boto3 although the model may have run; 424 is not
            log.exception("an invocation failed unexpectedly", extra={"endpoint": inference.endpoint})
            raise Internal("internal error; see the log of the inference service") from error

    @contextmanager
    def _choose(self, endpoint: str, target: str) -> Iterator[Choice]:
        with ExitStack() as stack:
            try:
                choice = stack.enter_context(self._dataplane.choose(endpoint, target=target))
            except InvalidArgument as error:
                raise BadCall(error.message) from error
            yield choice

    def _only_endpoint(self) -> str:
        if self._default:
            return self._default
        endpoints = self._dataplane.deployed()
        if len(endpoints) != 1:
            raise BadCall(
                f"/invocations needs one endpoint and {len(endpoints)} are deployed; set default_endpoint, "
                "or call /endpoints/NAME/invocations"
            )
        return endpoints[0]


async def _read(request: HttpRequest, signature: Signature) -> tuple[InferRequest, Encode[HttpResponse]]:
    """The request and how its answer is written, both as its headers say."""
    content_type = request.headers.get("content-type") or ""
    read = choose_format(content_type)
    write = choose_accept(request.headers.get("accept") or "", content_type)
    v2 = read.media_type == _JSON and instances.is_v2(request.body)
    size = len(request.body)
    if v2:
        inference = await beside_the_loop(size, decode_request, request.body)
    else:
        inference = InferRequest("", await beside_the_loop(size, read.decode, request.body, signature))

    async def encode(_request: InferRequest, response: InferResponse) -> HttpResponse:
        body = await beside_the_loop(text_size(response.outputs), _encoded, response, write, signature, v2=v2)
        response.content_type = write.media_type
        variant = ("x-amzn-invoked-production-variant", response.variant)
        return HttpResponse(200, body, [("content-type", write.media_type), variant])

    return inference, encode


def _encoded(response: InferResponse, write: Format, signature: Signature, *, v2: bool) -> bytes:
    if v2 and write.media_type == _JSON:
        return encode_response(response, {})[0]
    return write.encode(response.outputs, signature)


def _checked_headers(request: HttpRequest) -> str:
    """The inference id, when every header is one that is honoured. Raises BadCall."""
    headers = request.headers
    for name, what in _REFUSED_HEADERS.items():
        if headers.get(name) is not None:
            raise BadCall(f"{what} are not supported here; leave the header {name} out")
    attributes = headers.get("x-amzn-sagemaker-custom-attributes")
    if attributes and _VISIBLE.fullmatch(attributes) is None:
        raise BadCall("custom attributes must be at most 1024 visible ASCII characters")
    inference_id = headers.get("x-amzn-sagemaker-inference-id")
    if inference_id is not None and not 1 <= len(inference_id) <= 64:
        raise BadCall("the inference id must have 1 to 64 characters")
    return inference_id or ""
