"""The catalog in memory. A transaction works on a copy, which takes the original's place at commit.

Rule: the values held are immutable, so that copying the dictionaries that hold them is a snapshot. Each is
made a `document` of on its way in, and thrown away: what no database would keep is refused here too.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from vedette.core.errors import AlreadyExists, Conflict, NotFound, Unavailable
from vedette.core.models import (
    ApprovalStatus,
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    Generation,
    Model,
    ModelRef,
    ModelVersion,
    Upload,
)
from vedette.core.ports import Change, Deployment, ReplicaReport
from vedette.entities.monitors import Baseline
from vedette.ports.catalog import ChangeLog
from vedette.storage.bell import ChangeBell
from vedette.storage.paging import Listing
from vedette.storage.records import document

T = TypeVar("T")
K = TypeVar("K")

KEPT_CHANGES = 10_000
"""Default length of the log of changes that is kept in full."""
_TURN_TIMEOUT_S = 30.0
_BEFORE_ANY = 2**31
_EMPTY_LOG = ChangeLog(oldest=1, newest=0)


@dataclass(slots=True)
class _State:
    """Everything a catalog knows."""

    models: dict[str, Model] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """Model -> the last version number ever taken."""
    versions: dict[tuple[str, int], ModelVersion] = field(default_factory=dict)
    aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    baselines: dict[tuple[str, int, str], Baseline] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    generations: dict[tuple[str, int], Generation] = field(default_factory=dict)
    reports: dict[tuple[str, str], tuple[float, ReplicaReport]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    changes: dict[int, Change] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    """Endpoint -> revision of its last change."""
    log: ChangeLog = _EMPTY_LOG

    def copy(self) -> _State:
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        copies: dict[str, Any] = {name: dict(value) for name, value in held.items() if isinstance(value, dict)}
        return replace(self, **copies)


def _found(items: Mapping[K, T], key: K, what: str) -> T:
    try:
        return items[key]
    except KeyError:
        raise NotFound(f"{what} does not exist") from None


def _refuse(taken: Collection[K], key: K, what: str) -> None:
    if key in taken:
        raise AlreadyExists(f"{what} exists already")


class MemorySnapshot:
    """A `CatalogSnapshot` of one state."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def model(self, name: str) -> Model:
        model = _found(self._state.models, name, f"model {name!r}")
        numbers = [version for owner, version in self._state.versions if owner == name]
        aliases = {alias: version for (owner, alias), version in self._state.aliases.items() if owner == name}
        return replace(model, latest_version=max(numbers, default=0), aliases=dict(sorted(aliases.items())))

    def models(
        self, *, limit: int, after: str = "", name_contains: str = "", tags: Mapping[str, str] | None = None
    ) -> tuple[list[Model], str]:
        wanted = sorted((tags or {}).items())
        listing = Listing("models", limit=limit, filters=(name_contains.lower(), wanted))
        start = listing.start(after, "")
        found = [
            self.model(name)
            for name, model in sorted(self._state.models.items())
            if name > start and name_contains.lower() in name.lower() and set(wanted) <= set(model.tags.items())
        ]
        return listing.page(found[: limit + 1], lambda model: model.name)

    def model_count(self) -> int:
        return len(self._state.models)

    def version(self, model: str, version: int) -> ModelVersion:
        return _found(self._state.versions, (model, version), f"version {version} of model {model!r}")

    def versions(
        self, model: str, *, limit: int, after: str = "", status: ApprovalStatus | None = None
    ) -> tuple[list[ModelVersion], str]:
        listing = Listing("versions", limit=limit, filters=(model, status))
        start = listing.start(after, _BEFORE_ANY)
        _found(self._state.models, model, f"model {model!r}")
        found = [
            version
            for version in reversed(self._versions_of(model))
            if version.version < start and status in {None, version.status}
        ]
        return listing.page(found[: limit + 1], lambda version: version.version)

    def versions_with(self, model: str, digest: str) -> list[ModelVersion]:
        return [version for version in self._versions_of(model) if version.digest == digest]

    def _versions_of(self, model: str) -> list[ModelVersion]:
        return [version for (owner, _), version in sorted(self._state.versions.items()) if owner == model]

    def digests_in_use(self, candidates: Collection[str]) -> set[str]:
        versions = {version.digest for version in self._state.versions.values()}
        return set(candidates) & (versions | {baseline.digest for baseline in self._state.baselines.values()})

    def baseline(self, model: str, version: int, name: str) -> Baseline:
        what = f"baseline {name!r} of {model}:{version}"
        return _found(self._state.baselines, (model, version, name), what)

    def baselines(self, model: str, version: int, *, limit: int, after: str = "") -> tuple[list[Baseline], str]:
        listing = Listing("baselines", limit=limit, filters=(model, version))
        start = listing.start(after, "")
        self.version(model, version)
        found = [
            baseline
            for (owner, number, name), baseline in sorted(self._state.baselines.items())
            if (owner, number) == (model, version) and name > start
        ]
        return listing.page(found[: limit + 1], lambda baseline: baseline.name)

    def endpoint(self, name: str) -> Endpoint:
        return _found(self._state.endpoints, name, f"endpoint {name!r}")

    def endpoints(
        self,
        *,
        limit: int,
        after: str = "",
        model: str = "",
        status: EndpointStatus | None = None,
        name_contains: str = "",
    ) -> tuple[list[Endpoint], str]:
        listing = Listing("endpoints", limit=limit, filters=(model, status, name_contains.lower()))
        start = listing.start(after, "")
        found = [
            endpoint
            for name, endpoint in sorted(self._state.endpoints.items())
            if name > start
            and name_contains.lower() in name.lower()
            and model in {"", endpoint.config.model}
            and status in {None, endpoint.status}
        ]
        return listing.page(found[: limit + 1], lambda endpoint: endpoint.name)

    def endpoint_counts(self) -> dict[EndpointStatus, int]:
        counts: dict[EndpointStatus, int] = {}
        for endpoint in self._state.endpoints.values():
            counts[endpoint.status] = counts.get(endpoint.status, 0) + 1
        return counts

    def endpoints_naming(self, model: str, version: int | None = None) -> list[str]:
        return [
            name
            for name, endpoint in sorted(self._state.endpoints.items())
            if any(ref.model == model and version in {None, ref.version} for ref in endpoint.config.references())
        ]

    def generation(self, endpoint: str, generation: int) -> Generation:
        what = f"generation {generation} of endpoint {endpoint!r}"
        return _found(self._state.generations, (endpoint, generation), what)

    def generations(self, endpoint: str, *, limit: int, after: str = "") -> tuple[list[Generation], str]:
        listing = Listing("generations", limit=limit, filters=(endpoint,))
        start = listing.start(after, _BEFORE_ANY)
        _found(self._state.endpoints, endpoint, f"endpoint {endpoint!r}")
        found = [
            generation
            for (owner, number), generation in sorted(self._state.generations.items(), reverse=True)
            if owner == endpoint and number < start
        ]
        return listing.page(found[: limit + 1], lambda generation: generation.generation)

    def reports(self, endpoint: str, *, since: float = 0.0) -> list[ReplicaReport]:
        reports = sorted(self._state.reports.items())
        return [report for (owner, _), (at, report) in reports if owner == endpoint and at >= since]

    def upload(self, upload_id: str) -> Upload:
        return _found(self._state.uploads, upload_id, "an upload of that id")

    def uploads(self, *, expired_at: float | None = None) -> list[Upload]:
        ordered = sorted(self._state.uploads.values(), key=lambda upload: (upload.created_at, upload.id))
        return [upload for upload in ordered if expired_at is None or upload.expires_at <= expired_at]

    def log(self) -> ChangeLog:
        return self._state.log

    def changes(self, after: int, limit: int) -> list[Change]:
        return [self._state.changes[revision] for revision in sorted(self._state.changes) if revision > after][:limit]

    def desired(self, after: int, limit: int) -> list[Change]:
        last = (self._state.changes.get(revision) for revision in sorted(self._state.latest.values()))
        return [change for change in last if change and change.deployment and change.revision > after][:limit]


class MemoryTransaction(MemorySnapshot):
    """A `CatalogTransaction` on a state of its own."""

    def __init__(self, state: _State, kept_changes: int) -> None:
        super().__init__(state)
        self._kept_changes = kept_changes

    def insert_model(self, model: Model) -> None:
        document(model)
        _refuse(self._state.models, model.name, f"model {model.name!r}")
        self._state.models[model.name] = model
        self._state.numbers[model.name] = 0

    def update_model(self, model: Model) -> None:
        document(model)
        old = self.model(model.name)
        self._state.models[model.name] = replace(
            old, description=model.description, tags=dict(model.tags), updated_at=model.updated_at
        )

    def delete_model(self, name: str) -> None:
        self.model(name)
        self._refuse_named(f"model {name!r}", self.endpoints_naming(name))
        for version in self._versions_of(name):
            self.delete_version(name, version.version)
        del self._state.models[name], self._state.numbers[name]

    def next_version(self, model: str) -> int:
        self._state.numbers[model] = _found(self._state.numbers, model, f"model {model!r}") + 1
        return self._state.numbers[model]

    def insert_version(self, version: ModelVersion) -> None:
        document(version)
        self.model(version.model)
        key = version.model, version.version
        _refuse(self._state.versions, key, f"version {version.version} of model {version.model!r}")
        self._state.versions[key] = version

    def update_version(self, version: ModelVersion) -> None:
        document(version)
        old = self.version(version.model, version.version)
        self._state.versions[version.model, version.version] = replace(
            old, status=version.status, description=version.description, metadata=dict(version.metadata)
        )

    def delete_version(self, model: str, version: int) -> None:
        self.version(model, version)
        self._refuse_named(f"version {version} of model {model!r}", self.endpoints_naming(model, version))
        del self._state.versions[model, version]
        kept = {key: to for key, to in self._state.aliases.items() if (key[0], to) != (model, version)}
        self._state.aliases = kept
        of_others = {key: value for key, value in self._state.baselines.items() if key[:2] != (model, version)}
        self._state.baselines = of_others

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self.version(model, version)
        self._state.aliases[model, alias] = version

    def delete_alias(self, model: str, alias: str) -> None:
        _found(self._state.aliases, (model, alias), f"alias {alias!r} of model {model!r}")
        del self._state.aliases[model, alias]

    def put_baseline(self, baseline: Baseline) -> None:
        document(baseline)
        self.version(baseline.model, baseline.version)
        self._state.baselines[baseline.model, baseline.version, baseline.name] = baseline

    def delete_baseline(self, model: str, version: int, name: str) -> None:
        self.baseline(model, version, name)
        del self._state.baselines[model, version, name]

    def insert_endpoint(self, endpoint: Endpoint) -> None:
        document(endpoint)
        _refuse(self._state.endpoints, endpoint.name, f"endpoint {endpoint.name!r}")
        self._check_references(endpoint.config)
        self._state.endpoints[endpoint.name] = endpoint

    def update_endpoint(self, endpoint: Endpoint) -> None:
        document(endpoint)
        old = self.endpoint(endpoint.name)
        self._check_references(endpoint.config)
        self._state.endpoints[endpoint.name] = replace(endpoint, created_at=old.created_at)

    def delete_endpoint(self, name: str) -> None:
        self.endpoint(name)
        del self._state.endpoints[name]
        self._state.generations = {key: value for key, value in self._state.generations.items() if key[0] != name}
        self._state.reports = {key: value for key, value in self._state.reports.items() if key[0] != name}

    def insert_generation(self, generation: Generation) -> None:
        document(generation)
        self.endpoint(generation.endpoint)
        key = generation.endpoint, generation.generation
        _refuse(self._state.generations, key, f"generation {generation.generation} of {generation.endpoint!r}")
        self._state.generations[key] = generation

    def append_change(self, endpoint: str, deployment: Deployment | None) -> int:
        document(deployment)
        revision = self._state.log.newest + 1
        self._state.changes[revision] = Change(revision, endpoint, deployment)
        self._state.latest[endpoint] = revision
        self._state.log = replace(self._state.log, newest=revision)
        if revision - self._state.log.oldest >= 2 * self._kept_changes:
            self._compact(revision - self._kept_changes + 1)
        return revision

    def _compact(self, oldest: int) -> None:
        """Drop what came before `oldest`, but the last word on every endpoint that is wanted."""
        wanted = {change.revision for change in self.desired(0, len(self._state.latest))}
        self._state.changes = {r: c for r, c in self._state.changes.items() if r >= oldest or r in wanted}
        self._state.latest = {name: r for name, r in self._state.latest.items() if r in self._state.changes}
        self._state.log = replace(self._state.log, oldest=oldest)

    def put_report(self, report: ReplicaReport, *, at: float) -> None:
        document(report)
        self.endpoint(report.endpoint)
        self._state.reports[report.endpoint, report.replica] = at, report

    def forget_reports(self, *, before: float) -> int:
        kept = {key: value for key, value in self._state.reports.items() if value[0] >= before}
        forgotten = len(self._state.reports) - len(kept)
        self._state.reports = kept
        return forgotten

    def insert_upload(self, upload: Upload) -> None:
        document(upload)
        _refuse(self._state.uploads, upload.id, "an upload of that id")
        self._state.uploads[upload.id] = upload

    def delete_upload(self, upload_id: str) -> None:
        self.upload(upload_id)
        del self._state.uploads[upload_id]

    def _check_references(self, config: EndpointConfig) -> None:
        for ref in config.references():
            self._check_reference(ref)

    def _check_reference(self, ref: ModelRef) -> None:
        self.version(ref.model, ref.version)

    def _refuse_named(self, what: str, endpoints: Iterable[str]) -> None:
        names = list(endpoints)
        if names:
            raise Conflict(f"{what} is deployed: endpoint {', '.join(names[:5])} names it")


class MemoryCatalog:
    """A `Catalog` for one process; `kept_changes` is how much of the log of changes is kept in full at least."""

    def __init__(self, *, kept_changes: int = KEPT_CHANGES) -> None:
        self._kept_changes = kept_changes
        self._state = _State()
        self._turn = threading.Lock()
        self._bell = ChangeBell()

    def migrate(self) -> None: ...

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        if not self._turn.acquire(timeout=_TURN_TIMEOUT_S):
            raise Unavailable("the catalog is busy: another transaction has not ended")
        try:
            state = self._state.copy()
            yield MemoryTransaction(state, self._kept_changes)
            changed = state.log.newest != self._state.log.newest
            self._state = state
        finally:
            self._turn.release()
        if changed:
            self._bell.ring()

    @contextmanager
    def read(self) -> Iterator[MemorySnapshot]:
        yield MemorySnapshot(self._state)

    def wait_for_change(self, after: int, timeout_s: float) -> int:
        newest = lambda: self._state.log.newest  # noqa: E731
        return self._bell.wait_for(newest, after, timeout_s=timeout_s, poll_s=timeout_s)

    def close(self) -> None:
        self._bell.close()
