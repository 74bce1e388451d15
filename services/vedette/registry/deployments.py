"""What users do to endpoints, each as one transaction on the catalog.

Rule: every method blocks and is called in a thread; the rules themselves are in `endpoints.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vedette.core.clock import Clock
from vedette.core.errors import Conflict, InvalidArgument, NotFound
from vedette.core.models import (
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    Generation,
    ModelVersion,
    check_name,
)
from vedette.core.ports import Deployment, RepositoryEntry
from vedette.ports.catalog import Catalog, CatalogSnapshot, CatalogTransaction
from vedette.registry.endpoints import (
    Choice,
    ConfigDraft,
    Rules,
    VariantDraft,
    after,
    check_fit,
    check_shape,
    resolve,
    reweigh,
)
from vedette.registry.generations import PAGE, advance, every_endpoint, keep, previous, tell_changed, tell_deleted
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.replicas import Replicas
from vedette.registry.versions import check_number, may_serve

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

    def __init__(
        self, catalog: Catalog, rules: Rules, clock: Clock, *, lifecycle: Lifecycle, replicas: Replicas
    ) -> None:
        self._catalog = catalog
        self._rules = rules
        self._clock = clock
        self._lifecycle = lifecycle
        self._replicas = replicas

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
            target = check_number(generation) if generation else previous(tx, endpoint)
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
            endpoint = advance(tx, endpoint, endpoint.config, versions, cause="start", now=self._clock.time())
        return self._told(endpoint)

    def stop(self, name: str) -> Endpoint:
        """Take an endpoint out of service and keep its configuration; one that is out stays as it is."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            if endpoint.status is EndpointStatus.OUT_OF_SERVICE:
                return endpoint
            status = after(endpoint, "stop")
            stopped = replace(endpoint, status=status, serving=False, serving_generation=0, reason="")
            endpoint = keep(tx, stopped, now=self._clock.time())
            tx.append_change(name, None)
        return self._told(endpoint)

    def delete(self, name: str) -> Endpoint:
        """Want the endpoint gone; its record goes when no living replica holds it any more."""
        check_name(name, "endpoint name")
        with self._catalog.transaction() as tx:
            endpoint = tx.endpoint(name)
            if endpoint.status is not EndpointStatus.DELETING:
                was_wanted = endpoint.serving
                leaving = replace(endpoint, status=after(endpoint, "delete"), serving=False, reason="")
                endpoint = keep(tx, leaving, now=self._clock.time())
                if was_wanted:
                    tx.append_change(name, None)
            gone = self._replicas.is_gone(tx, endpoint)
            if gone:
                tx.delete_endpoint(name)
        if not gone:
            return self._told(endpoint)
        tell_deleted(self._lifecycle, name)
        return endpoint

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
            entries = [entry for endpoint in every_endpoint(view) for entry in _entries(endpoint)]
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
        return advance(tx, endpoint, config, versions, cause=cause, now=self._clock.time())

    def _told(self, endpoint: Endpoint) -> Endpoint:
        tell_changed(self._lifecycle, endpoint)
        return endpoint


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
