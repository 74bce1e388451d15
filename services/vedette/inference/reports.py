"""Telling the registry how far this replica is, without ever waiting for it.

Rule: only the newest report of an endpoint matters; it is sent until the registry took it.
"""

from __future__ import annotations

import asyncio
import logging

from vedette.core.errors import Unavailable, VedetteError
from vedette.core.ports import Registry, ReplicaReport

log = logging.getLogger(__name__)


class Reports:
    """The newest report of each endpoint, and the task that sends them."""

    def __init__(self, registry: Registry, replica: str, *, retry_s: float = 1.0) -> None:
        self._registry = registry
        self._replica = replica
        self._retry_s = retry_s
        self._last: dict[str, ReplicaReport] = {}
        self._unsent: dict[str, ReplicaReport] = {}
        self._wake = asyncio.Event()

    def tell(self, endpoint: str, generation: int, state: str, reason: str = "") -> None:
        """Report `loading`, `ready`, `failed` or `removed` when the registry can be reached."""
        report = ReplicaReport(self._replica, endpoint, generation, state, reason)
        self._unsent[endpoint] = report
        if state == "removed":
            self._last.pop(endpoint, None)
        else:
            self._last[endpoint] = report
        self._wake.set()

    def repeat(self) -> None:
        """Send the newest report of every endpoint again: the registry may have lost them."""
        self._unsent = {**self._last, **self._unsent}
        if self._unsent:
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                endpoint = next(iter(self._unsent))
                await self._send(self._unsent.pop(endpoint))

    async def _send(self, report: ReplicaReport) -> None:
        try:
            await self._registry.report(report)
        except Unavailable:
            self._unsent.setdefault(report.endpoint, report)
            await asyncio.sleep(self._retry_s)
        except VedetteError as error:
            log.warning("the registry refused a report", extra={"endpoint": report.endpoint, "reason": str(error)})
