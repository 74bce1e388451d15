"""Registry and inference together: statuses follow what replicas really do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.suite import Suite
from tests.system.test_registry_processes import graph


def wait_for(http: httpx.Client, name: str, *statuses: str) -> dict[str, Any]:
    """The endpoint when it has one of these statuses."""
    deadline = time.monotonic() + 60
    while True:
        endpoint = dict(http.get(f"/v1/endpoints/{name}").json())
        if endpoint.get("status") in statuses:
            return endpoint
        assert time.monotonic() < deadline, endpoint
        time.sleep(0.02)  # another process moves it; only asking shows when


@pytest.mark.slow
def test_an_endpoint_lives_as_its_replicas_do(tmp_path: Path) -> None:
    """Creating to InService, an update, one that fails and goes back, stop, start, delete."""
    env = {"VEDETTE_REGISTRY__LEASE_S": "3"}
    with Suite(tmp_path, env=env) as suite, httpx.Client(base_url=suite.registry_http, timeout=60.0) as http:
        for seed in (1, 2, 3):
            assert http.post("/v1/models/m/versions", content=graph(seed)).status_code == 201
        assert http.post("/v1/endpoints", json={"name": "m", "version": 1}).json()["status"] == "Creating"
        assert wait_for(http, "m", "InService", "Failed")["serving_generation"] == 1
        body = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [1.0] * 64}]}
        first = httpx.post(f"{suite.http}/v2/models/m/infer", json=body).json()
        assert first["model_version"] == "1"

        config = {"model": "m", "variants": [{"name": "primary", "version": 2}]}
        assert http.put("/v1/endpoints/m", json={"config": config}).json()["status"] == "Updating"
        assert wait_for(http, "m", "InService")["serving_generation"] == 2
        assert httpx.post(f"{suite.http}/v2/models/m/infer", json=body).json()["model_version"] == "2"

        digest = http.get("/v1/models/m/versions/3").json()["digest"]
        stored = next(path for path in (tmp_path / "registry").rglob("model.onnx") if digest in str(path))
        stored.chmod(0o644)
        stored.write_bytes(stored.read_bytes()[:-1] + b"\0")
        config["variants"][0]["version"] = 3  # type: ignore[index]
        http.put("/v1/endpoints/m", json={"config": config})
        back = wait_for(http, "m", "InService", "Failed")
        assert (back["status"], back["generation"], back["config"]["variants"][0]["version"]) == ("InService", 4, 2)
        assert "generation 3 failed" in back["reason"]
        assert httpx.post(f"{suite.http}/v2/models/m/infer", json=body).json()["model_version"] == "2"

        assert http.post("/v1/endpoints/m/stop").json()["status"] == "OutOfService"
        assert http.post("/v1/endpoints/m/start").json()["status"] == "Creating"
        assert wait_for(http, "m", "InService", "Failed")["status"] == "InService"
        assert http.delete("/v1/endpoints/m").status_code == 202
        deadline = time.monotonic() + 30
        while http.get("/v1/endpoints/m").status_code != 404:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # the replica has to let go first
        assert httpx.post(f"{suite.http}/v2/models/m/infer", json=body).status_code == 404
