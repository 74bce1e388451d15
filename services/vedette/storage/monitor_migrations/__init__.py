"""How the schema of the monitor's store came to be, step by step, and how a store is brought up to date.

Rule: a migration that was released is never edited; the newest one leaves exactly what `monitor_tables.py` and
`alert_tables.py` say.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from vedette.storage import alert_tables as alert_tables  # joins its tables to the same metadata
from vedette.storage import database
from vedette.storage.monitor_tables import metadata

SCHEMA = database.Schema("monitor's store", metadata, Path(__file__).parent, "monitor_version")


def upgrade(connection: Connection) -> None:
    """Bring the schema up to date inside the connection's open transaction.

    Raises:
        Conflict: the schema is newer than this program.
    """
    database.upgrade(connection, SCHEMA)
