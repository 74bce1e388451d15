"""The backends that the contract suites run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vedette.testing.postgres import PostgresMissing, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the session (for each worker under xdist); skips where there is none."""
    try:
        server = PostgresServer()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    with server:
        yield server
