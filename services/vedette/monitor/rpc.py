"""The monitor over gRPC: parse, call, render.

Rule: no rule of the domain here. The store blocks, so every call on it runs in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from vedette.chassis.auth import Action
from vedette.chassis.rpc import Rpc, RpcService
from vedette.core.errors import InvalidArgument, TooLarge
from vedette.entities.alerts import AlertState, DeliveryState
from vedette.entities.monitors import ExecutionStatus, MonitorStatus
from vedette.monitor.desk import Desk
from vedette.monitor.documents import MAX_LABEL_BYTES, Violation, WebhookCreate
from vedette.monitor.messages import monitor_from, to_message
from vedette.monitor.reference_data.measurement import Measurement
from vedette.proto.monitor.v1 import monitor_pb2 as pb

SERVICE = "vedette.proto.monitor.v1.MonitorService"
DEFAULT_PAGE = 50
MAX_PAGE = 100
FORMATS = ("csv", "parquet", "jsonl")

Choice = TypeVar("Choice", bound=StrEnum)


class MonitorCalls:
    """Baselines from data, and monitors."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create_baseline(
        self, requests: AsyncIterator[pb.CreateBaselineRequest], _: Any
    ) -> pb.CreateBaselineResponse:
        """Compute a baseline from the streamed data."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("part") != "start":
            raise InvalidArgument("the first message must say what the data is")
        start = first.start
        if start.format not in FORMATS:
            raise InvalidArgument(f"the format must be one of {', '.join(FORMATS)}")
        measurement = Measurement(
            start.target, start.problem_type, start.prediction, start.probability, start.positive_class, start.analysis
        )
        made = await self._desk.baselines.create(
            start.model,
            start.version,
            start.name or "default",
            format=start.format,
            chunks=_chunks(requests),
            measurement=measurement,
        )
        kept = msgspec.to_builtins(made)
        return pb.CreateBaselineResponse(left_out=kept.pop("left_out"), baseline=to_message(kept, pb.Baseline()))

    async def create_monitor(self, request: pb.CreateMonitorRequest, _: Any) -> pb.CreateMonitorResponse:
        """Begin to watch."""
        made = await self._desk.monitors.begin(monitor_from(request.monitor))
        return pb.CreateMonitorResponse(monitor=to_message(made, pb.Monitor()))

    async def get_monitor(self, request: pb.GetMonitorRequest, _: Any) -> pb.GetMonitorResponse:
        """Show a monitor."""
        found = await asyncio.to_thread(self._desk.monitors.get, request.name)
        return pb.GetMonitorResponse(monitor=to_message(found, pb.Monitor()))

    async def list_monitors(self, request: pb.ListMonitorsRequest, _: Any) -> pb.ListMonitorsResponse:
        """One page of monitors."""
        items, token = await asyncio.to_thread(
            self._desk.monitors.page,
            limit=_limit(request.limit),
            page_token=request.page_token,
            endpoint=request.endpoint,
            status=_choice(MonitorStatus, request.status),
        )
        return pb.ListMonitorsResponse(items=[to_message(item, pb.Monitor()) for item in items], next_page_token=token)

    async def update_monitor(self, request: pb.UpdateMonitorRequest, _: Any) -> pb.UpdateMonitorResponse:
        """Replace a monitor's settings."""
        changed = await asyncio.to_thread(self._desk.monitors.update, monitor_from(request.monitor))
        return pb.UpdateMonitorResponse(monitor=to_message(changed, pb.Monitor()))

    async def pause_monitor(self, request: pb.PauseMonitorRequest, _: Any) -> pb.PauseMonitorResponse:
        """Evaluate nothing until it is resumed."""
        changed = await asyncio.to_thread(self._desk.monitors.pause, request.name)
        return pb.PauseMonitorResponse(monitor=to_message(changed, pb.Monitor()))

    async def resume_monitor(self, request: pb.ResumeMonitorRequest, _: Any) -> pb.ResumeMonitorResponse:
        """Evaluate again."""
        changed = await asyncio.to_thread(self._desk.monitors.resume, request.name)
        return pb.ResumeMonitorResponse(monitor=to_message(changed, pb.Monitor()))

    async def delete_monitor(self, request: pb.DeleteMonitorRequest, _: Any) -> pb.DeleteMonitorResponse:
        """Delete a monitor with its executions and alerts."""
        await asyncio.to_thread(self._desk.monitors.delete, request.name)
        return pb.DeleteMonitorResponse()


class ExecutionCalls:
    """What became of windows, and ground truth."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_windows(self, request: pb.ListWindowsRequest, _: Any) -> pb.ListWindowsResponse:
        """Windows that are open now."""
        found = await asyncio.to_thread(self._desk.executions.windows, request.monitor)
        response = pb.ListWindowsResponse()
        for window in found:
            response.items.add().update(window)
        return response

    async def list_executions(self, request: pb.ListExecutionsRequest, _: Any) -> pb.ListExecutionsResponse:
        """One page of executions, newest window first."""
        items, token = await asyncio.to_thread(
            self._desk.executions.page,
            request.monitor,
            limit=_limit(request.limit),
            page_token=request.page_token,
            status=_choice(ExecutionStatus, request.status),
            since=_since(request.since),
        )
        found = [to_message(item, pb.Execution()) for item in items]
        return pb.ListExecutionsResponse(items=found, next_page_token=token)

    async def get_execution(self, request: pb.GetExecutionRequest, _: Any) -> pb.GetExecutionResponse:
        """Show one execution."""
        found = await asyncio.to_thread(self._desk.executions.get, request.id)
        return pb.GetExecutionResponse(execution=to_message(found, pb.Execution()))

    async def get_execution_file(self, request: pb.GetExecutionFileRequest, _: Any) -> pb.GetExecutionFileResponse:
        """A document of an execution, as SageMaker writes it."""
        content = await asyncio.to_thread(self._desk.executions.file, request.id, request.file)
        return pb.GetExecutionFileResponse(content=content)

    async def list_violations(self, request: pb.ListViolationsRequest, _: Any) -> pb.ListViolationsResponse:
        """One page of violated checks, newest window first."""
        items, token = await asyncio.to_thread(
            self._desk.executions.violations,
            limit=_limit(request.limit),
            page_token=request.page_token,
            monitor=request.monitor,
            endpoint=request.endpoint,
            feature=request.feature,
            since=_since(request.since),
        )
        found = [to_message(Violation.of(*item).model_dump(), pb.Violation()) for item in items]
        return pb.ListViolationsResponse(items=found, next_page_token=token)

    async def create_report(self, request: pb.CreateReportRequest, _: Any) -> pb.CreateReportResponse:
        """Draw the Evidently report now, unless it is there."""
        return pb.CreateReportResponse(path=await self._desk.reports.draw(request.execution))

    async def put_ground_truth(self, request: pb.PutGroundTruthRequest, _: Any) -> pb.PutGroundTruthResponse:
        """Take labels as JSON Lines."""
        if len(request.lines) > MAX_LABEL_BYTES:
            raise TooLarge(f"labels come in parts of at most {MAX_LABEL_BYTES} bytes")
        counts, refused = await self._desk.labels.take(request.endpoint, request.lines)
        return pb.PutGroundTruthResponse(counts=counts, refused_lines=refused)


class AlertCalls:
    """Alerts, silences, webhooks and deliveries."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_alerts(self, request: pb.ListAlertsRequest, _: Any) -> pb.ListAlertsResponse:
        """One page of alerts."""
        items, token = await asyncio.to_thread(
            self._desk.alerts.page,
            limit=_limit(request.limit),
            page_token=request.page_token,
            state=_choice(AlertState, request.state),
            monitor=request.monitor,
        )
        return pb.ListAlertsResponse(items=[to_message(item, pb.Alert()) for item in items], next_page_token=token)

    async def acknowledge_alert(self, request: pb.AcknowledgeAlertRequest, _: Any) -> pb.AcknowledgeAlertResponse:
        """Say who looks after an alert."""
        if not request.by or len(request.by) > 200:
            raise InvalidArgument("by: say who, in at most 200 characters")
        alert = await asyncio.to_thread(self._desk.alerts.acknowledge, request.id, by=request.by)
        return pb.AcknowledgeAlertResponse(alert=to_message(alert, pb.Alert()))

    async def create_silence(self, request: pb.CreateSilenceRequest, _: Any) -> pb.CreateSilenceResponse:
        """Send nothing about what matches for a while."""
        made = await asyncio.to_thread(
            self._desk.alerts.silence,
            for_s=request.for_s,
            monitor=request.monitor,
            endpoint=request.endpoint,
            feature=request.feature,
            everything=request.everything,
            comment=request.comment,
        )
        return pb.CreateSilenceResponse(silence=to_message(made, pb.Silence()))

    async def list_silences(self, request: pb.ListSilencesRequest, _: Any) -> pb.ListSilencesResponse:
        """Silences in force."""
        found = await asyncio.to_thread(self._desk.alerts.silences)
        return pb.ListSilencesResponse(items=[to_message(item, pb.Silence()) for item in found])

    async def delete_silence(self, request: pb.DeleteSilenceRequest, _: Any) -> pb.DeleteSilenceResponse:
        """End a silence now."""
        await asyncio.to_thread(self._desk.alerts.end_silence, request.id)
        return pb.DeleteSilenceResponse()

    async def create_webhook(self, request: pb.CreateWebhookRequest, _: Any) -> pb.CreateWebhookResponse:
        """Add a receiver."""
        kind = request.format or "cloudevents"
        if kind not in _FORMATS_OF_WEBHOOKS:
            raise InvalidArgument(f"the format must be one of {', '.join(_FORMATS_OF_WEBHOOKS)}")
        webhook, secret = await self._desk.webhooks.create(
            request.name, request.url, format=kind, headers=dict(request.headers)
        )
        return pb.CreateWebhookResponse(webhook=to_message(webhook, pb.Webhook()), secret=secret)

    async def get_webhook(self, request: pb.GetWebhookRequest, _: Any) -> pb.GetWebhookResponse:
        """Show a receiver."""
        found = await asyncio.to_thread(self._desk.webhooks.get, request.name)
        return pb.GetWebhookResponse(webhook=to_message(found, pb.Webhook()))

    async def list_webhooks(self, request: pb.ListWebhooksRequest, _: Any) -> pb.ListWebhooksResponse:
        """Receivers by name."""
        found = await asyncio.to_thread(self._desk.webhooks.list)
        return pb.ListWebhooksResponse(items=[to_message(item, pb.Webhook()) for item in found])

    async def update_webhook(self, request: pb.UpdateWebhookRequest, _: Any) -> pb.UpdateWebhookResponse:
        """Replace what is set."""
        changed = await self._desk.webhooks.update(
            request.name,
            url=request.url if request.HasField("url") else None,
            enabled=request.enabled if request.HasField("enabled") else None,
            headers=dict(request.headers.headers) if request.HasField("headers") else None,
        )
        return pb.UpdateWebhookResponse(webhook=to_message(changed, pb.Webhook()))

    async def delete_webhook(self, request: pb.DeleteWebhookRequest, _: Any) -> pb.DeleteWebhookResponse:
        """Remove a receiver with what waits for it."""
        await asyncio.to_thread(self._desk.webhooks.delete, request.name)
        return pb.DeleteWebhookResponse()

    async def rotate_secret(self, request: pb.RotateSecretRequest, _: Any) -> pb.RotateSecretResponse:
        """Make a new signing secret."""
        webhook, secret = await asyncio.to_thread(self._desk.webhooks.rotate, request.webhook)
        return pb.RotateSecretResponse(webhook=to_message(webhook, pb.Webhook()), secret=secret)

    async def test_webhook(self, request: pb.TestWebhookRequest, _: Any) -> pb.TestWebhookResponse:  # noqa: PT019
        """Put a test message into the outbox."""
        sent = await asyncio.to_thread(self._desk.webhooks.test, request.name)
        return pb.TestWebhookResponse(delivery=to_message(sent, pb.Notification()))

    async def list_deliveries(self, request: pb.ListDeliveriesRequest, _: Any) -> pb.ListDeliveriesResponse:
        """One page of deliveries, newest first."""
        items, token = await asyncio.to_thread(
            self._desk.webhooks.deliveries,
            limit=_limit(request.limit),
            page_token=request.page_token,
            webhook=request.webhook,
            state=_choice(DeliveryState, request.state),
        )
        found = [to_message(item, pb.Notification()) for item in items]
        return pb.ListDeliveriesResponse(items=found, next_page_token=token)

    async def redeliver(self, request: pb.RedeliverRequest, _: Any) -> pb.RedeliverResponse:
        """Send a delivery again, under the same id."""
        sent = await asyncio.to_thread(self._desk.webhooks.redeliver, request.id)
        return pb.RedeliverResponse(delivery=to_message(sent, pb.Notification()))


_FORMATS_OF_WEBHOOKS = tuple(WebhookCreate.model_fields["format"].annotation.__args__)  # type: ignore[union-attr]


async def _chunks(requests: AsyncIterator[pb.CreateBaselineRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgument("after the first message only chunks of the data may follow")
        yield request.chunk


def _limit(given: int) -> int:
    if not 0 <= given <= MAX_PAGE:
        raise InvalidArgument(f"limit must be between 1 and {MAX_PAGE}")
    return given or DEFAULT_PAGE


def _since(given: float) -> float:
    if not 0.0 <= given <= 1e11:
        raise InvalidArgument("since must be seconds since the epoch")
    return given


def _choice(kind: type[Choice], text: str) -> Choice | None:
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidArgument(f"{text[:80]!r} is none of {', '.join(kind)}") from None


ACTIONS: dict[str, Action] = {
    "CreateBaseline": "deploy",
    "CreateMonitor": "deploy",
    "GetMonitor": "read",
    "ListMonitors": "read",
    "UpdateMonitor": "deploy",
    "PauseMonitor": "deploy",
    "ResumeMonitor": "deploy",
    "DeleteMonitor": "admin",
    "ListWindows": "read",
    "ListExecutions": "read",
    "GetExecution": "read",
    "GetExecutionFile": "read",
    "ListViolations": "read",
    "CreateReport": "read",
    "PutGroundTruth": "deploy",
    "ListAlerts": "read",
    "AcknowledgeAlert": "deploy",
    "CreateSilence": "deploy",
    "ListSilences": "read",
    "DeleteSilence": "deploy",
    "CreateWebhook": "admin",
    "GetWebhook": "read",
    "ListWebhooks": "read",
    "UpdateWebhook": "admin",
    "DeleteWebhook": "admin",
    "RotateSecret": "admin",
    "TestWebhook": "admin",
    "ListDeliveries": "read",
    "Redeliver": "admin",
}
"""What each method does, for authorisation; one that is missing stops the start-up."""


def service(desk: Desk) -> RpcService:
    """The table of all methods: a handler's name, message types and action follow the method's."""
    calls = (MonitorCalls(desk), ExecutionCalls(desk), AlertCalls(desk))
    methods = pb.DESCRIPTOR.services_by_name["MonitorService"].methods
    table: list[Rpc] = []
    for method in methods:
        handler = _handler(calls, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        request, response = getattr(pb, f"{method.name}Request"), getattr(pb, f"{method.name}Response")
        kind = "stream_unary" if method.client_streaming else "unary_unary"
        table.append(Rpc(method.name, kind, ACTIONS[method.name], handler, request, response))  # type: ignore[arg-type]
    return RpcService(SERVICE, tuple(table))


def _handler(calls: tuple[object, ...], name: str) -> Callable[..., Awaitable[Any]]:
    found: Callable[..., Awaitable[Any]] = next(getattr(call, name) for call in calls if hasattr(call, name))
    return found
