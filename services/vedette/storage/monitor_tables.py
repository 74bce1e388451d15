"""The tables of the monitor's windows and results, as the newest migration leaves them; alerts add theirs beside.

Rule: what is searched or checked by the database is a column; what is only kept is a JSON document or bytes.
Names compare byte by byte everywhere, so that pages come in one order on every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


def exact(length: int) -> TypeEngine[str]:
    """Text of at most so many characters, compared byte by byte (SQLite does so anyway)."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def free() -> TypeEngine[str]:
    """Text of any length, compared byte by byte."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def watched_by() -> Column[str]:
    """The monitor that a row belongs to and goes with."""
    return Column("monitor", exact(63), ForeignKey("monitors.name", ondelete="CASCADE"), nullable=False)


def window_columns() -> list[Column[str] | Column[float]]:
    """What names a window within its monitor."""
    return [
        Column("variant", exact(63), nullable=False),
        Column("version", exact(63), nullable=False),
        Column("segment", free(), nullable=False),
        Column("start", Float, nullable=False),
    ]


WINDOW = ("monitor", "variant", "version", "segment", "start")

monitors = Table(
    "monitors",
    metadata,
    Column("name", exact(63), primary_key=True),
    Column("endpoint", exact(63), nullable=False, index=True),
    Column("document", Text, nullable=False),
)

offsets = Table(
    "offsets",
    metadata,
    Column("topic", exact(63), primary_key=True),
    Column("offset", BigInteger, nullable=False),
)

notes = Table(
    "notes",
    metadata,
    Column("kind", exact(63), nullable=False),
    Column("key", free(), nullable=False),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
)

windows = Table(
    "windows",
    metadata,
    watched_by(),
    *window_columns(),
    Column("end", Float, nullable=False),
    Column("sealed", Boolean, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("document", Text, nullable=False),  # the WindowState without its profile
    Column("profile", LargeBinary, nullable=False),
    PrimaryKeyConstraint(*WINDOW),
)

executions = Table(
    "executions",
    metadata,
    Column("id", exact(63), primary_key=True),
    watched_by(),
    Column("endpoint", exact(63), nullable=False),
    Column("status", exact(63), nullable=False),
    Column("start", Float, nullable=False),
    Column("end", Float, nullable=False, index=True),
    Column("document", Text, nullable=False),
    Index("ix_executions_monitor", "monitor", "start"),
    Index("ix_executions_start", "start"),
)

profiles = Table(
    "profiles",
    metadata,
    Column("execution", exact(63), ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    watched_by(),
    Column("start", Float, nullable=False),
    Column("profile", LargeBinary, nullable=False),
    Index("ix_profiles_monitor", "monitor", "start"),
)

predictions = Table(
    "predictions",
    metadata,
    watched_by(),
    *window_columns(),
    Column("block", Integer, nullable=False),
    Column("endpoint", exact(63), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint(*WINDOW, "block"),
    Index("ix_predictions_endpoint", "endpoint", "start"),
)

labels = Table(
    "labels",
    metadata,
    Column("endpoint", exact(63), nullable=False),
    Column("id", free(), nullable=False),
    Column("value", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("joined", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("endpoint", "id"),
    Index("ix_labels_at", "endpoint", "at"),
)

reopened = Table(
    "reopened",
    metadata,
    watched_by(),
    *window_columns(),
    Column("at", Float, nullable=False, index=True),
    Column("taken", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint(*WINDOW),
)
