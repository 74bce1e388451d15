"""The formats of receivers: as their documentation has them, and as a real Alertmanager takes them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from tests.webhook_receiver import Post, bulletin, sending

from vedette.core.clock import SystemClock
from vedette.entities.alerts import AlertState, DeliveryState, Notification, Webhook, WebhookFormat
from vedette.monitor.alerting.payloads import destination, render
from vedette.ports.alerts import Bulletin, Outgoing

NOTIFICATION = Notification("msg_1", "w", DeliveryState.WAITING, 0, 1_700_000_000.25)
URL = "https://monitor.example/"


def document(format: WebhookFormat, said: Bulletin | None = None, *, public_url: str = URL) -> Any:
    """The body as JSON."""
    return json.loads(render(Outgoing(NOTIFICATION, said or bulletin()), format, public_url=public_url).body)


def ended(said: Bulletin) -> Bulletin:
    """The same alerts, over."""
    return replace(said, alerts=tuple(replace(alert, state=AlertState.RESOLVED) for alert in said.alerts))


def test_a_cloudevent() -> None:
    """CloudEvents 1.0, structured, with everything that is known of each alert."""
    payload = render(Outgoing(NOTIFICATION, bulletin()), "cloudevents", public_url=URL)
    assert payload.content_type.startswith("application/cloudevents+json")
    event = json.loads(payload.body)
    assert {name: event[name] for name in ("specversion", "id", "source", "type", "subject", "time")} == {
        "specversion": "1.0",
        "id": "msg_1",
        "source": "https://monitor.example",
        "type": "vedette.alerts.firing",
        "subject": "m/e/A",
        "time": "2023-11-14T22:13:20.250Z",
    }
    alert = event["data"]["alerts"][0]
    assert (alert["check"], alert["feature"], alert["state"], alert["value"]) == ("drift", "age", "firing", 0.5)
    assert alert["report"] == "https://monitor.example/reports/x1.html"
    assert event["data"]["window"] == {"start": "1970-01-01T00:16:35.000Z", "end": "1970-01-01T00:16:40.000Z"}
    assert document("cloudevents", ended(bulletin()))["type"] == "vedette.alerts.resolved"


def test_windows_are_those_of_the_alerts() -> None:
    """The event's window is the newest of its alerts', whatever window caused the message."""
    (alert,) = bulletin().alerts
    older = replace(alert, id="b", start=2_000.0, end=2_005.0)
    said = replace(bulletin(), alerts=(older, replace(alert, start=2_010.0, end=2_015.0)))
    data = document("cloudevents", said)["data"]
    assert data["window"] == {"start": "1970-01-01T00:33:30.000Z", "end": "1970-01-01T00:33:35.000Z"}
    assert [each["window"]["start"][14:19] for each in data["alerts"]] == ["33:20", "33:30"]


def test_a_slack_message() -> None:
    """A line for the notification, a block for each alert up to twenty; nothing in it becomes markup."""
    message = document("slack", bulletin("<!channel> & <https://evil.example|click>"))
    assert message["text"] == "FIRING: 1 alert(s) of m/e/A"
    section = message["blocks"][1]["text"]
    assert section["type"] == "mrkdwn"
    assert "&lt;!channel&gt; &amp; &lt;https" in section["text"]
    assert "<!channel>" not in section["text"]
    assert section["text"].endswith("<https://monitor.example/reports/x1.html|report>")
    many = replace(bulletin(), alerts=bulletin("x" * 9_000).alerts * 70)
    message = document("slack", many)
    assert len(message["blocks"]) <= 50
    assert all(len(block["text"]["text"]) <= 3_000 for block in message["blocks"] if block["type"] == "section")
    assert "and 50 more" in json.dumps(message)


def test_alerts_for_alertmanager() -> None:
    """What Prometheus posts: labels that name the alert and never change while it lasts."""
    posted = document("alertmanager")[0]
    labels = {"alertname": "vedette_drift", "monitor": "m", "endpoint": "e", "variant": "A", "check": "drift"}
    assert posted["labels"] == labels | {"feature": "age"}
    assert posted["startsAt"] == "1970-01-01T00:16:40.000Z"
    assert posted["endsAt"] > "1971"
    over = document("alertmanager", ended(bulletin()))[0]
    assert (over["labels"], over["endsAt"]) == (posted["labels"], "1970-01-01T00:16:40.000Z")


def test_what_alertmanagers_own_receivers_get() -> None:
    """Version 4 of its webhook format."""
    message = document("alertmanager_webhook")
    assert (message["version"], message["status"], message["receiver"]) == ("4", "firing", "w")
    assert message["groupKey"] == '{}:{monitor="m", endpoint="e", variant="A"}'
    alert = message["alerts"][0]
    assert (alert["status"], alert["endsAt"], len(alert["fingerprint"])) == ("firing", "0001-01-01T00:00:00Z", 16)
    over = document("alertmanager_webhook", ended(bulletin()))
    assert over["status"] == over["alerts"][0]["status"] == "resolved"
    assert over["alerts"][0]["fingerprint"] == alert["fingerprint"]


@pytest.mark.parametrize("format", get_args(WebhookFormat))
def test_every_format_says_the_same_every_time(format: WebhookFormat) -> None:
    """Attempts differ in nothing but their time; numbers that JSON has not, odd text and tests are no trouble."""
    odd = replace(bulletin("\x00\u202e'\"<>&\n"), alerts=())
    infinite = replace(bulletin(), alerts=tuple(replace(a, value=float("inf")) for a in bulletin().alerts))
    for said in (bulletin(), odd, infinite, Bulletin("test", "test/x", ())):
        first, second = (render(Outgoing(NOTIFICATION, said), format, public_url=URL) for _ in range(2))
        assert first == second
        json.loads(first.body, parse_constant=pytest.fail)
    assert "reports" not in json.dumps(document(format, public_url=""))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://am.example:9093", "http://am.example:9093/api/v2/alerts"),
        ("http://am.example:9093/", "http://am.example:9093/api/v2/alerts"),
        ("http://am.example/prefix?x=1", "http://am.example/prefix/api/v2/alerts?x=1"),
        ("http://am.example/api/v2/alerts", "http://am.example/api/v2/alerts"),
    ],
)
def test_alertmanagers_address_is_completed(url: str, expected: str) -> None:
    """Others are used as they are."""
    assert destination(Webhook("w", url, "alertmanager")) == expected
    assert destination(Webhook("w", url)) == url


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """A real Alertmanager on a free port; skips where there is none."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("Alertmanager is not installed (Debian: prometheus-alertmanager)")
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    command = [program, f"--config.file={config}", f"--storage.path={tmp_path}/data", "--cluster.listen-address="]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{listening(process)}"
        finally:
            process.terminate()
            process.wait(10)


def listening(process: subprocess.Popen[bytes]) -> int:
    """The port that a process listens on, from the kernel's table: its log names the one that it was told."""
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        sockets = {str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()}
        for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                return int(local.rpartition(":")[2], 16)
        time.sleep(0.02)
    pytest.fail("Alertmanager does not listen")


async def test_a_real_alertmanager_takes_alerts_and_their_end(alertmanager: str) -> None:
    """It shows the alert with its labels, and shows it no more when it has ended."""
    clock = SystemClock()
    post = Post(clock=clock)  # type: ignore[arg-type]
    post.add("w", alertmanager, format="alertmanager")
    now = clock.time()
    fires = replace(bulletin(), alerts=tuple(replace(alert, since=now - 60.0) for alert in bulletin().alerts))
    over = replace(fires, alerts=tuple(replace(a, since=now, state=AlertState.RESOLVED) for a in fires.alerts))
    async with sending(post.store, clock=clock, public_url=URL), httpx.AsyncClient(base_url=alertmanager) as api:
        for name, said, shown in (("d1", fires, 1), ("d2", over, 0), ("d3", Bulletin("test", "t", ()), 0)):
            post.post(name, content=said)
            done = await post.ended(name)
            assert (done.state, done.last_error) == (DeliveryState.DELIVERED, "")
            found = (await api.get("/api/v2/alerts")).json()
            assert len(found) == shown
            if shown:
                assert found[0]["labels"]["feature"] == "age"
                assert found[0]["annotations"]["description"] == "moved"
                assert found[0]["generatorURL"] == "https://monitor.example/reports/x1.html"
