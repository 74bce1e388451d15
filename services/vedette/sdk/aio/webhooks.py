"""Receivers of alerts and what was sent to them: `client.webhooks`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from vedette.core.models import check_name
from vedette.entities.alerts import DeliveryState, Notification, Webhook, WebhookFormat
from vedette.sdk.aio.connection import AsyncConnection, Call
from vedette.sdk.aio.exchange import change, fetch
from vedette.sdk.aio.pages import walk
from vedette.sdk.documents import NewSecret


class AsyncWebhooks:
    """Webhooks of the monitor; deliveries are signed as Standard Webhooks says."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self, name: str, url: str, *, format: WebhookFormat = "cloudevents", headers: Mapping[str, str] | None = None
    ) -> NewSecret:
        """Add a receiver; the answer holds the signing secret, which is never shown again.

        Raises:
            InvalidArgument: the address is not one that the monitor may send to.
        """
        document = {"name": name, "url": url, "format": format, "headers": dict(headers or {})}
        return await change(self._connection, NewSecret, "POST", "/v1/webhooks", document)

    def list(self) -> AsyncIterator[Webhook]:
        """Every webhook by name."""
        return walk(self._connection, "/v1/webhooks", [], Webhook)

    async def get(self, name: str) -> Webhook:
        """One webhook; `NotFound` when there is none."""
        return await fetch(self._connection, Webhook, _path(name))

    async def update(
        self,
        name: str,
        *,
        url: str | None = None,
        enabled: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Webhook:
        """Change the address or the headers of its own, or switch it on or off; None leaves it.

        Raises:
            InvalidArgument: the address is not one that the monitor may send to, or a header is malformed.
        """
        wanted = (("url", url), ("enabled", enabled), ("headers", None if headers is None else dict(headers)))
        document = {key: value for key, value in wanted if value is not None}
        return await change(self._connection, Webhook, "PATCH", _path(name), document)

    async def delete(self, name: str) -> None:
        """Remove the receiver; what waits for it is not sent."""
        await self._connection.send(Call("DELETE", _path(name)))

    async def rotate(self, name: str) -> NewSecret:
        """Make a new secret; the one before signs as well for a day, or until the next rotation if that is sooner."""
        return await change(self._connection, NewSecret, "POST", f"{_path(name)}/secrets")

    async def test(self, name: str) -> Notification:
        """Put a test message into the outbox."""
        return await change(self._connection, Notification, "POST", f"{_path(name)}/test")

    def deliveries(self, *, webhook: str = "", state: DeliveryState | None = None) -> AsyncIterator[Notification]:
        """What was or will be sent, newest first."""
        wanted = (("webhook", webhook), ("state", state.value if state else ""))
        return walk(self._connection, "/v1/deliveries", [pair for pair in wanted if pair[1]], Notification)

    async def redeliver(self, id: str) -> Notification:
        """Send a delivery again under the same id."""
        path = f"/v1/deliveries/{quote(check_name(id, 'delivery id'), safe='')}/redeliver"
        return await change(self._connection, Notification, "POST", path)


def _path(name: str) -> str:
    return f"/v1/webhooks/{quote(check_name(name, 'webhook name'), safe='')}"
