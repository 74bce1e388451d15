"""A whole registry inside a test: the real service on memory adapters, with a stand-in for the admission child."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from vedette.chassis.grpc_server import GrpcServer
from vedette.chassis.metrics import METRICS
from vedette.chassis.service import Service
from vedette.core.clock import ManualClock
from vedette.core.metrics import NoMetrics
from vedette.core.models import Admission, Signature, TensorSpec
from vedette.core.ports import ReplicaReport
from vedette.engine.admission import AdmissionLimits, AdmissionRefused, Admitted
from vedette.ports.catalog import Catalog
from vedette.registry import service as wiring
from vedette.registry.config import RegistrySettings
from vedette.registry.desk import Desk
from vedette.registry.service import RegistryPorts, build
from vedette.storage.memory import MemoryArtifactStore, MemoryCatalog, MemoryEventStream

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 2)),))
ADMISSION = Admission(10.0, 1.0, 1 << 20)


def fake_admit(folder: Path, limits: AdmissionLimits) -> Admitted:
    """Like the real one for files that say what they are: `bad...` is refused, `wide...` takes and gives 5 columns."""
    content = (folder / "model.onnx").read_bytes()
    if content.startswith(b"bad"):
        raise AdmissionRefused("check", "the graph is no graph")
    if content.startswith(b"wide"):
        return Admitted(Signature((TensorSpec("x", "FP32", (-1, 5)),), (TensorSpec("y", "FP32", (-1, 5)),)), ADMISSION)
    return Admitted(SIGNATURE, ADMISSION)


@dataclass(slots=True)
class Tally:
    """Metrics that can be asked: (name, labels) -> value."""

    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def counter(self, name: str, **labels: str) -> Any:
        assert set(labels) == set(METRICS[name].labels)
        return _Cell(self.values, (name, tuple(sorted(labels.items()))))

    gauge = histogram = counter

    def forget(self, **labels: str) -> None: ...

    def value(self, name: str, **labels: str) -> float:
        return self.values.get((name, tuple(sorted(labels.items()))), 0.0)


@dataclass(slots=True)
class _Cell:
    values: dict[Any, float]
    key: Any

    def inc(self, amount: float = 1.0) -> None:
        self.values[self.key] = self.values.get(self.key, 0.0) + amount

    def dec(self, amount: float = 1.0) -> None:
        self.inc(-amount)

    def set(self, value: float) -> None:
        self.values[self.key] = value


@dataclass(slots=True)
class Room:
    """A running registry and the ways into it."""

    service: Service
    ports: RegistryPorts
    http: httpx.AsyncClient
    grpc: str
    metrics: Tally

    @property
    def desk(self) -> Desk:
        found: Desk = self.service.asgi.state.desk
        return found

    @property
    def clock(self) -> ManualClock:
        assert isinstance(self.ports.clock, ManualClock)
        return self.ports.clock

    async def upload(self, model: str, content: bytes = b"graph", details: str = "") -> dict[str, Any]:
        params = {"details": details} if details else {}
        answer = await self.http.post(f"/v1/models/{model}/versions", content=content, params=params)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json())

    def say(self, endpoint: str, generation: int, state: str, reason: str = "", *, replica: str = "r1") -> None:
        self.desk.replicas.report([ReplicaReport(replica, endpoint, generation, state, reason)])

    async def events(self) -> list[Any]:
        return [delivery.message for delivery in await self.ports.stream.read("lifecycle", 0, 1000)]


@asynccontextmanager
async def open_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, catalog: Catalog | None = None, **settings: Any
) -> AsyncIterator[Room]:
    """Build, start, listen on a free gRPC port; stop it all afterwards."""
    monkeypatch.setattr(wiring, "admit", fake_admit)
    artifacts = MemoryArtifactStore(folder / "staging")
    metrics = Tally()
    ports = RegistryPorts(catalog or MemoryCatalog(), artifacts, MemoryEventStream(), metrics, ManualClock())
    service = build(RegistrySettings(data_dir=folder, **{"sweep_interval_s": 0.02, **settings}), ports)
    server = GrpcServer(service.rpc, service="registry", metrics=NoMetrics(), max_message_bytes=4 << 20)
    await service.start()
    await server.start("127.0.0.1:0")
    transport = httpx.ASGITransport(service.asgi, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
            yield Room(service, ports, http, f"127.0.0.1:{server.port}", metrics)
    finally:
        service.drain()
        await server.stop(5.0)
        await service.stop()
