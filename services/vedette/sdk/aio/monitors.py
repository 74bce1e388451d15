"""Monitors, their executions and ground truth: `client.monitors`.

Rule: one method for each thing that the monitor service does; lists are walked page by page as they are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from vedette.core.models import check_name
from vedette.entities.monitors import Execution, ExecutionStatus, Monitor
from vedette.sdk.aio.connection import AsyncConnection, Call
from vedette.sdk.aio.exchange import change, fetch
from vedette.sdk.aio.pages import walk
from vedette.sdk.documents import Violation, ground_truth_lines, plain, read

OWN = ("status", "reason", "created_at", "updated_at")
"""Fields of a monitor that only the service sets."""


class AsyncMonitors:
    """Checks on endpoints, window by window."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self, monitor: Monitor) -> Monitor:
        """Begin to watch; `AlreadyExists` when there is a monitor of that name.

        Example:
            await client.monitors.create(Monitor("night", "breast-cancer", window_s=60))
        """
        return await change(self._connection, Monitor, "POST", "/v1/monitors", _settings(monitor))

    async def update(self, monitor: Monitor) -> Monitor:
        """Replace the settings of the monitor of this name; windows not evaluated yet are held to them."""
        return await change(self._connection, Monitor, "PUT", _path(monitor.name), _settings(monitor))

    def list(self, *, endpoint: str = "", status: str = "") -> AsyncIterator[Monitor]:
        """Every monitor by name."""
        return walk(self._connection, "/v1/monitors", _said(endpoint=endpoint, status=status), Monitor)

    async def get(self, name: str) -> Monitor:
        """One monitor; `NotFound` when there is none."""
        return await fetch(self._connection, Monitor, _path(name))

    async def pause(self, name: str) -> Monitor:
        """Evaluate nothing until `resume`."""
        return await change(self._connection, Monitor, "POST", f"{_path(name)}/pause")

    async def resume(self, name: str) -> Monitor:
        """Evaluate again."""
        return await change(self._connection, Monitor, "POST", f"{_path(name)}/resume")

    async def delete(self, name: str) -> None:
        """Delete the monitor with its executions and alerts."""
        await self._connection.send(Call("DELETE", _path(name)))

    def executions(
        self, name: str, *, status: ExecutionStatus | None = None, since: float = 0.0
    ) -> AsyncIterator[Execution]:
        """The monitor's executions, newest window first; `since` is seconds since the epoch."""
        wanted = _said(status=status.value if status else "", since=f"{since:.3f}" if since else "")
        return walk(self._connection, f"{_path(name)}/executions", wanted, Execution)

    async def execution(self, id: str) -> Execution:
        """One execution; `NotFound` when there is none."""
        return await fetch(self._connection, Execution, _execution(id))

    async def file(self, id: str, file: str) -> dict[str, Any]:
        """`statistics.json`, `constraints.json` or `constraint_violations.json` of an execution."""
        return await fetch(self._connection, dict, f"{_execution(id)}/files/{quote(file, safe='')}")

    def violations(
        self, *, monitor: str = "", endpoint: str = "", feature: str = "", since: float = 0.0
    ) -> AsyncIterator[Violation]:
        """Every violated check with its window, newest first."""
        since_text = f"{since:.3f}" if since else ""
        wanted = _said(monitor=monitor, endpoint=endpoint, feature=feature, since=since_text)
        return walk(self._connection, "/v1/violations", wanted, Violation)

    def windows(self, name: str) -> AsyncIterator[dict[str, Any]]:
        """The windows that are open now: rows so far, and how far event time has come."""
        return walk(self._connection, f"{_path(name)}/windows", [], dict[str, Any])

    async def report(self, id: str) -> str:
        """Draw the Evidently report of an execution and return its address."""
        answer = await change(self._connection, dict, "POST", f"{_execution(id)}/report")
        return f"{self._connection.address}{answer['path']}"

    def report_address(self, id: str) -> str:
        """Where the report of an execution is read: drawn when it is read first, unless it is there."""
        return f"{self._connection.address}/reports/{quote(check_name(id, 'execution id'), safe='')}.html"

    async def ground_truth(
        self, endpoint: str, labels: Mapping[str, Any] | Iterable[Mapping[str, Any]] | bytes
    ) -> dict[str, Any]:
        """Send what really happened, and return how many labels were taken, by what became of them.

        Where lines were refused, `refused_lines` has number and reason of the first of them.

        `labels` maps inference ids (event ids where a request brought none) to labels, or is a sequence of
        documents or the bytes of JSON Lines in either form: `{"id": ..., "label": ...}` or SageMaker's
        `{"groundTruthData": ..., "eventMetadata": {"eventId": ...}, "eventVersion": "0"}`.
        """
        path = f"/v1/ground-truth/{quote(check_name(endpoint, 'endpoint name'), safe='')}"
        headers = {"content-type": "application/jsonlines"}
        # a label that arrives twice is the same label
        call = Call("POST", path, body=ground_truth_lines(labels), headers=headers, again=True)
        return read(dict[str, Any], (await self._connection.send(call)).body)


def _settings(monitor: Monitor) -> dict[str, Any]:
    whole: dict[str, Any] = plain(monitor)
    return {key: value for key, value in whole.items() if key not in OWN}


def _said(**wanted: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in wanted.items() if value]


def _path(name: str) -> str:
    return f"/v1/monitors/{quote(check_name(name, 'monitor name'), safe='')}"


def _execution(id: str) -> str:
    return f"/v1/executions/{quote(check_name(id, 'execution id'), safe='')}"
