"""Records to rows and back: the only place that knows how a dataclass of the core looks in a table.

Rule: documents are the JSON of the core's own dataclasses, so a field added with a default reads old rows.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any, TypeVar

import msgspec

from vedette.core.errors import DataLoss, InvalidArgument
from vedette.core.models import (
    ApprovalStatus,
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    Generation,
    Model,
    ModelVersion,
    Upload,
)
from vedette.core.ports import Change, Deployment, ReplicaReport
from vedette.entities.monitors import Baseline

T = TypeVar("T")
Values = dict[str, Any]
Row = Any
"""A row of a query: its columns are attributes. SQLAlchemy types rows in one way in 2.0 and another in 2.1."""

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def document(record: object) -> str:
    """The record as JSON.

    Raises:
        InvalidArgument: it holds text that no database keeps: NUL, or half of a surrogate pair.
    """
    try:
        text = msgspec.json.encode(record).decode()
    except UnicodeEncodeError:
        raise InvalidArgument("text must be valid Unicode") from None
    if _NUL.search(text):
        raise InvalidArgument("text must not hold NUL characters")
    return text


def parse(text: str, kind: type[T]) -> T:
    """The record that `document` made the text of. `DataLoss` when it is not one."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise DataLoss(f"a stored {kind.__name__} cannot be read") from error


def model_of(row: Row, *, tags: dict[str, str], aliases: dict[str, int], latest: int) -> Model:
    """A model from its row and what other tables say of it."""
    return Model(row.name, latest, aliases, tags, row.description, row.created_at, row.updated_at)


def version_values(version: ModelVersion) -> Values:
    """A row of `versions`."""
    return {
        "model": version.model,
        "version": version.version,
        "digest": version.digest,
        "status": version.status.value,
        "description": version.description,
        "metadata": document(version.metadata),
        "document": document(version),
        "created_at": version.created_at,
    }


def version_of(row: Row) -> ModelVersion:
    """A version: the document as it was registered, with what may change from the row."""
    return replace(
        parse(row.document, ModelVersion),
        status=ApprovalStatus(row.status),
        description=row.description,
        metadata=parse(row.metadata, dict[str, str]),
    )


def baseline_values(baseline: Baseline) -> Values:
    """A row of `baselines`."""
    searched = {column: getattr(baseline, column) for column in ("model", "version", "name", "digest")}
    return searched | {"document": document(baseline)}


def baseline_of(row: Row) -> Baseline:
    """A baseline from its row."""
    return parse(row.document, Baseline)


def endpoint_values(endpoint: Endpoint) -> Values:
    """A row of `endpoints`."""
    document(endpoint)
    values = {name: getattr(endpoint, name) for name in Endpoint.__dataclass_fields__}
    model, config, status = endpoint.config.model, document(endpoint.config), endpoint.status.value
    return values | {"model": model, "config": config, "status": status}


def endpoint_of(row: Row) -> Endpoint:
    """An endpoint from its row."""
    values = {name: getattr(row, name) for name in Endpoint.__dataclass_fields__}
    return Endpoint(**values | {"config": parse(row.config, EndpointConfig), "status": EndpointStatus(row.status)})


def generation_values(generation: Generation) -> Values:
    """A row of `generations`."""
    document(generation)
    values = {name: getattr(generation, name) for name in Generation.__dataclass_fields__}
    return values | {"config": document(generation.config)}


def generation_of(row: Row) -> Generation:
    """A generation from its row."""
    values = {name: getattr(row, name) for name in Generation.__dataclass_fields__}
    return Generation(**values | {"config": parse(row.config, EndpointConfig)})


def report_values(report: ReplicaReport, at: float) -> Values:
    """A row of `reports`."""
    document(report)
    return asdict(report) | {"reported_at": at}


def report_of(row: Row) -> ReplicaReport:
    """A report from its row."""
    return ReplicaReport(row.replica, row.endpoint, row.generation, row.state, row.reason)


def upload_of(row: Row) -> Upload:
    """An upload from its row."""
    return Upload(row.id, row.model, row.created_at, row.expires_at)


def change_of(row: Row) -> Change:
    """A change from its row."""
    deployment = None if row.deployment is None else parse(row.deployment, Deployment)
    return Change(row.revision, row.endpoint, deployment)
