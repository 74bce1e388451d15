"""Captures of the running product: one joined record a request, and in strict mode none is lost to kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from tests import inference_models as models
from tests.suite import Suite

from vedette.codec.captures import CaptureBatch, decode_captures
from vedette.proto.inference.v1 import inference_pb2 as pb
from vedette.storage.sqlite_stream import SqliteEventStream

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    """Registry and inference as processes of their own, with the model `adder`."""
    with Suite(tmp_path) as running:
        url = f"{running.registry_http}/v1/models/adder/versions"
        httpx.post(url, content=models.constant_adder(1.0).data, timeout=60).raise_for_status()
        yield running


def deploy(suite: Suite, **capture: object) -> None:
    """Deploy `adder` with 100 percent capture and wait until it answers."""
    config = {"model": "adder", "variants": [{"name": "primary", "version": 1}],
              "capture": {"sampling_percent": 100.0, **capture}}  # fmt: skip
    url = f"{suite.registry_http}/v1/endpoints"
    httpx.post(url, json={"name": "adder", "config": config}, timeout=30).raise_for_status()
    until(lambda: ready(suite), "the endpoint does not serve")


def ready(suite: Suite) -> bool:
    """Whether the endpoint answers."""
    try:
        return httpx.get(f"{suite.http}/v2/models/adder/ready", timeout=5).status_code == 200
    except (httpx.HTTPError, OSError, ValueError):
        return False


def until(reached: Callable[[], bool], otherwise: str) -> None:
    """Wait for something that only asking can tell."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def on_stream(suite: Suite) -> list[CaptureBatch]:
    """Every batch of captures in the data folder's stream."""

    async def read() -> list[CaptureBatch]:
        stream = SqliteEventStream(suite.data_dir / "stream")
        try:
            return [decode_captures(found.message.value) for found in await stream.read("captures", 0, 10_000)]
        finally:
            await stream.close()

    return asyncio.run(read())


def body(value: float) -> dict[str, object]:
    """One row for the adder as V2 JSON."""
    return {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}


def ask_in_every_protocol(suite: Suite) -> None:
    """Thirty times V2 JSON, ten times CSV, ten times gRPC, and one request that is refused."""
    with httpx.Client(base_url=suite.http, timeout=30) as client:
        for number in range(30):
            named = {"x-amzn-sagemaker-inference-id": f"http-{number}"}
            client.post("/v2/models/adder/infer", json=body(number), headers=named).raise_for_status()
        for number in range(30, 40):
            named = {"content-type": "text/csv", "x-amzn-sagemaker-custom-attributes": f"n={number}"}
            client.post("/endpoints/adder/invocations", content=str(number), headers=named).raise_for_status()
        assert client.post("/v2/models/adder/infer", json=body(0) | {"outputs": [{"name": "z"}]}).status_code == 400
    with grpc.insecure_channel(suite.grpc) as channel:
        for number in range(40, 50):
            spec = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 1])
            raw = [np.float32(number).tobytes()]
            message = pb.ModelInferRequest(model_name="adder", inputs=[spec], raw_input_contents=raw)
            channel.unary_unary(INFER)(message.SerializeToString(), timeout=30)


def test_every_request_is_one_record_with_its_answer(suite: Suite) -> None:
    """Whatever the protocol: inputs beside outputs, types as they were, codes of failures, no number missing."""
    deploy(suite)
    ask_in_every_protocol(suite)
    until(lambda: sum(map(len, on_stream(suite))) == 51, "captures are missing")
    records = {}
    for batch in on_stream(suite):
        x, y = (column[name] for column, name in ((batch.inputs, "x"), (batch.outputs, "y")))
        given, answers = iter(x.values.tolist()), iter(y.values.tolist())
        for index, name in enumerate(batch.event_ids):
            answer = next(answers) if y.shapes[index] is not None else None
            records[name] = (next(given), answer, batch.codes[index], batch.request_types[index],
                             batch.response_types[index], batch.inference_ids[index],
                             batch.custom_attributes[index], int(batch.sequences[index]))  # fmt: skip
    found = sorted(records.values(), key=lambda record: record[-1])
    assert sorted(record[-1] for record in found) == list(range(51))
    assert [r[:7] for r in found if r[2] == "OK"] == [
        *((float(n), n + 1.0, "OK", "application/json", "application/json", f"http-{n}", "") for n in range(30)),
        *((float(n), n + 1.0, "OK", "text/csv", "text/csv", "", f"n={n}") for n in range(30, 40)),
        *((float(n), n + 1.0, "OK", "application/grpc", "application/grpc", "", "") for n in range(40, 50)),
    ]
    assert [r[:4] for r in found if r[2] != "OK"] == [(0.0, None, "invalid_argument", "application/json")]


def test_a_clean_stop_leaves_no_gap(suite: Suite) -> None:
    """What was waiting is published, and the next life goes on with the same producer and the next number."""
    deploy(suite)
    for amount in (3, 4):
        for number in range(amount):
            httpx.post(f"{suite.http}/v2/models/adder/infer", json=body(number), timeout=30).raise_for_status()
        assert suite.stop("inference") == 0
        suite.start("inference")
        until(lambda: ready(suite), "the endpoint does not serve")
    found = on_stream(suite)
    assert [n for batch in found for n in batch.sequences.tolist()] == list(range(7))
    assert len({batch.producer for batch in found}) == 1


def test_a_kill_9_at_rest_shows_no_loss(suite: Suite) -> None:
    """Everything was published, so the next life goes on with the next number."""
    deploy(suite)
    mark = suite.data_dir / "inference" / "capture" / "0.json"
    for sent in (3, 6):
        for number in range(3):
            httpx.post(f"{suite.http}/v2/models/adder/infer", json=body(number), timeout=30).raise_for_status()
        until(lambda: sum(map(len, on_stream(suite))) == sent, "captures are missing")  # noqa: B023 - called at once
        until(lambda: json.loads(mark.read_bytes())["records"] == sent, "the mark is not exact")  # noqa: B023
        (worker,) = suite.workers("inference")
        os.kill(worker, signal.SIGKILL)
        until(lambda: suite.workers("inference") not in ([worker], []), "no new worker")  # noqa: B023
        until(lambda: ready(suite), "the endpoint does not serve")
    found = on_stream(suite)
    assert [n for batch in found for n in batch.sequences.tolist()] == list(range(6))
    assert len({batch.producer for batch in found}) == 1


def test_no_answered_strict_request_is_lost_to_kill_9(suite: Suite) -> None:
    """The worker is killed under load, three times: every request that was answered is on the stream, once."""
    deploy(suite, mode="strict")
    answered: list[str] = []
    stop = threading.Event()

    def ask(name: str) -> None:
        names = (f"{name}-{number}" for number in count())
        while not stop.is_set():
            try:
                with httpx.Client(base_url=suite.http, timeout=30) as client:
                    for given in islice(names, 50):
                        named = {"x-amzn-sagemaker-inference-id": given}
                        if client.post("/v2/models/adder/infer", json=body(1), headers=named).status_code == 200:
                            answered.append(given)
            except (httpx.HTTPError, OSError, ValueError):
                continue  # the worker was killed

    threads = [threading.Thread(target=ask, args=(f"t{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = len(answered)
        until(lambda: len(answered) > before + 100, "nothing is answered")  # noqa: B023 - called at once
        (worker,) = suite.workers("inference")
        os.kill(worker, signal.SIGKILL)
        until(lambda: suite.workers("inference") not in ([worker], []), "no new worker")  # noqa: B023
    stop.set()
    for thread in threads:
        thread.join()
    until(lambda: ready(suite), "the endpoint does not serve")
    found = on_stream(suite)
    recorded = [name for batch in found for name in batch.inference_ids]
    numbers = [number for batch in found for number in batch.sequences.tolist()]
    assert set(answered) <= set(recorded)
    assert len(recorded) == len(set(recorded))
    assert numbers == sorted(set(numbers))
    assert len({batch.producer for batch in found}) == 1
    assert max(after - before for before, after in pairwise(numbers)) > 1  # the kills show
