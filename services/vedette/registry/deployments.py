"""What users and replicas do to endpoints, each as one transaction on the catalog.

Rule: every method blocks and is called in a thread; the rules themselves are in `endpoints.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vedette.core.clock import Clock
from vedette.core.errors import Conflict, InvalidArgument, NotFound, VedetteError
from vedette.core.models import (
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    Generation,
    ModelRef,
    ModelVersion,
    check_name,
)
from vedette.core.ports import (
    Catalog,
    CatalogSnapshot,
    CatalogTransaction,
    Deployment,
    ReplicaReport,
    RepositoryEntry,
)
from vedette.registry.endpoints import (
    UNSETTLED,
    Choice,
    ConfigDraft,
    Event,
    Rules,
    VariantDraft,
    after,
    check_fit,
    check_shape,
    is_gone,
    resolve,
    reweigh,
    verdict,
)
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.versions import check_number, may_serve

PAGE = 100
REPORT_STATES = frozenset({"loading", "ready", "failed", "removed"})
PRIMARY = "primary"
NEWEST = ""
"""A version choice: the newest one that may serve."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What to list of endpoints; empty fields do not filter."""

    limit: int = 50
    page_token: str = ""
    model: str = ""
    status: EndpointStatus | None = None
    name_contains: str = ""


class Deployments:
    """Endpoints: their configurations, generations, statuses, and the log of what is wanted."""

    def __init__(self, catalog: Catalog, rules: Rules, clock: Clock, *, lifecycle: Lifecycle, lease_s: float) -> None:
        self._catalog = catalog
        self._rules = rules
        self._clock = clock
        self._lifecycle = lifecycle
        self.lease_s = lease_s
        self._present: dict[str, float] = {}
        self._present_lock = threading.Lock()

    def get(self, name: str) -> Endpoint:
        """The endpoint of this name."""
        check_name(name, "endpoint name")
        with self._catalog.read() as view:
            return view.endpoint(name)

    def page(self, wanted: Listing) -> tuple[list[Endpoint], str]:
        """One page of endpoints and the token of the next."""
        with self._catalog.read() as view:
            return view.endpoints(
                limit=wanted.limit,
                after=wanted.page_token,
                model=wanted.model,
                status=wanted.status,
                name_contains=wanted.name_contains,
            )

    def generations(self, name: str, *, limit: int, page_token: str) -> tuple[list[Generation], str]:
        """One page of the endpoint's history, newest first."""
        check_name(name, "endpoint name")
        with self._catalog.read() as view:
            return view.generations(name, limit=limit, after=page_token)

    def create(self, name: str, draft: ConfigDraft) -> Endpoint:
        """Make an endpoint that wants this configuration."""
        check_name(name, "endpoint name")
        now = self._clock.time()
        with self._catalog.transaction() as tx:
            config, versions = self._fitting(tx, draft)
            endpoint = Endpoint(name, 1, config, EndpointStatus.CREATING, created_at=now, updated_at=now)
            tx.insert_endpoint(endpoint)
            tx.insert_generation(Generation(name, 1, config, "create", created_at=now))
            tx.append_change(name, Deployment(name, 1, config, versions))
        return self._told(endpoint)

    def create_short(self, name: str, *, model: str = "", version: Choice = NEWEST) -> Endpoint:
        """Make an endpoint with one variant, by default of the model of its own name."""
        draft = ConfigDraft(model or name, (VariantDraft(PRIMARY, version),))
        return self.create(name, draft)

    def update(self, name: str, draft: ConfigDraft) -> Endpoint:
        """Want another configuration."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            if draft.model != endpoint.config.model:
                raise InvalidArgument(f"endpoint {name!r} serves model {endpoint.config.model!r}; that cannot change")
            config, versions = self._fitting(tx, draft)
            endpoint = self._want(tx, endpoint, config, versions, cause="update")
        return self._told(endpoint)

    def update_weights(self, name: str, weights: Mapping[str, float]) -> Endpoint:
        """Want other weights of the same variants."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            config = reweigh(endpoint.config, weights)
            endpoint = self._want(tx, endpoint, config, self._checked(tx, config), cause="weights")
        return self._told(endpoint)

    def rollback(self, name: str, generation: int = 0) -> Endpoint:
        """Want the configuration of an earlier generation again; 0: the one that served before."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            target = check_number(generation) if generation else _previous(tx, endpoint)
            if target == endpoint.generation:
                raise Conflict(f"generation {target} of endpoint {name!r} is the wanted one already")
            config = tx.generation(name, target).config
            versions = self._checked(tx, config)
            endpoint = self._want(tx, endpoint, config, versions, cause=f"rollback to {target}")
        return self._told(endpoint)

    def start(self, name: str) -> Endpoint:
        """Want an endpoint back that is out of service or has failed; one that serves stays as it is."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            if endpoint.serving and endpoint.status not in {EndpointStatus.DELETING, EndpointStatus.FAILED}:
                return endpoint
            versions = self._checked(tx, endpoint.config)
            endpoint = replace(endpoint, status=after(endpoint, "start"), serving=True)
            endpoint = self._next(tx, endpoint, endpoint.config, versions, cause="start")
        return self._told(endpoint)

    def stop(self, name: str) -> Endpoint:
        """Take an endpoint out of service and keep its configuration; one that is out stays as it is."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            if endpoint.status is EndpointStatus.OUT_OF_SERVICE:
                return endpoint
            status = after(endpoint, "stop")
            endpoint = self._kept(tx, replace(endpoint, status=status, serving=False, serving_generation=0, reason=""))
            tx.append_change(name, None)
        return self._told(endpoint)

    def delete(self, name: str) -> Endpoint:
        """Want the endpoint gone; its record goes when no living replica holds it any more."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            if endpoint.status is not EndpointStatus.DELETING:
                was_wanted = endpoint.serving
                endpoint = self._kept(tx, replace(endpoint, status=after(endpoint, "delete"), serving=False, reason=""))
                if was_wanted:
                    tx.append_change(name, None)
            gone = self._remove_if_gone(tx, endpoint)
        return self._gone(endpoint) if gone else self._told(endpoint)

    def load(self, name: str) -> None:
        """The repository API's load: start the endpoint, or deploy the model of that name."""
        try:
            self.start(name)
        except NotFound:
            self.create_short(name)

    def unload(self, name: str) -> None:
        """The repository API's unload: take the endpoint out of service."""
        self.stop(name)

    def index(self) -> list[RepositoryEntry]:
        """Every endpoint by variant version, then every model that no endpoint has the name of."""
        with self._catalog.read() as view:
            entries = [entry for endpoint in _every_endpoint(view) for entry in _entries(endpoint)]
            named = {entry.name for entry in entries}
            after_token, first = "", True
            while first or after_token:
                models, after_token = view.models(limit=PAGE, after=after_token)
                first = False
                entries += [
                    RepositoryEntry(model.name, str(model.latest_version or ""), "UNAVAILABLE", "not deployed")
                    for model in models
                    if model.name not in named
                ]
        return entries

    def report(self, reports: Sequence[ReplicaReport]) -> None:
        """Keep what replicas say and move the endpoints that this decides."""
        for report in reports:
            check_name(report.replica, "replica id")
            check_name(report.endpoint, "endpoint name")
            if report.state not in REPORT_STATES:
                raise InvalidArgument(f"{report.state[:40]!r} is not a state that a replica reports")
        now = self._clock.time()
        with self._present_lock:
            self._present.update((report.replica, now) for report in reports)
        changed: list[Endpoint | str] = []
        with self._catalog.transaction() as tx:
            for report in reports:
                try:
                    endpoint = tx.endpoint(report.endpoint)
                except NotFound:
                    continue  # deleted meanwhile; the watch tells the replica
                tx.put_report(report, at=now)
                changed += self._settle(tx, endpoint)
        self._tell_all(changed)

    def sweep(self) -> None:
        """Move the endpoints that silence decides: a replica that died neither holds up nor keeps anything."""
        with self._catalog.read() as view:
            open_names = [
                endpoint.name
                for status in UNSETTLED
                for endpoint in _every_endpoint(view, status)
                if self._verdict(view, endpoint) is not None or self._is_gone(view, endpoint)
            ]
        for name in open_names:
            changed: list[Endpoint | str] = []
            with self._catalog.transaction() as tx:
                try:
                    changed = self._settle(tx, tx.endpoint(name))
                except NotFound:
                    continue
            self._tell_all(changed)

    def forget_the_dead(self) -> None:
        """Drop reports that are far older than a lease."""
        before = self._clock.time() - 20 * self.lease_s
        with self._catalog.transaction() as tx:
            tx.forget_reports(before=before)

    def _fitting(self, tx: CatalogSnapshot, draft: ConfigDraft) -> tuple[EndpointConfig, tuple[ModelVersion, ...]]:
        for variant in (*draft.variants, *draft.shadow_variants):
            for step in variant.pipeline:
                check_name(step.model, "model name")
        check_name(draft.model, "model name")
        config = resolve(draft, lambda model, choice: self._number(tx, model, choice))
        check_shape(config)
        return config, self._checked(tx, config)

    def _checked(self, tx: CatalogSnapshot, config: EndpointConfig) -> tuple[ModelVersion, ...]:
        versions = {ref: tx.version(ref.model, ref.version) for ref in config.references()}
        check_fit(config, versions, self._rules)
        return tuple(versions.values())

    def _number(self, tx: CatalogSnapshot, model: str, choice: Choice) -> int:
        if isinstance(choice, int):
            return tx.version(model, check_number(choice)).version
        if choice == NEWEST:
            return self._newest(tx, model)
        alias = check_name(choice.removeprefix("@"), "alias")
        aliases = tx.model(model).aliases
        if alias not in aliases:
            raise NotFound(f"model {model!r} has no alias {alias!r}")
        return aliases[alias]

    def _newest(self, tx: CatalogSnapshot, model: str) -> int:
        token, first = "", True
        while first or token:
            versions, token = tx.versions(model, limit=PAGE, after=token)
            first = False
            for version in versions:
                if may_serve(version, require_approval=self._rules.require_approval):
                    return version.version
        raise Conflict(f"model {model!r} has no version that may be deployed")

    def _want(
        self,
        tx: CatalogTransaction,
        endpoint: Endpoint,
        config: EndpointConfig,
        versions: tuple[ModelVersion, ...],
        *,
        cause: str,
    ) -> Endpoint:
        endpoint = replace(endpoint, status=after(endpoint, "deploy"), reason="")
        return self._next(tx, endpoint, config, versions, cause=cause)

    def _next(
        self,
        tx: CatalogTransaction,
        endpoint: Endpoint,
        config: EndpointConfig,
        versions: tuple[ModelVersion, ...],
        *,
        cause: str,
        replaces: int | None = None,
    ) -> Endpoint:
        """Write the next generation, with the status that `endpoint` already has."""
        if replaces is None:
            replaces = endpoint.serving_generation or tx.generation(endpoint.name, endpoint.generation).replaces
        endpoint = self._kept(tx, replace(endpoint, generation=endpoint.generation + 1, config=config))
        tx.insert_generation(
            Generation(endpoint.name, endpoint.generation, config, cause, replaces, created_at=endpoint.updated_at)
        )
        if endpoint.serving:
            tx.append_change(endpoint.name, Deployment(endpoint.name, endpoint.generation, config, versions))
        return endpoint

    def _kept(self, tx: CatalogTransaction, endpoint: Endpoint) -> Endpoint:
        endpoint = replace(endpoint, updated_at=self._clock.time())
        tx.update_endpoint(endpoint)
        return endpoint

    def _living(self) -> set[str]:
        """Replicas that have spoken to this process within the lease."""
        since = self._clock.time() - self.lease_s
        with self._present_lock:
            self._present = {replica: at for replica, at in self._present.items() if at >= since}
            return set(self._present)

    def _fresh(self, view: CatalogSnapshot, name: str) -> list[ReplicaReport]:
        return view.reports(name, since=self._clock.time() - self.lease_s)

    def _verdict(self, view: CatalogSnapshot, endpoint: Endpoint) -> tuple[Event, str] | None:
        """What the replicas' word means for the endpoint; None: nothing that it does not know."""
        found = verdict(endpoint, self._fresh(view, endpoint.name), self._living())
        if found is None or not endpoint.serving:
            return None
        event, reason = found
        if event == "failed" and endpoint.status in {EndpointStatus.IN_SERVICE, EndpointStatus.FAILED}:
            return None if reason == endpoint.reason else found
        return None if event == "ready" and endpoint.status is EndpointStatus.IN_SERVICE else found

    def _is_gone(self, view: CatalogSnapshot, endpoint: Endpoint) -> bool:
        return endpoint.status is EndpointStatus.DELETING and is_gone(self._fresh(view, endpoint.name))

    def _remove_if_gone(self, tx: CatalogTransaction, endpoint: Endpoint) -> bool:
        gone = self._is_gone(tx, endpoint)
        if gone:
            tx.delete_endpoint(endpoint.name)
        return gone

    def _settle(self, tx: CatalogTransaction, endpoint: Endpoint) -> list[Endpoint | str]:
        """Move the endpoint if its reports decide something; a name in the answer is gone."""
        if self._remove_if_gone(tx, endpoint):
            return [endpoint.name]
        found = self._verdict(tx, endpoint)
        if found is None:
            return []
        event, reason = found
        if event == "failed":
            return [self._failed(tx, endpoint, reason)]
        keeps_reason = endpoint.status is EndpointStatus.ROLLING_BACK
        settled = replace(
            endpoint,
            status=after(endpoint, "ready"),
            serving_generation=endpoint.generation,
            reason=endpoint.reason if keeps_reason else "",
        )
        return [self._kept(tx, settled)]

    def _failed(self, tx: CatalogTransaction, endpoint: Endpoint, reason: str) -> Endpoint:
        if endpoint.status in {EndpointStatus.IN_SERVICE, EndpointStatus.FAILED}:
            return self._kept(tx, replace(endpoint, reason=reason))
        status = after(endpoint, "failed")
        if status is EndpointStatus.ROLLING_BACK:
            return self._roll_back(tx, endpoint, reason)
        return self._kept(tx, replace(endpoint, status=status, reason=reason))

    def _roll_back(self, tx: CatalogTransaction, endpoint: Endpoint, reason: str) -> Endpoint:
        """Want the configuration that serves again, as a new generation: replicas only ever go forward."""
        serving = tx.generation(endpoint.name, endpoint.serving_generation)
        told = f"generation {endpoint.generation} failed: {reason}"
        try:
            versions = tuple(tx.version(ref.model, ref.version) for ref in serving.config.references())
        except VedetteError:  # only by hand in the database: what serves cannot be deleted
            return self._kept(tx, replace(endpoint, status=EndpointStatus.FAILED, reason=told))
        back = replace(endpoint, status=EndpointStatus.ROLLING_BACK, reason=told)
        cause = f"automatic rollback to {serving.generation}"
        return self._next(tx, back, serving.config, versions, cause=cause, replaces=serving.replaces)

    def _tell_all(self, changed: Sequence[Endpoint | str]) -> None:
        for item in changed:
            if isinstance(item, str):
                self._lifecycle.tell("endpoint.deleted", item, {"endpoint": item})
            else:
                self._told(item)

    def _told(self, endpoint: Endpoint) -> Endpoint:
        fields = {"endpoint": endpoint.name, "generation": endpoint.generation, "status": endpoint.status.value}
        self._lifecycle.tell("endpoint.changed", endpoint.name, {**fields, "reason": endpoint.reason})
        return endpoint

    def _gone(self, endpoint: Endpoint) -> Endpoint:
        self._lifecycle.tell("endpoint.deleted", endpoint.name, {"endpoint": endpoint.name})
        return endpoint


def _previous(tx: CatalogSnapshot, endpoint: Endpoint) -> int:
    """The generation to go back to: what serves while an update is under way, else what served before."""
    serving = endpoint.serving_generation
    previous = serving if serving not in {0, endpoint.generation} else 0
    previous = previous or tx.generation(endpoint.name, endpoint.generation).replaces
    if not previous:
        raise Conflict(f"no earlier generation of endpoint {endpoint.name!r} has served")
    return previous


def _every_endpoint(view: CatalogSnapshot, status: EndpointStatus | None = None) -> list[Endpoint]:
    found, token = view.endpoints(limit=PAGE, status=status)
    while token:
        page, token = view.endpoints(limit=PAGE, after=token, status=status)
        found += page
    return found


_INDEX_STATES = {
    EndpointStatus.IN_SERVICE: "READY",
    EndpointStatus.UPDATING: "READY",
    EndpointStatus.ROLLING_BACK: "READY",
    EndpointStatus.CREATING: "LOADING",
}


def _entries(endpoint: Endpoint) -> list[RepositoryEntry]:
    state = _INDEX_STATES.get(endpoint.status, "UNAVAILABLE")
    reason = endpoint.reason or ("" if state == "READY" else endpoint.status.value)
    versions = sorted({variant.version for variant in endpoint.config.variants})
    return [RepositoryEntry(endpoint.name, str(version), state, reason) for version in versions]


def deployed_refs(view: CatalogSnapshot) -> dict[ModelRef, str]:
    """Model versions that a generation still serving names although it is no longer wanted -> their endpoint."""
    held: dict[ModelRef, str] = {}
    for status in UNSETTLED:
        for endpoint in _every_endpoint(view, status):
            if endpoint.serving_generation not in {0, endpoint.generation}:
                serving = view.generation(endpoint.name, endpoint.serving_generation)
                held.update((ref, endpoint.name) for ref in serving.config.references())
    return held
