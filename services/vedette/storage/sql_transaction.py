"""Writing the catalog's tables.

Rule: existence is looked up before writing instead of caught afterwards. Writers take turns, so that is
no race; and PostgreSQL would give up the whole transaction at the first error that a caller could forgive.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, Update, delete, exists, insert, not_, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from vedette.core.errors import AlreadyExists, Conflict, NotFound
from vedette.core.models import Endpoint, Generation, Model, ModelVersion, Upload
from vedette.core.ports import Deployment, ReplicaReport
from vedette.entities.monitors import Baseline
from vedette.storage import records
from vedette.storage.sql_snapshot import SqlSnapshot
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


class SqlTransaction(SqlSnapshot):
    """A `CatalogTransaction` on a connection that holds the turn to write."""

    def __init__(self, connection: Connection, kept_changes: int) -> None:
        super().__init__(connection)
        self._kept_changes = kept_changes
        self.changed = False
        """Whether a change was appended."""

    def insert_model(self, model: Model) -> None:
        records.document(model)
        self._refuse(models, models.c.name == model.name, what=f"model {model.name!r}")
        self._insert(
            models,
            name=model.name,
            last_version=0,
            description=model.description,
            created_at=model.created_at,
            updated_at=model.updated_at,
        )
        self._tag(model)

    def update_model(self, model: Model) -> None:
        records.document(model)
        statement = update(models).where(models.c.name == model.name)
        values = {"description": model.description, "updated_at": model.updated_at}
        self._change_one(statement.values(values), f"model {model.name!r}")
        self._delete(model_tags, model_tags.c.model == model.name)
        self._tag(model)

    def _tag(self, model: Model) -> None:
        rows = [{"model": model.name, "key": key, "value": value} for key, value in model.tags.items()]
        if rows:
            self._connection.execute(insert(model_tags), rows)

    def delete_model(self, name: str) -> None:
        self._refuse_named(f"model {name!r}", self.endpoints_naming(name))
        if not self._delete(models, models.c.name == name):
            raise NotFound(f"model {name!r} does not exist")

    def next_version(self, model: str) -> int:
        statement = update(models).where(models.c.name == model).values(last_version=models.c.last_version + 1)
        self._change_one(statement, f"model {model!r}")
        return self._scalar(select(models.c.last_version).where(models.c.name == model))

    def insert_version(self, version: ModelVersion) -> None:
        values = records.version_values(version)
        self._require(models, models.c.name == version.model, what=f"model {version.model!r}")
        same = (versions.c.model == version.model, versions.c.version == version.version)
        self._refuse(versions, *same, what=f"version {version.version} of model {version.model!r}")
        self._insert(versions, **values)

    def update_version(self, version: ModelVersion) -> None:
        values = records.version_values(version)
        kept = {name: values[name] for name in ("status", "description", "metadata")}
        same = (versions.c.model == version.model, versions.c.version == version.version)
        what = f"version {version.version} of model {version.model!r}"
        self._change_one(update(versions).where(*same).values(kept), what)

    def delete_version(self, model: str, version: int) -> None:
        what = f"version {version} of model {model!r}"
        self._refuse_named(what, self.endpoints_naming(model, version))
        self.version(model, version)
        self._delete(versions, versions.c.model == model, versions.c.version == version)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self.version(model, version)
        self._delete(aliases, aliases.c.model == model, aliases.c.alias == alias)
        self._insert(aliases, model=model, alias=alias, version=version)

    def delete_alias(self, model: str, alias: str) -> None:
        if not self._delete(aliases, aliases.c.model == model, aliases.c.alias == alias):
            raise NotFound(f"alias {alias!r} of model {model!r} does not exist")

    def put_baseline(self, baseline: Baseline) -> None:
        values = records.baseline_values(baseline)
        self.version(baseline.model, baseline.version)
        self._delete_baseline(baseline.model, baseline.version, baseline.name)
        self._insert(baselines, **values)

    def delete_baseline(self, model: str, version: int, name: str) -> None:
        self.baseline(model, version, name)
        self._delete_baseline(model, version, name)

    def _delete_baseline(self, model: str, version: int, name: str) -> None:
        same = (baselines.c.model == model, baselines.c.version == version, baselines.c.name == name)
        self._delete(baselines, *same)

    def insert_endpoint(self, endpoint: Endpoint) -> None:
        values = records.endpoint_values(endpoint)
        self._refuse(endpoints, endpoints.c.name == endpoint.name, what=f"endpoint {endpoint.name!r}")
        self._check_references(endpoint)
        self._insert(endpoints, **values)
        self._refer(endpoint)

    def update_endpoint(self, endpoint: Endpoint) -> None:
        values = records.endpoint_values(endpoint)
        del values["created_at"]
        what = f"endpoint {endpoint.name!r}"
        self._require(endpoints, endpoints.c.name == endpoint.name, what=what)
        self._check_references(endpoint)
        self._change_one(update(endpoints).where(endpoints.c.name == endpoint.name).values(values), what)
        self._delete(endpoint_versions, endpoint_versions.c.endpoint == endpoint.name)
        self._refer(endpoint)

    def _check_references(self, endpoint: Endpoint) -> None:
        for ref in endpoint.config.references():
            self.version(ref.model, ref.version)

    def _refer(self, endpoint: Endpoint) -> None:
        for ref in endpoint.config.references():
            self._insert(endpoint_versions, endpoint=endpoint.name, model=ref.model, version=ref.version)

    def delete_endpoint(self, name: str) -> None:
        if not self._delete(endpoints, endpoints.c.name == name):
            raise NotFound(f"endpoint {name!r} does not exist")

    def insert_generation(self, generation: Generation) -> None:
        values = records.generation_values(generation)
        self._require(endpoints, endpoints.c.name == generation.endpoint, what=f"endpoint {generation.endpoint!r}")
        same = (
            generations.c.endpoint == generation.endpoint,
            generations.c.generation == generation.generation,
        )
        what = f"generation {generation.generation} of endpoint {generation.endpoint!r}"
        self._refuse(generations, *same, what=what)
        self._insert(generations, **values)

    def append_change(self, endpoint: str, deployment: Deployment | None) -> int:
        text = None if deployment is None else records.document(deployment)
        self._connection.execute(update(change_log).values(newest=change_log.c.newest + 1))
        log = self.log()
        replaced = update(changes).where(changes.c.endpoint == endpoint, changes.c.latest)
        self._connection.execute(replaced.values(latest=False))
        self._insert(changes, revision=log.newest, endpoint=endpoint, latest=True, deployment=text)
        if log.newest - log.oldest >= 2 * self._kept_changes:
            self._compact(log.newest - self._kept_changes + 1)
        self.changed = True
        return log.newest

    def _compact(self, oldest: int) -> None:
        """Drop what came before `oldest`, but the last word on every endpoint that is wanted."""
        spent = or_(not_(changes.c.latest), changes.c.deployment.is_(None))
        self._delete(changes, changes.c.revision < oldest, spent)
        self._connection.execute(update(change_log).values(oldest=oldest))

    def put_report(self, report: ReplicaReport, *, at: float) -> None:
        values = records.report_values(report, at)
        self._require(endpoints, endpoints.c.name == report.endpoint, what=f"endpoint {report.endpoint!r}")
        self._delete(reports, reports.c.endpoint == report.endpoint, reports.c.replica == report.replica)
        self._insert(reports, **values)

    def forget_reports(self, *, before: float) -> int:
        return self._delete(reports, reports.c.reported_at < before)

    def insert_upload(self, upload: Upload) -> None:
        records.document(upload)
        self._refuse(uploads, uploads.c.id == upload.id, what="an upload of that id")
        values = {name: getattr(upload, name) for name in Upload.__dataclass_fields__}
        self._insert(uploads, **values)

    def delete_upload(self, upload_id: str) -> None:
        if not self._delete(uploads, uploads.c.id == upload_id):
            raise NotFound("an upload of that id does not exist")

    def _insert(self, table: Table, **values: Any) -> None:
        self._connection.execute(insert(table).values(values))

    def _delete(self, table: Table, *conditions: ColumnElement[bool]) -> int:
        return self._connection.execute(delete(table).where(*conditions)).rowcount

    def _change_one(self, statement: Update, what: str) -> None:
        if self._connection.execute(statement).rowcount == 0:
            raise NotFound(f"{what} does not exist")

    def _holds(self, table: Table, *conditions: ColumnElement[bool]) -> bool:
        return bool(self._connection.execute(select(exists().select_from(table).where(*conditions))).scalar())

    def _refuse(self, table: Table, *conditions: ColumnElement[bool], what: str) -> None:
        if self._holds(table, *conditions):
            raise AlreadyExists(f"{what} exists already")

    def _require(self, table: Table, *conditions: ColumnElement[bool], what: str) -> None:
        if not self._holds(table, *conditions):
            raise NotFound(f"{what} does not exist")

    def _refuse_named(self, what: str, names: list[str]) -> None:
        if names:
            raise Conflict(f"{what} is deployed: endpoint {', '.join(names[:5])} names it")
