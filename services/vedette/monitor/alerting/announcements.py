"""Alerts of other services: read from the topic `alerts` of the stream, and told by the monitor as its own are.

Rule: whoever announces has made up its mind already: `firing` fires and `resolved` ends, without N of M. An
announcement that is read twice changes nothing the second time, and one that cannot be read is set aside.

A message is one CloudEvents 1.0 event as JSON, or a list of at most 1,000:

    {"specversion": "1.0", "id": "<unique>", "source": "/vedette/debugger", "type": "vedette.alert",
     "data": {"state": "firing" | "resolved", "monitor": "<what watches, say a run>", "check": "<what it found>",
              "endpoint": "", "variant": "", "segment": "", "feature": "", "version": "",
              "value": null, "threshold": null, "description": "", "webhooks": []}}

`state`, `monitor` and `check` are needed; source, monitor, endpoint, variant, segment, check and feature together
name the alert. Keys that are not listed are ignored, so that an event may carry more.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from vedette.core.clock import Clock, SystemClock
from vedette.core.errors import CallerError, InvalidArgument, TooLarge, VedetteError
from vedette.core.events import Delivery
from vedette.core.ports import EventStream
from vedette.entities.alerts import Alert, AlertState, Notification
from vedette.monitor.alerting.alerts import digest
from vedette.monitor.alerting.grouping import Occasion, tell
from vedette.ports.alerts import AlertLedger, AlertStore

log = logging.getLogger(__name__)

GROUP = "alerts"
"""The consumer group."""
MAX_BYTES = 1 << 20
MAX_EVENTS = 1_000
MAX_MEMBERS = 1_000
"""Alerts of one source, monitor, endpoint, variant and segment."""
MAX_FAILURES = 5
"""Failures after which a message is set aside, when it is not plain that it is the message's fault."""
_AT_ONCE = 50
_WAIT_S = 5.0
_AFTER_TROUBLE_S = 2.0

_Name = Annotated[str, msgspec.Meta(max_length=200)]
_Needed = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Text = Annotated[str, msgspec.Meta(max_length=1_000)]


class _Data(msgspec.Struct, frozen=True):
    state: Literal["firing", "resolved"]
    monitor: _Needed
    check: _Needed
    endpoint: _Name = ""
    variant: _Name = ""
    segment: _Name = ""
    feature: _Name = ""
    version: _Name = ""
    value: float | None = None
    threshold: float | None = None
    description: _Text = ""
    webhooks: Annotated[list[_Name], msgspec.Meta(max_length=100)] = []


class Announcement(msgspec.Struct, frozen=True):
    """One event as it was announced."""

    specversion: Literal["1.0"]
    id: _Needed
    source: _Needed
    type: Literal["vedette.alert"]
    data: _Data


def read_announcements(value: bytes) -> list[Announcement]:
    """The events of a message.

    Raises:
        InvalidArgument: it is not of the format above.
        TooLarge: it has more than 1 MiB or 1,000 events.
    """
    if len(value) > MAX_BYTES:
        raise TooLarge("a message of announcements has at most 1 MiB")
    try:
        found = msgspec.json.decode(value, type=Announcement | list[Announcement])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidArgument(f"not an announced alert: {str(error)[:200]}") from None
    events = found if isinstance(found, list) else [found]
    if len(events) > MAX_EVENTS:
        raise TooLarge(f"a message has at most {MAX_EVENTS} announcements")
    return events


def announce(event: Announcement, ledger: AlertLedger, now: float, *, repeat_s: float = 0.0) -> list[Notification]:
    """Take over what was announced, inside a transaction, and put what is to be told into the outbox."""
    data = event.data
    where = (data.monitor, data.endpoint, data.variant, data.segment)
    identity = digest("announced group", event.source, *where)
    alert_id = digest("announced", event.source, *where, data.check, data.feature)
    members = {alert.id: alert for alert in ledger.alerts_in(identity)}
    before = members.get(alert_id)
    if before is None:
        if len(members) >= MAX_MEMBERS:
            raise TooLarge(f"one source has at most {MAX_MEMBERS} alerts of one monitor, endpoint and variant")
        before = Alert(alert_id, *where, data.check, data.feature, AlertState.OK, since=now, updated_at=now)
    members[alert_id] = _announced(before, data, now)
    ledger.put_alerts(identity, [members[alert_id]])
    occasion = Occasion(
        topic="/".join(where[:3]), cause=f"{event.source} {event.id}", webhooks=tuple(data.webhooks), repeat_s=repeat_s
    )
    group, notifications = tell(ledger, ledger.group(identity), list(members.values()), occasion, now=now)
    ledger.put_group(data.monitor, group)
    return notifications


def _announced(before: Alert, data: _Data, now: float) -> Alert:
    state = AlertState(data.state)
    if state is AlertState.RESOLVED and before.state is AlertState.OK:
        state = AlertState.OK  # the end of something that nobody heard of
    after = replace(before, state=state, updated_at=now, version=data.version or before.version)
    if state is not before.state:
        after = replace(after, since=now)
        if state is AlertState.FIRING:
            after = replace(after, acknowledged_by="", acknowledged_at=0.0)
    if state is AlertState.FIRING:
        after = replace(after, value=data.value, threshold=data.threshold, description=data.description)
    return after


class AnnouncementReader:
    """Follows the topic. One per process; several share the group's offset and repeat each other harmlessly."""

    def __init__(
        self, stream: EventStream, store: AlertStore, *, clock: Clock | None = None, repeat_s: float = 0.0
    ) -> None:
        self._stream = stream
        self._store = store
        self._clock = clock or SystemClock()
        self._repeat_s = repeat_s

    async def run(self) -> None:
        """Read on until cancelled."""
        while True:
            try:
                if not await self.step():
                    await self._stream.wait("alerts", await self._stream.committed("alerts", GROUP), _WAIT_S)
            except VedetteError as error:
                log.warning("announced alerts cannot be read: %s", error.message)
                await asyncio.sleep(_AFTER_TROUBLE_S)
            except Exception:
                log.exception("announced alerts cannot be read")
                await asyncio.sleep(_AFTER_TROUBLE_S)

    async def step(self) -> int:
        """Handle what is there, at most some messages at once; returns how many.

        Raises:
            VedetteError: the stream or the store cannot be used; nothing is skipped.
        """
        found = await self._stream.read("alerts", await self._stream.committed("alerts", GROUP), _AT_ONCE)
        for delivery in found:
            await self._handle(delivery)
            await self._stream.commit("alerts", GROUP, delivery.offset + 1)
        return len(found)

    async def _handle(self, delivery: Delivery) -> None:
        try:
            await asyncio.to_thread(self._keep, delivery.message.value)
        except CallerError as error:  # it will be as wrong the next time
            log.warning("an announced alert is set aside: %s", error.message, extra={"offset": delivery.offset})
            await self._stream.bury(delivery, GROUP, error.message)
        except VedetteError:
            raise  # the store's trouble, not the message's
        except Exception as error:
            log.exception("an announced alert failed", extra={"offset": delivery.offset})
            reason = f"{type(error).__name__} while it was handled"
            if await self._stream.fail("alerts", GROUP, delivery.offset, reason) < MAX_FAILURES:
                raise
            await self._stream.bury(delivery, GROUP, reason)

    def _keep(self, value: bytes) -> None:
        events = read_announcements(value)
        now = self._clock.time()
        with self._store.transaction() as tx:
            for event in events:
                announce(event, tx.alerts, now, repeat_s=self._repeat_s)
