"""A registry in memory with the behaviour of the real one, and doors to make it fail.

Rule: it keeps the contracts of `core.ports.Registry` and `ports.baselines.Baselines`; what it can do beyond that
is for tests to break things.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vedette.core.errors import Conflict, DataLoss, InvalidArgument, NotFound, Unavailable
from vedette.core.models import (
    Admission,
    ArtifactFile,
    EndpointConfig,
    ModelVersion,
    Signature,
    Variant,
    manifest_digest,
)
from vedette.core.ports import Change, Deployment, ReplicaReport, RepositoryEntry, Synced
from vedette.entities.monitors import Baseline
from vedette.ports.baselines import FILES, MEASURED_FILES


class MemoryRegistry:
    """Desired state as a log in memory. `down` breaks open watches and refuses calls until it is set back."""

    def __init__(self) -> None:
        self.reports: list[ReplicaReport] = []
        self.fetches: list[str] = []
        self.versions: dict[tuple[str, int], ModelVersion] = {}
        self.baselines: dict[tuple[str, int, str], Baseline] = {}
        self._files: dict[str, dict[str, bytes]] = {}
        self._log: list[Change] = []
        self._deployed: dict[str, Deployment] = {}
        self._stopped: dict[str, Deployment] = {}
        self._news = asyncio.Event()
        self._down = False

    @property
    def down(self) -> bool:
        """Whether the registry is out of reach."""
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        self._ring()

    def add_version(
        self,
        model: str,
        version: int,
        files: Mapping[str, bytes],
        *,
        signature: Signature,
        admission: Admission | None = None,
    ) -> ModelVersion:
        """Register a version made of these files; `model.onnx` is the graph."""
        listed = tuple(artifact_file(name, data) for name, data in sorted(files.items()))
        digest = manifest_digest(listed)
        made = ModelVersion(model, version, digest, listed, signature, admission or Admission(10.0, 1.0, 1 << 20))
        self.versions[model, version] = made
        self._files[digest] = dict(files)
        return made

    def corrupt(self, version: ModelVersion | Baseline, file: str, data: bytes) -> None:
        """Let the next fetch of the version bring other bytes, unnoticed by the registry."""
        self._files[version.digest][file] = data

    def deploy(self, endpoint: str, config: EndpointConfig) -> Deployment:
        """Want the endpoint with this configuration; its generation is one more than the last."""
        last = self._deployed.get(endpoint) or self._stopped.pop(endpoint, None)
        deployment = Deployment(endpoint, last.generation + 1 if last else 1, config, self._named(config))
        self._want(endpoint, deployment)
        return deployment

    def remove(self, endpoint: str) -> None:
        """Want the endpoint no more."""
        self._deployed.pop(endpoint, None)
        self._append(endpoint, None)

    def last_report(self, endpoint: str) -> ReplicaReport | None:
        """The newest report on the endpoint."""
        return next((report for report in reversed(self.reports) if report.endpoint == endpoint), None)

    async def reported(self, endpoint: str, state: str, generation: int = 0) -> ReplicaReport:
        """Wait until the newest report on the endpoint has this state (and at least this generation)."""
        while True:
            report = self.last_report(endpoint)
            if report is not None and report.state == state and report.generation >= generation:
                return report
            await self._news.wait()

    async def watch(self, after: int) -> AsyncIterator[Change | Synced]:
        self._check_up()
        whole = after == 0 or after > len(self._log)
        position = len(self._log)
        if whole:
            current = [Change(c.revision, c.endpoint, c.deployment) for c in self._newest() if c.deployment is not None]
        else:
            current = self._log[after:position]
        for change in current:
            yield change
        yield Synced(position, whole=whole)
        while True:
            for change in self._log[position:]:
                yield change
            position = len(self._log)
            await self._news.wait()
            self._check_up()

    async def report(self, report: ReplicaReport) -> None:
        self._check_up()
        self.reports.append(report)
        self._ring()

    async def fetch(self, version: ModelVersion, folder: Path) -> None:
        self._check_up()
        self.fetches.append(str(version.digest))
        for name, data in self._files[version.digest].items():
            (folder / name).write_bytes(data)
            if artifact_file(name, data) not in version.files:
                raise DataLoss(f"file {name!r} does not match its digest")

    async def load(self, endpoint: str) -> None:
        self._check_up()
        if endpoint in self._deployed:
            return
        if endpoint in self._stopped:
            self._want(endpoint, self._stopped.pop(endpoint))
            return
        versions = sorted(number for model, number in self.versions if model == endpoint)
        if not versions:
            raise NotFound(f"there is no endpoint or model {endpoint!r}")
        self.deploy(endpoint, EndpointConfig(endpoint, (Variant("primary", versions[-1]),)))

    async def unload(self, endpoint: str) -> None:
        self._check_up()
        deployment = self._deployed.pop(endpoint, None)
        if deployment is None:
            raise NotFound(f"there is no endpoint {endpoint!r} in service")
        self._stopped[endpoint] = replace(deployment, generation=deployment.generation + 1)
        self._append(endpoint, None)

    async def index(self) -> list[RepositoryEntry]:
        self._check_up()
        return [RepositoryEntry(name, "", "UNAVAILABLE", "unloaded") for name in sorted(self._stopped)]

    async def version(self, model: str, version: int) -> ModelVersion:
        self._check_up()
        if (model, version) not in self.versions:
            raise NotFound(f"version {version} of model {model!r} does not exist")
        return self.versions[model, version]

    async def put_baseline(
        self, model: str, version: int, name: str, files: Mapping[str, bytes], *, rows: int, columns: int
    ) -> Baseline:
        await self.version(model, version)
        listed = tuple(artifact_file(file, data) for file, data in sorted(files.items()))
        if [file.path for file in listed if file.path not in MEASURED_FILES] != sorted(FILES):
            raise InvalidArgument("a baseline is made of three files, and what was measured")
        made = Baseline(model, version, name, manifest_digest(listed), listed, rows, columns)
        self.baselines[model, version, name] = made
        self._files[made.digest] = dict(files)
        return made

    async def baseline(self, model: str, version: int, name: str) -> Baseline:
        self._check_up()
        if (model, version, name) not in self.baselines:
            raise NotFound(f"baseline {name!r} of {model}:{version} does not exist")
        return self.baselines[model, version, name]

    async def baseline_file(self, baseline: Baseline, file: str) -> bytes:
        if await self.baseline(baseline.model, baseline.version, baseline.name) != baseline:
            raise Conflict(f"baseline {baseline.name!r} was replaced; read it again")
        entry = next((entry for entry in baseline.files if entry.path == file), None)
        if entry is None:
            raise NotFound(f"the baseline has no file {file[:80]!r}")
        data = self._files[baseline.digest][file]
        if artifact_file(file, data) != entry:
            raise DataLoss(f"file {file!r} of the baseline does not match its digest")
        return data

    async def close(self) -> None: ...

    def _named(self, config: EndpointConfig) -> tuple[ModelVersion, ...]:
        variants: Sequence[Variant] = (*config.variants, *config.shadow_variants)
        keys = {(config.model, variant.version): None for variant in variants}
        keys |= {(ref.model, ref.version): None for variant in variants for ref in variant.pipeline}
        return tuple(self.versions[key] for key in keys)

    def _newest(self) -> list[Change]:
        newest = {change.endpoint: change for change in self._log}
        return sorted(newest.values(), key=lambda change: change.revision)

    def _want(self, endpoint: str, deployment: Deployment) -> None:
        self._deployed[endpoint] = deployment
        self._append(endpoint, deployment)

    def _append(self, endpoint: str, deployment: Deployment | None) -> None:
        self._log.append(Change(len(self._log) + 1, endpoint, deployment))
        self._ring()

    def _ring(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _check_up(self) -> None:
        if self._down:
            raise Unavailable("the registry is down")


def artifact_file(name: str, data: bytes) -> ArtifactFile:
    """The manifest's line for a file with these bytes."""
    return ArtifactFile(name, len(data), hashlib.sha256(data).hexdigest())
