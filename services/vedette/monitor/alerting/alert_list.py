"""What people do with alerts: look at them, say who looks after one, keep quiet about some for a while.

Rule: neither an acknowledgement nor a silence changes the state of an alert; they hold notifications back.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import replace

from vedette.core.clock import Clock, SystemClock
from vedette.core.errors import Conflict, InvalidArgument
from vedette.entities.alerts import Alert, AlertState, Silence
from vedette.ports.alerts import AlertStore

MAX_SILENCE_S = 366 * 86_400.0
MAX_SILENCES = 1_000
_TEXT = 1_000
_OPEN = frozenset((AlertState.PENDING, AlertState.FIRING))


class Alerts:
    """The alerts of the monitor's store. Every method blocks: call it in a thread."""

    def __init__(self, store: AlertStore, *, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    def page(
        self, *, limit: int, page_token: str = "", state: AlertState | None = None, monitor: str = ""
    ) -> tuple[list[Alert], str]:
        """Alerts by id and the token of the next page; without `state` all but those that are ok."""
        with self._store.read() as snapshot:
            return snapshot.alerts.alerts(limit=limit, after=page_token, state=state, monitor=monitor)

    def get(self, alert_id: str) -> Alert:
        """One alert; `NotFound` when there is none."""
        with self._store.read() as snapshot:
            return snapshot.alerts.alert(alert_id)

    def acknowledge(self, alert_id: str, *, by: str) -> Alert:
        """Say who looks after an alert: it is not repeated until it ends, and its end is told.

        Acknowledging again replaces the name.

        Raises:
            Conflict: nothing is wrong at the moment.
        """
        if not by.strip() or len(by) > _TEXT:
            raise InvalidArgument(f"an acknowledgement names who looks after the alert, in 1 to {_TEXT} characters")
        with self._store.transaction() as tx:
            alert = tx.alerts.alert(alert_id)
            if alert.state not in _OPEN:
                raise Conflict(f"the alert is {alert.state.value}: there is nothing to look after")
            changed = replace(alert, acknowledged_by=by.strip(), acknowledged_at=self._clock.time())
            tx.alerts.change_alert(changed)
        return changed

    def silence(
        self,
        *,
        for_s: float,
        monitor: str = "",
        endpoint: str = "",
        feature: str = "",
        everything: bool = False,
        comment: str = "",
    ) -> Silence:
        """Tell nobody of alerts that match, for so many seconds; empty fields match every alert.

        `everything` says that none is named on purpose.

        What still fires when it is over is told with the next window.
        """
        if not math.isfinite(for_s) or not 0 < for_s <= MAX_SILENCE_S:
            raise InvalidArgument("a silence lasts more than 0 seconds and at most 366 days")
        if everything is any((monitor, endpoint, feature)):
            raise InvalidArgument("a silence names a monitor, an endpoint or a feature, or says everything")
        if max(map(len, (monitor, endpoint, feature, comment))) > _TEXT:
            raise InvalidArgument(f"texts of a silence have at most {_TEXT} characters")
        now = self._clock.time()
        silence = Silence(secrets.token_hex(8), now + for_s, monitor, endpoint, feature, comment, now)
        with self._store.transaction() as tx:
            if sum(each.until > now for each in tx.alerts.silences()) >= MAX_SILENCES:
                raise Conflict(f"there are {MAX_SILENCES} silences in force already: end some first")
            tx.alerts.insert_silence(silence)
        return silence

    def silences(self) -> list[Silence]:
        """Silences in force, those that end first before others."""
        now = self._clock.time()
        with self._store.read() as snapshot:
            found = [silence for silence in snapshot.alerts.silences() if silence.until > now]
        return sorted(found, key=lambda silence: (silence.until, silence.id))

    def end_silence(self, silence_id: str) -> None:
        """End a silence now; `NotFound` when there is none."""
        with self._store.transaction() as tx:
            tx.alerts.delete_silence(silence_id)
