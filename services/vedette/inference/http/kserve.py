"""KServe's V1 protocol: `GET /v1/models/{m}` and `POST /v1/models/{m}:predict`.

Source: kserve, docs on the V1 data plane (TensorFlow Serving's REST shape).
"""

from __future__ import annotations

import time

from vedette.chassis.http import HttpRequest, HttpResponse, Route
from vedette.codec import instances
from vedette.core.errors import InvalidArgument, NotFound, Unimplemented, VedetteError
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.dataplane import DataPlane
from vedette.inference.http.offload import beside_the_loop, text_size
from vedette.inference.http.oip import JSON, amazon_headers, json_response, known_of, note_capture, render_error


class KserveHttp:
    """The protocol's handlers over a data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    def routes(self) -> tuple[Route, ...]:
        """The protocol's lines of the service's route table."""
        return (
            Route("GET", "/v1/models", "read", self.models, render_error),
            Route("GET", "/v1/models/{model}", "read", self.model, render_error),
            Route("POST", "/v1/models/{model}", "predict", self.predict, render_error),
        )

    async def models(self, request: HttpRequest) -> HttpResponse:
        """Names of what serves."""
        return json_response({"models": self._dataplane.endpoints()})

    async def model(self, request: HttpRequest) -> HttpResponse:
        """Whether one model is ready."""
        name = request.params["model"]
        ready = self._dataplane.model_ready(name)
        return json_response({"name": name, "ready": ready}, 200 if ready else 503)

    async def predict(self, request: HttpRequest) -> HttpResponse:
        """`{"instances": [...]}` -> `{"predictions": [...]}`."""
        received = time.monotonic()
        model, _, verb = request.params["model"].partition(":")
        if verb == "explain":
            raise Unimplemented("explanations: vedette does not do this; see the limits in the README")
        if verb != "predict":
            raise NotFound("the V1 protocol has POST /v1/models/NAME:predict")
        if instances.is_v2(request.body):
            raise InvalidArgument("this is a V2 request; send it to /v2/models/NAME/infer")
        target, inference_id = amazon_headers(request)
        with self._dataplane.choose(model, target=target) as choice:
            try:
                inputs = await beside_the_loop(len(request.body), instances.decode, request.body, choice.signature)
            except VedetteError as error:
                await self._dataplane.unread(known_of(request, model), error, received=received, choice=choice)
                raise
            inference = InferRequest(model, inputs, target_variant=target, inference_id=inference_id)
            note_capture(inference, request)
            return await self._dataplane.infer(inference, _encoded, protocol="kserve", received=received, choice=choice)


async def _encoded(_request: InferRequest, response: InferResponse) -> HttpResponse:
    body = await beside_the_loop(text_size(response.outputs), instances.encode, response.outputs)
    response.content_type = "application/json"
    return HttpResponse(200, body, JSON)
