"""Public contract suites and builders for authors of adapters and of tests.

    class TestMyCatalog(CatalogContract):
        def open_catalog(self, *, kept_changes: int) -> Catalog:
            return MyCatalog(...)

Rule: a suite knows its port and nothing of any adapter.
"""

import pytest

# So that a failed assertion in an inherited test shows its values.
pytest.register_assert_rewrite(
    *(f"{__name__}.{part}" for part in ("artifacts", "stream", "catalog_suite", "catalog_models")),
    *(f"{__name__}.{part}" for part in ("catalog_endpoints", "catalog_changes", "catalog_transactions")),
)
