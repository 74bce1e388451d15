"""What both protocols call: one inference, and everything a client may ask about what is served.

Rule: no wire format here; handlers parse into `core.tensors`, call, and render what comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vedette import __version__
from vedette.codec.classification import classify
from vedette.codec.parameters import check_parameters
from vedette.core.clock import Clock
from vedette.core.errors import CaptureFailed, Unavailable, Unimplemented, VedetteError
from vedette.core.models import Signature
from vedette.core.ports import Registry, RepositoryEntry
from vedette.core.tensors import InferRequest, InferResponse, Parameter, Tensor
from vedette.inference.capture import Place
from vedette.inference.checks import echoed, priority, time_limit
from vedette.inference.execution import Execution, Work
from vedette.inference.model_config import model_config
from vedette.inference.router import Absence, Choice, Route, Router, ServedVariant
from vedette.inference.shadows import ShadowLane
from vedette.inference.statistics import ModelStatistics

EXTENSIONS = (
    "classification",
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""Triton's names for what is done beyond the protocol; what is not in here is refused as unimplemented."""

_LEAST_PATIENCE_S = 1.0

_Answer = TypeVar("_Answer")
Encode = Callable[[InferRequest, InferResponse], Awaitable[_Answer]]
"""Makes a protocol's answer; what it raises is the outcome of the request, like an error of the model."""


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """Who answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointMetadata:
    """One endpoint as clients see it. `signature` holds inputs, outputs and what is known of their meaning."""

    name: str
    versions: tuple[str, ...]
    """Deployed versions, oldest first; a pinned one alone."""
    platform: str
    signature: Signature


class DataPlane:
    """Predictions and the questions around them. Used on the event loop only."""

    def __init__(
        self,
        router: Router,
        registry: Registry,
        *,
        clock: Clock,
        shadows: ShadowLane,
        why_not_ready: Callable[[], str],
        load_timeout_s: float = 60.0,
    ) -> None:
        self._router = router
        self._registry = registry
        self._now = clock.monotonic
        self._time = clock.time
        self._shadows = shadows
        self._why_not_ready = why_not_ready
        self._load_timeout_s = load_timeout_s

    @contextmanager
    def choose(self, endpoint: str, *, version: str = "", target: str = "") -> Iterator[Choice]:
        """Pick the variant for a request that cannot be read without its signature; hand it on to `infer`.

        The choice is one turn of the weights. What it names stays loaded inside the `with`, whatever is deployed.

        Raises:
            NotFound: no such endpoint, or the pinned version is not deployed there.
            InvalidArgument: no variant of the target's name.
            Unavailable: the endpoint is not loaded yet, or takes no traffic.
        """
        route = self._router.route(endpoint)
        choice = Choice(route, route.pick(version, target))
        choice.variant.executor.hold()
        try:
            yield choice
        finally:
            choice.variant.executor.release()

    async def infer(
        self,
        request: InferRequest,
        encode: Encode[_Answer],
        *,
        protocol: str,
        received: float | None = None,
        choice: Choice | None = None,
    ) -> _Answer:
        """Answer one request with what `encode` makes of the outputs.

        `protocol` is a label of metrics (`http`, `grpc`, `sagemaker`, `kserve`). `received` is when the
        request was read, on the monotonic clock, so that measured times hold its decoding; None: now.
        They hold the encoding too, and a request whose answer cannot be encoded has failed.
        `choice` is what `choose` gave for this request; None: the variant is picked here.

        Raises:
            VedetteError: whatever `encode` raises.
            NotFound: no such endpoint, or the pinned version is not deployed there.
            InvalidArgument: the request does not fit the signature or the limits.
            Unimplemented: it asks for a part of the protocol that is not done.
            Overloaded: the endpoint's queue is full; nothing ran.
            DeadlineExceeded: the time was over; the model may have run.
            Unavailable: the endpoint is not loaded yet, or strict capture has no room; nothing ran.
            ModelFailed: the model raised.
            CaptureFailed: the model may have run, but strict capture could not keep the record.
        """
        started = self._now() if received is None else received
        if choice is None:
            route = self._router.get(request.endpoint) or self._router.route(request.endpoint)
            variant = route.pick(request.version, request.target_variant)
        else:
            route, variant = choice.route, choice.variant
        lane, place = variant.lane, None
        try:
            if lane is not None and lane.strict:
                place = lane.reserve(request)
            response, execution, rows, prepared = await self._execute(request, route, variant, started)
            answer = await encode(request, response)
            done, at = self._now(), self._time()
            if lane is not None:
                lane.offer(request, response, place, code="OK", rows=rows, at=at, latency_s=done - started)
                if place is not None:
                    await place.kept(self._patience(request, route, started))
                    done = self._now()
        except (Exception, asyncio.CancelledError) as error:
            self._failed(request, variant, place, protocol=protocol, code=_code(error), started=started)
            if place is not None and isinstance(error, VedetteError) and not isinstance(error, CaptureFailed):
                await place.kept(self._patience(request, route, started))
            raise
        variant.meters.count(protocol, "OK")
        _record(variant, execution, rows=rows, at=at, started=started, prepared=prepared, done=done)
        if route.shadows and self._router.get(route.endpoint) is route:  # else its shadows may be freed already
            for shadow in route.shadows:
                self._shadows.offer(shadow, request)
        return answer

    async def unread(
        self, request: InferRequest, error: VedetteError, *, received: float, choice: Choice | None = None
    ) -> None:
        """Capture a request that could not be read: what is known of it without its tensors, and the error's code.

        Where nothing serves under its name, or nothing is captured, nothing is done.

        Raises:
            Unavailable, CaptureFailed: as `infer`, where capture is strict: to be told in place of `error`.
        """
        try:
            route = choice.route if choice else self._router.route(request.endpoint)
            variant = choice.variant if choice else route.pick(request.version, request.target_variant)
        except VedetteError:
            return
        lane = variant.lane
        if lane is None:
            return
        place = lane.reserve(request) if lane.strict else None
        lane.offer(
            request, None, place, code=error.code, rows=0, at=self._time(), latency_s=self._now() - received
        )  # fmt: skip
        if place is not None:
            await place.kept(self._patience(request, route, received))

    def live(self) -> bool:
        """True while this process can answer at all."""
        return True

    def ready(self) -> str:
        """Empty when everything wanted is loaded and has run once, else the reason why not."""
        return self._why_not_ready()

    def model_ready(self, endpoint: str, version: str = "") -> bool:
        """Whether requests to the endpoint (this version of it) would run. Raises NotFound for unknown ones."""
        try:
            self._router.route(endpoint).serving(version)
        except Unavailable:
            return False
        return True

    def server_metadata(self) -> ServerMetadata:
        """Name, version, extensions."""
        return ServerMetadata("vedette", __version__, EXTENSIONS)

    def metadata(self, endpoint: str, version: str = "") -> EndpointMetadata:
        """What the endpoint (this version of it; else the newest deployed) takes and gives.

        Raises NotFound, Unavailable.
        """
        route = self._router.route(endpoint)
        served = route.serving(version)
        versions = (version,) if version else tuple(route.versions)
        return EndpointMetadata(endpoint, versions, served.model_version.platform, served.check.signature)

    def config(self, endpoint: str, version: str = "") -> dict[str, object]:
        """The endpoint in the shape of Triton's ModelConfig message, field names as in its proto."""
        route = self._router.route(endpoint)
        return model_config(route, route.serving(version))

    def statistics(self, endpoint: str = "", version: str = "") -> list[ModelStatistics]:
        """Statistics of every version of every endpoint, or of those named. Raises NotFound, Unavailable."""
        routes = [self._router.route(endpoint)] if endpoint else self._router.routes()
        return [
            variant.recorder.snapshot(variant.executor.runtime.memory_bytes)
            for route in routes
            for variant in ([route.serving(version)] if version else [route.serving(v) for v in route.versions])
        ]

    def endpoints(self) -> list[str]:
        """Names of the endpoints that serve."""
        return [route.endpoint for route in self._router.routes()]

    def deployed(self) -> list[str]:
        """Names of the endpoints that serve or should: those that are loading or failed too."""
        return sorted({*self.endpoints(), *self._router.absent})

    async def index(self, *, ready_only: bool = False) -> list[RepositoryEntry]:
        """The repository index: what serves here, then what else the registry knows, if it can be asked."""
        serving = [
            RepositoryEntry(r.endpoint, version, "READY") for r in self._router.routes() for version in r.versions
        ]
        if ready_only:
            return serving
        here = {entry.name for entry in serving}
        absent = [
            RepositoryEntry(name, "", "UNAVAILABLE" if absence.failed else "LOADING", absence.reason)
            for name, absence in sorted(self._router.absent.items())
        ]
        here.update(entry.name for entry in absent)
        try:
            known = await self._registry.index()
        except Unavailable:
            return serving + absent
        return serving + absent + [entry for entry in known if entry.name not in here]

    async def load(self, endpoint: str, parameters: Mapping[str, object] | None = None) -> None:
        """Ask the registry to put the endpoint (or the model of that name) in service and wait until it is here.

        Raises:
            Unimplemented: parameters would override the configuration or bring files of their own.
            NotFound: the registry knows no such endpoint or model.
            Unavailable: the registry is down, the load failed, or it takes longer than the time for it.
        """
        if parameters:
            raise Unimplemented("load takes no parameters: configuration and files come from the registry")
        last = self._router.absent.get(endpoint)
        await self._registry.load(endpoint)
        otherwise = f"endpoint {endpoint!r} is still being loaded"
        if last is not None and last.failed:
            otherwise += f"; the last load failed: {last.reason}"
        await self._until(lambda: self._loaded(endpoint, last), otherwise)

    async def unload(self, endpoint: str, parameters: Mapping[str, object] | None = None) -> None:
        """Ask the registry to take the endpoint out of service and wait until it is gone from here.

        `unload_dependents` changes nothing: no endpoint depends on another.
        """
        if any(name != "unload_dependents" for name in parameters or ()):
            raise Unimplemented("unload takes no parameters but unload_dependents")
        await self._registry.unload(endpoint)
        await self._until(lambda: self._router.get(endpoint) is None, f"endpoint {endpoint!r} is still served")

    def _loaded(self, endpoint: str, last: Absence | None) -> bool:
        """Whether it serves. Raises when a load newer than the one that left `last` has failed."""
        absence = self._router.absent.get(endpoint)
        if absence is not None and absence is not last and absence.failed:
            raise Unavailable(f"endpoint {endpoint!r} failed to load: {absence.reason}")
        return self._router.get(endpoint) is not None

    async def _until(self, reached: Callable[[], bool], otherwise: str) -> None:
        try:
            async with asyncio.timeout(self._load_timeout_s):
                while not reached():
                    await self._router.changed()
        except TimeoutError:
            raise Unavailable(otherwise) from None

    async def _execute(
        self, request: InferRequest, route: Route, variant: ServedVariant, started: float
    ) -> tuple[InferResponse, Execution, int, float]:
        """The response, and for its record: the run, its rows and when the input was ready."""
        deadline, first, limit = started + route.timeout_s, 0, None
        parameters: dict[str, Parameter] = request.parameters
        if parameters:
            check_parameters(parameters)
            limit, first = time_limit(parameters), priority(parameters)
            if limit and not variant.executor.own_timeouts:
                deadline = min(deadline, started + limit)
            parameters = echoed(parameters)
        if request.deadline is not None and request.deadline < deadline:
            deadline = request.deadline
        feeds, rows = variant.check.feeds(request.inputs)
        names = variant.check.outputs(request.outputs)
        prepared = self._now()
        execution = await variant.executor.submit(Work(feeds, names, rows, deadline, first, limit or 0.0))
        outputs = execution.outputs
        if request.outputs:
            outputs = _classified(request, outputs, variant.check.signature)
        response = InferResponse(request.endpoint, variant.version, variant.name, outputs, request.id, parameters)
        return response, execution, rows, prepared

    def _failed(
        self,
        request: InferRequest,
        variant: ServedVariant,
        place: Place | None,
        *,
        protocol: str,
        code: str,
        started: float,
    ) -> None:
        spent, at = self._now() - started, self._time()
        variant.meters.count(protocol, code)
        variant.meters.request(spent)
        variant.recorder.failed(at=at, total_s=spent)
        if variant.lane is not None and (place is None or not place.filled):
            rows = _fitting_rows(request, variant)
            variant.lane.offer(request, None, place, code=code, rows=rows, at=at, latency_s=spent)

    def _patience(self, request: InferRequest, route: Route, started: float) -> float:
        """How long an answer may wait for its record: as long as the request may take, but time enough for a disk."""
        deadline = started + route.timeout_s
        if request.deadline is not None:
            deadline = min(deadline, request.deadline)
        return max(_LEAST_PATIENCE_S, deadline - self._now())


def _code(error: BaseException) -> str:
    """What metrics, statistics and captures call this outcome."""
    if isinstance(error, VedetteError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"


def _fitting_rows(request: InferRequest, variant: ServedVariant) -> int:
    """Rows of inputs that are the signature's; 0: they are not, and nobody knows which columns are excluded."""
    try:
        return variant.check.feeds(request.inputs)[1]
    except VedetteError:
        return 0


def _record(
    variant: ServedVariant,
    execution: Execution,
    *,
    rows: int,
    at: float,
    started: float,
    prepared: float,
    done: float,
) -> None:
    ran = prepared + execution.queue_s + execution.infer_s
    meters = variant.meters
    meters.request(done - started)
    meters.queue(execution.queue_s)
    meters.compute(execution.infer_s)
    if execution.batch_rows:
        meters.rows(execution.batch_rows)
    variant.recorder.succeeded(
        rows,
        execution.batch_rows,
        at=at,
        total_s=done - started,
        queue_s=execution.queue_s,
        input_s=prepared - started,
        infer_s=execution.infer_s,
        output_s=max(0.0, done - ran),
    )


def _classified(request: InferRequest, outputs: list[Tensor], signature: Signature) -> list[Tensor]:
    return [
        classify(tensor, wanted.classification, signature.label_names) if wanted.classification else tensor
        for wanted, tensor in zip(request.outputs, outputs, strict=True)
    ]
