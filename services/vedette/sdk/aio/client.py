"""The client: predictions here, the control planes' calls under `models`, `monitors` and so on.

Rule: constructing connects to nothing; each server is spoken to only when a method needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from vedette.codec import v2json
from vedette.core.errors import InvalidArgument, NotFound
from vedette.core.tensors import Parameter
from vedette.sdk.aio.alerts import AsyncAlerts
from vedette.sdk.aio.baselines import AsyncBaselines
from vedette.sdk.aio.connection import Answer, AsyncConnection, Call
from vedette.sdk.aio.endpoints import AsyncEndpoints
from vedette.sdk.aio.models import AsyncModels
from vedette.sdk.aio.monitors import AsyncMonitors
from vedette.sdk.aio.webhooks import AsyncWebhooks
from vedette.sdk.documents import read
from vedette.sdk.inputs import EndpointMetadata, tensors_from
from vedette.sdk.inquiry import Inquiry, model_path
from vedette.sdk.prediction import Prediction, prediction_from
from vedette.sdk.retries import Retries

INFERENCE = "http://127.0.0.1:8080"
REGISTRY = "http://127.0.0.1:8090"
MONITOR = "http://127.0.0.1:8093"
PATIENCE = Retries()


class AsyncClient:
    """Speaks to vedette's data plane, registry and monitor.

    Example:
        async with AsyncClient() as client:
            await client.models.register("iris", "iris.onnx")
            await client.endpoints.deploy("iris")
            await client.endpoints.wait_in_service("iris")
            print((await client.predict("iris", [[5.1, 3.5, 1.4, 0.2]])).label)

    `timeout_s` is the longest silence of a server that is borne. `transport` takes the place of the
    network, in tests or for TLS of one's own.
    """

    def __init__(
        self,
        inference: str = INFERENCE,
        registry: str = REGISTRY,
        monitor: str = MONITOR,
        *,
        timeout_s: float = 60.0,
        retries: Retries = PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._inference = AsyncConnection(inference, timeout_s=timeout_s, retries=retries, transport=transport)
        self._registry = AsyncConnection(registry, timeout_s=timeout_s, retries=retries, transport=transport)
        self._monitor = AsyncConnection(monitor, timeout_s=timeout_s, retries=retries, transport=transport)
        self._metadata: dict[tuple[str, str], EndpointMetadata] = {}
        self.models = AsyncModels(self._registry)
        self.endpoints = AsyncEndpoints(self._registry)
        self.baselines = AsyncBaselines(self._registry, self._monitor)
        self.monitors = AsyncMonitors(self._monitor)
        self.alerts = AsyncAlerts(self._monitor)
        self.webhooks = AsyncWebhooks(self._monitor)

    async def predict(
        self,
        endpoint: str,
        data: Any,
        *,
        version: int | str = "",
        variant: str = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        id: str = "",
        inference_id: str = "",
        binary: bool = True,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Run the endpoint's model on `data` and return its outputs by name.

        `data`: an array, nested lists of rows, a pandas DataFrame, a mapping of columns, a list of rows
        that are mappings, or a mapping of input names to arrays. Columns are put into the model's order by
        name. `version` pins a model version, `variant` a variant, `outputs` chooses what comes back.
        `binary=False` sends JSON, which is slower and cannot carry NaN.

        Raises:
            InvalidArgument: the data does not fit the model; names the columns or inputs at fault.
            VedetteError: any other, by its code. Only what certainly did not run is sent again.
        """
        inquiry = Inquiry(
            endpoint, str(version), variant, tuple(outputs), dict(parameters or {}), id, inference_id, binary
        )
        known = (endpoint, str(version)) in self._metadata
        metadata = await self.metadata(endpoint, version=version)
        try:
            return await self._predict(inquiry, data, metadata, timeout_s=timeout_s)
        except (InvalidArgument, NotFound):
            # The endpoint may serve another model by now; what it refused did not run.
            if not known or not await self._renewed(metadata, inquiry):
                raise
        metadata = await self.metadata(endpoint, version=version)
        return await self._predict(inquiry, data, metadata, timeout_s=timeout_s)

    async def metadata(self, endpoint: str, *, version: int | str = "") -> EndpointMetadata:
        """Inputs, outputs and signature of an endpoint, remembered after the first time."""
        key = (endpoint, str(version))
        if key not in self._metadata:
            answer = await self._inference.send(Call("GET", model_path(endpoint, str(version))))
            self._metadata[key] = read(EndpointMetadata, answer.body)
        return self._metadata[key]

    async def ready(self, endpoint: str = "", *, version: int | str = "") -> bool:
        """Whether the server, or one endpoint on it, can answer now."""
        path = f"{model_path(endpoint, str(version))}/ready" if endpoint else "/v2/health/ready"
        return await self._inference.answers(Call("GET", path))

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self._inference.aclose()
        await self._registry.aclose()
        await self._monitor.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _predict(
        self, inquiry: Inquiry, data: Any, metadata: EndpointMetadata, *, timeout_s: float | None
    ) -> Prediction:
        body, json_length = v2json.encode_request(inquiry.request(tensors_from(data, metadata)), inquiry.binary)
        headers = inquiry.headers(json_length)
        call = Call("POST", inquiry.path, body=body, headers=headers, timeout_s=timeout_s, again=False)
        return _prediction(await self._inference.send(call), metadata)

    async def _renewed(self, stale: EndpointMetadata, inquiry: Inquiry) -> bool:
        """Ask for the metadata anew and say whether it has changed."""
        self._metadata.pop((inquiry.endpoint, inquiry.version), None)
        return await self.metadata(inquiry.endpoint, version=inquiry.version) != stale


def _prediction(answer: Answer, metadata: EndpointMetadata) -> Prediction:
    length = answer.headers.get("inference-header-content-length")
    response = v2json.decode_response(answer.body, None if length is None else int(length))
    return prediction_from(response, metadata.signature.label_names)
