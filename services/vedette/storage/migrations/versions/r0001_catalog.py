"""Models, versions, aliases, endpoints, their history, reports, uploads and the log of changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def name() -> sa.types.TypeEngine[str]:
    """A name, compared byte by byte on every database."""
    return sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql")


def upgrade() -> None:
    """Make everything."""
    _models()
    _aliases_and_uploads()
    _endpoints()
    _history_and_reports()
    _changes()


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("name", name(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "model_tags",
        sa.Column("model", name(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "key", name="pk_model_tags"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_model_tags_model", ondelete="CASCADE"),
    )
    op.create_table(
        "versions",
        sa.Column("model", name(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name="pk_versions"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_versions_model", ondelete="CASCADE"),
    )
    op.create_index("ix_versions_digest", "versions", ["digest"])


def _aliases_and_uploads() -> None:
    op.create_table(
        "aliases",
        sa.Column("model", name(), nullable=False),
        sa.Column("alias", name(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["versions.model", "versions.version"], name="fk_aliases_model", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "uploads",
        sa.Column("id", name(), nullable=False),
        sa.Column("model", name(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )


def _endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("name", name(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("model", name(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("serving", sa.Boolean(), nullable=False),
        sa.Column("serving_generation", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_endpoints"),
    )
    op.create_index("ix_endpoints_model", "endpoints", ["model"])
    op.create_table(
        "endpoint_versions",
        sa.Column("endpoint", name(), nullable=False),
        sa.Column("model", name(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "model", "version", name="pk_endpoint_versions"),
        sa.ForeignKeyConstraint(
            ["endpoint"], ["endpoints.name"], name="fk_endpoint_versions_endpoint", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["versions.model", "versions.version"], name="fk_endpoint_versions_model"
        ),
    )
    op.create_index("ix_endpoint_versions_model", "endpoint_versions", ["model", "version"])


def _history_and_reports() -> None:
    op.create_table(
        "generations",
        sa.Column("endpoint", name(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("replaces", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "generation", name="pk_generations"),
        sa.ForeignKeyConstraint(["endpoint"], ["endpoints.name"], name="fk_generations_endpoint", ondelete="CASCADE"),
    )
    op.create_table(
        "reports",
        sa.Column("endpoint", name(), nullable=False),
        sa.Column("replica", sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql"), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reported_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "replica", name="pk_reports"),
        sa.ForeignKeyConstraint(["endpoint"], ["endpoints.name"], name="fk_reports_endpoint", ondelete="CASCADE"),
    )
    op.create_index("ix_reports_reported_at", "reports", ["reported_at"])


def _changes() -> None:
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("endpoint", name(), nullable=False),
        sa.Column("latest", sa.Boolean(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("revision", name="pk_changes"),
    )
    latest = sa.column("latest", sa.Boolean())
    op.create_index(
        "ix_changes_latest", "changes", ["endpoint"], unique=True, sqlite_where=latest, postgresql_where=latest
    )
    change_log = op.create_table(
        "change_log",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("oldest", sa.BigInteger(), nullable=False),
        sa.Column("newest", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_change_log"),
    )
    op.bulk_insert(change_log, [{"id": 1, "oldest": 1, "newest": 0}])
