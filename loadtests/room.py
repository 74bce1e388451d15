"""The inference room in this process, with the reference model served, everything on, and no registry beside it.

Rule: real parts only; the registry is the public one in memory. What load tests need to take a request apart.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests import models
from vedette.chassis.rsgi import HttpFront
from vedette.chassis.service import Service
from vedette.chassis.telemetry import CellMetrics
from vedette.core.clock import SystemClock
from vedette.core.models import CaptureSettings, EndpointConfig, SessionOptions, Signature, Variant
from vedette.engine.session import Session
from vedette.inference.config import InferenceSettings
from vedette.inference.dataplane import DataPlane
from vedette.inference.router import ServedVariant
from vedette.inference.service import InferencePorts, build
from vedette.storage.sqlite_stream import SqliteEventStream
from vedette.testing.registry import MemoryRegistry

MODEL = "reference"
START_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Room:
    """The parts that a load test takes in its hand."""

    service: Service
    metrics: CellMetrics
    dataplane: DataPlane
    variant: ServedVariant

    def front(self, **parts: Any) -> HttpFront:
        """The service's HTTP routes (or other `parts`) behind our front."""
        settings: dict[str, Any] = {"routes": self.service.routes, **parts}
        return HttpFront(
            settings.pop("routes"),
            service="inference",
            metrics=self.metrics,
            max_request_bytes=64 << 20,
            receive_timeout_s=30,
            **settings,
        )


@asynccontextmanager
async def open_room(*, captured: bool = True) -> AsyncIterator[Room]:
    """The room, ready; with `captured`, every request is recorded."""
    with tempfile.TemporaryDirectory(prefix="vedette-load-") as name:
        folder = Path(name)
        registry, metrics = MemoryRegistry(), CellMetrics.alone()
        registry.add_version(MODEL, 1, {"model.onnx": models.build(MODEL)}, signature=_signature(folder))
        settings = InferenceSettings(data_dir=folder)
        stream = SqliteEventStream(folder / "stream", retention_s=3600, retention_bytes=1 << 30, metrics=metrics)
        service = build(settings, InferencePorts(registry, stream, metrics, SystemClock()))
        await service.start()
        try:
            share = 100.0 if captured else 0.0
            config = EndpointConfig(MODEL, (Variant("primary", 1),), capture=CaptureSettings(sampling_percent=share))
            deployment = registry.deploy(MODEL, config)
            async with asyncio.timeout(START_TIMEOUT_S):
                await registry.reported(MODEL, "ready", deployment.generation)
            handlers: Any = service.routes[0].handler
            dataplane: DataPlane = handlers.__self__._dataplane  # noqa: SLF001 - a load test looks inside
            yield Room(service, metrics, dataplane, dataplane._router.route(MODEL).serving(""))  # noqa: SLF001
        finally:
            await service.stop()


def _signature(folder: Path) -> Signature:
    """What the model takes and gives, as ONNX Runtime tells."""
    file = folder / "model.onnx"
    file.write_bytes(models.build(MODEL))
    session = Session.load(file, SessionOptions())
    session.close()
    return Signature(session.inputs, session.outputs)
