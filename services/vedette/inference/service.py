"""The inference service, wired. `build` reads from top to bottom as the diagram of what stands on what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from dataclasses import dataclass

from vedette.chassis.chores import kept_alive
from vedette.chassis.service import Service
from vedette.core.clock import Clock
from vedette.core.metrics import Metrics
from vedette.core.ports import EventStream, Registry
from vedette.engine.cpus import share
from vedette.inference.assembly import Assembly
from vedette.inference.cache import ModelCache
from vedette.inference.capture import Bounds, Capture
from vedette.inference.config import InferenceSettings
from vedette.inference.dataplane import DataPlane
from vedette.inference.http.kserve import KserveHttp
from vedette.inference.http.oip import OipHttp
from vedette.inference.http.sagemaker import SageMakerHttp
from vedette.inference.loader import Loader
from vedette.inference.producer import Producer
from vedette.inference.reports import Reports
from vedette.inference.residents import Residents
from vedette.inference.router import Router
from vedette.inference.rpc import rpc_service
from vedette.inference.shadows import ShadowLane
from vedette.inference.workers import Workers

log = logging.getLogger(__name__)
_FLUSH_S = 5.0


@dataclass(frozen=True, slots=True)
class InferencePorts:
    """What the service needs from outside."""

    registry: Registry
    stream: EventStream
    metrics: Metrics
    clock: Clock
    worker: int = 0
    """Which of the service's worker processes this is."""


def build(config: InferenceSettings, ports: InferencePorts) -> Service:
    """The service, connected to nothing yet."""
    router = Router()
    cpus = share(config.workers)
    workers = Workers(config.model_threads or cpus)
    shadows = ShadowLane(workers, max_copies=config.shadow_queue)
    slot = config.data_dir / "inference" / "capture" / f"{ports.worker}.json"
    capture = Capture(
        ports.stream,
        ports.metrics,
        producer=Producer(slot),
        bounds=Bounds(config.capture_buffer, config.capture_buffer_bytes),
        age_s=config.capture_interval_s,
    )
    cache = ModelCache(
        config.data_dir / "inference", pack_from_bytes=config.shared_weights_min_bytes if config.workers > 1 else 0
    )
    residents = Residents(ports.registry, cache, ports.metrics, cpus=cpus)
    reports = Reports(ports.registry, replica=uuid.uuid4().hex)
    assembly = Assembly(
        residents,
        workers=workers,
        metrics=ports.metrics,
        capture=capture,
        inline_limit_s=config.inline_limit_us / 1e6,
        now=ports.clock.monotonic,
    )
    loader = Loader(
        ports.registry,
        router,
        assembly=assembly,
        residents=residents,
        cache=cache,
        reports=reports,
        shadows=shadows,
        metrics=ports.metrics,
    )
    dataplane = DataPlane(
        router,
        ports.registry,
        clock=ports.clock,
        shadows=shadows,
        why_not_ready=loader.why_not_ready,
        load_timeout_s=config.load_timeout_s,
    )
    background = Background(loader, ports.registry, capture=capture, reports=reports, shadows=shadows, workers=workers)
    return Service(
        name="inference",
        routes=(
            *OipHttp(dataplane).routes(),
            *KserveHttp(dataplane).routes(),
            *SageMakerHttp(dataplane, config).routes(),
        ),
        rpc=(rpc_service(dataplane),),
        start=background.start,
        ready=dataplane.ready,
        stop=background.stop,
    )


class Background:
    """The tasks beside the requests. A task that fails unexpectedly is logged and begun again."""

    def __init__(
        self,
        loader: Loader,
        registry: Registry,
        *,
        capture: Capture,
        reports: Reports,
        shadows: ShadowLane,
        workers: Workers,
    ) -> None:
        self._loader = loader
        self._registry = registry
        self._capture = capture
        self._reports = reports
        self._shadows = shadows
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._writer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what was served before, then follow the registry; does not wait for either."""
        await self._loader.restore()
        for work in (self._loader.follow, self._reports.run, self._shadows.run):
            self._tasks.append(asyncio.create_task(kept_alive(work)))
        self._writer = asyncio.create_task(kept_alive(self._capture.run))

    async def stop(self) -> None:
        """After the last answer: end every task, publish what was captured, close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loader.stop()
        self._capture.stop()
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._writer, _FLUSH_S)
        await self._capture.close()
        self._shadows.close()
        self._workers.close()
        await self._registry.close()
