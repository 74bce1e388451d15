"""Watching the running product: traffic that shifts, the signed alert, and every place that tells of it the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.onnx_models import row_sum
from tests.suite import Suite

import vedette
from vedette.cli.demo.receiver import Arrival, Receiver
from vedette.codec.webhook_signatures import verify
from vedette.core.errors import Unauthenticated
from vedette.core.models import CaptureSettings, EndpointConfig, Variant
from vedette.entities.alerts import AlertState, DeliveryState
from vedette.entities.monitors import CheckSettings, Execution, Monitor
from vedette.sdk.documents import Details, SignatureDetails

FEATURES = ("a", "b", "c", "d")
PATIENCE_S = 90.0
ROWS = 10
"""Rows of a request."""


@contextmanager
def running(folder: Path) -> Iterator[tuple[Suite, vedette.Client]]:
    """The three services in processes of their own, and a client of them."""
    env = {"VEDETTE_MONITOR__WEBHOOK_ALLOWED_HOSTS": '["127.0.0.1"]'}
    with (
        Suite(folder, ("registry", "inference", "monitor"), env) as suite,
        vedette.Client(suite.http, suite.registry_http, suite.monitor_http) as client,
    ):
        yield suite, client


def until(reached: Callable[[], object], otherwise: str) -> None:
    """Wait for something that only asking can tell."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def rows_of(draw: np.random.Generator, count: int, *, shift: float = 0.0) -> NDArray[np.float64]:
    """Rows of four features; `shift` moves the first, in standard deviations."""
    rows: NDArray[np.float64] = draw.normal(size=(count, len(FEATURES)))
    rows[:, 0] += shift
    return rows


def prepared(client: vedette.Client, draw: np.random.Generator) -> None:
    """A regression `sums` that is captured whole, with a baseline of rows, predictions and labels."""
    client.models.register("sums", row_sum(), details=Details(SignatureDetails(feature_names=FEATURES)))
    config = EndpointConfig("sums", (Variant("primary", version=1),), capture=CaptureSettings(100.0))
    client.endpoints.deploy("sums", config=config)
    client.endpoints.wait_in_service("sums")
    rows = rows_of(draw, 2_000)
    columns = dict(zip(FEATURES, rows.T, strict=True))
    labels = rows.sum(axis=1) + draw.normal(0, 0.1, len(rows))
    made = client.baselines.create("sums", 1, {**columns, "prediction": rows.sum(axis=1), "label": labels})
    assert made.rows == 2_000


class Traffic:
    """Requests of ten rows, each under an id, with what the labels of its rows would be."""

    def __init__(self, client: vedette.Client, draw: np.random.Generator) -> None:
        self._client = client
        self._draw = draw
        self.truth: dict[str, list[float]] = {}

    def send(self, *, shift: float = 0.0) -> None:
        """One request."""
        rows = rows_of(self._draw, ROWS, shift=shift)
        name = f"request-{len(self.truth)}"
        self.truth[name] = rows.sum(axis=1).tolist()
        self._client.predict("sums", rows, inference_id=name)


def signed(secret: str) -> Callable[[dict[str, str], bytes], bool]:
    """Whether a message is from who knows the secret, and of now."""

    def check(headers: dict[str, str], body: bytes) -> bool:
        try:
            verify(secret, headers, body, now=time.time())
        except Unauthenticated:
            return False
        return True

    return check


def alerted(traffic: Traffic, receiver: Receiver) -> Arrival:
    """Send shifted rows until the alert arrives."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        traffic.send(shift=2.0)
        arrival = receiver.take(0.02)
        if arrival is not None and arrival.document["data"]["status"] == "firing":
            return arrival
    raise AssertionError("no alert came")


def series(page: str, name: str, **labels: str) -> float | None:
    """The value of one series; labels that are not given may be anything."""
    for line in page.splitlines():
        found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if found and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', found[1])).items():
            return float(found[2])
    return None


def check_files(suite: Suite, client: vedette.Client, execution: Execution) -> None:
    """SageMaker's documents say what the execution says, over HTTP and on disk."""
    moved = client.monitors.file(execution.id, "constraint_violations.json")
    assert {each["feature_name"] for each in moved["violations"]} == {each.feature for each in execution.violations}
    statistics = client.monitors.file(execution.id, "statistics.json")
    assert statistics["dataset"]["item_count"] == execution.rows
    assert {"a", "prediction"} <= {each["name"] for each in statistics["features"]}
    folder = suite.data_dir / "monitor" / "results" / "sums" / "night"
    until(lambda: list(folder.rglob(f"{execution.id}/constraint_violations.json")), "no files on disk")
    place = next(folder.rglob(execution.id))
    assert json.loads((place / "constraint_violations.json").read_text()) == moved
    assert json.loads((place / "statistics.json").read_text()) == statistics


def check_metrics(suite: Suite, client: vedette.Client, moved: Execution) -> None:
    """Prometheus reads the same story; promtool finds nothing to say about the page."""

    def page() -> str:
        return httpx.get(f"{suite.monitor_http}/metrics", timeout=10).raise_for_status().text

    until(lambda: series(page(), "vedette_deliveries_total", webhook="here", outcome="delivered"), "not delivered")
    until(lambda: series(page(), "vedette_alerts", monitor="night", state="firing"), "no alert is counted")
    until(lambda: series(page(), "vedette_stream_lag_messages", topic="captures", group="monitor") == 0.0, "it lags")
    text = page()
    scores = {
        result.value
        for execution in client.monitors.executions("night", since=moved.end)
        for result in execution.results
        if (result.check, result.feature) == ("drift", "a") and result.value is not None
    }
    score = series(text, "vedette_monitor_score", monitor="night", endpoint="sums", check="drift", feature="a")
    assert score is not None
    assert any(score == pytest.approx(value) for value in scores)
    assert series(text, "vedette_monitor_state", monitor="night", check="drift", feature="a") == 1
    assert series(text, "vedette_monitor_state", monitor="night", check="drift", feature="b") == 0
    windows = {what: series(text, "vedette_monitor_windows_total", monitor="night", outcome=what) or 0.0
               for what in ("due", "evaluated", "small", "empty", "failed")}  # fmt: skip
    assert windows["evaluated"] >= 1
    assert windows["failed"] == 0
    assert windows["due"] >= windows["evaluated"]
    firing = list(client.alerts.list(state=AlertState.FIRING, monitor="night"))
    assert series(text, "vedette_alerts", monitor="night", state="firing") == len(firing) > 0
    assert series(text, "vedette_monitor_rows_total", endpoint="sums", outcome="folded") >= moved.rows
    assert not series(text, "vedette_monitor_lost_captures_total", endpoint="sums")
    promtool = shutil.which("promtool")
    assert promtool or not os.environ.get("VEDETTE_NO_SKIPS"), "promtool is not installed"
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def check_late_labels(client: vedette.Client, traffic: Traffic, before: Execution) -> None:
    """Ground truth that comes after the result opens it again: the predictions were wrong."""
    skipped = [result for result in before.results if result.check == "model_quality"]
    assert (before.revision, before.labels) == (1, 0)
    assert {result.outcome for result in skipped} == {"skipped"}
    counts = client.monitors.ground_truth("sums", {name: [y + 5.0 for y in ys] for name, ys in traffic.truth.items()})
    assert counts["joined"] > 0
    assert counts["refused"] == 0
    until(lambda: client.monitors.execution(before.id).revision >= 2, "the result was not opened again")
    after = client.monitors.execution(before.id)
    assert (after.revision, after.labels, after.rows) == (2, before.rows, before.rows)
    quality = {result.feature: result for result in after.results if result.check == "model_quality"}
    assert quality["rmse"].outcome == "violated"
    assert quality["rmse"].value == pytest.approx(5.0, abs=1e-3)
    drift = [result for result in before.results if result.check == "drift"]
    assert [result for result in after.results if result.check == "drift"] == drift


def test_a_shift_is_told_to_everybody(tmp_path: Path) -> None:
    """Capture, baseline, monitor, alert, files, metrics, late labels: one story from end to end."""
    draw = np.random.default_rng(5)
    with running(tmp_path) as (suite, client), Receiver() as receiver:
        prepared(client, draw)
        receiver.verify = signed(client.webhooks.create("here", receiver.url).secret)
        checks = (CheckSettings("drift"), CheckSettings("model_quality", {"problem_type": "Regression"}))
        client.monitors.create(
            Monitor("night", "sums", checks=checks, window_s=5.0, lateness_s=1.0, reports="on_demand")
        )
        traffic = Traffic(client, draw)
        arrival = alerted(traffic, receiver)
        told = {alert["feature"]: alert for alert in arrival.document["data"]["alerts"]}
        assert "a" in told
        assert receiver.refused == 0
        moved = client.monitors.execution(told["a"]["execution"])
        assert {"a"} <= {result.feature for result in moved.violations} <= {"a", "prediction"}
        assert set(told) == {result.feature for result in moved.violations}
        listed = [each for each in client.monitors.violations(monitor="night") if each.execution == moved.id]
        assert [each.feature for each in listed] == [result.feature for result in moved.violations]
        until(lambda: list(client.webhooks.deliveries(webhook="here", state=DeliveryState.DELIVERED)), "not delivered")
        check_files(suite, client, moved)
        check_metrics(suite, client, moved)
        check_late_labels(client, traffic, moved)
