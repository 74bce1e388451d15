"""Bulletins in the formats of receivers: CloudEvents, Slack, Alertmanager.

Rule: pure, and the same bytes for the same bulletin, so that every attempt says the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vedette.entities.alerts import Alert, AlertState, Notification, Webhook, WebhookFormat
from vedette.ports.alerts import Bulletin, Outgoing

_SLACK_ALERTS = 20
"""Alerts that one message in a chat lists; the rest is a number."""
_SLACK_TEXT = 2_900
_EXPIRES_S = 365 * 86_400.0
"""Alertmanager lets an alert end by itself unless told otherwise: ours end when we say so."""
_ALERTMANAGER_PATH = "/api/v2/alerts"
_LABELS = ("monitor", "endpoint", "variant", "segment", "check", "feature")

Json = Any


@dataclass(frozen=True, slots=True)
class Payload:
    """A body and what it is."""

    body: bytes
    content_type: str


def render(outgoing: Outgoing, format: WebhookFormat, *, public_url: str = "") -> Payload:
    """The body for a receiver of this format. `public_url` is where people reach the monitor: for links."""
    return _FORMATS[format](outgoing.notification, outgoing.bulletin, public_url.rstrip("/"))


def destination(webhook: Webhook) -> str:
    """The URL that a webhook's messages go to: Alertmanager's is completed with the path of its API."""
    if webhook.format != "alertmanager":
        return webhook.url
    url, mark, query = webhook.url.partition("?")
    url = url.rstrip("/")
    return (url if url.endswith(_ALERTMANAGER_PATH) else url + _ALERTMANAGER_PATH) + mark + query


def _json(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _instant(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fires(bulletin: Bulletin) -> bool:
    return any(alert.state is AlertState.FIRING for alert in bulletin.alerts)


def _report(alert: Alert, public_url: str) -> str:
    return f"{public_url}/reports/{alert.execution}.html" if public_url and alert.execution else ""


def _cloudevent(notification: Notification, bulletin: Bulletin, public_url: str) -> Payload:
    """CloudEvents 1.0, structured: type `vedette.alerts.firing`, `vedette.alerts.resolved` or `vedette.test`."""
    kind = "test" if bulletin.kind == "test" else "alerts.firing" if _fires(bulletin) else "alerts.resolved"
    event = {
        "specversion": "1.0",
        "id": notification.id,
        "source": public_url or "/vedette/monitor",
        "type": f"vedette.{kind}",
        "subject": bulletin.topic,
        "time": _instant(notification.created_at),
        "datacontenttype": "application/json",
        "data": {
            "status": "test" if bulletin.kind == "test" else "firing" if _fires(bulletin) else "resolved",
            "window": _window(*_newest(bulletin)),
            "alerts": [_described(alert, public_url) for alert in bulletin.alerts],
        },
    }
    return Payload(_json(event), "application/cloudevents+json; charset=utf-8")


def _newest(bulletin: Bulletin) -> tuple[float, float]:
    """The newest window that the alerts tell of; that of the bulletin where they name none."""
    windows = [(alert.start, alert.end) for alert in bulletin.alerts if alert.end]
    return max(windows, default=(bulletin.start, bulletin.end))


def _window(start: float, end: float) -> dict[str, Json] | None:
    return {"start": _instant(start), "end": _instant(end)} if end else None


def _described(alert: Alert, public_url: str) -> dict[str, Json]:
    names = ("id", *_LABELS, "version", "description", "history", "execution", "acknowledged_by")
    document: dict[str, Json] = {name: getattr(alert, name) for name in names}
    return document | {
        "state": alert.state.value,
        "value": _number(alert.value),
        "threshold": _number(alert.threshold),
        "since": _instant(alert.since),
        "window": _window(alert.start, alert.end),
        "report": _report(alert, public_url),
    }


def _number(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _escaped(text: str) -> str:
    """Text that Slack shows as it is: no links, mentions or markup can be made with it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack(notification: Notification, bulletin: Bulletin, public_url: str) -> Payload:
    """A message of an incoming webhook: one line as `text` for notifications, the alerts as blocks."""
    if bulletin.kind == "test":
        headline = "vedette: a test of this webhook"
    else:
        word = "FIRING" if _fires(bulletin) else "RESOLVED"
        headline = f"{word}: {len(bulletin.alerts)} alert(s) of {bulletin.topic}"
    lines = [_slack_line(alert, public_url) for alert in bulletin.alerts[:_SLACK_ALERTS]]
    if len(bulletin.alerts) > _SLACK_ALERTS:
        lines.append(f"and {len(bulletin.alerts) - _SLACK_ALERTS} more")
    header = {"type": "header", "text": {"type": "plain_text", "text": headline[:150]}}
    blocks = [header, *({"type": "section", "text": {"type": "mrkdwn", "text": line}} for line in lines)]
    foot = {"type": "context", "elements": [{"type": "plain_text", "text": notification.id}]}
    return Payload(_json({"text": _escaped(headline), "blocks": [*blocks, foot]}), "application/json")


def _slack_line(alert: Alert, public_url: str) -> str:
    what = f"{alert.check} of {alert.feature}" if alert.feature else alert.check
    where = f" in {alert.segment}" if alert.segment else ""
    text = f"{alert.state.value}: {_escaped(what + where)}"
    if alert.description:
        text += f"\n{_escaped(alert.description)}"
    text = text[:_SLACK_TEXT]
    report = _report(alert, public_url)
    return f"{text}\n<{report}|report>" if report else text


def _labels(alert: Alert) -> dict[str, str]:
    """What identifies an alert to Alertmanager, which drops empty labels itself."""
    held = {name: str(getattr(alert, name)) for name in _LABELS if getattr(alert, name)}
    return {"alertname": f"vedette_{alert.check}", **held}


def _annotations(alert: Alert) -> dict[str, str]:
    what = f"{alert.check} of {alert.feature}" if alert.feature else alert.check
    texts = {
        "summary": f"{what} on {alert.endpoint}",
        "description": alert.description,
        "value": "" if alert.value is None else repr(alert.value),
        "threshold": "" if alert.threshold is None else repr(alert.threshold),
        "version": alert.version,
    }
    return {name: text for name, text in texts.items() if text}


def _alertmanager(notification: Notification, bulletin: Bulletin, public_url: str) -> Payload:
    """The body of `POST /api/v2/alerts`: what a Prometheus server sends."""
    return Payload(_json([_posted(alert, public_url) for alert in _shown(notification, bulletin)]), "application/json")


def _shown(notification: Notification, bulletin: Bulletin) -> tuple[Alert, ...]:
    """The alerts; of a test one that is over already, so that it reaches the receiver and wakes nobody."""
    if bulletin.kind != "test":
        return bulletin.alerts
    at = notification.created_at
    return (Alert("test", "test", "", "", "", "webhook_test", "", AlertState.RESOLVED, since=at, updated_at=at),)


def _posted(alert: Alert, public_url: str) -> dict[str, Json]:
    fires = alert.state is AlertState.FIRING
    document: dict[str, Json] = {
        "labels": _labels(alert),
        "annotations": _annotations(alert),
        "endsAt": _instant(alert.since + _EXPIRES_S if fires else alert.since),
    }
    if fires:
        document["startsAt"] = _instant(alert.since)
    report = _report(alert, public_url)
    return document | ({"generatorURL": report} if report else {})


def _alertmanager_webhook(notification: Notification, bulletin: Bulletin, public_url: str) -> Payload:
    """What Alertmanager itself sends to its webhook receivers (version 4), for programs that read that."""
    alerts = [_received(alert, public_url) for alert in _shown(notification, bulletin)]
    common = {"monitor": "", "endpoint": "", "variant": ""}
    if bulletin.alerts:
        common = {name: str(getattr(bulletin.alerts[0], name)) for name in common}
    common = {name: value for name, value in common.items() if value}
    document = {
        "version": "4",
        "groupKey": "{}:{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in common.items()) + "}",
        "truncatedAlerts": 0,
        "status": "firing" if _fires(bulletin) else "resolved",
        "receiver": notification.webhook,
        "groupLabels": common,
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": public_url,
        "alerts": alerts,
    }
    return Payload(_json(document), "application/json")


def _received(alert: Alert, public_url: str) -> dict[str, Json]:
    fires = alert.state is AlertState.FIRING
    labels = _labels(alert)
    return {
        "status": "firing" if fires else "resolved",
        "labels": labels,
        "annotations": _annotations(alert),
        "startsAt": _instant(alert.since),
        "endsAt": "0001-01-01T00:00:00Z" if fires else _instant(alert.since),
        "generatorURL": _report(alert, public_url),
        "fingerprint": hashlib.sha256(_json(labels)).hexdigest()[:16],
    }


_FORMATS: dict[WebhookFormat, Callable[[Notification, Bulletin, str], Payload]] = {
    "cloudevents": _cloudevent,
    "slack": _slack,
    "alertmanager": _alertmanager,
    "alertmanager_webhook": _alertmanager_webhook,
}
"""The formats by name; one for every name of `entities.alerts.WebhookFormat`."""
