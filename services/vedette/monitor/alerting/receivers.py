"""Webhooks as people see them: made, changed, tried out, and what was sent to them.

Rule: a secret leaves here once, when it is made, and the values of a webhook's own headers never: they are
credentials as often as not. Where a webhook may point to is decided by `addresses`, here and again at every attempt.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from vedette.codec.webhook_signatures import new_secret
from vedette.core.clock import Clock, SystemClock
from vedette.core.errors import Conflict, InvalidArgument
from vedette.core.models import check_name
from vedette.entities.alerts import DeliveryState, Notification, Webhook, WebhookFormat
from vedette.monitor.alerting.addresses import AddressGuard
from vedette.ports.alerts import AlertStore, Bulletin, Outgoing, Secret

OVERLAP_S = 86_400.0
"""A secret that was replaced goes on signing for this long, so that receivers can change over."""
MAX_WEBHOOKS = 100
HIDDEN = "(hidden)"
"""What stands for the value of a header of one's own."""
_FORMATS: dict[str, WebhookFormat] = {name: name for name in get_args(WebhookFormat)}
_MAX_HEADERS = 20
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?")
_OWN_HEADERS = frozenset(
    (
        *("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("user-agent", "webhook-id", "webhook-signature", "webhook-timestamp"),
    )
)
"""What the sender says itself."""

Page = tuple[list[Notification], str]
"""Items and the token of the next page."""


class Webhooks:
    """The receivers in the monitor's store. Methods that are not coroutines block: call them in a thread."""

    def __init__(
        self, store: AlertStore, guard: AddressGuard, *, clock: Clock | None = None, overlap_s: float = OVERLAP_S
    ) -> None:
        self._store = store
        self._guard = guard
        self._clock = clock or SystemClock()
        self._overlap_s = overlap_s

    async def create(
        self, name: str, url: str, *, format: str = "cloudevents", headers: Mapping[str, str] | None = None
    ) -> tuple[Webhook, str]:
        """Add a receiver; returns it with its signing secret, which nobody is shown again.

        Raises:
            InvalidArgument: the monitor may not send there, or something is malformed.
            AlreadyExists: the name is taken.
        """
        check_name(name, "webhook name")
        if format not in _FORMATS:
            raise InvalidArgument(f"a webhook's format is one of {', '.join(_FORMATS)}")
        own = _checked(headers or {})
        await asyncio.to_thread(self._guard.check, url)
        webhook = Webhook(name, url, _FORMATS[format], created_at=self._clock.time(), headers=own)
        return await asyncio.to_thread(self._insert, webhook)

    def _insert(self, webhook: Webhook) -> tuple[Webhook, str]:
        secret = self._secret()
        with self._store.transaction() as tx:
            if len(tx.alerts.webhooks()) >= MAX_WEBHOOKS:
                raise Conflict(f"there are {MAX_WEBHOOKS} webhooks already: delete some first")
            tx.alerts.insert_webhook(webhook)
            tx.alerts.put_secrets(webhook.name, [secret])
            return _shown(tx.alerts.webhook(webhook.name)), secret.value

    def list(self) -> list[Webhook]:
        """Every receiver by name."""
        with self._store.read() as snapshot:
            return [_shown(webhook) for webhook in snapshot.alerts.webhooks()]

    def get(self, name: str) -> Webhook:
        """One receiver; `NotFound` when there is none."""
        with self._store.read() as snapshot:
            return _shown(snapshot.alerts.webhook(name))

    async def update(
        self,
        name: str,
        *,
        url: str | None = None,
        enabled: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Webhook:
        """Replace what is not None. What waits for the receiver goes where it then points to."""
        own = None if headers is None else _checked(headers)
        if url is not None:
            await asyncio.to_thread(self._guard.check, url)
        return await asyncio.to_thread(self._change, name, url=url, enabled=enabled, headers=own)

    def _change(self, name: str, *, url: str | None, enabled: bool | None, headers: dict[str, str] | None) -> Webhook:
        with self._store.transaction() as tx:
            before = tx.alerts.webhook(name)
            after = replace(
                before,
                url=before.url if url is None else url,
                enabled=before.enabled if enabled is None else enabled,
                headers=before.headers if headers is None else headers,
            )
            tx.alerts.update_webhook(after)
            return _shown(tx.alerts.webhook(name))

    def delete(self, name: str) -> None:
        """Remove a receiver with its secrets and deliveries; what waits for it is not sent."""
        with self._store.transaction() as tx:
            tx.alerts.delete_webhook(name)

    def rotate(self, name: str) -> tuple[Webhook, str]:
        """Make a new secret; the one before signs as well until the next rotation, for a day at most."""
        secret = self._secret()
        now = secret.created_at
        with self._store.transaction() as tx:
            tx.alerts.webhook(name)
            before = [one for one in tx.alerts.secrets(name) if not one.expires_at or one.expires_at > now]
            leaving = [replace(one, expires_at=now + self._overlap_s) for one in before[:1]]
            tx.alerts.put_secrets(name, [secret, *leaving])
            return _shown(tx.alerts.webhook(name)), secret.value

    def test(self, name: str) -> Notification:
        """Put a test message into the outbox; `Conflict` for a receiver that is switched off."""
        now = self._clock.time()
        identity = f"msg_{secrets.token_hex(16)}"
        notification = Notification(identity, name, DeliveryState.WAITING, 0, now, now, subject="test")
        with self._store.transaction() as tx:
            if not tx.alerts.webhook(name).enabled:
                raise Conflict(f"webhook {name!r} is switched off: enable it first")
            tx.alerts.post(Outgoing(notification, Bulletin("test", f"test/{identity}", ())))
        return notification

    def deliveries(
        self, *, limit: int, page_token: str = "", webhook: str = "", state: DeliveryState | None = None
    ) -> Page:
        """What was or will be sent, newest first, and the token of the next page."""
        with self._store.read() as snapshot:
            return snapshot.alerts.deliveries(limit=limit, after=page_token, webhook=webhook, state=state)

    def redeliver(self, delivery_id: str) -> Notification:
        """Send a delivery again under the same id, at once and whatever became of it.

        Its attempts go on counting: one that had none left is sent this once.

        Raises:
            NotFound: there is none of this id (any more).
            Conflict: its receiver is switched off.
        """
        with self._store.transaction() as tx:
            notification = tx.alerts.delivery(delivery_id).notification
            if not tx.alerts.webhook(notification.webhook).enabled:
                raise Conflict(f"webhook {notification.webhook!r} is switched off: enable it first")
            again = replace(notification, state=DeliveryState.WAITING, next_attempt_at=self._clock.time())
            tx.alerts.settle(again)
        return again

    def _secret(self) -> Secret:
        return Secret(f"sec_{secrets.token_hex(6)}", new_secret(), self._clock.time())


def _shown(webhook: Webhook) -> Webhook:
    return replace(webhook, headers=dict.fromkeys(webhook.headers, HIDDEN))


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that a request may carry besides its own, by name in lower case."""
    if len(headers) > _MAX_HEADERS:
        raise InvalidArgument(f"a webhook has at most {_MAX_HEADERS} headers")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgument(f"header {name[:100]!r} is malformed: visible ASCII of at most 1,024 characters")
        if name.lower() in _OWN_HEADERS:
            raise InvalidArgument(f"header {name!r} is the sender's own")
    return {name.lower(): value for name, value in headers.items()}
