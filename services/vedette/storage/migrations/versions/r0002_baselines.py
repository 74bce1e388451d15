"""Baselines of model versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def name() -> sa.types.TypeEngine[str]:
    """A name, compared byte by byte on every database."""
    return sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table; versions that are there have no baseline."""
    op.create_table(
        "baselines",
        sa.Column("model", name(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", name(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "name", name="pk_baselines"),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["versions.model", "versions.version"], name="fk_baselines_model", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_baselines_digest", "baselines", ["digest"])
