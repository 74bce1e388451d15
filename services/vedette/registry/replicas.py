"""What replicas say of endpoints, and what their silence says.

Rule: every method blocks and is called in a thread; what a report means is decided in `endpoints.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from vedette.core.clock import Clock
from vedette.core.errors import InvalidArgument, NotFound
from vedette.core.models import Endpoint, EndpointStatus, check_name
from vedette.core.ports import ReplicaReport
from vedette.ports.catalog import Catalog, CatalogSnapshot, CatalogTransaction
from vedette.registry.endpoints import UNSETTLED, Event, after, is_gone, verdict
from vedette.registry.generations import advance, every_endpoint, keep, tell_changed, tell_deleted
from vedette.registry.lifecycle import Lifecycle

STATES = frozenset({"loading", "ready", "failed", "removed"})
_STANDS = {EndpointStatus.IN_SERVICE, EndpointStatus.FAILED}
"""Statuses that a failed replica does not change."""


class Replicas:
    """The reports of replicas. One that has been silent for `lease_s` seconds counts as dead."""

    def __init__(self, catalog: Catalog, clock: Clock, *, lifecycle: Lifecycle, lease_s: float) -> None:
        self._catalog = catalog
        self._clock = clock
        self._lifecycle = lifecycle
        self.lease_s = lease_s
        self._heard: dict[str, float] = {}
        self._heard_lock = threading.Lock()

    def report(self, reports: Sequence[ReplicaReport]) -> None:
        """Keep what replicas say and move the endpoints that this decides.

        Raises:
            InvalidArgument: a name is none, or a state.
        """
        for report in reports:
            check_name(report.replica, "replica id")
            check_name(report.endpoint, "endpoint name")
            if report.state not in STATES:
                raise InvalidArgument(f"{report.state[:40]!r} is not a state that a replica reports")
        now = self._clock.time()
        with self._heard_lock:
            self._heard.update((report.replica, now) for report in reports)
        changed: list[Endpoint | str] = []
        with self._catalog.transaction() as tx:
            for report in reports:
                try:
                    endpoint = tx.endpoint(report.endpoint)
                except NotFound:
                    continue  # deleted meanwhile; the watch tells the replica
                tx.put_report(report, at=now)
                changed += self._settle(tx, endpoint)
        self._tell(changed)

    def sweep(self) -> None:
        """Move the endpoints that silence decides: a replica that died neither holds up nor keeps anything."""
        with self._catalog.read() as view:
            undecided = [endpoint for status in UNSETTLED for endpoint in every_endpoint(view, status)]
            names = [e.name for e in undecided if self.is_gone(view, e) or self._verdict(view, e) is not None]
        for name in names:
            changed: list[Endpoint | str] = []
            with self._catalog.transaction() as tx:
                try:
                    changed = self._settle(tx, tx.endpoint(name))
                except NotFound:
                    continue
            self._tell(changed)

    def forget_the_dead(self) -> None:
        """Drop reports that are far older than a lease."""
        before = self._clock.time() - 20 * self.lease_s
        with self._catalog.transaction() as tx:
            tx.forget_reports(before=before)

    def is_gone(self, view: CatalogSnapshot, endpoint: Endpoint) -> bool:
        """Whether an endpoint that is being deleted is held by no living replica any more."""
        return endpoint.status is EndpointStatus.DELETING and is_gone(self._fresh(view, endpoint.name))

    def _living(self) -> set[str]:
        """Replicas that have spoken to this process within the lease, of whatever endpoint."""
        since = self._clock.time() - self.lease_s
        with self._heard_lock:
            self._heard = {replica: at for replica, at in self._heard.items() if at >= since}
            return set(self._heard)

    def _fresh(self, view: CatalogSnapshot, name: str) -> list[ReplicaReport]:
        return view.reports(name, since=self._clock.time() - self.lease_s)

    def _verdict(self, view: CatalogSnapshot, endpoint: Endpoint) -> tuple[Event, str] | None:
        """What the replicas' word means for the endpoint; None: nothing that it does not know."""
        found = verdict(endpoint, self._fresh(view, endpoint.name), self._living())
        if found is None or not endpoint.serving:
            return None
        event, reason = found
        if event == "failed" and endpoint.status in _STANDS:
            return None if reason == endpoint.reason else found
        return None if event == "ready" and endpoint.status is EndpointStatus.IN_SERVICE else found

    def _settle(self, tx: CatalogTransaction, endpoint: Endpoint) -> list[Endpoint | str]:
        """Move the endpoint if its reports decide something; a name in the answer is gone."""
        if self.is_gone(tx, endpoint):
            tx.delete_endpoint(endpoint.name)
            return [endpoint.name]
        found = self._verdict(tx, endpoint)
        if found is None:
            return []
        event, reason = found
        return [self._ready(tx, endpoint) if event == "ready" else self._failed(tx, endpoint, reason)]

    def _ready(self, tx: CatalogTransaction, endpoint: Endpoint) -> Endpoint:
        """After a rollback the reason stays: what serves is not what was last asked for."""
        reason = endpoint.reason if endpoint.status is EndpointStatus.ROLLING_BACK else ""
        settled = replace(
            endpoint, status=after(endpoint, "ready"), serving_generation=endpoint.generation, reason=reason
        )
        return keep(tx, settled, now=self._clock.time())

    def _failed(self, tx: CatalogTransaction, endpoint: Endpoint, reason: str) -> Endpoint:
        status = endpoint.status if endpoint.status in _STANDS else after(endpoint, "failed")
        if status is EndpointStatus.ROLLING_BACK:
            return self._roll_back(tx, endpoint, reason)
        return keep(tx, replace(endpoint, status=status, reason=reason), now=self._clock.time())

    def _roll_back(self, tx: CatalogTransaction, endpoint: Endpoint, reason: str) -> Endpoint:
        """Want the configuration that serves again, as a new generation: replicas only ever go forward."""
        now, told = self._clock.time(), f"generation {endpoint.generation} failed: {reason}"
        serving = tx.generation(endpoint.name, endpoint.serving_generation)
        try:
            versions = tuple(tx.version(ref.model, ref.version) for ref in serving.config.references())
        except NotFound:  # only by hand in the database: what serves cannot be deleted
            return keep(tx, replace(endpoint, status=EndpointStatus.FAILED, reason=told), now=now)
        back = replace(endpoint, status=EndpointStatus.ROLLING_BACK, reason=told)
        cause = f"automatic rollback to {serving.generation}"
        return advance(tx, back, serving.config, versions, cause=cause, now=now, replaces=serving.replaces)

    def _tell(self, changed: Sequence[Endpoint | str]) -> None:
        for item in changed:
            if isinstance(item, str):
                tell_deleted(self._lifecycle, item)
            else:
                tell_changed(self._lifecycle, item)
