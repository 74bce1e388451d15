# Generated from vedette/sdk/aio by `python -m tests.sdk_twin`: change that and run it again.
"""Alerts and silences: `client.alerts`."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from vedette.core.models import check_name
from vedette.entities.alerts import Alert, AlertState, Silence
from vedette.sdk.sync.connection import Call, Connection
from vedette.sdk.sync.exchange import change
from vedette.sdk.sync.pages import walk


class Alerts:
    """What is wrong, and who has been told to leave it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, state: AlertState | None = None, monitor: str = "") -> Iterator[Alert]:
        """Alerts by id; without `state` all that are not ok."""
        wanted = (("state", state.value if state else ""), ("monitor", monitor))
        return walk(self._connection, "/v1/alerts", [pair for pair in wanted if pair[1]], Alert)

    def acknowledge(self, id: str, *, by: str) -> Alert:
        """Say that somebody looks after it: nothing more is sent until it changes its state."""
        path = f"/v1/alerts/{quote(check_name(id, 'alert id'), safe='')}/acknowledge"
        return change(self._connection, Alert, "POST", path, {"by": by})

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
        """Send nothing about what matches for so many seconds; alerts go on changing state.

        Raises:
            InvalidArgument: neither a monitor, an endpoint nor a feature is named, and not `everything`.
        """
        wanted = {"monitor": monitor, "endpoint": endpoint, "feature": feature, "comment": comment}
        document = {**wanted, "for_s": for_s, "everything": everything}
        return change(self._connection, Silence, "POST", "/v1/silences", document)

    def silences(self) -> Iterator[Silence]:
        """Silences in force."""
        return walk(self._connection, "/v1/silences", [], Silence)

    def end_silence(self, id: str) -> None:
        """End a silence now."""
        self._connection.send(Call("DELETE", f"/v1/silences/{quote(check_name(id, 'silence id'), safe='')}"))
