"""The tables of alerts, webhooks and the outbox, on the metadata of the monitor's store.

Rule: as in `monitor_tables`. Alerts have no foreign key to monitors: other services raise some too.
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
    PrimaryKeyConstraint,
    Table,
    Text,
)

from vedette.storage.monitor_tables import exact, free, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("id", exact(63), primary_key=True),
    Column("group", exact(63), nullable=False, index=True),
    Column("monitor", free(), nullable=False),
    Column("state", exact(16), nullable=False),
    Column("since", Float, nullable=False),
    Column("document", Text, nullable=False),  # the whole Alert
)

alert_groups = Table(
    "alert_groups",
    metadata,
    Column("id", exact(63), primary_key=True),
    Column("monitor", free(), nullable=False, index=True),
    Column("document", Text, nullable=False),  # the whole AlertGroup
)

silences = Table(
    "silences",
    metadata,
    Column("id", exact(63), primary_key=True),
    Column("until", Float, nullable=False),
    Column("document", Text, nullable=False),  # the whole Silence
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("name", exact(63), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("document", Text, nullable=False),  # the Webhook, `enabled` and `secret_ids` aside
)


def _receiver() -> Column[str]:
    """The webhook that a row belongs to and goes with."""
    return Column("webhook", exact(63), ForeignKey("webhooks.name", ondelete="CASCADE"), nullable=False)


webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    _receiver(),
    Column("id", exact(63), nullable=False),
    Column("place", Integer, nullable=False),  # 0: the newest
    Column("value", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    PrimaryKeyConstraint("webhook", "id"),
)

outbox = Table(
    "outbox",
    metadata,
    # SQLite counts by itself only what is called INTEGER, which has 64 bits there anyway.
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", exact(63), nullable=False, unique=True),
    _receiver(),
    Column("topic", free(), nullable=False),
    Column("start", Float, nullable=False),
    Column("state", exact(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("leased_until", Float, nullable=False),  # 0: nobody has claimed it
    Column("last_error", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("bulletin", Text, nullable=False),  # the whole Bulletin
    Index("ix_outbox_turn", "webhook", "state", "topic", "sequence"),
    sqlite_autoincrement=True,  # a number is never used twice, so that pages stay what they are
)
