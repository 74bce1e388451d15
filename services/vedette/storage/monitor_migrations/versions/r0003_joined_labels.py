"""Whether a label has met its prediction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Labels kept before count as waiting until the next look."""
    op.add_column("labels", sa.Column("joined", sa.Boolean(), nullable=False, server_default=sa.false()))
