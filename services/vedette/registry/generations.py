"""The record of an endpoint: how a next generation is written, which one served, what holds which version.

Rule: functions on an open transaction or view; whoever opens it decides what is written.
"""

from __future__ import annotations

from dataclasses import replace

from vedette.core.errors import Conflict
from vedette.core.models import Endpoint, EndpointConfig, EndpointStatus, Generation, ModelRef, ModelVersion
from vedette.core.ports import Deployment
from vedette.ports.catalog import CatalogSnapshot, CatalogTransaction
from vedette.registry.endpoints import UNSETTLED
from vedette.registry.lifecycle import Lifecycle

PAGE = 100


def advance(
    tx: CatalogTransaction,
    endpoint: Endpoint,
    config: EndpointConfig,
    versions: tuple[ModelVersion, ...],
    *,
    cause: str,
    now: float,
    replaces: int | None = None,
) -> Endpoint:
    """Write the next generation, with the status that `endpoint` already has, and want it if the endpoint serves."""
    if replaces is None:
        replaces = endpoint.serving_generation or tx.generation(endpoint.name, endpoint.generation).replaces
    endpoint = keep(tx, replace(endpoint, generation=endpoint.generation + 1, config=config), now=now)
    tx.insert_generation(Generation(endpoint.name, endpoint.generation, config, cause, replaces, created_at=now))
    if endpoint.serving:
        tx.append_change(endpoint.name, Deployment(endpoint.name, endpoint.generation, config, versions))
    return endpoint


def keep(tx: CatalogTransaction, endpoint: Endpoint, *, now: float) -> Endpoint:
    """Write the endpoint's record with the time of the change."""
    endpoint = replace(endpoint, updated_at=now)
    tx.update_endpoint(endpoint)
    return endpoint


def previous(view: CatalogSnapshot, endpoint: Endpoint) -> int:
    """The generation to go back to: what serves while an update is under way, else what served before.

    Raises:
        Conflict: nothing has served before.
    """
    serving = endpoint.serving_generation
    if serving not in {0, endpoint.generation}:
        return serving
    replaced = view.generation(endpoint.name, endpoint.generation).replaces
    if not replaced:
        raise Conflict(f"no earlier generation of endpoint {endpoint.name!r} has served")
    return replaced


def every_endpoint(view: CatalogSnapshot, status: EndpointStatus | None = None) -> list[Endpoint]:
    """All endpoints (of a status), over all pages."""
    found, token = view.endpoints(limit=PAGE, status=status)
    while token:
        page, token = view.endpoints(limit=PAGE, after=token, status=status)
        found += page
    return found


def still_serving(view: CatalogSnapshot) -> dict[ModelRef, str]:
    """Model versions of generations that serve although they are no longer wanted -> their endpoint."""
    held: dict[ModelRef, str] = {}
    for status in UNSETTLED:
        for endpoint in every_endpoint(view, status):
            if endpoint.serving_generation not in {0, endpoint.generation}:
                serving = view.generation(endpoint.name, endpoint.serving_generation)
                held.update((ref, endpoint.name) for ref in serving.config.references())
    return held


def tell_changed(lifecycle: Lifecycle, endpoint: Endpoint) -> None:
    """Say on the stream where the endpoint stands."""
    fields = {"endpoint": endpoint.name, "generation": endpoint.generation, "status": endpoint.status.value}
    lifecycle.tell("endpoint.changed", endpoint.name, {**fields, "reason": endpoint.reason})


def tell_deleted(lifecycle: Lifecycle, name: str) -> None:
    """Say on the stream that the endpoint is no more."""
    lifecycle.tell("endpoint.deleted", name, {"endpoint": name})
