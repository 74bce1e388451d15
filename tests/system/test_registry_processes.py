"""The registry as real processes: killed at random moments, two on one database, ended under a watch."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.suite import Suite

from vedette.core.errors import Unavailable
from vedette.core.ports import Change, Synced
from vedette.registry.client import GrpcRegistry

COLUMNS = 64


def graph(seed: int, *, columns: int = COLUMNS) -> bytes:
    """A real graph that no other seed makes: a matrix product of 16 KiB."""
    weights = np.random.default_rng(seed).normal(size=(columns, columns)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", columns])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


class Uploader(threading.Thread):
    """Uploads graph after graph, whatever happens, and keeps what was acknowledged."""

    def __init__(self, url: str, seeds: itertools.count[int], acknowledged: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.seeds = seeds
        self.acknowledged = acknowledged
        self.halt = threading.Event()

    def run(self) -> None:
        while not self.halt.is_set():
            body = graph(next(self.seeds))
            try:
                answer = httpx.post(f"{self.url}/v1/models/m/versions", content=body, timeout=30.0)
            except httpx.TransportError:
                continue
            if answer.status_code == 201:
                self.acknowledged[f"m:{answer.json()['version']}"] = hashlib.sha256(body).hexdigest()


def listed(url: str) -> list[dict[str, Any]]:
    """Every version of model m, over all pages."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        answer = httpx.get(f"{url}/v1/models/m/versions", params={"limit": 100, "page_token": token}, timeout=30.0)
        if answer.status_code == 404:
            return found
        page = answer.json()
        found += page["items"]
        token = page["next_page_token"]
        if not token:
            return found


def wait_until_it_answers(suite: Suite) -> None:
    """After a worker was killed: until its successor takes requests."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{suite.registry_http}/readyz", timeout=5.0).status_code == 200:
                return
        except (httpx.TransportError, OSError):
            pass
        time.sleep(0.05)  # another process comes up; only asking shows when
    raise AssertionError(suite.logs("registry")[-4000:])


@pytest.mark.slow
def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_half_done_is_seen(tmp_path: Path) -> None:
    """kill -9 of worker or supervisor during uploads: lost 0, unexpected 0, every visible file as it was sent."""
    chance = random.Random(7)
    seeds = itertools.count()
    acknowledged: dict[str, str] = {}
    with Suite(tmp_path, services=("registry",)) as suite:
        for round_ in range(6):
            uploaders = [Uploader(suite.registry_http, seeds, acknowledged) for _ in range(3)]
            for uploader in uploaders:
                uploader.start()
            time.sleep(chance.uniform(0.2, 2.5))  # the moment of the kill is what is random
            if round_ % 2:
                suite.process("registry").kill()
                suite.process("registry").wait()
            else:
                os.kill(suite.workers("registry")[0], signal.SIGKILL)
            for uploader in uploaders:
                uploader.halt.set()
            for uploader in uploaders:
                uploader.join(60)
            if round_ % 2:
                suite.start("registry")
            wait_until_it_answers(suite)
            check(suite, acknowledged)
        suite.stop("registry")
        suite.start("registry")
        check(suite, acknowledged)
        digests = {version["digest"] for version in listed(suite.registry_http)}
        kept = {
            path.name for path in (tmp_path / "registry" / "artifacts" / "objects").rglob("*") if len(path.name) == 64
        }
        assert kept == digests
    assert len(acknowledged) >= 3


def check(suite: Suite, acknowledged: dict[str, str]) -> None:
    """What was acknowledged is there, numbers are unique, and each listed file has the digest it is listed with."""
    versions = listed(suite.registry_http)
    found = {f"m:{version['version']}": version["files"][0]["sha256"] for version in versions}
    assert len(found) == len(versions)
    assert {key: found.get(key) for key in acknowledged} == acknowledged
    for version in versions:
        path = f"/v1/models/m/versions/{version['version']}/files/model.onnx"
        body = httpx.get(suite.registry_http + path, timeout=30.0).content
        assert hashlib.sha256(body).hexdigest() == version["files"][0]["sha256"]


async def test_two_registries_on_one_database_and_an_end_under_a_watch(tmp_path: Path) -> None:
    """A replica that watches one sees what is deployed through the other; a watch holds up no SIGTERM."""
    env = {"VEDETTE_REGISTRY__CATALOG_URL": f"sqlite:///{tmp_path}/catalog.db"}
    with (
        Suite(tmp_path / "one", services=("registry",), env=env) as one,
        Suite(tmp_path / "two", services=("registry",), env=env) as two,
    ):
        replica = GrpcRegistry(one.registry_grpc)
        events = replica.watch(0)
        async with asyncio.timeout(60):
            assert await anext(events) == Synced(0, whole=True)
            async with httpx.AsyncClient(base_url=two.registry_http, timeout=60.0) as http:
                made = await http.post("/v1/models/m/versions", content=graph(1))
                assert made.status_code == 201, made.text
                assert (await http.post("/v1/endpoints", json={"name": "m"})).status_code == 201
                change = await anext(events)
                assert isinstance(change, Change)
                assert (change.revision, change.endpoint) == (1, "m")
                assert (await http.post("/v1/endpoints/m/stop")).status_code == 200
                assert await anext(events) == Change(2, "m", None)
            begun = time.monotonic()
            assert await asyncio.to_thread(one.stop, "registry") == 0
            assert time.monotonic() - begun < 10
            with pytest.raises(Unavailable):
                await anext(events)
        await replica.close()


def test_hostile_models_are_refused_and_the_registry_lives(tmp_path: Path) -> None:
    """Through the real admission: not ONNX, truncated, a graph that names a file outside, a bomb."""
    whole = graph(1)
    outside = onnx.load_from_string(whole)
    weight = outside.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("length", "16384")):
        weight.external_data.add(key=key, value=value)
    shape = numpy_helper.from_array(np.array([1 << 16, 1 << 16], np.int64), "shape")
    bomb = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"])],
        "bomb",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [shape],
    )
    hostile = {
        "text": b"not a model at all",
        "pickle": b"\x80\x04cos\nsystem\n.",
        "truncated": whole[: len(whole) // 2],
        "outside": outside.SerializeToString(),
        "bomb": helper.make_model(bomb, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString(),
    }
    with Suite(tmp_path, services=("registry",)) as suite:
        for name, body in hostile.items():
            answer = httpx.post(f"{suite.registry_http}/v1/models/{name}/versions", content=body, timeout=90.0)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument"), (name, answer.text)
            assert str(tmp_path) not in answer.text
        assert httpx.get(f"{suite.registry_http}/v1/models").json()["items"] == []
        good = httpx.post(f"{suite.registry_http}/v1/models/m/versions", content=whole, timeout=90.0)
        assert good.status_code == 201
        metrics = httpx.get(f"{suite.registry_http}/metrics").text
        assert 'vedette_admissions_total{outcome="admitted"} 1' in metrics
