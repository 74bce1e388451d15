"""How the catalog's schema came to be, step by step, and how a store is brought up to date.

Rule: a migration that was released is never edited; the newest one leaves exactly what `tables.py` says.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from vedette.core.errors import Conflict


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, inside the connection's open transaction.

    Raises:
        Conflict: the schema is newer than this program.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if "Can't locate revision" not in str(error):
            raise
        raise Conflict("the catalog was written by a newer vedette; run that version or restore a backup") from error
