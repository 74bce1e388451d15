"""Alerts and where they are sent: plain immutable values. Times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class AlertState(StrEnum):
    """ok -> pending -> firing -> resolved."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is or was wrong: the same `id` while the same check of the same feature goes on being violated."""

    id: str
    """Digest of what identifies it: monitor, endpoint, variant, segment, check, feature."""
    monitor: str
    endpoint: str
    variant: str
    segment: str
    check: str
    feature: str
    state: AlertState
    since: float
    """When it came into this state."""
    updated_at: float
    history: str = ""
    """The last windows, oldest first: `x` violated, `.` not, `-` nothing compared, `o` violated before it resolved."""
    value: float | None = None
    """Value, threshold, description, execution, version and window are of one window: the newest violated one."""
    threshold: float | None = None
    description: str = ""
    execution: str = ""
    """Id of that window's execution; empty for alerts that other services raise."""
    version: str = ""
    acknowledged_by: str = ""
    acknowledged_at: float = 0.0
    start: float = 0.0
    """That window; both 0 where there is none."""
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that match are not sent until it ends. Empty fields match everything."""

    id: str
    until: float
    monitor: str = ""
    endpoint: str = ""
    feature: str = ""
    comment: str = ""
    created_at: float = 0.0


WebhookFormat = Literal["cloudevents", "slack", "alertmanager", "alertmanager_webhook"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver. Its secrets are shown once, when they are made."""

    name: str
    url: str
    format: WebhookFormat = "cloudevents"
    enabled: bool = True
    created_at: float = 0.0
    secret_ids: tuple[str, ...] = ()
    """Ids of the signing secrets in force, newest first; two while one is being rotated."""
    headers: dict[str, str] = field(default_factory=dict)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one webhook: in the outbox until it is delivered or given up."""

    id: str
    """The webhook-id: the same on every attempt."""
    webhook: str
    state: DeliveryState
    attempts: int
    created_at: float
    next_attempt_at: float = 0.0
    last_error: str = ""
    subject: str = ""
