"""Monitors, where they stand in the stream, windows, executions, predictions and labels."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WINDOW = ("monitor", "variant", "version", "segment", "start")


def exact(length: int = 63) -> sa.types.TypeEngine[str]:
    """A name, compared byte by byte on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def free() -> sa.types.TypeEngine[str]:
    """Text of any length, compared byte by byte on every database."""
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def needed(name: str, kind: Any) -> sa.Column[Any]:
    """A column without NULL."""
    return sa.Column(name, kind, nullable=False)


def of_a_monitor(table: str) -> sa.ForeignKeyConstraint:
    """The row goes with its monitor."""
    return sa.ForeignKeyConstraint(["monitor"], ["monitors.name"], name=f"fk_{table}_monitor", ondelete="CASCADE")


def window_columns() -> list[sa.Column[Any]]:
    """What names a window."""
    names = [needed(name, exact()) for name in WINDOW[:3]]
    return [*names, needed("segment", free()), needed("start", sa.Float())]


def upgrade() -> None:
    """Make everything."""
    _progress()
    _windows()
    _results()
    _ground_truth()


def _progress() -> None:
    op.create_table(
        "monitors",
        needed("name", exact()),
        needed("endpoint", exact()),
        needed("document", sa.Text()),
        sa.PrimaryKeyConstraint("name", name="pk_monitors"),
    )
    op.create_index("ix_monitors_endpoint", "monitors", ["endpoint"])
    op.create_table(
        "offsets",
        needed("topic", exact()),
        needed("offset", sa.BigInteger()),
        sa.PrimaryKeyConstraint("topic", name="pk_offsets"),
    )
    op.create_table(
        "notes",
        needed("kind", exact()),
        needed("key", free()),
        needed("value", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_notes"),
    )


def _windows() -> None:
    op.create_table(
        "windows",
        *window_columns(),
        needed("end", sa.Float()),
        needed("sealed", sa.Boolean()),
        needed("attempts", sa.Integer()),
        needed("document", sa.Text()),
        needed("profile", sa.LargeBinary()),
        sa.PrimaryKeyConstraint(*WINDOW, name="pk_windows"),
        of_a_monitor("windows"),
    )
    op.create_index("ix_windows_sealed", "windows", ["sealed"])


def _results() -> None:
    op.create_table(
        "executions",
        needed("id", exact()),
        needed("monitor", exact()),
        needed("endpoint", exact()),
        needed("status", exact()),
        needed("start", sa.Float()),
        needed("end", sa.Float()),
        needed("document", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_executions"),
        of_a_monitor("executions"),
    )
    op.create_index("ix_executions_end", "executions", ["end"])
    op.create_index("ix_executions_monitor", "executions", ["monitor", "start"])
    op.create_index("ix_executions_start", "executions", ["start"])
    op.create_table(
        "profiles",
        needed("execution", exact()),
        needed("monitor", exact()),
        needed("start", sa.Float()),
        needed("profile", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("execution", name="pk_profiles"),
        sa.ForeignKeyConstraint(["execution"], ["executions.id"], name="fk_profiles_execution", ondelete="CASCADE"),
        of_a_monitor("profiles"),
    )
    op.create_index("ix_profiles_monitor", "profiles", ["monitor", "start"])


def _ground_truth() -> None:
    op.create_table(
        "predictions",
        *window_columns(),
        needed("block", sa.Integer()),
        needed("endpoint", exact()),
        needed("rows", sa.Integer()),
        needed("payload", sa.LargeBinary()),
        sa.PrimaryKeyConstraint(*WINDOW, "block", name="pk_predictions"),
        of_a_monitor("predictions"),
    )
    op.create_index("ix_predictions_endpoint", "predictions", ["endpoint", "start"])
    op.create_table(
        "labels",
        needed("endpoint", exact()),
        needed("id", free()),
        needed("value", sa.Text()),
        needed("at", sa.Float()),
        sa.PrimaryKeyConstraint("endpoint", "id", name="pk_labels"),
    )
    op.create_index("ix_labels_at", "labels", ["endpoint", "at"])
    op.create_table(
        "reopened",
        *window_columns(),
        needed("at", sa.Float()),
        sa.PrimaryKeyConstraint(*WINDOW, name="pk_reopened"),
        of_a_monitor("reopened"),
    )
    op.create_index("ix_reopened_at", "reopened", ["at"])
