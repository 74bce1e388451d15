"""The running product: versions change under load, the registry goes away, the service restarts without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests import inference_models as models
from tests.suite import Suite

SWITCHES = 100
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.0]}]}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Registry and inference as processes of their own, with `adder` deployed at version 1 of 2."""
    with Suite(tmp_path_factory.mktemp("swap")) as running:
        for constant in (1.0, 2.0):
            register(running, "adder", models.constant_adder(constant).data)
        deploy(running, "adder", 1, create=True)
        yield running


def register(suite: Suite, model: str, data: bytes) -> None:
    """Upload a version."""
    url = f"{suite.registry_http}/v1/models/{model}/versions"
    httpx.post(url, content=data, timeout=60).raise_for_status()


def deploy(suite: Suite, endpoint: str, version: int, *, create: bool = False) -> None:
    """Want a version and wait until the registry says that it is in service."""
    url = f"{suite.registry_http}/v1/endpoints"
    config = {"model": "adder", "variants": [{"name": "primary", "version": version}]}
    if create:
        response = httpx.post(url, json={"name": endpoint, "config": config}, timeout=30)
    else:
        response = httpx.put(f"{url}/{endpoint}", json={"config": config}, timeout=30)
    response.raise_for_status()
    generation = response.json()["generation"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = httpx.get(f"{url}/{endpoint}", timeout=30).json()
        if state["status"] == "InService" and state["serving_generation"] >= generation:
            return
        time.sleep(0.005)  # the registry's state is asked for as a user would
    raise AssertionError(state)


def predict(client: httpx.Client, suite: Suite) -> tuple[str, float]:
    """Version and value of one prediction."""
    document = client.post(f"{suite.http}/v2/models/adder/infer", json=BODY).raise_for_status().json()
    return document["model_version"], document["outputs"][0]["data"][0]


def loaded(suite: Suite) -> int:
    """Versions in memory, as /metrics says once the last replaced one is drained."""
    deadline = time.monotonic() + 10
    while True:
        lines = httpx.get(f"{suite.http}/metrics").text.splitlines()
        count = sum(float(line.split()[-1]) for line in lines if line.startswith("vedette_models_loaded"))
        if count == 1 or time.monotonic() > deadline:
            return int(count)
        time.sleep(0.02)


@pytest.mark.slow
def test_a_hundred_switches_under_load_fail_no_request(suite: Suite) -> None:
    """Clients see version 1 or 2, each with its own answer, and not a single error."""
    stop = threading.Event()
    answers: list[tuple[str, float]] = []
    failures: list[Exception] = []

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                try:
                    answers.append(predict(client, suite))
                except Exception as error:
                    failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for switch in range(SWITCHES):
            deploy(suite, "adder", 1 + (switch + 1) % 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert set(answers) == {("1", 1.0), ("2", 2.0)}
    assert loaded(suite) == 1


def test_predictions_go_on_without_the_registry_and_through_a_restart(tmp_path: Path) -> None:
    """The registry stops, then inference starts again with nobody at the registry's address: same answers."""
    with Suite(tmp_path) as suite, httpx.Client(timeout=30) as client:
        register(suite, "adder", models.constant_adder(1.0).data)
        deploy(suite, "adder", 1, create=True)
        assert suite.stop("registry") == 0
        assert predict(client, suite) == ("1", 1.0)
    nobody = {"VEDETTE_INFERENCE__REGISTRY_ADDRESS": "127.0.0.1:1"}
    with Suite(tmp_path, ("inference",), nobody) as suite, httpx.Client(timeout=30) as client:
        assert predict(client, suite) == ("1", 1.0)
        assert client.get(f"{suite.http}/v2/health/ready").status_code == 200


def test_the_artifact_cache_holds_only_what_may_be_needed(suite: Suite) -> None:
    """Nothing half-fetched is left in the service's folder."""
    cache = suite.data_dir / "inference"
    assert list((cache / "incoming").iterdir()) == []
    assert [path.name for path in (cache / "deployments").iterdir()] == ["adder.json"]
