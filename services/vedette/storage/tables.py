"""The catalog's tables, as the newest migration leaves them. A test holds the two to each other.

Rule: what is searched or checked by the database is a column; what is only kept is a JSON document.
Names compare byte by byte everywhere, so that pages come in one order on every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def name() -> TypeEngine[str]:
    """A name of at most 63 characters, compared byte by byte (SQLite does so anyway)."""
    return String(63).with_variant(String(63, collation="C"), "postgresql")


models = Table(
    "models",
    metadata,
    Column("name", name(), primary_key=True),
    Column("last_version", Integer, nullable=False),  # ever taken, so that a number is never used twice
    Column("description", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

model_tags = Table(
    "model_tags",
    metadata,
    Column("model", name(), ForeignKey("models.name", ondelete="CASCADE"), nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("model", "key"),
)

versions = Table(
    "versions",
    metadata,
    Column("model", name(), ForeignKey("models.name", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("status", String(32), nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("document", Text, nullable=False),  # the whole ModelVersion; status, description and metadata as first given
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("model", "version"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", name(), nullable=False),
    Column("alias", name(), nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("model", "alias"),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"], ondelete="CASCADE"),
)

baselines = Table(
    "baselines",
    metadata,
    Column("model", name(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", name(), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),  # the whole Baseline
    PrimaryKeyConstraint("model", "version", "name"),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"], ondelete="CASCADE"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", name(), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("model", name(), nullable=False, index=True),  # of `config`, for filtering
    Column("config", Text, nullable=False),
    Column("status", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("serving", Boolean, nullable=False),
    Column("serving_generation", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

endpoint_versions = Table(
    "endpoint_versions",
    metadata,
    Column("endpoint", name(), ForeignKey("endpoints.name", ondelete="CASCADE"), nullable=False),
    Column("model", name(), nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("endpoint", "model", "version"),
    # No cascade: the database itself refuses to lose a version that an endpoint names.
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
    Index("ix_endpoint_versions_model", "model", "version"),
)

generations = Table(
    "generations",
    metadata,
    Column("endpoint", name(), ForeignKey("endpoints.name", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("config", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("replaces", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("endpoint", "generation"),
)

reports = Table(
    "reports",
    metadata,
    Column("endpoint", name(), ForeignKey("endpoints.name", ondelete="CASCADE"), nullable=False),
    Column("replica", String(128).with_variant(String(128, collation="C"), "postgresql"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("reported_at", Float, nullable=False, index=True),
    PrimaryKeyConstraint("endpoint", "replica"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", name(), primary_key=True),
    Column("model", name(), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

_latest: Column[bool] = Column("latest", Boolean, nullable=False)  # no later change of this endpoint exists

changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("endpoint", name(), nullable=False),
    _latest,
    Column("deployment", Text),  # NULL: the endpoint is not wanted any more
    Index("ix_changes_latest", "endpoint", unique=True, sqlite_where=_latest, postgresql_where=_latest),
)

change_log = Table(
    "change_log",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1: there is one row
    Column("oldest", BigInteger, nullable=False),
    Column("newest", BigInteger, nullable=False),
)


@event.listens_for(change_log, "after_create")
def _begin_the_log(table: Table, connection: Connection, **_: object) -> None:
    """The one row that is there from the first moment."""
    connection.execute(table.insert().values(id=1, oldest=1, newest=0))
