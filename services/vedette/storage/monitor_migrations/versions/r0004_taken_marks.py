"""Whether a re-opened window is being evaluated again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing is under way while the schema changes."""
    op.add_column("reopened", sa.Column("taken", sa.Boolean(), nullable=False, server_default=sa.false()))
