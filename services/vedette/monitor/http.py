"""The monitor over HTTP: parse, call, render.

Rule: no rule of the domain here. Handlers that are plain functions run in threads, because the store blocks.
Every route stands in `ACTIONS`; one that does not stops the start-up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response

from vedette.chassis.auth import Action
from vedette.chassis.control.application import control_app, control_router
from vedette.chassis.control.documents import Limit, Page, Token
from vedette.core.errors import InvalidArgument, TooLarge
from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, Silence, Webhook
from vedette.entities.monitors import CreatedBaseline, Execution, ExecutionStatus, Monitor, MonitorStatus
from vedette.monitor.desk import Desk
from vedette.monitor.documents import (
    MAX_LABEL_BYTES,
    Acknowledgement,
    MonitorChange,
    MonitorCreate,
    NewSecret,
    ReportPlace,
    SilenceCreate,
    Violation,
    WebhookChange,
    WebhookCreate,
)
from vedette.monitor.reference_data.analysis_config import MOST_CHARACTERS
from vedette.monitor.reference_data.measurement import Measurement
from vedette.monitor.results.reports import CONTENT_POLICY

ACTIONS: dict[tuple[str, str], Action] = {
    ("GET", "/openapi.json"): "read",
    ("POST", "/v1/baselines"): "deploy",
    ("POST", "/v1/monitors"): "deploy",
    ("GET", "/v1/monitors"): "read",
    ("GET", "/v1/monitors/{monitor}"): "read",
    ("PUT", "/v1/monitors/{monitor}"): "deploy",
    ("DELETE", "/v1/monitors/{monitor}"): "admin",
    ("POST", "/v1/monitors/{monitor}/pause"): "deploy",
    ("POST", "/v1/monitors/{monitor}/resume"): "deploy",
    ("GET", "/v1/monitors/{monitor}/windows"): "read",
    ("GET", "/v1/monitors/{monitor}/executions"): "read",
    ("GET", "/v1/executions/{execution}"): "read",
    ("GET", "/v1/executions/{execution}/files/{file}"): "read",
    ("POST", "/v1/executions/{execution}/report"): "read",
    ("GET", "/reports/{report}"): "read",
    ("HEAD", "/reports/{report}"): "read",
    ("GET", "/v1/violations"): "read",
    ("POST", "/v1/ground-truth/{endpoint}"): "deploy",
    ("GET", "/v1/alerts"): "read",
    ("POST", "/v1/alerts/{alert}/acknowledge"): "deploy",
    ("POST", "/v1/silences"): "deploy",
    ("GET", "/v1/silences"): "read",
    ("DELETE", "/v1/silences/{silence}"): "deploy",
    ("POST", "/v1/webhooks"): "admin",
    ("GET", "/v1/webhooks"): "read",
    ("GET", "/v1/webhooks/{webhook}"): "read",
    ("PATCH", "/v1/webhooks/{webhook}"): "admin",
    ("DELETE", "/v1/webhooks/{webhook}"): "admin",
    ("POST", "/v1/webhooks/{webhook}/secrets"): "admin",
    ("POST", "/v1/webhooks/{webhook}/test"): "admin",
    ("GET", "/v1/deliveries"): "read",
    ("POST", "/v1/deliveries/{delivery}/redeliver"): "admin",
}
"""What each route does, for authorisation."""

UPLOADS = (("POST", "/v1/baselines"), ("POST", "/v1/ground-truth/{endpoint}"))
"""Routes that stream a body and count for themselves."""

LABEL_TYPES = ("application/jsonlines", "application/x-ndjson", "application/json", "application/octet-stream")


def build_app(desk: Desk, *, version: str, max_json_bytes: int) -> FastAPI:
    """The ASGI application over these parts of the monitor."""
    app = control_app("vedette monitor", router, version=version, max_json_bytes=max_json_bytes, uploads=UPLOADS)
    app.state.desk = desk
    return app


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


router = control_router("")
Asked = Annotated[Desk, Depends(_desk)]
Since = Annotated[float, Query(ge=0, le=1e11)]
Filter = Annotated[str, Query(max_length=1000)]


@router.post("/v1/baselines", status_code=201)
async def create_baseline(
    desk: Asked,
    request: Request,
    *,
    model: str,
    version: Annotated[int, Query(ge=1, lt=2**31)],
    format: Literal["csv", "parquet", "jsonl"],
    name: str = "default",
    target: Filter = "",
    problem_type: Filter = "",
    prediction: Filter = "",
    probability: Filter = "",
    positive_class: Filter = "",
    analysis: Annotated[str, Query(max_length=MOST_CHARACTERS)] = "",
) -> CreatedBaseline:
    """Compute a version's baseline from the body, which is a file in this format; labelled rows are measured too.

    `left_out` says what the data did not allow. `target`, `prediction` and `probability` name columns where they are
    not `label`, `prediction` and `probability_<class>`; `analysis` is Clarify's analysis_config.json.
    """
    measurement = Measurement(target, problem_type, prediction, probability, positive_class, analysis)
    chunks = _chunks(request)
    return await desk.baselines.create(model, version, name, format=format, chunks=chunks, measurement=measurement)


@router.post("/v1/monitors", status_code=201)
async def create_monitor(desk: Asked, document: MonitorCreate) -> Monitor:
    """Begin to watch an endpoint; the status says what is missing."""
    return await desk.monitors.begin(document.monitor(document.name))


@router.get("/v1/monitors")
def list_monitors(
    desk: Asked,
    *,
    limit: Limit = 50,
    page_token: Token = "",
    endpoint: Filter = "",
    status: MonitorStatus | None = None,
) -> Page[Monitor]:
    """List monitors by name."""
    items, following = desk.monitors.page(limit=limit, page_token=page_token, endpoint=endpoint, status=status)
    return Page(items=items, next_page_token=following)


@router.get("/v1/monitors/{monitor}")
def get_monitor(desk: Asked, monitor: str) -> Monitor:
    """Show a monitor."""
    return desk.monitors.get(monitor)


@router.put("/v1/monitors/{monitor}")
def update_monitor(desk: Asked, monitor: str, document: MonitorChange) -> Monitor:
    """Replace a monitor's settings."""
    if document.name not in ("", monitor):
        raise InvalidArgument("a monitor keeps its name; delete it and make another")
    return desk.monitors.update(document.monitor(monitor))


@router.delete("/v1/monitors/{monitor}", status_code=204)
def delete_monitor(desk: Asked, monitor: str) -> None:
    """Delete a monitor with its executions and alerts."""
    desk.monitors.delete(monitor)


@router.post("/v1/monitors/{monitor}/pause")
def pause_monitor(desk: Asked, monitor: str) -> Monitor:
    """Evaluate nothing until it is resumed."""
    return desk.monitors.pause(monitor)


@router.post("/v1/monitors/{monitor}/resume")
def resume_monitor(desk: Asked, monitor: str) -> Monitor:
    """Evaluate again."""
    return desk.monitors.resume(monitor)


@router.get("/v1/monitors/{monitor}/windows")
def list_windows(desk: Asked, monitor: str, *, limit: Limit = 50, page_token: Token = "") -> Page[dict[str, Any]]:
    """Windows that are open now; all on one page."""
    _ = limit, page_token
    return Page(items=desk.executions.windows(monitor), next_page_token="")


@router.get("/v1/monitors/{monitor}/executions")
def list_executions(
    desk: Asked,
    monitor: str,
    *,
    limit: Limit = 50,
    page_token: Token = "",
    status: ExecutionStatus | None = None,
    since: Since = 0.0,
) -> Page[Execution]:
    """List executions, newest window first."""
    items, following = desk.executions.page(monitor, limit=limit, page_token=page_token, status=status, since=since)
    return Page(items=items, next_page_token=following)


@router.get("/v1/executions/{execution}")
def get_execution(desk: Asked, execution: str) -> Execution:
    """Show one execution."""
    return desk.executions.get(execution)


@router.get("/v1/executions/{execution}/files/{file}")
def get_execution_file(desk: Asked, execution: str, file: str) -> Response:
    """`statistics.json`, `constraints.json` or `constraint_violations.json`."""
    return Response(desk.executions.file(execution, file), media_type="application/json")


@router.post("/v1/executions/{execution}/report")
async def draw_report(desk: Asked, execution: str) -> ReportPlace:
    """Draw the Evidently report now, unless it is there."""
    return ReportPlace(path=await desk.reports.draw(execution))


@router.get("/reports/{report}")
async def get_report(desk: Asked, report: str) -> Response:
    """A report as a page, drawn now where it is not there."""
    headers = {"content-security-policy": CONTENT_POLICY, "x-content-type-options": "nosniff"}
    return Response(await desk.reports.page(report), media_type="text/html; charset=utf-8", headers=headers)


@router.head("/reports/{report}")
async def head_report(desk: Asked, report: str) -> Response:
    """Whether there is such a report, or one could be asked for; nothing is drawn."""
    await desk.reports.check(report)
    return Response(media_type="text/html; charset=utf-8", headers={"content-security-policy": CONTENT_POLICY})


@router.get("/v1/violations")
def list_violations(
    desk: Asked,
    *,
    limit: Limit = 50,
    page_token: Token = "",
    monitor: Filter = "",
    endpoint: Filter = "",
    feature: Filter = "",
    since: Since = 0.0,
) -> Page[Violation]:
    """List violated checks with their windows, newest window first."""
    items, following = desk.executions.violations(
        limit=limit, page_token=page_token, monitor=monitor, endpoint=endpoint, feature=feature, since=since
    )
    found = [Violation.of(execution, result) for execution, result in items]
    return Page(items=found, next_page_token=following)


@router.post("/v1/ground-truth/{endpoint}")
async def put_ground_truth(desk: Asked, endpoint: str, request: Request) -> dict[str, int | list[str]]:
    """Take labels as JSON Lines, SageMaker's or `{"id": ..., "label": ...}`; counts by what became of them.

    `refused_lines` has number and reason of the first lines that are no labels, where there are any.
    """
    declared = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if declared not in LABEL_TYPES:
        raise InvalidArgument("send JSON Lines with the header content-type: application/jsonlines")
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        if len(body) > MAX_LABEL_BYTES:
            raise TooLarge(f"labels come in parts of at most {MAX_LABEL_BYTES} bytes")
    counts, refused = await desk.labels.take(endpoint, bytes(body))
    return {**counts, "refused_lines": refused} if refused else {**counts}


@router.get("/v1/alerts")
def list_alerts(
    desk: Asked, *, limit: Limit = 50, page_token: Token = "", state: AlertState | None = None, monitor: Filter = ""
) -> Page[Alert]:
    """List alerts; without a state all but those that are ok."""
    items, following = desk.alerts.page(limit=limit, page_token=page_token, state=state, monitor=monitor)
    return Page(items=items, next_page_token=following)


@router.post("/v1/alerts/{alert}/acknowledge")
def acknowledge_alert(desk: Asked, alert: str, document: Acknowledgement) -> Alert:
    """Say who looks after an alert."""
    return desk.alerts.acknowledge(alert, by=document.by)


@router.post("/v1/silences", status_code=201)
def create_silence(desk: Asked, document: SilenceCreate) -> Silence:
    """Send nothing about what matches for a while; what names nothing must say everything."""
    return desk.alerts.silence(
        for_s=document.for_s,
        monitor=document.monitor,
        endpoint=document.endpoint,
        feature=document.feature,
        everything=document.everything,
        comment=document.comment,
    )


@router.get("/v1/silences")
def list_silences(desk: Asked, *, limit: Limit = 50, page_token: Token = "") -> Page[Silence]:
    """Silences in force; all on one page."""
    _ = limit, page_token
    return Page(items=desk.alerts.silences(), next_page_token="")


@router.delete("/v1/silences/{silence}", status_code=204)
def end_silence(desk: Asked, silence: str) -> None:
    """End a silence now."""
    desk.alerts.end_silence(silence)


@router.post("/v1/webhooks", status_code=201)
async def create_webhook(desk: Asked, document: WebhookCreate) -> NewSecret:
    """Add a receiver; the signing secret is shown this once."""
    webhook, secret = await desk.webhooks.create(
        document.name, document.url, format=document.format, headers=document.headers
    )
    return NewSecret(webhook=webhook, secret=secret)


@router.get("/v1/webhooks")
def list_webhooks(desk: Asked, *, limit: Limit = 50, page_token: Token = "") -> Page[Webhook]:
    """Receivers by name; all on one page."""
    _ = limit, page_token
    return Page(items=desk.webhooks.list(), next_page_token="")


@router.get("/v1/webhooks/{webhook}")
def get_webhook(desk: Asked, webhook: str) -> Webhook:
    """Show a receiver."""
    return desk.webhooks.get(webhook)


@router.patch("/v1/webhooks/{webhook}")
async def change_webhook(desk: Asked, webhook: str, document: WebhookChange) -> Webhook:
    """Change the address or the headers, or switch it on or off."""
    return await desk.webhooks.update(webhook, url=document.url, enabled=document.enabled, headers=document.headers)


@router.delete("/v1/webhooks/{webhook}", status_code=204)
def delete_webhook(desk: Asked, webhook: str) -> None:
    """Remove a receiver with what waits for it."""
    desk.webhooks.delete(webhook)


@router.post("/v1/webhooks/{webhook}/secrets", status_code=201)
def rotate_secret(desk: Asked, webhook: str) -> NewSecret:
    """Make a new signing secret; the one before signs for a while too."""
    changed, secret = desk.webhooks.rotate(webhook)
    return NewSecret(webhook=changed, secret=secret)


@router.post("/v1/webhooks/{webhook}/test", status_code=202)
def test_webhook(desk: Asked, webhook: str) -> Notification:
    """Put a test message into the outbox."""
    return desk.webhooks.test(webhook)


@router.get("/v1/deliveries")
def list_deliveries(
    desk: Asked,
    *,
    limit: Limit = 50,
    page_token: Token = "",
    webhook: Filter = "",
    state: DeliveryState | None = None,
) -> Page[Notification]:
    """What was or will be sent, newest first."""
    items, following = desk.webhooks.deliveries(limit=limit, page_token=page_token, webhook=webhook, state=state)
    return Page(items=items, next_page_token=following)


@router.post("/v1/deliveries/{delivery}/redeliver", status_code=202)
def redeliver(desk: Asked, delivery: str) -> Notification:
    """Send a delivery again, under the same id."""
    return desk.webhooks.redeliver(delivery)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
