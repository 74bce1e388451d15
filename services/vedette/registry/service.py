"""The registry as a service: a straight line that reads as its wiring diagram."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from vedette import __version__
from vedette.chassis.service import Service
from vedette.core.clock import Clock
from vedette.core.errors import InvalidArgument
from vedette.core.metrics import Metrics
from vedette.core.models import Admission, SessionOptions, Signature
from vedette.core.ports import EventStream
from vedette.engine.admission import AdmissionLimits, admit
from vedette.engine.chain import check_chain
from vedette.engine.providers import check_options, check_settings
from vedette.ports.artifacts import ArtifactStore
from vedette.ports.catalog import Catalog
from vedette.registry import rpc
from vedette.registry.baselines import Baselines
from vedette.registry.config import RegistrySettings
from vedette.registry.deployments import Deployments
from vedette.registry.desk import Desk
from vedette.registry.endpoints import Rules
from vedette.registry.http import ACTIONS, UPLOADS, build_app
from vedette.registry.imports import Imports
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.models import Models
from vedette.registry.replicas import Replicas
from vedette.registry.upkeep import Upkeep
from vedette.registry.uploads import Admit, UploadLimits, Uploads
from vedette.registry.watch import Watch


@dataclass(frozen=True, slots=True)
class RegistryPorts:
    """What the registry needs from outside. The service closes the catalog and the stream."""

    catalog: Catalog
    artifacts: ArtifactStore
    stream: EventStream
    metrics: Metrics
    clock: Clock


def build(config: RegistrySettings, ports: RegistryPorts) -> Service:
    """Wire the registry; connects to nothing and starts nothing."""
    lifecycle = Lifecycle(ports.stream, ports.clock)
    models = Models(ports.catalog, ports.artifacts, ports.clock, lifecycle=lifecycle)
    uploads = Uploads(
        ports.catalog,
        ports.artifacts,
        models,
        admit=_admission(config),
        limits=UploadLimits(
            config.max_artifact_bytes, config.max_uploads, config.upload_ttl_s, config.concurrent_admissions
        ),
        metrics=ports.metrics,
        clock=ports.clock,
    )
    replicas = Replicas(ports.catalog, ports.clock, lifecycle=lifecycle, lease_s=config.lease_s)
    deployments = Deployments(ports.catalog, _rules(config), ports.clock, lifecycle=lifecycle, replicas=replicas)
    watch = Watch(ports.catalog, ports.metrics)
    baselines = Baselines(
        ports.catalog,
        ports.artifacts,
        models,
        lifecycle=lifecycle,
        clock=ports.clock,
        max_bytes=config.max_baseline_bytes,
        max_uploads=config.max_uploads,
    )
    imports = Imports(uploads, config.import_roots)
    desk = Desk(models, uploads, imports, deployments, replicas, watch, ports.artifacts, baselines)
    upkeep = Upkeep(desk, ports.catalog, ports.metrics, interval_s=config.sweep_interval_s)
    life = _Life(ports, desk, lifecycle, upkeep)
    return Service(
        name="registry",
        asgi=build_app(desk, version=__version__, max_json_bytes=config.max_json_bytes),
        asgi_actions=ACTIONS,
        asgi_uploads=UPLOADS,
        rpc=(rpc.service(desk),),
        start=life.start,
        ready=lambda: upkeep.trouble,
        drain=life.drain,
        stop=life.stop,
    )


class _Life:
    """Start and stop of the registry's tasks."""

    def __init__(self, ports: RegistryPorts, desk: Desk, lifecycle: Lifecycle, upkeep: Upkeep) -> None:
        self._ports = ports
        self._desk = desk
        self._lifecycle = lifecycle
        self._upkeep = upkeep
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring the stores up to date, clear what a killed process left, begin the tasks."""
        await asyncio.to_thread(self._ports.catalog.migrate)
        await asyncio.to_thread(self._ports.artifacts.prepare)
        await asyncio.to_thread(self._desk.models.drop_orphans)
        chores = (self._desk.watch.run(), self._lifecycle.run(), self._upkeep.run())
        self._tasks = [asyncio.create_task(chore) for chore in chores]

    def drain(self) -> None:
        """End the watches: they would otherwise hold up the end until its time limit."""
        self._desk.watch.close()

    async def stop(self) -> None:
        """End the tasks, tell what is still to tell, close the stores."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lifecycle.flush()
        await asyncio.to_thread(self._ports.catalog.close)
        await self._ports.stream.close()


def _admission(config: RegistrySettings) -> Admit:
    limits = AdmissionLimits(memory_bytes=config.admission_memory_bytes, wall_s=config.admission_timeout_s)

    def run(folder: Path) -> tuple[Signature, Admission]:
        admitted = admit(folder, limits)
        return admitted.signature, admitted.admission

    return run


def _rules(config: RegistrySettings) -> Rules:
    allowed = frozenset(config.allowed_providers)

    def check(options: SessionOptions) -> None:
        if not allowed:
            check_options(options)
            return
        check_settings(options)
        missing = [name for name in options.providers if name not in allowed]
        if missing:
            raise InvalidArgument(f"execution provider {missing[0][:80]} is not one of {', '.join(sorted(allowed))}")

    return Rules(check, check_chain, require_approval=config.require_approval)
