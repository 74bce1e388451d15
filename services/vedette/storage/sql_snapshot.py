"""Reading the catalog's tables.

Rule: statements that SQLite and PostgreSQL both understand, and no value ever spliced into SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Select, false, func, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from vedette.core.errors import NotFound
from vedette.core.models import (
    ApprovalStatus,
    Endpoint,
    EndpointStatus,
    Generation,
    Model,
    ModelVersion,
    Upload,
)
from vedette.core.ports import Change, ReplicaReport
from vedette.entities.monitors import Baseline
from vedette.ports.catalog import ChangeLog
from vedette.storage import records
from vedette.storage.paging import Listing
from vedette.storage.tables import (
    aliases,
    baselines,
    change_log,
    changes,
    endpoint_versions,
    endpoints,
    generations,
    model_tags,
    models,
    reports,
    uploads,
    versions,
)

BEFORE_ANY = 2**31 - 1
"""Over every version and generation number: the largest INTEGER of PostgreSQL."""
_LAST_REVISION = 2**63 - 1
_NAME_LENGTH = 63
_IN_LIST = 500


def contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Whether a name contains the text, whatever the case; a text longer than any name is in none."""
    if len(text) > _NAME_LENGTH:
        return false()
    return func.lower(column).contains(text.lower(), autoescape=True)


class SqlSnapshot:
    """A `CatalogSnapshot` on an open connection, consistent as long as the connection's transaction is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def model(self, name: str) -> Model:
        row = self._one(select(models).where(models.c.name == name), f"model {name!r}")
        return self._with_parts([row])[0]

    def models(
        self, *, limit: int, after: str = "", name_contains: str = "", tags: Mapping[str, str] | None = None
    ) -> tuple[list[Model], str]:
        wanted = sorted((tags or {}).items())
        listing = Listing("models", limit=limit, filters=(name_contains.lower(), wanted))
        query = select(models).where(models.c.name > listing.start(after, ""), contains(models.c.name, name_contains))
        if wanted:
            having = select(model_tags.c.model).where(tuple_(model_tags.c.key, model_tags.c.value).in_(wanted))
            counted = having.group_by(model_tags.c.model).having(func.count() == len(wanted))
            query = query.where(models.c.name.in_(counted))
        rows = self._all(query.order_by(models.c.name).limit(limit + 1))
        return listing.page(self._with_parts(rows), lambda model: model.name)

    def _with_parts(self, rows: list[Any]) -> list[Model]:
        """Models from their rows, with what other tables say of them, in three statements for any number."""
        names = [row.name for row in rows]
        tags: dict[str, dict[str, str]] = {name: {} for name in names}
        for row in self._all(select(model_tags).where(model_tags.c.model.in_(names)).order_by(model_tags.c.key)):
            tags[row.model][row.key] = row.value
        pointing: dict[str, dict[str, int]] = {name: {} for name in names}
        for row in self._all(select(aliases).where(aliases.c.model.in_(names)).order_by(aliases.c.alias)):
            pointing[row.model][row.alias] = row.version
        newest = select(versions.c.model, func.max(versions.c.version)).where(versions.c.model.in_(names))
        latest = {row[0]: row[1] for row in self._all(newest.group_by(versions.c.model))}
        return [
            records.model_of(row, tags=tags[row.name], aliases=pointing[row.name], latest=latest.get(row.name, 0))
            for row in rows
        ]

    def model_count(self) -> int:
        return self._scalar(select(func.count()).select_from(models))

    def version(self, model: str, version: int) -> ModelVersion:
        query = select(versions).where(versions.c.model == model, versions.c.version == _numbered(version))
        return records.version_of(self._one(query, f"version {version} of model {model!r}"))

    def versions(
        self, model: str, *, limit: int, after: str = "", status: ApprovalStatus | None = None
    ) -> tuple[list[ModelVersion], str]:
        listing = Listing("versions", limit=limit, filters=(model, status))
        start = listing.start(after, BEFORE_ANY)
        self._one(select(models.c.name).where(models.c.name == model), f"model {model!r}")
        query = select(versions).where(versions.c.model == model, versions.c.version < start)
        if status is not None:
            query = query.where(versions.c.status == status.value)
        rows = self._all(query.order_by(versions.c.version.desc()).limit(limit + 1))
        return listing.page([records.version_of(row) for row in rows], lambda version: version.version)

    def versions_with(self, model: str, digest: str) -> list[ModelVersion]:
        query = select(versions).where(versions.c.model == model, versions.c.digest == digest)
        return [records.version_of(row) for row in self._all(query.order_by(versions.c.version))]

    def digests_in_use(self, candidates: Collection[str]) -> set[str]:
        ordered, used = list(candidates), set[str]()
        for begin in range(0, len(ordered), _IN_LIST):
            part = ordered[begin : begin + _IN_LIST]
            for digest in (versions.c.digest, baselines.c.digest):
                used.update(row.digest for row in self._all(select(digest).where(digest.in_(part)).distinct()))
        return used

    def baseline(self, model: str, version: int, name: str) -> Baseline:
        query = self._baselines(model, version).where(baselines.c.name == name)
        return records.baseline_of(self._one(query, f"baseline {name!r} of {model}:{version}"))

    def baselines(self, model: str, version: int, *, limit: int, after: str = "") -> tuple[list[Baseline], str]:
        listing = Listing("baselines", limit=limit, filters=(model, version))
        start = listing.start(after, "")
        self.version(model, version)
        query = self._baselines(model, version).where(baselines.c.name > start)
        rows = self._all(query.order_by(baselines.c.name).limit(limit + 1))
        return listing.page([records.baseline_of(row) for row in rows], lambda baseline: baseline.name)

    def _baselines(self, model: str, version: int) -> Select[Any]:
        return select(baselines).where(baselines.c.model == model, baselines.c.version == _numbered(version))

    def endpoint(self, name: str) -> Endpoint:
        return records.endpoint_of(self._one(select(endpoints).where(endpoints.c.name == name), f"endpoint {name!r}"))

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
        name = endpoints.c.name
        query = select(endpoints).where(name > listing.start(after, ""), contains(name, name_contains))
        if model:
            query = query.where(endpoints.c.model == model)
        if status is not None:
            query = query.where(endpoints.c.status == status.value)
        rows = self._all(query.order_by(name).limit(limit + 1))
        return listing.page([records.endpoint_of(row) for row in rows], lambda endpoint: endpoint.name)

    def endpoint_counts(self) -> dict[EndpointStatus, int]:
        query = select(endpoints.c.status, func.count()).group_by(endpoints.c.status)
        return {EndpointStatus(row[0]): row[1] for row in self._all(query)}

    def endpoints_naming(self, model: str, version: int | None = None) -> list[str]:
        query = select(endpoint_versions.c.endpoint).where(endpoint_versions.c.model == model).distinct()
        if version is not None:
            query = query.where(endpoint_versions.c.version == _numbered(version))
        return [row.endpoint for row in self._all(query.order_by(endpoint_versions.c.endpoint))]

    def generation(self, endpoint: str, generation: int) -> Generation:
        number = generations.c.generation == _numbered(generation)
        query = select(generations).where(generations.c.endpoint == endpoint, number)
        return records.generation_of(self._one(query, f"generation {generation} of endpoint {endpoint!r}"))

    def generations(self, endpoint: str, *, limit: int, after: str = "") -> tuple[list[Generation], str]:
        listing = Listing("generations", limit=limit, filters=(endpoint,))
        start = listing.start(after, BEFORE_ANY)
        self._one(select(endpoints.c.name).where(endpoints.c.name == endpoint), f"endpoint {endpoint!r}")
        query = select(generations).where(generations.c.endpoint == endpoint, generations.c.generation < start)
        rows = self._all(query.order_by(generations.c.generation.desc()).limit(limit + 1))
        return listing.page([records.generation_of(row) for row in rows], lambda item: item.generation)

    def reports(self, endpoint: str, *, since: float = 0.0) -> list[ReplicaReport]:
        query = select(reports).where(reports.c.endpoint == endpoint, reports.c.reported_at >= since)
        return [records.report_of(row) for row in self._all(query.order_by(reports.c.replica))]

    def upload(self, upload_id: str) -> Upload:
        return records.upload_of(self._one(select(uploads).where(uploads.c.id == upload_id), "an upload of that id"))

    def uploads(self, *, expired_at: float | None = None) -> list[Upload]:
        query = select(uploads).order_by(uploads.c.created_at, uploads.c.id)
        if expired_at is not None:
            query = query.where(uploads.c.expires_at <= expired_at)
        return [records.upload_of(row) for row in self._all(query)]

    def log(self) -> ChangeLog:
        row = self._one(select(change_log), "the log of changes")
        return ChangeLog(row.oldest, row.newest)

    def changes(self, after: int, limit: int) -> list[Change]:
        return self._changes(select(changes), after, limit)

    def desired(self, after: int, limit: int) -> list[Change]:
        wanted = select(changes).where(changes.c.latest, changes.c.deployment.is_not(None))
        return self._changes(wanted, after, limit)

    def _changes(self, query: Select[Any], after: int, limit: int) -> list[Change]:
        query = query.where(changes.c.revision > min(after, _LAST_REVISION))
        return [records.change_of(row) for row in self._all(query.order_by(changes.c.revision).limit(limit))]

    def _all(self, query: Select[Any]) -> list[Any]:
        return list(self._connection.execute(query))

    def _one(self, query: Select[Any], what: str) -> Any:
        row = self._connection.execute(query).first()
        if row is None:
            raise NotFound(f"{what} does not exist")
        return row

    def _scalar(self, query: Select[Any]) -> int:
        return int(self._connection.execute(query).scalar_one())


def _numbered(number: int) -> int:
    """The number as the database takes it; one that is out of its range is 0, which nothing has."""
    return number if 0 < number <= BEFORE_ANY else 0
