"""Which variant answers: endpoint by name, variant by pinned version, target or weight.

Weights are met by a low-discrepancy sequence (multiples of the golden ratio modulo 1), not by chance: after n
requests each variant's count is within a handful of n times its share, so that a 1 % canary sees traffic at
once and a test can demand exact counts; being aperiodic it does not fall into step with clients that repeat a
pattern, as a round robin does. Each process starts at a random point so that replicas do not move together.
(Kuipers and Niederreiter, Uniform Distribution of Sequences, 1974, section 2.3.)

Rule: a route is immutable but for its place in the sequence; a new one replaces it in one assignment.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from vedette.core.errors import InvalidArgument, NotFound, Unavailable
from vedette.core.models import EndpointConfig, ModelVersion, Signature
from vedette.inference.capture import Lane
from vedette.inference.checks import SignatureCheck
from vedette.inference.execution import Executor
from vedette.inference.meters import Meters
from vedette.inference.statistics import Recorder
from vedette.inference.workers import Gate

GOLDEN = 0.6180339887498949
SILVER = 0.41421356237309515
"""Another badly approximable number: what is thinned by it is not tied to the variant that the first one picked."""


class Turns:
    """A sequence of numbers in [0, 1) that fills the interval evenly from the first one on."""

    __slots__ = ("_at", "_step")

    def __init__(self, start: float | None = None, *, step: float = GOLDEN) -> None:
        self._step = step
        self._at = random.random() if start is None else start  # noqa: S311 - spreads load, guards nothing

    def next(self) -> float:
        """The next number."""
        self._at = (self._at + self._step) % 1.0
        return self._at


@dataclass(frozen=True, slots=True)
class ServedVariant:
    """A variant with everything that a request to it needs, made when it was loaded."""

    endpoint: str
    name: str
    version: str
    weight: float
    model_version: ModelVersion
    check: SignatureCheck
    executor: Executor
    recorder: Recorder
    meters: Meters
    lane: Lane | None = None
    """None: nothing of this endpoint is captured."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A shadow variant and its own place in the sequence that thins the copies."""

    variant: ServedVariant
    share: float
    """Share of the endpoint's requests that are copied: its weight relative to production's."""
    turns: Turns


class Route:
    """What one endpoint does with requests."""

    __slots__ = ("_bounds", "_only", "_turns", "_weighted", "config", "endpoint", "gate", "generation", "shadows",
                 "timeout_s", "variants")  # fmt: skip

    def __init__(
        self,
        endpoint: str,
        generation: int,
        *,
        config: EndpointConfig,
        variants: Sequence[ServedVariant],
        shadows: Sequence[Shadow] = (),
        gate: Gate,
        turns: Turns | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.generation = generation
        self.config = config
        self.variants = tuple(variants)
        self.shadows = tuple(shadows)
        self.gate = gate
        self.timeout_s = config.limits.timeout_s
        self._turns = turns or Turns()
        self._weighted = [variant for variant in variants if variant.weight > 0]
        self._bounds = _bounds(self._weighted)
        self._only = self._weighted[0] if len(self._weighted) == 1 else None

    @property
    def versions(self) -> list[str]:
        """Versions that requests can reach, oldest first."""
        return sorted({variant.version for variant in self.variants}, key=int)

    def pick(self, version: str, target: str) -> ServedVariant:
        """The variant that answers the next request.

        Raises:
            NotFound: the pinned version is not deployed here.
            InvalidArgument: no variant of the target's name, or it serves another version than the pinned one.
        """
        if version or target:
            return self._pinned(version, target)
        if self._only is not None:
            return self._only
        return _by_weight(self._weighted, self._bounds, self._turns)

    def serving(self, version: str) -> ServedVariant:
        """A variant of this version, or of the newest when it is empty; for asking about it, not for traffic.

        Raises:
            NotFound: the version is not deployed here.
        """
        return self._of_version(version or self.versions[-1])[0]

    def _pinned(self, version: str, target: str) -> ServedVariant:
        if not target:
            found = self._of_version(version)
            weighted = [variant for variant in found if variant.weight > 0]
            return _by_weight(weighted, _bounds(weighted), self._turns) if len(weighted) > 1 else found[0]
        for variant in self.variants:
            if variant.name == target:
                if version and variant.version != version:
                    raise InvalidArgument(f"variant {target!r} serves version {variant.version}, not {version[:20]}")
                return variant
        raise InvalidArgument(f"endpoint {self.endpoint!r} has no variant {target[:80]!r}")

    def _of_version(self, version: str) -> list[ServedVariant]:
        found = [variant for variant in self.variants if variant.version == version]
        if not found:
            served = ", ".join(self.versions)
            raise NotFound(
                f"version {version[:20]!r} of endpoint {self.endpoint!r} is not deployed; deployed: {served}"
            )
        return found


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant that will answer a request, picked before the request is read: its signature says how to read it."""

    route: Route
    variant: ServedVariant

    @property
    def signature(self) -> Signature:
        """What the request is decoded with, and the answer encoded."""
        return self.variant.check.signature


@dataclass(frozen=True, slots=True)
class Absence:
    """Why an endpoint that is wanted does not serve; `failed`: it will not, until something is changed."""

    reason: str
    failed: bool = False


class Router:
    """Every endpoint this process serves, and why others do not serve yet."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._absent: dict[str, Absence] = {}
        self._watchers: list[asyncio.Future[None]] = []
        self.get = self._routes.get
        """The route of an endpoint or None: the hot path's one dictionary lookup."""

    def route(self, endpoint: str) -> Route:
        """The route of an endpoint.

        Raises:
            NotFound: there is no such endpoint.
            Unavailable: it is wanted, but does not serve (yet).
        """
        route = self._routes.get(endpoint)
        if route is not None:
            return route
        if endpoint in self._absent:
            raise Unavailable(f"endpoint {endpoint!r} is not ready: {self._absent[endpoint].reason}")
        raise NotFound(f"endpoint {endpoint[:80]!r} does not exist")

    def routes(self) -> list[Route]:
        """All routes by name of the endpoint."""
        return [self._routes[name] for name in sorted(self._routes)]

    @property
    def absent(self) -> dict[str, Absence]:
        """Endpoints that are wanted and do not serve."""
        return dict(self._absent)

    def put(self, route: Route) -> Route | None:
        """Swap the endpoint's route and return the old one; requests from now on take the new one."""
        old = self._routes.get(route.endpoint)
        self._routes[route.endpoint] = route
        self._absent.pop(route.endpoint, None)
        self._tell()
        return old

    def remove(self, endpoint: str, *, absence: Absence | None = None) -> Route | None:
        """Take the endpoint out and return its route; with an absence it is still wanted, else unknown."""
        if absence is not None:
            self._absent[endpoint] = absence
        else:
            self._absent.pop(endpoint, None)
        self._tell()
        return self._routes.pop(endpoint, None)

    async def changed(self) -> None:
        """Wait for the next `put` or `remove`."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher

    def _tell(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)


def _bounds(variants: Sequence[ServedVariant]) -> list[float]:
    return list(accumulate(variant.weight for variant in variants))


def _by_weight(variants: Sequence[ServedVariant], bounds: Sequence[float], turns: Turns) -> ServedVariant:
    if not variants:
        raise Unavailable("no variant of this endpoint takes traffic: every weight is 0")
    return variants[min(bisect_right(bounds, turns.next() * bounds[-1]), len(variants) - 1)]
