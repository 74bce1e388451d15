"""Desired state as a stream: what stands, `Synced`, then every change in the order of revisions.

Rule: a watcher is a cursor in the catalog's log of changes; nothing is queued for it, so a slow one costs nothing
and one that reconnects misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from vedette.core.errors import Unavailable, VedetteError
from vedette.core.metrics import Metrics
from vedette.core.ports import Catalog, Change, Synced

PAGE = 100
PUMP_S = 5.0


@dataclass(slots=True)
class _Cursor:
    """Where one watcher stands."""

    revision: int
    ahead: dict[str, int] = field(default_factory=dict)
    """Endpoint -> revision sent with the whole state although it is newer than `revision`."""

    def fresh(self, changes: list[Change]) -> list[Change]:
        """Move over these changes and return those that were not sent before."""
        news = [change for change in changes if self.ahead.get(change.endpoint, 0) < change.revision]
        if changes:
            self.revision = changes[-1].revision
            self.ahead = {name: at for name, at in self.ahead.items() if at > self.revision}
        return news


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
        try:
            cursor, whole, synced = _Cursor(after), after <= 0, False
            while not self._closed:
                bell.clear()
                if whole:
                    cursor, synced = _Cursor(0), True
                    async for event in self._whole(cursor):
                        yield event
                while page := await asyncio.to_thread(self._page, cursor.revision):
                    for change in cursor.fresh(page):
                        yield change
                whole = page is None
                if not whole and not synced:
                    yield Synced(cursor.revision)
                    synced = True
                if not whole and not self._closed:
                    await bell.wait()
            raise Unavailable("the registry is stopping")
        finally:
            self._bells.discard(bell)
            self._watchers.dec()

    async def _whole(self, cursor: _Cursor) -> AsyncIterator[Change | Synced]:
        """The last change of everything wanted, a page at a time.

        Pages are read one after another while the world goes on: `cursor` stays where the first was read, and
        remembers what came with a later one.
        """
        cursor.revision = await asyncio.to_thread(self._newest)
        sent = 0
        while page := await asyncio.to_thread(self._desired, sent):
            for change in page:
                yield change
                sent = change.revision
                if sent > cursor.revision:
                    cursor.ahead[change.endpoint] = sent
        yield Synced(cursor.revision, whole=True)

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
