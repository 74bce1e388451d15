"""A database under one of our stores: connections, turns to write, and what its errors mean.

Rule: whatever is acknowledged is on disk (SQLite: WAL with synchronous=FULL; PostgreSQL: synchronous_commit
is never off here), and writers take turns over threads and processes, so that what they see is what they change.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    column,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)  # fmt: skip
from sqlalchemy import table as sql_table
from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.exc import IntegrityError as SqlIntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from vedette.core.errors import Conflict, DataLoss, InvalidArgument, Unavailable

BUSY_TIMEOUT_S = 30.0
"""Default time to wait for a turn to write, or for a connection, before a caller is told to come back."""


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that begins by reading and then writes cannot wait for another writer: it fails at once.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite_engine(url: URL, busy_timeout_s: float) -> Engine:
    def tune(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy says BEGIN, see `_begin_sqlite`
        for pragma in ("foreign_keys=ON", "synchronous=FULL", f"busy_timeout={int(busy_timeout_s * 1000)}"):
            connection.execute(f"PRAGMA {pragma}")

    engine = create_engine(url, pool_size=16, max_overflow=16, pool_timeout=busy_timeout_s)
    event.listen(engine, "connect", tune)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres_engine(url: URL, busy_timeout_s: float) -> Engine:
    milliseconds = int(busy_timeout_s * 1000)

    def tune(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {milliseconds}")
            cursor.execute(f"SET statement_timeout = {2 * milliseconds}")
            # A client that hangs or lost its network while it has the turn gives it up after this time.
            cursor.execute(f"SET idle_in_transaction_session_timeout = {2 * milliseconds}")
            off = "current_setting('synchronous_commit') = 'off'"
            cursor.execute(f"SELECT set_config('synchronous_commit', 'on', false) WHERE {off}")
        connection.commit()

    sizes: dict[str, Any] = {"pool_size": 8, "max_overflow": 8, "pool_timeout": busy_timeout_s}
    engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10}, **sizes)
    event.listen(engine, "connect", tune)
    return engine


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one store and how they came to be."""

    noun: str
    metadata: MetaData
    folder: Path
    """Of Alembic's migrations, whose files are named `r<revision>_<what>.py`."""
    version_table: str = "alembic_version"
    """Holds the revision, as the folder's env.py says."""

    @property
    def newest(self) -> str:
        """The last revision."""
        return max(file.name[1:].partition("_")[0] for file in (self.folder / "versions").glob("r*.py"))


def upgrade(connection: Connection, schema: Schema) -> None:
    """Bring the store to the newest revision inside the connection's open transaction.

    An empty one gets its tables at once: Alembic with all that it imports takes 0.4 s, which most starts do without.

    Raises:
        Conflict: the schema is newer than this program.
    """
    revision = _revision(connection, schema.version_table)
    if revision == schema.newest:
        return
    if not revision and not set(inspect(connection).get_table_names()) & set(schema.metadata.tables):
        _create(connection, schema)
    else:
        run_migrations(connection, schema)


def _create(connection: Connection, schema: Schema) -> None:
    schema.metadata.create_all(connection, checkfirst=False)
    key = PrimaryKeyConstraint("version_num", name=f"{schema.version_table}_pkc")
    stamp = Table(schema.version_table, MetaData(), Column("version_num", String(32), nullable=False), key)
    stamp.create(connection)
    connection.execute(insert(stamp).values(version_num=schema.newest))


def run_migrations(connection: Connection, schema: Schema) -> None:
    """Run the Alembic migrations that are missing, one by one.

    Raises:
        Conflict: the schema is newer than this program.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(schema.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if "Can't locate revision" not in str(error):
            raise
        told = f"the {schema.noun} was written by a newer vedette; run that version or restore a backup"
        raise Conflict(told) from error


def _revision(connection: Connection, table: str) -> str:
    """The revision of the schema; empty: there is none."""
    if not inspect(connection).has_table(table):
        return ""
    return str(connection.execute(select(column("version_num")).select_from(sql_table(table))).scalar() or "")


class Database:
    """One database at `sqlite:///<file>` or `postgresql+psycopg://...`; `noun` is what its errors call it.

    `password` is for a server whose URL has none; `turn` is the key of the PostgreSQL advisory lock that is the turn
    to write; `busy_timeout_s` is how long a caller waits for it.

    Raises:
        ValueError: the URL names another database, or one in memory.
    """

    def __init__(
        self, url: str, *, noun: str, turn: int, password: str = "", busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> None:
        self._url = make_url(url)
        self._noun = noun
        self._key = turn
        self._sqlite = self._url.get_backend_name() == "sqlite"
        if password and not self._sqlite and not self._url.password:
            self._url = self._url.set(password=password)
        if not self._sqlite and self._url.get_backend_name() != "postgresql":
            raise ValueError(f"the {noun} runs on sqlite and postgresql, not {self._url.get_backend_name()!r}")
        if self._sqlite and self._url.database in {None, "", ":memory:"}:
            raise ValueError(f"the {noun} needs a database file; its memory adapter keeps everything in memory")
        self.engine = (_sqlite_engine if self._sqlite else _postgres_engine)(self._url, busy_timeout_s)
        self._busy_timeout_s = busy_timeout_s
        self._turn = threading.Lock()
        self._closed = threading.Event()

    def migrate(self, run: Callable[[Connection], None]) -> None:
        """Make the database where it is not there and hand `run` a connection that holds the turn to write."""
        with self.errors(), self._one_migration(), self._writing() as connection:
            run(connection)

    @contextmanager
    def _one_migration(self) -> Iterator[None]:
        """Make SQLite's file, one process at a time: the switch to WAL does not wait for a busy database."""
        if not self._sqlite:
            yield  # the turn to write is enough
            return
        file = Path(self._url.database or "")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = file.with_name(f"{file.name}.lock").open("ab")
        except OSError as error:
            raise Unavailable(f"the {self._noun}'s folder cannot be written to") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = self.engine.raw_connection()  # outside of any transaction, as this pragma must be
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
            finally:
                connection.close()
            yield

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that has the turn to write, committed at the end and rolled back by an exception."""
        with self.errors(), self._my_turn(), self._writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state, waits for no writer and holds none up."""
        isolation = {} if self._sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.errors(), self._connected(**isolation) as connection:
            yield connection

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        """Queue up inside the process first: SQLite's own waiting is polling, which is neither fair nor fast."""
        if not self._turn.acquire(timeout=self._busy_timeout_s):
            raise Unavailable(f"the {self._noun} is busy: another transaction has not ended")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._connected(writes=True) as connection:
            if not self._sqlite:
                # Released by the commit, after the transaction has become visible: so revisions come in order.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._key})
            yield connection

    @contextmanager
    def _connected(self, **options: Any) -> Iterator[Connection]:
        """A connection in a transaction, committed at the end of the block and rolled back by an exception."""
        if self._closed.is_set():
            raise Unavailable(f"the {self._noun} is closed")
        try:
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        finally:
            if self._closed.is_set():  # given back after `close` had emptied the pool
                self.engine.pool.dispose()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a database says into an error a caller may read.

        Raises:
            InvalidArgument: a value that the database cannot hold.
            DataLoss: the database file is damaged.
            Unavailable: everything else that a database can suffer from.
        """
        try:
            yield
        except SqlIntegrityError:
            raise  # checks come before writes, so this is a defect of ours: shown as one
        except DataError as error:
            raise InvalidArgument(f"the {self._noun} cannot hold this value") from error
        except DBAPIError as error:
            raise self._unavailable(error.orig) from error
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        except StatementError as error:
            raise InvalidArgument(f"the {self._noun} cannot hold this value") from error
        except PoolTimeout as error:
            raise Unavailable(f"the {self._noun} is busy: no connection became free") from error

    def _unavailable(self, cause: BaseException | None) -> Unavailable | DataLoss:
        said = str(cause)
        if "database or disk is full" in said or getattr(cause, "sqlstate", "") == "53100":
            return Unavailable(f"the {self._noun} is out of disk space; nothing was stored")
        if "malformed" in said or "not a database" in said:
            return DataLoss(f"the {self._noun}'s database file is damaged")
        if "locked" in said or "lock timeout" in said:
            return Unavailable(f"the {self._noun} is busy: another writer holds it for too long")
        return Unavailable(f"the {self._noun}'s database is down or out of reach")

    def close(self) -> None:
        """Release every connection; idempotent."""
        self._closed.set()
        self.engine.pool.dispose()
