"""The Open Inference Protocol over gRPC with Triton's extensions: parse, call the data plane, render.

Rule: no rule of the domain here. The table at the end is everything that is served and the action each
method performs; what vedette does not do is in it too and answers UNIMPLEMENTED.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from vedette.chassis.auth import Action
from vedette.chassis.rpc import Rpc, RpcService
from vedette.core.errors import NotFound, Unimplemented, VedetteError
from vedette.core.models import TensorSpec
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.dataplane import DataPlane, Encode
from vedette.inference.rpc_forms import Forms
from vedette.inference.rpc_messages import (
    decode_repository_parameters,
    decode_request,
    encode_response,
    write_response,
)
from vedette.inference.rpc_statistics import statistics_message
from vedette.inference.rpc_stream import stream_answers
from vedette.proto.inference.v1 import inference_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]

_GRPC = "application/grpc"
_INFERENCE_ID, _TARGET_VARIANT = "x-amzn-sagemaker-inference-id", "x-amzn-sagemaker-target-variant"
SERVICE = "inference.GRPCInferenceService"
"""The name on the wire; the messages' own package is another (see the proto)."""

_NOT_DONE: tuple[tuple[str, Action, str], ...] = (
    ("SystemSharedMemoryStatus", "read", "shared memory"),
    ("SystemSharedMemoryRegister", "admin", "shared memory"),
    ("SystemSharedMemoryUnregister", "admin", "shared memory"),
    ("CudaSharedMemoryStatus", "read", "shared memory"),
    ("CudaSharedMemoryRegister", "admin", "shared memory"),
    ("CudaSharedMemoryUnregister", "admin", "shared memory"),
    ("TraceSetting", "admin", "changing trace settings; tracing is configured when the service starts"),
    ("LogSettings", "admin", "changing log settings; logging is configured when the service starts"),
)
"""Methods of Triton's that exist and are refused: method, action, what is not supported."""


def rpc_service(plane: DataPlane) -> RpcService:
    """The table of the protocol's methods over this data plane."""
    calls = InferenceCalls(plane)
    return RpcService(
        SERVICE,
        (
            _rpc("ServerLive", "read", calls.server_live),
            _rpc("ServerReady", "read", calls.server_ready),
            _rpc("ModelReady", "read", calls.model_ready),
            _rpc("ServerMetadata", "read", calls.server_metadata),
            _rpc("ModelMetadata", "read", calls.model_metadata),
            Rpc("ModelInfer", "unary_unary", "predict", calls.model_infer,
                pb.ModelInferRequest, pb.ModelInferResponse, read=Forms().read, writes_bytes=True),
            Rpc("ModelStreamInfer", "stream_stream", "predict", calls.model_stream_infer,
                pb.ModelInferRequest, pb.ModelStreamInferResponse),
            _rpc("ModelConfig", "read", calls.model_config),
            _rpc("ModelStatistics", "read", calls.model_statistics),
            _rpc("RepositoryIndex", "read", calls.repository_index),
            _rpc("RepositoryModelLoad", "deploy", calls.repository_model_load),
            _rpc("RepositoryModelUnload", "deploy", calls.repository_model_unload),
            *(_rpc(name, action, _refusal(what)) for name, action, what in _NOT_DONE),
        ),
        reflect_as="inference",
    )  # fmt: skip


def _rpc(name: str, action: Action, handler: Callable[..., Any]) -> Rpc:
    """A method with one request and one response, whose messages are named after it."""
    return Rpc(name, "unary_unary", action, handler, getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response"))


def _refusal(what: str) -> Callable[..., Any]:
    async def refuse(_request: object, _context: Context) -> None:
        raise Unimplemented(f"vedette does not support {what}; see the limits in the README")

    return refuse


def _note_headers(inference: InferRequest, context: Context, *, alone: bool) -> None:
    """The inference id and the target variant, in metadata as they are in the headers of HTTP.

    `alone`: the call is one request. A stream's metadata would give one id to all of its requests, so it gives none.
    """
    for key, value in context.invocation_metadata() or ():
        if key == _TARGET_VARIANT:
            inference.target_variant = str(value)
        elif alone and key == _INFERENCE_ID:
            inference.inference_id = str(value)


async def _written(_request: InferRequest, response: InferResponse) -> bytes:
    response.content_type = _GRPC
    return write_response(response)


async def _encoded(_request: InferRequest, response: InferResponse) -> pb.ModelInferResponse:
    response.content_type = _GRPC
    return encode_response(response)


class InferenceCalls:
    """The handlers: one coroutine a method, and one async generator."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def server_live(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """Whether the process can answer."""
        return pb.ServerLiveResponse(live=self._plane.live())

    async def server_ready(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Whether everything wanted is loaded."""
        return pb.ServerReadyResponse(ready=not self._plane.ready())

    async def model_ready(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether the endpoint answers; one that does not exist is not ready, as with Triton."""
        try:
            return pb.ModelReadyResponse(ready=self._plane.model_ready(request.name, request.version))
        except NotFound:
            return pb.ModelReadyResponse(ready=False)

    async def server_metadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        found = self._plane.server_metadata()
        return pb.ServerMetadataResponse(name=found.name, version=found.version, extensions=found.extensions)

    async def model_metadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Inputs and outputs of an endpoint."""
        found = self._plane.metadata(request.name, request.version)
        return pb.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=[_tensor_metadata(spec) for spec in found.signature.inputs],
            outputs=[_tensor_metadata(spec) for spec in found.signature.outputs],
        )

    async def model_infer(
        self,
        request: InferRequest | pb.ModelInferRequest,
        context: Context,
        encode: Encode[Any] = _written,  # one coroutine for both forms of the answer: each costs 0.3 us a call
    ) -> Any:
        """One inference, as bytes unless told otherwise; the caller's deadline and cancellation go along."""
        received = time.monotonic()
        remaining = context.time_remaining()
        deadline = None if remaining is None else received + remaining
        if isinstance(request, InferRequest):
            inference = request
            inference.deadline = deadline
        else:
            inference = await self._decoded(request, deadline, received, context, alone=encode is _written)
        inference.content_type = _GRPC
        _note_headers(inference, context, alone=encode is _written)
        return await self._plane.infer(inference, encode, protocol="grpc", received=received)

    async def _decoded(
        self,
        request: pb.ModelInferRequest,
        deadline: float | None,
        received: float,
        context: Context,
        *,
        alone: bool,
    ) -> InferRequest:
        """The inference in a message; one that cannot be read is captured as such and raises what is wrong."""
        try:
            return decode_request(request, deadline)
        except VedetteError as error:
            unread = InferRequest(request.model_name, [], request.model_version, deadline=deadline, content_type=_GRPC)
            _note_headers(unread, context, alone=alone)
            await self._plane.unread(unread, error, received=received)
            raise

    async def model_stream_infer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Many inferences on one stream, answered in order."""
        strict = any(
            key == "triton_grpc_error" and value in ("true", b"true")
            for key, value in context.invocation_metadata() or ()
        )

        async def infer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
            answer: pb.ModelInferResponse = await self.model_infer(request, context, _encoded)
            return answer

        async for response in stream_answers(requests, infer, errors_end_stream=strict):
            yield response

    async def model_config(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """What serves behind an endpoint, in Triton's words."""
        config = self._plane.config(request.name, request.version)
        return pb.ModelConfigResponse(config=ParseDict(config, pb.ModelConfig()))

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Counts and durations of one endpoint or all."""
        found = self._plane.statistics(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=[statistics_message(line) for line in found])

    async def repository_index(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """Every model known and its state."""
        _only_repository(request.repository_name)
        response = pb.RepositoryIndexResponse()
        for entry in await self._plane.index(ready_only=request.ready):
            response.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        return response

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Put an endpoint into service."""
        _only_repository(request.repository_name)
        await self._plane.load(request.model_name, decode_repository_parameters(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Take an endpoint out of service."""
        _only_repository(request.repository_name)
        await self._plane.unload(request.model_name, decode_repository_parameters(request.parameters))
        return pb.RepositoryModelUnloadResponse()


def _only_repository(name: str) -> None:
    if name:
        raise Unimplemented("there is one repository; leave repository_name empty")


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
