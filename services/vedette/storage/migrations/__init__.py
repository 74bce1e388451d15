"""How the catalog's schema came to be, step by step, and how a store is brought up to date.

Rule: a migration that was released is never edited; the newest one leaves exactly what `tables.py` says.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from vedette.storage import database
from vedette.storage.tables import metadata

SCHEMA = database.Schema("catalog", metadata, Path(__file__).parent)


def upgrade(connection: Connection) -> None:
    """Bring the schema up to date inside the connection's open transaction.

    Raises:
        Conflict: the schema is newer than this program.
    """
    database.upgrade(connection, SCHEMA)
