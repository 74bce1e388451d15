"""What the registry does unasked: notice dead replicas, throw away old uploads, count.

Rule: a round that fails is logged and told by `trouble`; the next round tries again.
"""

from __future__ import annotations

import asyncio
import logging
import time

from vedette.core.errors import VedetteError
from vedette.core.metrics import Metrics
from vedette.core.models import EndpointStatus
from vedette.ports.catalog import Catalog
from vedette.registry.desk import Desk

LOG = logging.getLogger(__name__)
SLOW_ROUND_S = 60.0
"""Between looks at what can wait."""


class Upkeep:
    """One task per process; several processes on one catalog do not disturb each other."""

    def __init__(self, desk: Desk, catalog: Catalog, metrics: Metrics, *, interval_s: float) -> None:
        self._desk = desk
        self._catalog = catalog
        self._interval_s = interval_s
        self._slow_at = 0.0
        self._models = metrics.gauge("vedette_registry_models")
        self._endpoints = {
            status: metrics.gauge("vedette_registry_endpoints", status=status.value) for status in EndpointStatus
        }
        self.trouble = "starting"
        """Why the catalog cannot be used; empty: it can."""

    async def run(self) -> None:
        """Round after round until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.round)
                self.trouble = ""
            except VedetteError as error:
                self.trouble = error.message
                LOG.warning("upkeep: %s", error.message)
            except Exception:
                self.trouble = "the registry's upkeep failed; see the log"
                LOG.exception("upkeep failed")
            await asyncio.sleep(self._interval_s)

    def round(self) -> None:
        """One round. Blocks."""
        self._desk.replicas.sweep()
        self._count()
        if time.monotonic() >= self._slow_at:
            self._desk.uploads.sweep()
            self._desk.replicas.forget_the_dead()
            self._slow_at = time.monotonic() + SLOW_ROUND_S

    def _count(self) -> None:
        with self._catalog.read() as view:
            models, counts = view.model_count(), view.endpoint_counts()
        self._models.set(models)
        for status, gauge in self._endpoints.items():
            gauge.set(counts.get(status, 0))
