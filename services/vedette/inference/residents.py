"""Loaded model versions, each once however many variants and endpoints use it.

Rule: who acquires releases; the last release frees the memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vedette.core.errors import Unavailable
from vedette.core.metrics import Metrics
from vedette.core.models import ModelVersion, SessionOptions
from vedette.core.ports import Registry
from vedette.engine.chain import Chain
from vedette.engine.providers import check_options, thread_count
from vedette.engine.runtime import Runtime
from vedette.engine.session import Session
from vedette.engine.warmup import measured
from vedette.inference.cache import ModelCache
from vedette.inference.run_time import RunTime

log = logging.getLogger(__name__)
WIDE_FROM_S = 0.002
"""A model whose admission took this long a run (one row, one thread) runs on all processors of its worker.

On two, without spinning: 1.9 ms became 1.5, 1.5 ms 1.15, and 0.45 ms 0.44, for a tenth more processor time.
"""

Open = Callable[[Sequence[Path], SessionOptions], Runtime]


Key = tuple[tuple[str, ...], SessionOptions]


@dataclass(frozen=True, slots=True)
class Resident:
    """A chain of versions (usually one) in memory."""

    key: Key
    runtime: Runtime
    run_time: RunTime

    @property
    def threads(self) -> int:
        """Threads that work on one run, the caller's among them."""
        return thread_count(self.key[1])


@dataclass(slots=True)
class _Slot:
    """Room for a resident: who wants it is counted before it is there, so that nobody frees it in between."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    resident: Resident | None = None


class Residents:
    """Fetches, verifies, loads and warms up; shares what is loaded already."""

    def __init__(
        self,
        registry: Registry,
        cache: ModelCache,
        metrics: Metrics,
        *,
        cpus: int = 1,
        open_runtime: Open | None = None,
    ) -> None:
        """`cpus`: processors that a run of a large model may use."""
        self._registry = registry
        self._cache = cache
        self._metrics = metrics
        self._cpus = cpus
        self._open = open_runtime or open_sessions
        self._slots: dict[Key, _Slot] = {}

    @property
    def digests(self) -> set[str]:
        """Digests of everything in memory or on its way there."""
        return {digest for digests, _ in self._slots for digest in digests}

    async def acquire(
        self, versions: Sequence[ModelVersion], options: SessionOptions, *, owner: ModelVersion
    ) -> Resident:
        """The chain of these versions, loaded and run once on zeros. `owner` names it in metrics.

        Raises:
            Unavailable: a file cannot be fetched now.
            DataLoss: fetched bytes do not match their digests.
            InvalidArgument, ModelFailed: the build cannot run it so, or it does not load or run.
        """
        options = _threads_for(versions, options, self._cpus)
        key = (tuple(version.digest for version in versions), options)
        slot = self._slots.setdefault(key, _Slot())
        slot.users += 1
        try:
            async with slot.lock:
                if slot.resident is None:
                    slot.resident = await self._load(key, versions, owner)
                    self._measure(slot.resident, owner)
            return slot.resident
        except BaseException:
            await self._leave(key, owner)
            raise

    async def release(self, resident: Resident, *, owner: ModelVersion) -> None:
        """End one use; the last one frees the memory."""
        await self._leave(resident.key, owner)

    async def _leave(self, key: Key, owner: ModelVersion) -> None:
        slot = self._slots[key]
        slot.users -= 1
        if slot.users:
            return
        del self._slots[key]
        if slot.resident is None:
            return
        self._metrics.gauge("vedette_models_loaded").set(len(self._slots))
        if not any(owner.digest in digests for digests, _ in self._slots):
            self._metrics.forget(model=owner.model, version=str(owner.version))
        await asyncio.to_thread(slot.resident.runtime.close)

    async def _load(self, key: Key, versions: Sequence[ModelVersion], owner: ModelVersion) -> Resident:
        started = time.monotonic()
        check_options(key[1])
        folders = [await self._fetch(version) for version in versions]
        packs = self._cache.packs
        paths = [await packs.graph(folder, version, key[1]) for folder, version in zip(folders, versions)]
        runtime = await asyncio.to_thread(self._open, paths, key[1])
        try:
            run_time = await asyncio.to_thread(warm_up, runtime)
        except BaseException:
            await asyncio.to_thread(runtime.close)
            raise
        self._metrics.histogram("vedette_model_load_seconds", model=owner.model).observe(time.monotonic() - started)
        return Resident(key, runtime, run_time)

    async def _fetch(self, version: ModelVersion) -> Path:
        found = await asyncio.to_thread(self._cache.find, version)
        if found is not None:
            return found
        incoming = await asyncio.to_thread(self._cache.receive)
        try:
            await self._registry.fetch(version, incoming)
            return await asyncio.to_thread(self._cache.keep, incoming, version)
        except OSError as error:
            raise Unavailable(f"{version.model}:{version.version} cannot be stored: {error.strerror}") from error
        finally:
            await asyncio.to_thread(self._cache.drop, incoming)

    def _measure(self, resident: Resident, owner: ModelVersion) -> None:
        gauge = self._metrics.gauge("vedette_model_memory_bytes", model=owner.model, version=str(owner.version))
        gauge.set(resident.runtime.memory_bytes)
        self._metrics.gauge("vedette_models_loaded").set(len(self._slots))


def open_sessions(paths: Sequence[Path], options: SessionOptions) -> Runtime:
    """One session, or a chain of them. Blocks for as long as ONNX Runtime takes."""
    sessions: list[Session] = []
    try:
        for path in paths:
            sessions.append(Session.load(path, options))  # noqa: PERF401 - those loaded so far are closed on failure
        return sessions[0] if len(sessions) == 1 else Chain(sessions)
    except BaseException:
        for session in sessions:
            session.close()
        raise


def warm_up(runtime: Runtime) -> RunTime:
    """Run on zeros until times mean something. Raises what the model raises: it then cannot serve."""
    return RunTime(*measured(runtime))


def _threads_for(versions: Sequence[ModelVersion], options: SessionOptions, cpus: int) -> SessionOptions:
    """How many threads work on one run, where the operator leaves it to us: all processors of this worker, or one.

    Waking the others costs some ten microseconds an operator of the graph: a small model gains nothing from it.
    """
    if options.intra_op_threads:
        return options
    run_s = sum(version.admission.run_time_us for version in versions) * 1e-6
    return replace(options, intra_op_threads=cpus if run_s >= WIDE_FROM_S else 1)
