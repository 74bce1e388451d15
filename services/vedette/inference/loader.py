"""From desired state to what serves: follow the registry, load aside, swap, drain, free.

Each endpoint has one task while it has something to do; it works towards the newest wish and skips those
in between. A failed load leaves what serves serving. While the registry is down nothing changes; a restart then
serves what the cache remembers.

Rule: the route changes in one assignment (`Router.put`), after everything that can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from vedette.core.errors import Unavailable, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.ports import Change, Deployment, Registry, Synced
from vedette.inference.assembly import Assembled, Assembly
from vedette.inference.cache import ModelCache
from vedette.inference.reports import Reports
from vedette.inference.residents import Residents
from vedette.inference.router import Absence, Router
from vedette.inference.shadows import ShadowLane

log = logging.getLogger(__name__)

LOADS_AT_ONCE = 2
MISSES_OF_A_RESTART = 5
"""Vain tries to reach the registry (about 3 s of them) that are not worth a line in the log."""

BEGINNING_S = 10.0
"""Seconds of a process's life in which a registry that does not answer yet is no news."""


class Backoff:
    """Growing pauses with jitter, so that replicas do not return all at once."""

    def __init__(self, first_s: float = 0.1, longest_s: float = 5.0) -> None:
        self._first_s = self._next_s = first_s
        self._longest_s = longest_s

    def next(self) -> float:
        """The next pause in seconds."""
        pause = self._next_s * (0.5 + random.random())  # noqa: S311 - spreads load, guards nothing
        self._next_s = min(self._next_s * 2, self._longest_s)
        return pause

    def reset(self) -> None:
        """It worked: begin small again."""
        self._next_s = self._first_s


@dataclass(slots=True, eq=False)
class _Wish:
    """What is wanted of one endpoint, newest only. `deployment` None: that it be gone."""

    deployment: Deployment | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: bool = False


class Loader:
    """Keeps the router what the registry wants it to be."""

    def __init__(
        self,
        registry: Registry,
        router: Router,
        *,
        assembly: Assembly,
        residents: Residents,
        cache: ModelCache,
        reports: Reports,
        shadows: ShadowLane,
        metrics: Metrics,
        backoff: Callable[[], Backoff] = Backoff,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._router = router
        self._assembly = assembly
        self._residents = residents
        self._cache = cache
        self._reports = reports
        self._shadows = shadows
        self._metrics = metrics
        self._backoff = backoff
        self._monotonic = monotonic
        self._began = monotonic()
        self._connected = metrics.gauge("vedette_registry_connected")
        self._loads = asyncio.Semaphore(LOADS_AT_ONCE)
        self._wishes: dict[str, _Wish] = {}
        self._serving: dict[str, tuple[Deployment, Assembled]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsettled: set[str] = set()
        self._knows_state = False
        self._was_ready = False
        self._revision = 0
        self._misses = 0
        self._told_of_misses = False

    async def restore(self) -> None:
        """Begin to load what was served before a restart, so that it serves without the registry too."""
        await asyncio.to_thread(self._cache.prepare)
        kept = await asyncio.to_thread(self._cache.remembered)
        for deployment in kept:
            self._want(deployment.endpoint, deployment)
        self._knows_state = bool(kept)

    async def follow(self) -> None:
        """Follow the registry until cancelled; reconnect when it goes away."""
        backoff = self._backoff()
        while True:
            try:
                await self._watch(backoff)
            except Unavailable as error:
                self._missed(str(error))
            except VedetteError as error:
                log.error("the registry refused the watch", extra={"reason": str(error)})
            self._connected.set(0)
            await asyncio.sleep(backoff.next())

    def why_not_ready(self) -> str:
        """Empty once the wanted state was known and every endpoint of it was loaded and run, or failed for good.

        Later loads do not take readiness away: what served before goes on serving.
        """
        if self._was_ready:
            return ""
        if not self._knows_state:
            return "waiting for the registry"
        if self._unsettled:
            return f"loading {', '.join(sorted(self._unsettled)[:5])}"
        self._was_ready = True
        return ""

    async def settled(self) -> None:
        """Wait until nothing is being loaded, drained or freed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Cancel loads and drains under way; what serves is left to the end of the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _missed(self, reason: str) -> None:
        """Say once that the registry is gone for longer than a restart takes.

        Who has just been started beside a registry, and serves nothing yet, was only quicker than it.
        """
        self._misses += 1
        if self._misses == MISSES_OF_A_RESTART + 1 and self._is_beginning():
            log.info("waiting for the registry", extra={"reason": reason})
        if self._misses > MISSES_OF_A_RESTART and not self._told_of_misses and not self._is_beginning():
            self._told_of_misses = True
            log.warning("the registry is out of reach; serving goes on", extra={"reason": reason})

    def _is_beginning(self) -> bool:
        return not self._serving and not self._revision and self._monotonic() - self._began < BEGINNING_S

    def _reached(self) -> None:
        if self._told_of_misses:
            log.warning("the registry is back")
        self._misses, self._told_of_misses = 0, False
        self._connected.set(1)

    async def _watch(self, backoff: Backoff) -> None:
        seen: set[str] = set()
        whole = self._revision == 0
        async for event in self._registry.watch(self._revision):
            self._reached()
            backoff.reset()
            if isinstance(event, Change):
                seen.add(event.endpoint)
                self._want(event.endpoint, event.deployment)
                self._revision = max(self._revision, event.revision)
            else:
                self._synced(event, seen, whole=whole or event.whole)
                whole = False

    def _synced(self, event: Synced, seen: set[str], *, whole: bool) -> None:
        if whole:
            for endpoint in set(self._wishes) - seen:
                self._want(endpoint, None)
        self._revision = event.revision
        self._knows_state = True
        self._reports.repeat()

    def _want(self, endpoint: str, deployment: Deployment | None) -> None:
        wish = self._wishes.get(endpoint)
        if wish is None:
            if deployment is None:
                return
            wish = self._wishes[endpoint] = _Wish()
            if not self._was_ready:
                self._unsettled.add(endpoint)
        wish.deployment = deployment
        wish.changed.set()
        if not wish.at_work:
            wish.at_work = True
            self._spawn(self._converge(endpoint, wish))

    async def _converge(self, endpoint: str, wish: _Wish) -> None:
        backoff = self._backoff()
        while wish.changed.is_set():
            wish.changed.clear()
            if wish.deployment is None:
                await self._remove(endpoint)
            elif not await self._apply(wish.deployment):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next()):  # wait_for may swallow a cancellation
                        await wish.changed.wait()
                wish.changed.set()
        wish.at_work = False
        if wish.deployment is None:
            del self._wishes[endpoint]

    async def _apply(self, deployment: Deployment) -> bool:
        """Make the deployment serve. False: not now, try again; True: done, or it failed for good."""
        endpoint, generation = deployment.endpoint, deployment.generation
        current = self._serving.get(endpoint)
        if current is not None and current[0] == deployment:
            self._reports.tell(endpoint, generation, "ready")
            return True
        self._reports.tell(endpoint, generation, "loading")
        if current is None:
            self._router.remove(endpoint, absence=Absence("it is being loaded"))
        try:
            async with self._loads:
                assembled = await self._assembly.build(deployment)
        except Unavailable as error:
            self._failed(deployment, str(error), state="loading")
            return False
        except VedetteError as error:
            self._failed(deployment, str(error))
        except Exception:
            log.exception("a load failed unexpectedly", extra={"endpoint": endpoint})
            self._failed(deployment, "internal error while loading; see the log of the inference service")
        else:
            await self._swap(deployment, assembled)
        self._unsettled.discard(endpoint)
        return True

    async def _swap(self, deployment: Deployment, assembled: Assembled) -> None:
        endpoint = deployment.endpoint
        old = self._serving.get(endpoint)
        self._router.put(assembled.route)
        self._serving[endpoint] = (deployment, assembled)
        self._assembly.settle(assembled.route)
        await asyncio.to_thread(self._cache.remember, deployment)
        self._reports.tell(endpoint, deployment.generation, "ready")
        if old is not None:
            self._spawn(self._retire(old[1]))

    async def _remove(self, endpoint: str) -> None:
        self._router.remove(endpoint)
        self._unsettled.discard(endpoint)
        old = self._serving.pop(endpoint, None)
        await asyncio.to_thread(self._cache.forget, endpoint)
        self._reports.tell(endpoint, old[0].generation if old else 0, "removed")
        if old is not None:
            await self._retire(old[1])
        self._assembly.forget(endpoint)

    async def _retire(self, assembled: Assembled) -> None:
        self._shadows.discard([shadow.variant for shadow in assembled.route.shadows])
        await self._assembly.retire(assembled)
        await asyncio.to_thread(self._cache.sweep, self._residents.digests)

    def _failed(self, deployment: Deployment, reason: str, *, state: str = "failed") -> None:
        endpoint = deployment.endpoint
        log.warning(
            "a load failed", extra={"endpoint": endpoint, "generation": deployment.generation, "reason": reason}
        )
        self._metrics.counter("vedette_model_load_failures_total", endpoint=endpoint).inc()
        self._reports.tell(endpoint, deployment.generation, state, reason)
        if endpoint not in self._serving:
            self._router.remove(endpoint, absence=Absence(reason, failed=state == "failed"))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
