"""Many clients at once whose requests share runs of the model: each gets its own answer, over both protocols."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import tritonclient.grpc as tgrpc
from tests.wire.target import Target

pytestmark = pytest.mark.ours
CLIENTS, CALLS = 12, 25
BAD_CALLS = 5
"""A batch with a bad request in it is run again one by one: while there are such, nothing need be merged."""


def statistics(target: Target, model: str) -> dict:
    with target.client() as client:
        (line,) = client.get(f"/v2/models/{model}/stats").json()["model_stats"]
    return line


def together(work) -> list:
    """Run the work of every client at once."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(work, range(CLIENTS)))


def pair_over_http(target: Target, number: int) -> None:
    """Two inputs, one or both outputs, a parameter and an id of its own."""
    rng = random.Random(number)
    with target.client() as client:
        for call in range(CALLS):
            rows, asked = rng.randint(1, 3), rng.choice([["sum"], ["difference", "sum"], []])
            a = [[number * 1000.0 + call + row] * 4 for row in range(rows)]
            b = [[float(number)] * 4] * rows
            inputs = [
                {"name": name, "shape": [rows, 4], "datatype": "FP32", "data": data}
                for name, data in (("a", a), ("b", b))
            ]
            body = {"id": f"{number}-{call}", "inputs": inputs, "parameters": {"scale": number}}
            if asked:
                body["outputs"] = [{"name": name} for name in asked]
            answer = client.post("/v2/models/merged-pair/infer", json=body)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert (told["id"], told["parameters"]["scale"]) == (f"{number}-{call}", number)
            assert [output["name"] for output in told["outputs"]] == (asked or ["sum", "difference"])
            for output in told["outputs"]:
                sign = 1 if output["name"] == "sum" else -1
                expected = [a[row][0] + sign * number for row in range(rows) for _ in range(4)]
                assert (output["shape"], output["data"]) == ([rows, 4], expected)


def test_merged_answers_over_http(target: Target) -> None:
    """Values, outputs, parameters and ids stay with whoever sent them, though the model ran far less often."""
    before = statistics(target, "merged-pair")
    together(lambda number: pair_over_http(target, number))
    after = statistics(target, "merged-pair")
    answered = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
    executions = after["execution_count"] - before["execution_count"]
    assert answered == CLIENTS * CALLS
    assert 0 < executions < answered
    assert after["execution_count"] == sum(size["compute_infer"]["count"] for size in after["batch_stats"])
    assert after["inference_count"] == sum(size["batch_size"] * size["compute_infer"]["count"]
                                           for size in after["batch_stats"])  # fmt: skip
    assert max(size["batch_size"] for size in after["batch_stats"]) <= 16


def lookup_over_grpc(address: str, number: int) -> None:
    """Every fifth client asks at first for what fails."""
    with tgrpc.InferenceServerClient(address) as client:
        for call in range(CALLS):
            bad = number % 5 == 0 and call < BAD_CALLS
            wanted = np.array([(number + call) % 3, 3000 + number if bad else number % 3], np.int64)
            tensor = tgrpc.InferInput("index", [2], "INT64")
            tensor.set_data_from_numpy(wanted)
            if bad:
                with pytest.raises(tgrpc.InferenceServerException, match=str(3000 + number)):
                    client.infer("merged-lookup", [tensor])
                continue
            answer = client.infer("merged-lookup", [tensor], request_id=str(number))
            assert answer.get_response().id == str(number)
            assert answer.as_numpy("y").tolist() == [10.0 * (index + 1) for index in wanted]


def test_merged_answers_over_grpc_and_errors_of_ones_own(transport: str, grpc_address: str, target: Target) -> None:
    """A neighbour's bad input is its own trouble."""
    before = statistics(target, "merged-lookup")
    together(lambda number: lookup_over_grpc(grpc_address, number))
    after = statistics(target, "merged-lookup")
    good = CALLS * CLIENTS - BAD_CALLS * sum(number % 5 == 0 for number in range(CLIENTS))
    if transport == "grpcio":  # the other is a server of its own, with its own statistics
        answered = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
        assert answered == good
        assert after["execution_count"] - before["execution_count"] < good


def test_a_client_that_hangs_up_takes_nobody_along(target: Target) -> None:
    """Some give up after a millisecond; whoever stays is answered rightly."""

    def work(number: int) -> int:
        answered = 0
        for call in range(CALLS):
            patience = 0.001 if number % 3 == 0 else 30.0
            body = {"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [call % 3]}]}
            try:
                with httpx.Client(base_url=target.http, timeout=patience, trust_env=False) as client:
                    answer = client.post("/v2/models/merged-lookup/infer", json=body)
            except httpx.TimeoutException:
                assert number % 3 == 0
            else:
                assert answer.json()["outputs"][0]["data"] == [10.0 * (call % 3 + 1)]
                answered += 1
        return answered

    answered = together(work)
    assert [count for number, count in enumerate(answered) if number % 3] == [CALLS] * 8


def test_what_is_batched_is_said_in_the_configuration(target: Target) -> None:
    """Triton's words for a model that is batched, and the reason for one that is not."""
    with target.client() as client:
        merged = client.get("/v2/models/merged-pair/config").json()
        apart = client.get("/v2/models/reshaped/config").json()
        metrics = client.get("/metrics").text
    assert merged["dynamic_batching"]["max_queue_delay_microseconds"] == 5000
    assert merged["parameters"]["merged_rows"] == {"string_value": "16"}
    assert "dynamic_batching" not in apart
    assert "first dimension" in apart["parameters"]["not_batched"]["string_value"]
    assert 'vedette_batching{endpoint="merged-pair",variant="primary",version="1"} 1.0' in metrics
    assert 'vedette_batching{endpoint="reshaped",variant="primary",version="1"} 0.0' in metrics


def test_the_configuration_over_grpc(target: Target) -> None:
    """The same, as tritonclient reads it."""
    with tgrpc.InferenceServerClient(target.grpc) as client:
        config = client.get_model_config("merged-pair").config
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000
    assert config.max_batch_size == 4096
