"""Alerts and what was told of them, silences, webhooks with their secrets, and the outbox."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def exact(length: int = 63) -> sa.types.TypeEngine[str]:
    """Text of at most so many characters, compared byte by byte on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def free() -> sa.types.TypeEngine[str]:
    """Text of any length, compared byte by byte on every database."""
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def needed(name: str, kind: Any) -> sa.Column[Any]:
    """A column without NULL."""
    return sa.Column(name, kind, nullable=False)


def of_a_webhook(table: str) -> sa.ForeignKeyConstraint:
    """The row goes with its webhook."""
    return sa.ForeignKeyConstraint(["webhook"], ["webhooks.name"], name=f"fk_{table}_webhook", ondelete="CASCADE")


def upgrade() -> None:
    """Make everything."""
    _alerts()
    _webhooks()
    _outbox()


def _alerts() -> None:
    op.create_table(
        "alerts",
        *(needed("id", exact()), needed("group", exact()), needed("monitor", free()), needed("state", exact(16))),
        *(needed("since", sa.Float()), needed("document", sa.Text())),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_group", "alerts", ["group"])
    op.create_table(
        "alert_groups",
        *(needed("id", exact()), needed("monitor", free()), needed("document", sa.Text())),
        sa.PrimaryKeyConstraint("id", name="pk_alert_groups"),
    )
    op.create_index("ix_alert_groups_monitor", "alert_groups", ["monitor"])
    op.create_table(
        "silences",
        *(needed("id", exact()), needed("until", sa.Float()), needed("document", sa.Text())),
        sa.PrimaryKeyConstraint("id", name="pk_silences"),
    )


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        *(needed("name", exact()), needed("enabled", sa.Boolean()), needed("document", sa.Text())),
        sa.PrimaryKeyConstraint("name", name="pk_webhooks"),
    )
    op.create_table(
        "webhook_secrets",
        *(needed("webhook", exact()), needed("id", exact()), needed("place", sa.Integer()), needed("value", sa.Text())),
        *(needed("created_at", sa.Float()), needed("expires_at", sa.Float())),
        sa.PrimaryKeyConstraint("webhook", "id", name="pk_webhook_secrets"),
        of_a_webhook("webhook_secrets"),
    )


def _outbox() -> None:
    sequence = sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)
    times = ("created_at", "next_attempt_at", "leased_until")
    op.create_table(
        "outbox",
        *(sequence, needed("id", exact()), needed("webhook", exact()), needed("topic", free())),
        *(needed("start", sa.Float()), needed("state", exact(16)), needed("attempts", sa.Integer())),
        *(needed(name, sa.Float()) for name in times),
        *(needed(name, sa.Text()) for name in ("last_error", "subject", "bulletin")),
        sa.PrimaryKeyConstraint("sequence", name="pk_outbox"),
        sa.UniqueConstraint("id", name="uq_outbox_id"),
        of_a_webhook("outbox"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_turn", "outbox", ["webhook", "state", "topic", "sequence"])
