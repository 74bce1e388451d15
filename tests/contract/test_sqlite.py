"""The catalog on SQLite keeps the contract, and what only SQLite can get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.ports.catalog import Catalog
from vedette.storage.sql import SqlCatalog
from vedette.testing.catalog import CatalogContract


class TestSqliteCatalog(CatalogContract):
    """A database file."""

    @pytest.fixture(autouse=True)
    def fresh_store(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/new folder/catalog.db"

    def open_catalog(self, *, kept_changes: int) -> Catalog:
        return SqlCatalog(self.url, kept_changes=kept_changes)
