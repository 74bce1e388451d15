"""From a deployment to a route: every variant loaded, bound and ready, or nothing at all.

Rule: what is acquired here is released here when a later step fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vedette.core.errors import InvalidArgument
from vedette.core.metrics import Metrics
from vedette.core.models import Limits, ModelRef, ModelVersion, Signature, Variant
from vedette.core.ports import Deployment
from vedette.engine.chain import check_chain
from vedette.engine.runtime import Runtime
from vedette.inference.capture import Capture, Lane
from vedette.inference.checks import SignatureCheck
from vedette.inference.execution import Executor
from vedette.inference.independence import why_dependent
from vedette.inference.meters import Meters
from vedette.inference.records import Source
from vedette.inference.residents import Key, Resident, Residents
from vedette.inference.router import SILVER, Route, ServedVariant, Shadow, Turns
from vedette.inference.sampling import make_sampler
from vedette.inference.statistics import StatisticsBook
from vedette.inference.workers import Gate, Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A route and the loaded versions it stands on, each with the version that owns it in metrics."""

    route: Route
    residents: tuple[tuple[Resident, ModelVersion], ...]


class Assembly:
    """Makes routes; owns what outlives a route: the gate of each endpoint and its statistics."""

    def __init__(
        self,
        residents: Residents,
        *,
        workers: Workers,
        metrics: Metrics,
        capture: Capture,
        inline_limit_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._residents = residents
        self._workers = workers
        self._metrics = metrics
        self._capture = capture
        self._inline_limit_s = inline_limit_s
        self._now = now
        self._gates: dict[str, Gate] = {}
        self._statistics = StatisticsBook()
        self._verdicts: dict[Key, str] = {}

    async def build(self, deployment: Deployment) -> Assembled:
        """Load what the deployment names and bind it. Raises what `Residents.acquire` raises, and InvalidArgument."""
        config = deployment.config
        if not config.variants:
            raise InvalidArgument("the endpoint has no variant")
        taken: list[tuple[Resident, ModelVersion]] = []
        try:
            variants = [await self._variant(deployment, variant, taken) for variant in config.variants]
            shadows = [await self._variant(deployment, variant, taken) for variant in config.shadow_variants]
        except BaseException:
            await self.release(taken)
            raise
        total = sum(variant.weight for variant in config.variants)
        route = Route(
            deployment.endpoint,
            deployment.generation,
            config=config,
            variants=variants,
            shadows=[
                Shadow(v, v.weight / total if total else 1.0, Turns(step=SILVER)) for v in shadows if v.weight > 0
            ],
            gate=self._gates[deployment.endpoint],
        )
        return Assembled(route, tuple(taken))

    def settle(self, route: Route) -> None:
        """The route serves now: its limits hold, and statistics of versions that are gone are dropped."""
        route.gate.limit = route.config.limits.max_queue
        self._statistics.keep(route.endpoint, {variant.version for variant in _everything(route)})

    async def retire(self, assembled: Assembled) -> None:
        """Wait until the route's last request is answered, then free what only it used."""
        for variant in _everything(assembled.route):
            await variant.executor.drained()
        await self.release(assembled.residents)

    async def release(self, residents: Sequence[tuple[Resident, ModelVersion]]) -> None:
        """End the use of loaded versions."""
        for resident, owner in residents:
            await self._residents.release(resident, owner=owner)

    def forget(self, endpoint: str) -> None:
        """The endpoint is gone: drop its gate, statistics and metrics."""
        self._gates.pop(endpoint, None)
        self._statistics.keep(endpoint, ())
        self._metrics.forget(endpoint=endpoint)

    async def _variant(
        self, deployment: Deployment, variant: Variant, taken: list[tuple[Resident, ModelVersion]]
    ) -> ServedVariant:
        config, endpoint = deployment.config, deployment.endpoint
        versions = {(version.model, version.version): version for version in deployment.versions}
        own = _named(versions, ModelRef(config.model, variant.version))
        steps = [_named(versions, ref) for ref in variant.pipeline] or [own]
        signature = own.signature if len(steps) == 1 else check_chain([step.signature for step in steps])
        sampler = make_sampler(config.capture, signature)
        resident = await self._residents.acquire(steps, variant.options, owner=own)
        taken.append((resident, own))
        _check_graph(resident.runtime, signature)
        gate = self._gate(endpoint, config.limits)
        version = str(variant.version)
        meters = Meters(self._metrics, endpoint=endpoint, variant=variant.name, version=version)
        executor = Executor(
            resident.runtime,
            resident.run_time,
            gate=gate,
            workers=self._workers,
            now=self._now,
            inline_limit_s=self._inline_limit_s,
            settings=config.dynamic_batching,
            unbatched=await self._why_unbatched(resident, signature),
            most_rows=config.limits.max_batch_rows,
            width=resident.threads,
            batching=self._metrics.gauge("vedette_batching", endpoint=endpoint, variant=variant.name, version=version),
        )
        if executor.unbatched:
            told = {"endpoint": endpoint, "variant": variant.name, "reason": executor.unbatched}
            log.info("requests to a variant are never batched", extra=told)
        return ServedVariant(
            endpoint=endpoint,
            name=variant.name,
            version=version,
            weight=variant.weight,
            model_version=own,
            check=SignatureCheck(signature, config.limits.max_batch_rows),
            executor=executor,
            recorder=self._statistics.recorder(endpoint, version),
            meters=meters,
            lane=None
            if sampler is None
            else Lane(self._capture, Source(endpoint, variant.name, own.model, version, sampler)),
        )

    async def _why_unbatched(self, resident: Resident, signature: Signature) -> str:
        """Try the model once for as long as it is in memory: another deployment of it waits for nothing."""
        reason = self._verdicts.get(resident.key)
        if reason is None:
            row_s = resident.run_time.estimate(1)
            reason = await asyncio.to_thread(why_dependent, resident.runtime, signature, row_s=row_s)
            held = self._residents.digests
            self._verdicts = {key: known for key, known in self._verdicts.items() if held.issuperset(key[0])}
            self._verdicts[resident.key] = reason
        return reason

    def _gate(self, endpoint: str, limits: Limits) -> Gate:
        gate = self._gates.get(endpoint)
        if gate is None:
            gauge = self._metrics.gauge("vedette_requests_in_flight", endpoint=endpoint)
            gate = self._gates[endpoint] = Gate(limits.max_queue, gauge)
        return gate


def _everything(route: Route) -> list[ServedVariant]:
    return [*route.variants, *(shadow.variant for shadow in route.shadows)]


def _named(versions: dict[tuple[str, int], ModelVersion], ref: ModelRef) -> ModelVersion:
    version = versions.get((ref.model, ref.version))
    if version is None:
        raise InvalidArgument(f"the deployment names {ref} but does not describe it")
    return version


def _check_graph(runtime: Runtime, signature: Signature) -> None:
    """The registry's signature decides what callers may send, so it must be the graph's."""
    graph = {(spec.name, spec.datatype) for spec in (*runtime.inputs, *runtime.outputs)}
    stated = {(spec.name, spec.datatype) for spec in (*signature.inputs, *signature.outputs)}
    if graph != stated:
        raise InvalidArgument("the graph's inputs and outputs are not those of the registered signature")
