"""Registry, inference and monitor as processes: captured traffic becomes results, and a killed monitor goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.onnx_models import row_sum
from tests.suite import Suite

NAMES = ("x_0", "x_1", "x_2", "x_3")


def deployed(suite: Suite) -> None:
    """Model `m` behind the endpoint `m`, every request captured, and a baseline of standard normal features."""
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(2_000, 4))
    table = "\n".join([",".join(NAMES), *(",".join(f"{value:.6f}" for value in row) for row in rows)])
    with httpx.Client(base_url=suite.registry_http, timeout=60.0) as http:
        assert http.post("/v1/models/m/versions", content=row_sum()).status_code == 201
        config = {
            "model": "m",
            "variants": [{"name": "primary", "version": 1}],
            "capture": {"sampling_percent": 100},
        }
        made = http.post("/v1/endpoints", json={"name": "m", "config": config})
        assert made.status_code == 201, made.text
        until(lambda: http.get("/v1/endpoints/m").json()["status"] == "InService")
    query = {"model": "m", "version": 1, "format": "csv"}
    stored = httpx.post(f"{suite.monitor_http}/v1/baselines", params=query, content=table.encode(), timeout=60.0)
    assert stored.status_code == 201, stored.text


def until(fact: Callable[[], Any], *, timeout_s: float = 60.0) -> Any:
    """The first answer that is true; other processes make it so, and only asking shows when."""
    deadline = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return found


class Traffic:
    """Requests of eight rows each."""

    def __init__(self, suite: Suite) -> None:
        self._http = httpx.Client(base_url=suite.http, timeout=30.0)
        self._draw = np.random.default_rng(2)
        self.shift = 0.0

    def send(self) -> None:
        """Two hundred rows; the third feature is moved by the shift."""
        for _ in range(25):
            rows = self._draw.normal(size=(8, 4))
            rows[:, 2] += self.shift
            tensor = {"name": "x", "shape": [8, 4], "datatype": "FP32", "data": rows.ravel().tolist()}
            assert self._http.post("/v2/models/m/infer", json={"inputs": [tensor]}).status_code == 200

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


@pytest.mark.slow
def test_traffic_becomes_results_and_a_killed_monitor_goes_on(tmp_path: Path) -> None:
    """A window as before is fine; the worker is killed and comes back; a shift is found and says which feature."""
    with Suite(tmp_path, ("registry", "inference", "monitor")) as suite:
        deployed(suite)
        traffic = Traffic(suite)
        monitor = {
            "name": "watch", "endpoint": "m", "window_s": 5, "lateness_s": 1, "min_rows": 50,
            "checks": [{"check": "drift"}], "reports": "on_demand",
        }  # fmt: skip
        with httpx.Client(base_url=suite.monitor_http, timeout=30.0) as http:
            assert http.post("/v1/monitors", json=monitor).status_code == 201

            def results(status: str) -> list[dict[str, Any]]:
                traffic.send()
                found = http.get("/v1/monitors/watch/executions", params={"status": status}).json()["items"]
                return [each for each in found if each["results"]]

            assert until(lambda: http.get("/v1/monitors/watch").json()["status"] == "Scheduled")
            until(lambda: results("Completed"))
            (worker,) = suite.workers("monitor")
            os.kill(worker, signal.SIGKILL)
            until(lambda: suite.workers("monitor") not in ([], [worker]))
            before = until(lambda: up(http) and len(results("Completed")))
            traffic.shift = 2.0
            (violated, *_) = until(lambda: results("CompletedWithViolations"))
            assert {each["feature"] for each in violated["results"] if each["outcome"] == "violated"} >= {"x_2"}
            assert before
            every = http.get("/v1/monitors/watch/executions", params={"limit": 100}).json()["items"]
            starts = [each["start"] for each in every]
            assert len(set(starts)) == len(starts)
            assert http.get("/v1/alerts").json()["items"]
        traffic.close()


def up(http: httpx.Client) -> bool:
    """Whether the monitor answers again."""
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
