"""The inference room inside a test: the real parts on a registry in memory, without servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.inference_models import OnnxModel
from vedette.chassis.metrics import METRICS
from vedette.core.clock import SystemClock
from vedette.core.models import EndpointConfig, Variant
from vedette.core.ports import EventStream
from vedette.core.tensors import InferRequest, InferResponse, Tensor
from vedette.inference.assembly import Assembly
from vedette.inference.cache import ModelCache
from vedette.inference.capture import Bounds, Capture
from vedette.inference.dataplane import DataPlane
from vedette.inference.loader import Backoff, Loader
from vedette.inference.reports import Reports
from vedette.inference.residents import Open, Residents
from vedette.inference.router import Choice, Router
from vedette.inference.run_time import INLINE_LIMIT_S
from vedette.inference.service import Background
from vedette.inference.shadows import ShadowLane
from vedette.inference.workers import Workers
from vedette.storage.memory import MemoryEventStream
from vedette.testing.registry import MemoryRegistry


@dataclass
class Tally:
    """Metrics that can be asked what they counted; strict about names and labels."""

    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def counter(self, name: str, **labels: str) -> Any:
        if set(labels) != set(METRICS[name].labels):
            raise KeyError(name)
        return _Cell(self.values, (name, tuple(sorted(labels.items()))), adds=METRICS[name].kind == "histogram")

    gauge = histogram = counter

    def forget(self, **labels: str) -> None:
        for key in [key for key in self.values if set(labels.items()) <= set(key[1])]:
            del self.values[key]

    def value(self, name: str, **labels: str) -> float:
        """The sum over every series with these labels; of a histogram the number of observations."""
        return sum(v for (n, have), v in self.values.items() if n == name and set(labels.items()) <= set(have))


@dataclass
class _Cell:
    values: dict[Any, float]
    key: Any
    adds: bool

    def inc(self, amount: float = 1.0) -> None:
        self.values[self.key] = self.values.get(self.key, 0.0) + amount

    def dec(self, amount: float = 1.0) -> None:
        self.inc(-amount)

    def set(self, value: float) -> None:
        self.values[self.key] = value

    def observe(self, value: float) -> None:
        self.inc()


@dataclass
class Rig:
    """What a test may touch."""

    registry: MemoryRegistry
    router: Router
    dataplane: DataPlane
    loader: Loader
    residents: Residents
    cache: ModelCache
    metrics: Tally
    capture: Capture
    stream: EventStream
    workers: Workers
    shadows: ShadowLane

    def register(self, model: str, *versions: OnnxModel) -> None:
        """Register the versions 1, 2, ... of a model."""
        for number, made in enumerate(versions, 1):
            self.registry.add_version(model, number, made.files, signature=made.signature)

    async def deploy(
        self, endpoint: str, *variants: Variant, model: str = "", state: str = "ready", **fields: Any
    ) -> int:
        """Deploy and wait until this replica reported the state; returns the generation."""
        config = EndpointConfig(model or endpoint, variants or (Variant("primary", 1),), **fields)
        deployment = self.registry.deploy(endpoint, config)
        async with asyncio.timeout(20):
            await self.registry.reported(endpoint, state, deployment.generation)
        return deployment.generation

    async def infer(self, endpoint: str, values: Any, *, choice: Choice | None = None, **fields: Any) -> InferResponse:
        """One inference with `values` as the FP32 input `x`."""
        return await self.dataplane.infer(request(endpoint, values, **fields), as_it_is, protocol="http", choice=choice)


async def as_it_is(_request: InferRequest, response: InferResponse) -> InferResponse:
    """An answer without a wire format."""
    return response


def tensor(name: str, values: Any, datatype: str = "FP32", dtype: Any = np.float32) -> Tensor:
    """A tensor of these values."""
    return Tensor(name, datatype, np.asarray(values, dtype=dtype))


def request(endpoint: str, values: Any, **fields: Any) -> InferRequest:
    """A request with one FP32 input `x`, or with the tensors given."""
    inputs: Sequence[Tensor] = (
        values if isinstance(values, list) and values and isinstance(values[0], Tensor) else [tensor("x", values)]
    )
    return InferRequest(endpoint, list(inputs), **fields)


def first(response: InferResponse) -> Any:
    """The values of the first output."""
    return response.outputs[0].array.tolist()


@asynccontextmanager
async def inference(
    folder: Path,
    *,
    registry: MemoryRegistry | None = None,
    inline_limit_s: float = INLINE_LIMIT_S,
    threads: int = 2,
    open_runtime: Open | None = None,
    max_copies: int = 64,
    stream: EventStream | None = None,
    bounds: Bounds | None = None,
) -> AsyncIterator[Rig]:
    """A running inference room on this folder."""
    registry = registry or MemoryRegistry()
    metrics, router, stream = Tally(), Router(), stream or MemoryEventStream()
    workers = Workers(threads)
    shadows = ShadowLane(workers, max_copies=max_copies)
    capture = Capture(stream, metrics, bounds=bounds, age_s=60)  # tests flush
    cache = ModelCache(folder)
    residents = Residents(registry, cache, metrics, open_runtime=open_runtime)
    reports = Reports(registry, "replica-1", retry_s=0.01)
    assembly = Assembly(residents, workers=workers, metrics=metrics, capture=capture, inline_limit_s=inline_limit_s)
    loader = Loader(
        registry,
        router,
        assembly=assembly,
        residents=residents,
        cache=cache,
        reports=reports,
        shadows=shadows,
        metrics=metrics,
        backoff=lambda: Backoff(0.005, 0.02),
    )
    dataplane = DataPlane(
        router,
        registry,
        clock=SystemClock(),
        shadows=shadows,
        why_not_ready=loader.why_not_ready,
        load_timeout_s=5,
    )
    background = Background(loader, registry, capture=capture, reports=reports, shadows=shadows, workers=workers)
    await background.start()
    try:
        yield Rig(registry, router, dataplane, loader, residents, cache, metrics, capture, stream, workers, shadows)
    finally:
        await background.stop()
