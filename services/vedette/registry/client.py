"""The registry as other services see it: `core.ports.Registry` and `ports.baselines.Baselines` over gRPC.

Rule: nothing of gRPC leaves here; errors are rebuilt from their code, files are believed only by their digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from vedette.core.errors import DataLoss, NotFound, Unavailable, Unimplemented, VedetteError, error_from_code
from vedette.core.models import ArtifactFile, ModelVersion, manifest_digest
from vedette.core.ports import Change, Deployment, ReplicaReport, RepositoryEntry, Synced
from vedette.entities.monitors import Baseline
from vedette.proto.registry.v1 import registry_pb2 as pb
from vedette.proto.registry.v1.registry_pb2_grpc import RegistryServiceStub
from vedette.registry.messages import from_message, to_message
from vedette.registry.versions import check_file_name

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
CALL_TIMEOUT_S = 15.0
TRANSFER_TIMEOUT_S = 120.0
"""For the files of a baseline."""
CHUNK = 256 * 1024
SILENCE_S = 20.0
"""A watch sends something every few seconds; after this long without, the connection counts as broken."""
FIRST_HEARTBEAT_S = 5.0
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs lack it
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
)


class GrpcRegistry:
    """A registry at an address `host:port`; connects with the first call.

    What a replica reports is repeated within the registry's lease until `close`, so that the registry knows
    that the replica lives.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._said: dict[tuple[str, str], ReplicaReport] = {}
        self._heartbeat: asyncio.Task[None] | None = None
        self._interval_s = FIRST_HEARTBEAT_S
        self._unsynced: int | None = None
        """Where the last watch began, if it broke before `Synced`: only part of a state was seen."""

    async def watch(self, after: int) -> AsyncIterator[Change | Synced]:
        """Desired state from revision `after` on; see the port."""
        if self._unsynced is not None:
            after = self._unsynced
        self._unsynced = after
        with _errors():
            call = self._stub().Watch(pb.WatchRequest(after=after))
            try:
                while True:
                    response = await asyncio.wait_for(call.read(), SILENCE_S)
                    if response is _EOF:
                        raise Unavailable("the registry has ended the watch")
                    if response.HasField("change"):
                        yield _change(response.change)
                    elif response.HasField("synced"):
                        self._unsynced = None
                        yield from_message(response.synced, Synced)
            finally:
                call.cancel()

    async def report(self, report: ReplicaReport) -> None:
        """Tell how far this replica is, and go on telling."""
        key = (report.replica, report.endpoint)
        if report.state == "removed":
            self._said.pop(key, None)
        else:
            self._said[key] = report
        if self._heartbeat is None:
            self._heartbeat = asyncio.create_task(self._beat())
        await self._send([report])

    async def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Put the version's files into the existing empty `folder`; see the port."""
        with _errors():
            call = self._stub().Fetch(pb.FetchRequest(model=version.model, version=version.version))
            try:
                await _store(call, version, folder)
            finally:
                call.cancel()

    async def load(self, endpoint: str) -> None:
        """Start the endpoint, or deploy the model of that name."""
        with _errors():
            await self._stub().Load(pb.LoadRequest(endpoint=endpoint), timeout=CALL_TIMEOUT_S)

    async def unload(self, endpoint: str) -> None:
        """Take the endpoint out of service."""
        with _errors():
            await self._stub().Unload(pb.UnloadRequest(endpoint=endpoint), timeout=CALL_TIMEOUT_S)

    async def index(self) -> list[RepositoryEntry]:
        """Every model and endpoint known."""
        with _errors():
            response = await self._stub().Index(pb.IndexRequest(), timeout=CALL_TIMEOUT_S)
        return [from_message(entry, RepositoryEntry) for entry in response.entries]

    async def version(self, model: str, version: int) -> ModelVersion:
        """The model version."""
        request = pb.GetVersionRequest(model=model, version=version)
        with _errors():
            response = await self._stub().GetVersion(request, timeout=CALL_TIMEOUT_S)
        return from_message(response.version, ModelVersion)

    async def put_baseline(
        self, model: str, version: int, name: str, files: Mapping[str, bytes], *, rows: int, columns: int
    ) -> Baseline:
        """Keep these files as the version's baseline; see `ports.baselines`."""
        digest = manifest_digest(ArtifactFile(n, len(d), hashlib.sha256(d).hexdigest()) for n, d in files.items())
        start = pb.BaselineStart(model=model, version=version, name=name, rows=rows, columns=columns, digest=digest)
        with _errors():
            response = await self._stub().PutBaseline(_parts(start, files), timeout=TRANSFER_TIMEOUT_S)
        return from_message(response.baseline, Baseline)

    async def baseline(self, model: str, version: int, name: str) -> Baseline:
        """The baseline as it stands; see `ports.baselines`."""
        request = pb.GetBaselineRequest(model=model, version=version, name=name)
        with _errors():
            response = await self._stub().GetBaseline(request, timeout=CALL_TIMEOUT_S)
        return from_message(response.baseline, Baseline)

    async def baseline_file(self, baseline: Baseline, file: str) -> bytes:
        """One file of the baseline, believed only by its digest; see `ports.baselines`."""
        entry = next((entry for entry in baseline.files if entry.path == file), None)
        if entry is None:
            raise NotFound(f"the baseline has no file {file[:80]!r}")
        request = pb.FetchBaselineFileRequest(
            model=baseline.model, version=baseline.version, name=baseline.name, file=file, digest=baseline.digest
        )
        received = bytearray()
        with _errors():
            async for response in self._stub().FetchBaselineFile(request, timeout=TRANSFER_TIMEOUT_S):
                received += response.chunk.data
                if len(received) > entry.size:
                    break
        if (len(received), hashlib.sha256(received).hexdigest()) != (entry.size, entry.sha256):
            raise DataLoss(f"file {file!r} of the baseline does not match its digest")
        return bytes(received)

    async def close(self) -> None:
        """Stop reporting and release the connection; idempotent."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heartbeat
            self._heartbeat = None
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if self._said:
                with contextlib.suppress(VedetteError):  # the next beat tells it again
                    await self._send(list(self._said.values()))

    async def _send(self, reports: list[ReplicaReport]) -> None:
        messages = [to_message(report, pb.ReplicaReport()) for report in reports]
        with _errors():
            response = await self._stub().Report(pb.ReportRequest(reports=messages), timeout=CALL_TIMEOUT_S)
        self._interval_s = response.lease_s / 3

    def _stub(self) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        return RegistryServiceStub(self._channel)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """gRPC's errors as ours; without a code of ours the registry itself did not answer."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        metadata: Any = error.trailing_metadata() or ()
        code = next((value for key, value in metadata if key == "vedette-code"), None)
        if code is not None:
            raise error_from_code(str(code), error.details() or "") from None
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise Unimplemented("the registry does not know this call: is it an older version?") from None
        raise Unavailable("the registry cannot be reached") from None
    except (TimeoutError, grpc.aio.UsageError):
        raise Unavailable("the registry has gone silent") from None


def _parts(start: pb.BaselineStart, files: Mapping[str, bytes]) -> Iterator[pb.PutBaselineRequest]:
    yield pb.PutBaselineRequest(start=start)
    for name, data in files.items():
        for at in range(0, len(data), CHUNK):
            yield pb.PutBaselineRequest(chunk=pb.FileChunk(file=name, data=data[at : at + CHUNK]))


def _change(message: pb.Change) -> Change:
    wanted = from_message(message.deployment, Deployment) if message.HasField("deployment") else None
    return Change(message.revision, message.endpoint, wanted)


async def _store(call: Any, version: ModelVersion, folder: Path) -> None:
    """Write the files of a fetch as they come, never more than the manifest promises."""
    awaited = {check_file_name(entry.path): entry for entry in version.files}
    current: _Incoming | None = None
    try:
        while True:
            response = await asyncio.wait_for(call.read(), SILENCE_S)
            name = "" if response is _EOF else response.chunk.file
            if current is not None and name != current.entry.path:
                await asyncio.to_thread(current.finish)
                current = None
            if response is _EOF:
                break
            if current is None:
                current = await asyncio.to_thread(_Incoming, _awaited(awaited, name), folder)
            await asyncio.to_thread(current.write, response.chunk.data)
    finally:
        if current is not None:
            current.file.close()
    if awaited:
        raise DataLoss(f"{version.model}:{version.version}: the registry did not send every file")


def _awaited(awaited: dict[str, ArtifactFile], name: str) -> ArtifactFile:
    try:
        return awaited.pop(name)
    except KeyError:
        raise DataLoss("the registry sent a file that the version does not have") from None


class _Incoming:
    """One file on its way. Blocks."""

    def __init__(self, entry: ArtifactFile, folder: Path) -> None:
        self.entry = entry
        try:
            self.file: BinaryIO = (folder / entry.path).open("xb")
        except OSError:
            raise Unavailable("the folder for the files of a version cannot be written to") from None
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append. `DataLoss` past the promised size."""
        self._size += len(data)
        if self._size > self.entry.size:
            raise DataLoss(f"file {self.entry.path!r} is longer than its manifest says")
        self._digest.update(data)
        try:
            self.file.write(data)
        except OSError:
            raise Unavailable("the disk of this replica is full or failing") from None

    def finish(self) -> None:
        """Compare with the manifest."""
        try:
            self.file.close()
        except OSError:
            raise Unavailable("the disk of this replica is full or failing") from None
        if (self._size, self._digest.hexdigest()) != (self.entry.size, self.entry.sha256):
            raise DataLoss(f"file {self.entry.path!r} does not match its digest")
