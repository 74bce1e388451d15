"""Where the monitor keeps alerts, silences, webhooks and the outbox: used inside a transaction of its store.

Rule: the docstrings are the contract, and the suite of `vedette.testing.alerts` holds every adapter to them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Silence, Webhook


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One execution that a group of alerts has seen; the last letter of every history stands for the last of them."""

    execution: str
    start: float


@dataclass(frozen=True, slots=True)
class Told:
    """What one receiver knows of a group."""

    webhook: str
    firing: tuple[str, ...]
    """Ids of the alerts that it believes to be firing."""
    at: float
    """When it was last told something."""


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """What is evaluated together (one monitor, endpoint, variant and segment) and what was told of it."""

    id: str
    datapoints: tuple[Datapoint, ...] = ()
    """Oldest window first; as many as histories have letters at most."""
    told: tuple[Told, ...] = ()
    """By name of the webhook."""


@dataclass(frozen=True, slots=True)
class Bulletin:
    """What one notification says, before it takes the format of its receiver."""

    kind: Literal["alerts", "test"]
    topic: str
    """Bulletins of one topic reach a receiver in order: `monitor/endpoint/variant`."""
    alerts: tuple[Alert, ...]
    """Those that fire and those that have resolved."""
    start: float = 0.0
    """The window's span; both 0 where there is none."""
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox: the notification that people see and what it says."""

    notification: Notification
    bulletin: Bulletin


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret of a webhook."""

    id: str
    value: str = field(repr=False)
    created_at: float
    expires_at: float = 0.0
    """From then on it signs nothing; 0: never."""


class AlertLedger(Protocol):
    """Reads that see their own writes, and writes that are kept or not with everything else of the transaction.

    What does not exist is `NotFound`; inserting what exists is `AlreadyExists`; text with NUL or half a surrogate
    pair is `InvalidArgument`. Lists take `limit` (1 to 1,000) and `after`, the token that the previous page ended
    with ("" for the first), and return the items and the next token ("" after the last); a token of another list
    or of other filters is `InvalidArgument`.
    """

    def alert(self, alert_id: str) -> Alert: ...

    def alerts(
        self, *, limit: int, after: str = "", state: AlertState | None = None, monitor: str = ""
    ) -> tuple[list[Alert], str]:
        """By id; without `state` all but those that are ok."""

    def alerts_in(self, group: str) -> list[Alert]:
        """Every alert of a group, by id."""

    def alert_counts(self) -> dict[tuple[str, AlertState], int]:
        """How many alerts each monitor has in each state; what none has is absent."""

    def put_alerts(self, group: str, members: Sequence[Alert]) -> None:
        """Insert or replace each, as members of the group."""

    def change_alert(self, alert: Alert) -> None:
        """Replace an existing alert; it stays in its group."""

    def delete_alerts(self, ids: Collection[str]) -> None:
        """Forget alerts; nothing happens where there is none."""

    def group(self, group_id: str) -> AlertGroup:
        """The group; an empty one when it was never put."""

    def groups_of(self, monitor: str) -> list[AlertGroup]:
        """Every group of a monitor, by id."""

    def put_group(self, monitor: str, group: AlertGroup) -> None:
        """Insert or replace."""

    def delete_group(self, group_id: str) -> None:
        """Forget a group with its alerts; nothing happens where there is none."""

    def silences(self) -> list[Silence]:
        """Every silence, over or not, by id."""

    def insert_silence(self, silence: Silence) -> None: ...

    def delete_silence(self, silence_id: str) -> None: ...

    def webhook(self, name: str) -> Webhook: ...

    def webhooks(self) -> list[Webhook]:
        """Every webhook, by name."""

    def insert_webhook(self, webhook: Webhook) -> None:
        """Add the webhook; `secret_ids` is derived from its secrets and not read from it."""

    def update_webhook(self, webhook: Webhook) -> None:
        """Replace everything but `created_at` and `secret_ids`."""

    def delete_webhook(self, name: str) -> None:
        """Delete the webhook with its secrets and its deliveries."""

    def secrets(self, webhook: str) -> list[Secret]:
        """Its secrets, newest first, expired ones too; none for a webhook that does not exist."""

    def put_secrets(self, webhook: str, secrets: Sequence[Secret]) -> None:
        """Replace all secrets of an existing webhook; newest first."""

    def post(self, outgoing: Outgoing) -> bool:
        """Put into the outbox of an existing webhook; False, and nothing happens, when the id was posted before."""

    def unsent(self, webhook: str, topic: str, start: float) -> Outgoing | None:
        """The last one of this webhook, topic and window start, as long as it waits and was never attempted."""

    def replace_bulletin(self, notification_id: str, bulletin: Bulletin) -> None:
        """Say something else with a notification that was never attempted."""

    def due(self, now: float) -> list[str]:
        """Enabled webhooks for which `claim` would find something."""

    def claim(self, webhook: str, *, now: float, limit: int, lease_s: float) -> list[Outgoing]:
        """Take up to `limit` due notifications, first posted first, and count an attempt for each.

        Due: it waits, its next attempt is not in the future, nobody has claimed it within the lease, and nothing
        of the same topic that was posted before it waits. Whoever claims must `settle`; after `lease_s` another
        may claim it.
        """

    def settle(self, notification: Notification) -> None:
        """Keep how an attempt ended and give up the claim; nothing happens where the delivery is gone."""

    def hurry(self, webhook: str, now: float) -> None:
        """What waits for a later attempt may be attempted now (the receiver is back)."""

    def give_up(self, webhook: str, error: str) -> int:
        """What waits for this webhook is dead; returns how many."""

    def delivery(self, notification_id: str) -> Outgoing: ...

    def deliveries(
        self, *, limit: int, after: str = "", webhook: str = "", state: DeliveryState | None = None
    ) -> tuple[list[Notification], str]:
        """Last posted first."""

    def forget(self, *, deliveries_before: float, alerts_before: float, silences_before: float) -> dict[str, int]:
        """Drop what is over: deliveries made before that do not wait, alerts ok or resolved since, ended silences.

        Returns how many of each: `deliveries`, `alerts`, `silences`.
        """


class AlertTransaction(Protocol):
    """The part of a transaction of the monitor's store that alerts need."""

    @property
    def alerts(self) -> AlertLedger: ...


class AlertStore(Protocol):
    """The part of the monitor's store that alerts need; see `ports.monitors.MonitorStore`."""

    def transaction(self) -> AbstractContextManager[AlertTransaction]: ...

    def read(self) -> AbstractContextManager[AlertTransaction]: ...
