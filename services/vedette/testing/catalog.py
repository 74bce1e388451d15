"""What every `Catalog` must do. Inherit `CatalogContract` and give it a way to open one.

The suite is cut by noun over the modules `catalog_*`; inheriting this one class runs all of it.
"""

from __future__ import annotations

from vedette.testing.catalog_baselines import BaselineContract
from vedette.testing.catalog_changes import ChangeContract
from vedette.testing.catalog_endpoints import EndpointContract
from vedette.testing.catalog_models import ModelContract
from vedette.testing.catalog_transactions import TransactionContract


class CatalogContract(ModelContract, BaselineContract, EndpointContract, ChangeContract, TransactionContract):
    """Subclasses say how to open an empty catalog with `open_catalog`; see `CatalogSuite`."""
