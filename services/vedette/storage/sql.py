"""The catalog on SQLite and PostgreSQL.

Rule: writers take turns over threads and processes (`Database`), so that revisions come in commit order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vedette.storage.bell import ChangeBell
from vedette.storage.database import BUSY_TIMEOUT_S, Database
from vedette.storage.migrations import upgrade
from vedette.storage.sql_snapshot import SqlSnapshot
from vedette.storage.sql_transaction import SqlTransaction

KEPT_CHANGES = 10_000
"""Default length of the log of changes that is kept in full."""
_POLL_S = 0.1
_TURN = 0x7665_6465_7474_65
"""Key of the PostgreSQL advisory lock that is the turn to write ("vedette")."""


class SqlCatalog:
    """A `Catalog` in a database: `sqlite:///<file>` or `postgresql+psycopg://...`.

    `password` is for a server whose URL has none. `kept_changes` is how many changes the log keeps in full at
    least; `busy_timeout_s` is how long a caller waits for its turn to write.

    Raises:
        ValueError: the URL names another database, or one in memory (`MemoryCatalog` is that).
    """

    def __init__(
        self,
        url: str,
        *,
        password: str = "",
        kept_changes: int = KEPT_CHANGES,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self._database = Database(url, noun="catalog", turn=_TURN, password=password, busy_timeout_s=busy_timeout_s)
        self._kept_changes = kept_changes
        self._bell = ChangeBell()

    def migrate(self) -> None:
        self._database.migrate(upgrade)

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        with self._database.writing() as connection:
            transaction = SqlTransaction(connection, self._kept_changes)
            yield transaction
        if transaction.changed:
            self._bell.ring()

    @contextmanager
    def read(self) -> Iterator[SqlSnapshot]:
        with self._database.reading() as connection:
            yield SqlSnapshot(connection)

    def wait_for_change(self, after: int, timeout_s: float) -> int:
        return self._bell.wait_for(self._newest, after, timeout_s=timeout_s, poll_s=_POLL_S)

    def _newest(self) -> int:
        with self.read() as snapshot:
            return snapshot.log().newest

    def close(self) -> None:
        self._database.close()
        self._bell.close()
