"""Desired state as a stream: what stands, `Synced`, then every change in the order of revisions.

Rule: a watcher is a cursor in the catalog's log of changes; nothing is queued for it, so a slow one costs nothing
and one that reconnects misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from vedette.core.errors import Unavailable, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.ports import Change, Synced
from vedette.ports.catalog import Catalog

PAGE = 100
PUMP_S = 5.0


class Watch:
    """Hands out streams of desired state; one task waits for changes on behalf of all of them."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._watchers = metrics.gauge("vedette_registry_watchers")
        self._bells: set[asyncio.Event] = set()
        self._closed = False

    async def run(self) -> None:
        """Wake the watchers when the log grows, until cancelled."""
        newest = -1
        while not self._closed:
            try:
                seen = await asyncio.to_thread(self._catalog.wait_for_change, newest, PUMP_S)
            except VedetteError:  # each watcher meets the trouble itself
                await asyncio.sleep(1.0)
                seen = newest - 1
            if seen != newest:
                newest = seen
                self._ring()

    def close(self) -> None:
        """End every stream with `Unavailable`, so that replicas look for another registry."""
        self._closed = True
        self._ring()

    async def events(self, after: int) -> AsyncGenerator[Change | Synced]:
        """Everything from revision `after` on; ends only with an error or the caller's going away."""
        bell = asyncio.Event()
        self._bells.add(bell)
        self._watchers.inc()
        revision, whole, synced = after, after <= 0, False
        try:
            while not self._closed:
                bell.clear()
                if whole:
                    revision, synced = await asyncio.to_thread(self._newest), False
                    async for change in self._state(revision):
                        yield change
                while page := await asyncio.to_thread(self._page, revision):
                    for change in page:
                        yield change
                        revision = change.revision
                if page is None:
                    whole = True
                    continue
                if not synced:
                    yield Synced(revision, whole=whole)
                whole, synced = False, True
                if not self._closed:
                    await bell.wait()
            raise Unavailable("the registry is stopping")
        finally:
            self._bells.discard(bell)
            self._watchers.dec()

    async def _state(self, until: int) -> AsyncIterator[Change]:
        """The last change of everything wanted, up to a revision, a page at a time.

        The world goes on between pages: what changes meanwhile has a revision over `until` and comes from the log
        before `Synced` is said.
        """
        sent = 0
        while page := await asyncio.to_thread(self._desired, sent):
            for change in page:
                if change.revision > until:
                    return
                yield change
                sent = change.revision

    def _newest(self) -> int:
        with self._catalog.read() as view:
            return view.log().newest

    def _desired(self, after: int) -> list[Change]:
        with self._catalog.read() as view:
            return view.desired(after, PAGE)

    def _page(self, after: int) -> list[Change] | None:
        """The next changes; None when the log does not reach from there on without a gap."""
        with self._catalog.read() as view:
            log = view.log()
            return view.changes(after, PAGE) if log.oldest - 1 <= after <= log.newest else None

    def _ring(self) -> None:
        for bell in self._bells:
            bell.set()
