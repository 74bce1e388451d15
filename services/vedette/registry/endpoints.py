"""What an endpoint may be: the rules of its configuration and the table of its statuses.

Rule: pure functions; nothing here reads a clock or a store. A setting that cannot be kept is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from vedette.core.errors import Conflict, InvalidArgument
from vedette.core.models import (
    CaptureSettings,
    DynamicBatching,
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    Limits,
    ModelRef,
    ModelVersion,
    SessionOptions,
    Signature,
    Variant,
    check_name,
)
from vedette.core.ports import ReplicaReport
from vedette.registry.batching import check_batching
from vedette.registry.variants import Named, check_alike, check_excluded
from vedette.registry.versions import check_servable

MAX_VARIANTS = 10
MAX_STEPS = 15
MAX_WEIGHT = 1e9
MAX_ROWS = 1_000_000
MAX_QUEUE = 1_000_000
MAX_TIMEOUT_S = 3600.0
MAX_REASON = 1000

Choice = int | str
"""A version as a configuration names it: a number, or `@alias`, which is looked up at deploy time."""


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A `ModelRef` whose version may be an alias."""

    model: str
    version: Choice


@dataclass(frozen=True, slots=True)
class VariantDraft:
    """A `Variant` whose versions may be aliases."""

    name: str
    version: Choice
    weight: float = 1.0
    pipeline: tuple[StepDraft, ...] = ()
    options: SessionOptions = field(default_factory=SessionOptions)


@dataclass(frozen=True, slots=True)
class ConfigDraft:
    """An `EndpointConfig` as a user sends it."""

    model: str
    variants: tuple[VariantDraft, ...]
    shadow_variants: tuple[VariantDraft, ...] = ()
    limits: Limits = field(default_factory=Limits)
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    dynamic_batching: DynamicBatching = field(default_factory=DynamicBatching)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator and the engine add to the rules of this module."""

    check_options: Callable[[SessionOptions], None]
    """Raises `InvalidArgument` for options that nothing here can run with."""
    check_chain: Callable[[Sequence[Signature]], Signature]
    """Raises `InvalidArgument` where the outputs of one step do not fit the next."""
    require_approval: bool = False


def parse_choice(text: str) -> Choice:
    """A version as people write it in a configuration: `3` or `@champion`.

    Raises:
        InvalidArgument: it is neither.
    """
    if text.startswith("@"):
        return "@" + check_name(text[1:], "alias")
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise InvalidArgument(f"{text[:80]!r} is not a version: give a number or @alias")


def resolve(draft: ConfigDraft, number: Callable[[str, Choice], int]) -> EndpointConfig:
    """The configuration with every alias replaced; `number(model, choice)` looks one up."""

    def variant(wanted: VariantDraft) -> Variant:
        steps = tuple(ModelRef(step.model, number(step.model, step.version)) for step in wanted.pipeline)
        return Variant(wanted.name, number(draft.model, wanted.version), wanted.weight, steps, wanted.options)

    return EndpointConfig(
        model=draft.model,
        variants=tuple(map(variant, draft.variants)),
        shadow_variants=tuple(map(variant, draft.shadow_variants)),
        limits=draft.limits,
        capture=draft.capture,
        dynamic_batching=draft.dynamic_batching,
    )


def check_shape(config: EndpointConfig) -> None:
    """Refuse what is wrong in itself, whatever the models are.

    Raises:
        InvalidArgument: names the setting.
    """
    check_name(config.model, "model name")
    _check_names(config)
    check_weights(config)
    for variant in (*config.variants, *config.shadow_variants):
        _check_pipeline(config.model, variant)
    _check_limits(config.limits)
    _check_capture(config.capture)
    check_batching(config.dynamic_batching, config.limits)


def check_fit(config: EndpointConfig, versions: Mapping[ModelRef, ModelVersion], rules: Rules) -> None:
    """Refuse what these model versions cannot do. `versions` holds every one of `config.references()`.

    Raises:
        InvalidArgument: the configuration contradicts a signature, the variants do not take the same requests,
            or nothing here can run with a variant's options.
        Conflict: a version may not serve.
    """
    for ref in config.references():
        check_servable(versions[ref], require_approval=rules.require_approval)
    wholes: list[Named] = []
    for variant in (*config.variants, *config.shadow_variants):
        _check_options(variant, rules)
        steps = [versions[ref].signature for ref in variant.pipeline]
        whole = rules.check_chain(steps) if steps else versions[ModelRef(config.model, variant.version)].signature
        _check_rows(variant, whole, config.limits)
        check_excluded(config.capture, whole)
        wholes.append((variant.name, whole))
    check_alike(wholes)


def check_weights(config: EndpointConfig) -> None:
    """Refuse weights that are no shares.

    Raises:
        InvalidArgument: a weight is negative, infinite or not a number, or no variant has one.
    """
    for variant in (*config.variants, *config.shadow_variants):
        if not (math.isfinite(variant.weight) and 0 <= variant.weight <= MAX_WEIGHT):
            raise InvalidArgument(f"variant {variant.name!r}: the weight must be a number from 0 to {MAX_WEIGHT:g}")
    if not any(variant.weight for variant in config.variants):
        raise InvalidArgument("all weights are 0: no variant would ever be chosen")


def reweigh(config: EndpointConfig, weights: Mapping[str, float]) -> EndpointConfig:
    """The configuration with these weights; variants that are not named keep theirs.

    Raises:
        InvalidArgument: a variant is not there, or `check_weights` refuses.
    """
    known = {variant.name for variant in (*config.variants, *config.shadow_variants)}
    unknown = sorted(set(weights) - known)
    if unknown or not weights:
        raise InvalidArgument(f"there is no variant {unknown[0][:80]!r}" if unknown else "no weights were given")

    def weighed(variants: Iterable[Variant]) -> tuple[Variant, ...]:
        return tuple(replace(variant, weight=weights.get(variant.name, variant.weight)) for variant in variants)

    changed = replace(config, variants=weighed(config.variants), shadow_variants=weighed(config.shadow_variants))
    check_weights(changed)
    return changed


def _check_names(config: EndpointConfig) -> None:
    if not config.variants:
        raise InvalidArgument("an endpoint needs at least one variant")
    for kind, variants in (("variants", config.variants), ("shadow_variants", config.shadow_variants)):
        if len(variants) > MAX_VARIANTS:
            raise InvalidArgument(f"{kind}: at most {MAX_VARIANTS} are allowed, {len(variants)} were given")
    names = [variant.name for variant in (*config.variants, *config.shadow_variants)]
    for name in names:
        check_name(name, "variant name")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InvalidArgument(f"the variant name {repeated[0]!r} stands there more than once")


def _check_pipeline(model: str, variant: Variant) -> None:
    if not variant.pipeline:
        return
    if len(variant.pipeline) > MAX_STEPS:
        raise InvalidArgument(f"variant {variant.name!r}: a pipeline has at most {MAX_STEPS} steps")
    for step in variant.pipeline:
        check_name(step.model, "model name")
    own = [step for step in variant.pipeline if step.model == model]
    if own != [ModelRef(model, variant.version)]:
        raise InvalidArgument(
            f"variant {variant.name!r}: the pipeline must hold {model}:{variant.version} exactly once "
            "and no other version of that model"
        )


def _check_options(variant: Variant, rules: Rules) -> None:
    try:
        rules.check_options(variant.options)
    except InvalidArgument as error:
        raise InvalidArgument(f"variant {variant.name!r}: {error.message}") from error


def _check_limits(limits: Limits) -> None:
    if not 1 <= limits.max_batch_rows <= MAX_ROWS:
        raise InvalidArgument(f"limits: max_batch_rows must be 1 to {MAX_ROWS}")
    if not 1 <= limits.max_queue <= MAX_QUEUE:
        raise InvalidArgument(f"limits: max_queue must be 1 to {MAX_QUEUE}")
    if not (math.isfinite(limits.timeout_s) and 0 < limits.timeout_s <= MAX_TIMEOUT_S):
        raise InvalidArgument(f"limits: timeout_s must be over 0 and at most {MAX_TIMEOUT_S:g}")


def _check_capture(capture: CaptureSettings) -> None:
    if not (math.isfinite(capture.sampling_percent) and 0 <= capture.sampling_percent <= 100):
        raise InvalidArgument("capture: sampling_percent must be 0 to 100")
    if capture.sampling_percent and not (capture.inputs or capture.outputs):
        raise InvalidArgument("capture: with neither inputs nor outputs there is nothing to sample")
    if capture.mode not in ("best_effort", "strict"):
        raise InvalidArgument("capture: mode must be best_effort or strict")


def _check_rows(variant: Variant, signature: Signature, limits: Limits) -> None:
    """A graph with a fixed first dimension takes exactly that many rows."""
    for spec in signature.inputs:
        if spec.shape and spec.shape[0] > limits.max_batch_rows:
            raise InvalidArgument(
                f"limits: max_batch_rows is {limits.max_batch_rows}, but input {spec.name!r} of variant "
                f"{variant.name!r} always has {spec.shape[0]} rows"
            )


Event = Literal["deploy", "start", "stop", "delete", "ready", "failed"]
"""deploy, start, stop, delete: what users do. ready, failed: what replicas say of the wanted generation."""

_S = EndpointStatus
TRANSITIONS: dict[tuple[EndpointStatus, Event], EndpointStatus] = {
    (_S.CREATING, "deploy"): _S.CREATING,
    (_S.CREATING, "stop"): _S.OUT_OF_SERVICE,
    (_S.CREATING, "delete"): _S.DELETING,
    (_S.CREATING, "ready"): _S.IN_SERVICE,
    (_S.CREATING, "failed"): _S.FAILED,
    (_S.IN_SERVICE, "deploy"): _S.UPDATING,
    (_S.IN_SERVICE, "stop"): _S.OUT_OF_SERVICE,
    (_S.IN_SERVICE, "delete"): _S.DELETING,
    (_S.UPDATING, "deploy"): _S.UPDATING,
    (_S.UPDATING, "stop"): _S.OUT_OF_SERVICE,
    (_S.UPDATING, "delete"): _S.DELETING,
    (_S.UPDATING, "ready"): _S.IN_SERVICE,
    (_S.UPDATING, "failed"): _S.ROLLING_BACK,
    (_S.ROLLING_BACK, "deploy"): _S.UPDATING,
    (_S.ROLLING_BACK, "stop"): _S.OUT_OF_SERVICE,
    (_S.ROLLING_BACK, "delete"): _S.DELETING,
    (_S.ROLLING_BACK, "ready"): _S.IN_SERVICE,
    (_S.ROLLING_BACK, "failed"): _S.FAILED,
    (_S.FAILED, "deploy"): _S.CREATING,
    (_S.FAILED, "start"): _S.CREATING,
    (_S.FAILED, "stop"): _S.OUT_OF_SERVICE,
    (_S.FAILED, "delete"): _S.DELETING,
    (_S.FAILED, "ready"): _S.IN_SERVICE,  # the trouble of a replica has passed
    (_S.OUT_OF_SERVICE, "deploy"): _S.OUT_OF_SERVICE,
    (_S.OUT_OF_SERVICE, "start"): _S.CREATING,
    (_S.OUT_OF_SERVICE, "delete"): _S.DELETING,
}
"""What follows what; a pair that is not here does not happen."""

UNSETTLED = (_S.CREATING, _S.UPDATING, _S.ROLLING_BACK, _S.FAILED, _S.DELETING)
"""Statuses that reports or their absence may still change."""


def after(endpoint: Endpoint, event: Event) -> EndpointStatus:
    """The status that an event leads to.

    Raises:
        Conflict: the endpoint's status does not allow it.
    """
    try:
        return TRANSITIONS[endpoint.status, event]
    except KeyError:
        raise Conflict(f"endpoint {endpoint.name!r} is {endpoint.status.value}: cannot {event} it") from None


def verdict(
    endpoint: Endpoint, reports: Sequence[ReplicaReport], present: Collection[str]
) -> tuple[Literal["ready", "failed"], str] | None:
    """What the fresh reports on an endpoint mean for its wanted generation; None: nothing new.

    `present` are replicas known to live, whether or not they have said anything of this endpoint. One
    failure decides; readiness needs every one of them, and at least one.
    """
    current = {report.replica: report for report in reports if report.generation == endpoint.generation}
    failed = next((report for report in current.values() if report.state == "failed"), None)
    if failed is not None:
        return "failed", failed.reason[:MAX_REASON] or "a replica could not load it and gave no reason"
    living = {report.replica for report in reports} | set(present)
    ready = {replica for replica, report in current.items() if report.state == "ready"}
    return ("ready", "") if living and living == ready else None


def is_gone(reports: Sequence[ReplicaReport]) -> bool:
    """Whether no living replica still holds an endpoint that is being deleted."""
    return all(report.state in {"removed", "failed"} for report in reports)
