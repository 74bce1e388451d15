"""How bytes become a version: staged file by file, admitted, put into the store, then registered.

Rule: until the last transaction nothing is visible; every step can be killed and leaves only a staged upload,
which expires. Disk and catalog work runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from vedette.core.clock import Clock
from vedette.core.errors import Conflict, InvalidArgument, NotFound, Overloaded, TooLarge, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.models import (
    GRAPH_FILE,
    Admission,
    ArtifactFile,
    ModelVersion,
    Signature,
    Upload,
    check_name,
    manifest_digest,
)
from vedette.ports.artifacts import ArtifactStore, StagedFile
from vedette.ports.catalog import Catalog
from vedette.registry.models import Candidate, Models
from vedette.registry.versions import (
    MAX_FILES,
    Details,
    check_details,
    check_file_name,
    check_files,
    complete,
)

LOG = logging.getLogger(__name__)
ONE_SHOT_TTL_S = 3600.0
"""What a killed process leaves of an upload in one request is swept away after this long at most."""
CHUNK = 1 << 20
"""Bytes gathered before one hop to a thread writes them."""

Admit = Callable[[Path], tuple[Signature, Admission]]
"""Blocks; runs the throw-away child on a folder. Raises `AdmissionRefused`, which has a `step`."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What uploads may take of the machine."""

    max_artifact_bytes: int
    max_uploads: int
    ttl_s: float
    concurrent_admissions: int


class Uploads:
    """Uploads under way."""

    def __init__(
        self,
        catalog: Catalog,
        artifacts: ArtifactStore,
        models: Models,
        *,
        admit: Admit,
        limits: UploadLimits,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._artifacts = artifacts
        self._models = models
        self._admit = admit
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._admissions = asyncio.Semaphore(limits.concurrent_admissions)
        self._busy: set[str] = set()
        """Uploads that a request of this process is working on; never swept."""

    async def begin(self, model: str, *, ttl_s: float = math.inf) -> Upload:
        """Open an upload for a version of this model, which need not exist yet."""
        return await asyncio.to_thread(self._begin, check_name(model, "model name"), min(ttl_s, self._limits.ttl_s))

    async def receive(self, upload_id: str, file: str, chunks: AsyncIterable[bytes]) -> ArtifactFile:
        """Write one file of an upload as its bytes come in; nothing of it stays unless all came."""
        check_file_name(file)
        async with self._working_on(upload_id):
            room = await asyncio.to_thread(self._room, upload_id, file)
            staged = await asyncio.to_thread(self._artifacts.create, upload_id, file)
            return await _write(staged, chunks, room)

    async def commit(self, upload_id: str, details: Details) -> tuple[ModelVersion, bool]:
        """Make the upload a version; False: identical bytes and signature were there already.

        A refusal leaves the upload as it is, so that a file or the details can be put right.
        """
        check_details(details)
        async with self._working_on(upload_id):
            upload = await asyncio.to_thread(self._find, upload_id)
            files = await asyncio.to_thread(self._artifacts.staged_files, upload_id)
            check_files(files)
            signature, admission = await self._admitted(upload_id)
            candidate = Candidate(upload.model, files, complete(signature, details.signature), admission, details)
            return await asyncio.to_thread(self._register, upload_id, candidate)

    async def register(
        self, model: str, details: Details, receive: Callable[[str], AsyncIterator[object]]
    ) -> tuple[ModelVersion, bool]:
        """One upload from begin to end: `receive(upload_id)` yields as it stores files. Leaves nothing staged."""
        check_details(details)
        upload = await self.begin(model, ttl_s=ONE_SHOT_TTL_S)
        try:
            async for _ in receive(upload.id):
                pass
            return await self.commit(upload.id, details)
        finally:
            await asyncio.shield(asyncio.to_thread(self._clear, upload.id))

    async def upload_graph(
        self, model: str, details: Details, chunks: AsyncIterable[bytes]
    ) -> tuple[ModelVersion, bool]:
        """Register a version that is one `model.onnx`."""

        async def receive(upload_id: str) -> AsyncIterator[object]:
            yield await self.receive(upload_id, GRAPH_FILE, chunks)

        return await self.register(model, details, receive)

    async def abandon(self, upload_id: str) -> None:
        """Throw an upload away."""
        async with self._working_on(upload_id):
            await asyncio.to_thread(self._find, upload_id)
            await asyncio.to_thread(self._discard, upload_id)

    def sweep(self) -> None:
        """Throw away what has expired, and staged folders that no row names. Blocks."""
        staged = set(self._artifacts.uploads())
        with self._catalog.read() as view:
            rows = {upload.id for upload in view.uploads()}
            expired = {upload.id for upload in view.uploads(expired_at=self._clock.time())}
        for upload_id in (expired | (staged - rows)) - self._busy:
            self._discard(upload_id)

    def _begin(self, model: str, ttl_s: float) -> Upload:
        now = self._clock.time()
        upload = Upload(uuid.uuid4().hex, model, created_at=now, expires_at=now + ttl_s)
        with self._catalog.transaction() as tx:
            if len(tx.uploads()) >= self._limits.max_uploads:
                raise Overloaded(f"{self._limits.max_uploads} uploads are under way; finish or delete one, or wait")
            tx.insert_upload(upload)
        self._artifacts.stage(upload.id)
        return upload

    def _find(self, upload_id: str) -> Upload:
        with self._catalog.read() as view:
            upload = view.upload(upload_id)
        if upload.expires_at <= self._clock.time():
            raise NotFound("the upload has expired")
        return upload

    def _discard(self, upload_id: str) -> None:
        self._artifacts.discard(upload_id)
        with self._catalog.transaction() as tx:
            try:
                tx.delete_upload(upload_id)
            except NotFound:
                pass  # a folder whose row is gone already

    def _room(self, upload_id: str, file: str) -> int:
        """Bytes that `file` may have beside the other files of the upload."""
        self._find(upload_id)
        others = [path for path in self._artifacts.staged(upload_id).iterdir() if path.name != file]
        if len(others) >= MAX_FILES:
            raise InvalidArgument(f"an upload has at most {MAX_FILES} files")
        return self._limits.max_artifact_bytes - sum(path.stat().st_size for path in others)

    def _register(self, upload_id: str, candidate: Candidate) -> tuple[ModelVersion, bool]:
        self._artifacts.put(manifest_digest(candidate.files), upload_id)
        registered = self._models.register(candidate)
        self._clear(upload_id)
        return registered

    def _clear(self, upload_id: str) -> None:
        """Throw away what has done its work; what fails here is not the caller's loss, the sweep tries again."""
        try:
            self._discard(upload_id)
        except VedetteError as error:
            LOG.warning("an upload is left for the sweep: %s", error.message)

    async def _admitted(self, upload_id: str) -> tuple[Signature, Admission]:
        folder = await asyncio.to_thread(self._artifacts.staged, upload_id)
        async with self._admissions:
            try:
                admitted = await asyncio.to_thread(self._admit, folder)
            except VedetteError as error:
                outcome = getattr(error, "step", "failed")
                self._metrics.counter("vedette_admissions_total", outcome=outcome).inc()
                raise
        self._metrics.counter("vedette_admissions_total", outcome="admitted").inc()
        return admitted

    @asynccontextmanager
    async def _working_on(self, upload_id: str) -> AsyncIterator[None]:
        """One request at a time works on an upload."""
        if upload_id in self._busy:
            raise Conflict("another request is working on this upload")
        self._busy.add(upload_id)
        try:
            yield
        finally:
            self._busy.discard(upload_id)


async def _write(staged: StagedFile, chunks: AsyncIterable[bytes], room: int) -> ArtifactFile:
    with staged:
        buffer, received = bytearray(), 0
        async for chunk in chunks:
            received += len(chunk)
            if received > room:
                raise TooLarge(f"the version's files are over the limit; at most {room} bytes were left for this one")
            buffer += chunk
            if len(buffer) >= CHUNK:
                await asyncio.to_thread(staged.write, bytes(buffer))
                buffer.clear()
        if buffer:
            await asyncio.to_thread(staged.write, bytes(buffer))
        if not received:
            raise InvalidArgument("the file is empty")
        return await asyncio.to_thread(staged.finish)
