"""The registry over gRPC: parse, call, render.

Rule: no rule of the domain here. The catalog blocks, so every call on it runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from enum import StrEnum
from typing import Any, TypeVar

from vedette.chassis.auth import Action
from vedette.chassis.rpc import Kind, Rpc, RpcService
from vedette.core.errors import InvalidArgument, TooLarge
from vedette.core.models import ApprovalStatus, EndpointStatus
from vedette.core.ports import Change, ReplicaReport
from vedette.entities.monitors import CONSTRAINTS_FILE
from vedette.ports.baselines import FILES, MEASURED_FILES
from vedette.proto.registry.v1 import registry_pb2 as pb
from vedette.registry.baselines import BaselineDraft
from vedette.registry.deployments import Listing
from vedette.registry.desk import Desk
from vedette.registry.endpoints import parse_choice
from vedette.registry.imports import read_chunks
from vedette.registry.messages import draft_from, from_message, to_message
from vedette.registry.uploads import Uploads
from vedette.registry.versions import Details

SERVICE = "vedette.proto.registry.v1.RegistryService"
DEFAULT_PAGE = 50
MAX_PAGE = 100
MAX_REPORTS = 10_000
CHUNK = 256 * 1024
HEARTBEAT_S = 5.0
"""An idle watch sends an empty message this often, so that either side notices when the other is gone."""

Status = TypeVar("Status", bound=StrEnum)


class ModelCalls:
    """Models, versions and aliases."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create_model(self, request: pb.CreateModelRequest, _: Any) -> pb.CreateModelResponse:
        """Make a model without versions."""
        model = await asyncio.to_thread(
            self._desk.models.create, request.name, description=request.description, tags=dict(request.tags)
        )
        return pb.CreateModelResponse(model=to_message(model, pb.Model()))

    async def get_model(self, request: pb.GetModelRequest, _: Any) -> pb.GetModelResponse:
        """Show a model."""
        model = await asyncio.to_thread(self._desk.models.get, request.name)
        return pb.GetModelResponse(model=to_message(model, pb.Model()))

    async def list_models(self, request: pb.ListModelsRequest, _: Any) -> pb.ListModelsResponse:
        """One page of models."""
        items, token = await asyncio.to_thread(
            self._desk.models.page,
            limit=_limit(request.limit),
            page_token=request.page_token,
            name_contains=request.name_contains,
            tags=dict(request.tags),
        )
        return pb.ListModelsResponse(items=[to_message(item, pb.Model()) for item in items], next_page_token=token)

    async def update_model(self, request: pb.UpdateModelRequest, _: Any) -> pb.UpdateModelResponse:
        """Replace what is set."""
        model = await asyncio.to_thread(
            self._desk.models.update,
            request.name,
            description=request.description if request.HasField("description") else None,
            tags=dict(request.tags.tags) if request.HasField("tags") else None,
        )
        return pb.UpdateModelResponse(model=to_message(model, pb.Model()))

    async def delete_model(self, request: pb.DeleteModelRequest, _: Any) -> pb.DeleteModelResponse:
        """Delete a model with its versions."""
        await asyncio.to_thread(self._desk.models.delete, request.name)
        return pb.DeleteModelResponse()

    async def upload_version(
        self, requests: AsyncIterator[pb.UploadVersionRequest], _: Any
    ) -> pb.UploadVersionResponse:
        """Register the streamed files."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("part") != "start":
            raise InvalidArgument("the first message must name the model")
        details = from_message(first.start.details, Details)
        files = _Files(requests, self._desk.uploads)
        version, created = await self._desk.uploads.register(first.start.model, details, files.receive)
        return pb.UploadVersionResponse(version=to_message(version, pb.ModelVersion()), created=created)

    async def import_version(self, request: pb.ImportVersionRequest, _: Any) -> pb.ImportVersionResponse:
        """Register a version from an import root."""
        details = from_message(request.details, Details)
        version, created = await self._desk.imports.run(request.model, request.source, details)
        return pb.ImportVersionResponse(version=to_message(version, pb.ModelVersion()), created=created)

    async def get_version(self, request: pb.GetVersionRequest, _: Any) -> pb.GetVersionResponse:
        """Show a version."""
        version = await asyncio.to_thread(self._desk.models.version, request.model, request.version)
        return pb.GetVersionResponse(version=to_message(version, pb.ModelVersion()))

    async def list_versions(self, request: pb.ListVersionsRequest, _: Any) -> pb.ListVersionsResponse:
        """One page of versions, newest first."""
        items, token = await asyncio.to_thread(
            self._desk.models.versions,
            request.model,
            limit=_limit(request.limit),
            page_token=request.page_token,
            status=_status(ApprovalStatus, request.status),
        )
        found = [to_message(item, pb.ModelVersion()) for item in items]
        return pb.ListVersionsResponse(items=found, next_page_token=token)

    async def update_version(self, request: pb.UpdateVersionRequest, _: Any) -> pb.UpdateVersionResponse:
        """Approve, reject, annotate."""
        version = await asyncio.to_thread(
            self._desk.models.update_version,
            request.model,
            request.version,
            status=_status(ApprovalStatus, request.status),
            description=request.description if request.HasField("description") else None,
            metadata=dict(request.metadata.metadata) if request.HasField("metadata") else None,
        )
        return pb.UpdateVersionResponse(version=to_message(version, pb.ModelVersion()))

    async def delete_version(self, request: pb.DeleteVersionRequest, _: Any) -> pb.DeleteVersionResponse:
        """Delete a version."""
        await asyncio.to_thread(self._desk.models.delete_version, request.model, request.version)
        return pb.DeleteVersionResponse()

    async def set_alias(self, request: pb.SetAliasRequest, _: Any) -> pb.SetAliasResponse:
        """Point an alias at a version."""
        model = await asyncio.to_thread(self._desk.models.set_alias, request.model, request.alias, request.version)
        return pb.SetAliasResponse(model=to_message(model, pb.Model()))

    async def delete_alias(self, request: pb.DeleteAliasRequest, _: Any) -> pb.DeleteAliasResponse:
        """Remove an alias."""
        await asyncio.to_thread(self._desk.models.delete_alias, request.model, request.alias)
        return pb.DeleteAliasResponse()


class BaselineCalls:
    """Baselines of versions."""

    def __init__(self, desk: Desk) -> None:
        self._baselines = desk.baselines

    async def put_baseline(self, requests: AsyncIterator[pb.PutBaselineRequest], _: Any) -> pb.PutBaselineResponse:
        """Keep the streamed files."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("part") != "start":
            raise InvalidArgument("the first message must name the baseline")
        start, files = first.start, await self._received(requests)
        draft = BaselineDraft(
            start.model, start.version, start.name, start.rows, start.columns, files, digest=start.digest
        )
        baseline = await asyncio.to_thread(self._baselines.put, draft)
        return pb.PutBaselineResponse(baseline=to_message(baseline, pb.Baseline()))

    async def _received(self, requests: AsyncIterator[pb.PutBaselineRequest]) -> dict[str, bytes]:
        files: dict[str, bytearray] = {}
        size = 0
        async for request in requests:
            if request.WhichOneof("part") != "chunk":
                raise InvalidArgument("after the first message only chunks of files may follow")
            name, data = request.chunk.file, request.chunk.data
            size += len(data)
            if size > self._baselines.max_bytes:
                raise TooLarge(f"the files of a baseline may have at most {self._baselines.max_bytes} bytes together")
            if name not in (*FILES, *MEASURED_FILES):
                raise InvalidArgument(
                    f"a baseline has no file {name[:80]!r}, only {', '.join((*FILES, *MEASURED_FILES))}"
                )
            files.setdefault(name, bytearray()).extend(data)
        return {name: bytes(data) for name, data in files.items()}

    async def get_baseline(self, request: pb.GetBaselineRequest, _: Any) -> pb.GetBaselineResponse:
        """Show a baseline."""
        baseline = await asyncio.to_thread(self._baselines.get, request.model, request.version, request.name)
        return pb.GetBaselineResponse(baseline=to_message(baseline, pb.Baseline()))

    async def list_baselines(self, request: pb.ListBaselinesRequest, _: Any) -> pb.ListBaselinesResponse:
        """One page of a version's baselines, by name."""
        limit, token = _limit(request.limit), request.page_token
        items, token = await asyncio.to_thread(
            self._baselines.page, request.model, request.version, limit=limit, page_token=token
        )
        found = [to_message(item, pb.Baseline()) for item in items]
        return pb.ListBaselinesResponse(items=found, next_page_token=token)

    async def put_constraints(self, request: pb.PutConstraintsRequest, _: Any) -> pb.PutConstraintsResponse:
        """Replace the constraints, or another document that people edit."""
        baseline = await asyncio.to_thread(
            self._baselines.edit,
            request.model,
            request.version,
            request.name,
            request.constraints,
            file=request.file or CONSTRAINTS_FILE,
        )
        return pb.PutConstraintsResponse(baseline=to_message(baseline, pb.Baseline()))

    async def delete_baseline(self, request: pb.DeleteBaselineRequest, _: Any) -> pb.DeleteBaselineResponse:
        """Delete a baseline."""
        await asyncio.to_thread(self._baselines.delete, request.model, request.version, request.name)
        return pb.DeleteBaselineResponse()

    async def fetch_baseline_file(
        self, request: pb.FetchBaselineFileRequest, _: Any
    ) -> AsyncIterator[pb.FetchBaselineFileResponse]:
        """One file in chunks."""
        entry, source = await asyncio.to_thread(
            self._baselines.open, request.model, request.version, request.name, request.file, digest=request.digest
        )
        chunks = read_chunks(source, CHUNK)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield pb.FetchBaselineFileResponse(chunk=pb.FileChunk(file=entry.path, data=chunk))


class EndpointCalls:
    """Endpoints and their configurations."""

    def __init__(self, desk: Desk) -> None:
        self._deployments = desk.deployments

    async def create_endpoint(self, request: pb.CreateEndpointRequest, _: Any) -> pb.CreateEndpointResponse:
        """Deploy, in the short or the long form."""
        if not request.HasField("config"):
            choice = parse_choice(request.version) if request.version else ""
            endpoint = await asyncio.to_thread(
                self._deployments.create_short, request.name, model=request.model, version=choice
            )
        elif request.model or request.version:
            raise InvalidArgument("give either config, or model and version")
        else:
            endpoint = await asyncio.to_thread(self._deployments.create, request.name, draft_from(request.config))
        return pb.CreateEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def get_endpoint(self, request: pb.GetEndpointRequest, _: Any) -> pb.GetEndpointResponse:
        """Show an endpoint."""
        endpoint = await asyncio.to_thread(self._deployments.get, request.name)
        return pb.GetEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def list_endpoints(self, request: pb.ListEndpointsRequest, _: Any) -> pb.ListEndpointsResponse:
        """One page of endpoints."""
        status = _status(EndpointStatus, request.status)
        wanted = Listing(_limit(request.limit), request.page_token, request.model, status, request.name_contains)
        items, token = await asyncio.to_thread(self._deployments.page, wanted)
        found = [to_message(item, pb.Endpoint()) for item in items]
        return pb.ListEndpointsResponse(items=found, next_page_token=token)

    async def update_endpoint(self, request: pb.UpdateEndpointRequest, _: Any) -> pb.UpdateEndpointResponse:
        """Deploy another configuration."""
        endpoint = await asyncio.to_thread(self._deployments.update, request.name, draft_from(request.config))
        return pb.UpdateEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def update_weights(self, request: pb.UpdateWeightsRequest, _: Any) -> pb.UpdateWeightsResponse:
        """Change the shares of the variants."""
        weights: Mapping[str, float] = dict(request.weights)
        endpoint = await asyncio.to_thread(self._deployments.update_weights, request.name, weights)
        return pb.UpdateWeightsResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def rollback_endpoint(self, request: pb.RollbackEndpointRequest, _: Any) -> pb.RollbackEndpointResponse:
        """Go back."""
        endpoint = await asyncio.to_thread(self._deployments.rollback, request.name, request.generation)
        return pb.RollbackEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def start_endpoint(self, request: pb.StartEndpointRequest, _: Any) -> pb.StartEndpointResponse:
        """Put it back into service."""
        endpoint = await asyncio.to_thread(self._deployments.start, request.name)
        return pb.StartEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def stop_endpoint(self, request: pb.StopEndpointRequest, _: Any) -> pb.StopEndpointResponse:
        """Take it out of service."""
        endpoint = await asyncio.to_thread(self._deployments.stop, request.name)
        return pb.StopEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def delete_endpoint(self, request: pb.DeleteEndpointRequest, _: Any) -> pb.DeleteEndpointResponse:
        """Want it gone."""
        endpoint = await asyncio.to_thread(self._deployments.delete, request.name)
        return pb.DeleteEndpointResponse(endpoint=to_message(endpoint, pb.Endpoint()))

    async def list_generations(self, request: pb.ListGenerationsRequest, _: Any) -> pb.ListGenerationsResponse:
        """One page of its history, newest first."""
        items, token = await asyncio.to_thread(
            self._deployments.generations, request.name, limit=_limit(request.limit), page_token=request.page_token
        )
        found = [to_message(item, pb.Generation()) for item in items]
        return pb.ListGenerationsResponse(items=found, next_page_token=token)


class ReplicaCalls:
    """What the data plane asks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def watch(self, request: pb.WatchRequest, _: Any) -> AsyncIterator[pb.WatchResponse]:
        """Desired state, with an empty message now and then while nothing happens."""
        async with aclosing(self._desk.watch.events(request.after)) as events:
            upcoming = asyncio.ensure_future(anext(events))
            try:
                while True:
                    done, _pending = await asyncio.wait({upcoming}, timeout=HEARTBEAT_S)
                    if not done:
                        yield pb.WatchResponse()
                        continue
                    event = upcoming.result()
                    upcoming = asyncio.ensure_future(anext(events))
                    if isinstance(event, Change):
                        yield pb.WatchResponse(change=to_message(event, pb.Change()))
                    else:
                        yield pb.WatchResponse(synced=to_message(event, pb.Synced()))
            finally:
                upcoming.cancel()
                await asyncio.wait({upcoming})

    async def report(self, request: pb.ReportRequest, _: Any) -> pb.ReportResponse:
        """Keep what a replica says."""
        if len(request.reports) > MAX_REPORTS:
            raise InvalidArgument(f"at most {MAX_REPORTS} reports at a time")
        reports = [from_message(report, ReplicaReport) for report in request.reports]
        await asyncio.to_thread(self._desk.replicas.report, reports)
        return pb.ReportResponse(lease_s=self._desk.replicas.lease_s)

    async def fetch(self, request: pb.FetchRequest, _: Any) -> AsyncIterator[pb.FetchResponse]:
        """A version's files in chunks."""
        version = await asyncio.to_thread(self._desk.models.version, request.model, request.version)
        for entry in version.files:
            file = await asyncio.to_thread(self._desk.artifacts.open, version.digest, entry.path)
            chunks = read_chunks(file, CHUNK)
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield pb.FetchResponse(chunk=pb.FileChunk(file=entry.path, data=chunk))

    async def load(self, request: pb.LoadRequest, _: Any) -> pb.LoadResponse:
        """The repository API's load."""
        await asyncio.to_thread(self._desk.deployments.load, request.endpoint)
        return pb.LoadResponse()

    async def unload(self, request: pb.UnloadRequest, _: Any) -> pb.UnloadResponse:
        """The repository API's unload."""
        await asyncio.to_thread(self._desk.deployments.unload, request.endpoint)
        return pb.UnloadResponse()

    async def index(self, _request: pb.IndexRequest, _: Any) -> pb.IndexResponse:
        """Every endpoint and model."""
        entries = await asyncio.to_thread(self._desk.deployments.index)
        return pb.IndexResponse(entries=[to_message(entry, pb.RepositoryEntry()) for entry in entries])


class _Files:
    """The files of an upload stream: chunks of one file follow one another."""

    def __init__(self, requests: AsyncIterator[pb.UploadVersionRequest], uploads: Uploads) -> None:
        self._requests = requests
        self._uploads = uploads
        self._next: pb.FileChunk | None = None

    async def receive(self, upload_id: str) -> AsyncIterator[object]:
        """Store file after file."""
        seen: set[str] = set()
        await self._advance()
        while self._next is not None:
            name = self._next.file
            if name in seen:
                raise InvalidArgument(f"the chunks of {name[:80]!r} do not follow one another")
            seen.add(name)
            yield await self._uploads.receive(upload_id, name, self._chunks(name))

    async def _chunks(self, name: str) -> AsyncIterator[bytes]:
        while self._next is not None and self._next.file == name:
            yield self._next.data
            await self._advance()

    async def _advance(self) -> None:
        request = await anext(aiter(self._requests), None)
        if request is not None and request.WhichOneof("part") != "chunk":
            raise InvalidArgument("after the first message only chunks of files may follow")
        self._next = None if request is None else request.chunk


def service(desk: Desk) -> RpcService:
    """The table of all methods; message types follow the method's name."""
    models, baselines = ModelCalls(desk), BaselineCalls(desk)
    endpoints, replicas = EndpointCalls(desk), ReplicaCalls(desk)
    table: tuple[tuple[str, Action, Callable[..., Awaitable[Any] | AsyncIterator[Any]]], ...] = (
        ("CreateModel", "deploy", models.create_model),
        ("GetModel", "read", models.get_model),
        ("ListModels", "read", models.list_models),
        ("UpdateModel", "deploy", models.update_model),
        ("DeleteModel", "admin", models.delete_model),
        ("UploadVersion", "deploy", models.upload_version),
        ("ImportVersion", "deploy", models.import_version),
        ("GetVersion", "read", models.get_version),
        ("ListVersions", "read", models.list_versions),
        ("UpdateVersion", "admin", models.update_version),
        ("DeleteVersion", "admin", models.delete_version),
        ("SetAlias", "deploy", models.set_alias),
        ("DeleteAlias", "deploy", models.delete_alias),
        ("PutBaseline", "internal", baselines.put_baseline),
        ("GetBaseline", "read", baselines.get_baseline),
        ("ListBaselines", "read", baselines.list_baselines),
        ("PutConstraints", "deploy", baselines.put_constraints),
        ("DeleteBaseline", "admin", baselines.delete_baseline),
        ("FetchBaselineFile", "read", baselines.fetch_baseline_file),
        ("CreateEndpoint", "deploy", endpoints.create_endpoint),
        ("GetEndpoint", "read", endpoints.get_endpoint),
        ("ListEndpoints", "read", endpoints.list_endpoints),
        ("UpdateEndpoint", "deploy", endpoints.update_endpoint),
        ("UpdateWeights", "deploy", endpoints.update_weights),
        ("RollbackEndpoint", "deploy", endpoints.rollback_endpoint),
        ("StartEndpoint", "deploy", endpoints.start_endpoint),
        ("StopEndpoint", "deploy", endpoints.stop_endpoint),
        ("DeleteEndpoint", "admin", endpoints.delete_endpoint),
        ("ListGenerations", "read", endpoints.list_generations),
        ("Watch", "internal", replicas.watch),
        ("Report", "internal", replicas.report),
        ("Fetch", "internal", replicas.fetch),
        ("Load", "internal", replicas.load),
        ("Unload", "internal", replicas.unload),
        ("Index", "internal", replicas.index),
    )
    streams: dict[str, Kind] = {
        "UploadVersion": "stream_unary",
        "PutBaseline": "stream_unary",
        "FetchBaselineFile": "unary_stream",
        "Watch": "unary_stream",
        "Fetch": "unary_stream",
    }
    methods = tuple(
        Rpc(
            name=name,
            kind=streams.get(name, "unary_unary"),
            action=action,
            handler=handler,
            request=getattr(pb, f"{name}Request"),
            response=getattr(pb, f"{name}Response"),
        )
        for name, action, handler in table
    )
    return RpcService(SERVICE, methods)


def _limit(asked: int) -> int:
    if not 0 <= asked <= MAX_PAGE:
        raise InvalidArgument(f"limit must be 1 to {MAX_PAGE}")
    return asked or DEFAULT_PAGE


def _status(kind: type[Status], text: str) -> Status | None:
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidArgument(f"status: {text[:40]!r} is none of {', '.join(kind)}") from None
