"""Batching in the whole room, on real small models: answers, records, statistics and copies of merged requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, first, inference, request, tensor

from vedette.codec.captures import decode_captures
from vedette.core.errors import DeadlineExceeded
from vedette.core.models import CaptureSettings, DynamicBatching, ModelRef, QueuePolicy, Variant
from vedette.core.tensors import RequestedOutput

GATHER = DynamicBatching(max_queue_delay_microseconds=2000, max_batch_size=16)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running inference room."""
    async with inference(tmp_path) as made:
        yield made


async def test_statistics_of_merged_requests_are_exact(rig: Rig) -> None:
    """Requests, rows and executions are three different counts; metrics count an execution once."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", dynamic_batching=GATHER)
    rows = (1, 3, 2, 4)
    answers = await asyncio.gather(*(rig.infer("adder", np.full((n, 1), n)) for n in rows))
    assert [first(answer) for answer in answers] == [[[n + 1.0]] * n for n in rows]
    (line,) = rig.dataplane.statistics("adder", "1")
    assert (line.success.count, line.inference_count, line.execution_count) == (4, 10, 1)
    assert [(size.batch_size, size.compute_infer.count) for size in line.batch_stats] == [(10, 1)]
    assert line.queue.count == line.compute_infer.count == 4
    assert line.queue.ns >= 4 * 1_900_000
    assert line.compute_infer.ns >= 4 * line.batch_stats[0].compute_infer.ns - 4
    assert rig.metrics.value("vedette_batch_rows", endpoint="adder") == 1
    assert rig.metrics.value("vedette_queue_duration_seconds", endpoint="adder") == 4
    assert rig.metrics.value("vedette_batching", endpoint="adder") == 1
    assert rig.metrics.value("vedette_requests_in_flight", endpoint="adder") == 0


async def test_each_caller_has_its_own_record(rig: Rig) -> None:
    """Inputs, outputs, id and latency of a merged request are captured as of one that ran alone."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", dynamic_batching=GATHER, capture=CaptureSettings(sampling_percent=100))
    await asyncio.gather(
        *(rig.infer("adder", [[float(n)]], inference_id=f"id-{n}") for n in range(5)),
        rig.infer("adder", [[50.0], [60.0]], inference_id="id-5"),
    )
    await rig.capture.flush()
    (delivery,) = await rig.stream.read("captures", 0, 100)
    batch = decode_captures(delivery.message.value)
    given, answers = batch.inputs["x"].stacked().ravel().tolist(), batch.outputs["y"].stacked().ravel().tolist()
    assert sorted(zip(batch.inference_ids, batch.rows.tolist(), strict=True)) == [
        *((f"id-{n}", 1) for n in range(5)), ("id-5", 2)
    ]  # fmt: skip
    starts = np.cumsum([0, *batch.rows.tolist()])
    for name, start, rows in zip(batch.inference_ids, starts, batch.rows.tolist(), strict=False):
        expected = [50.0, 60.0] if name == "id-5" else [float(name[3:])]
        assert given[start : start + rows] == expected
        assert answers[start : start + rows] == [value + 1 for value in expected]


async def test_parameters_and_outputs_are_each_callers_own(rig: Rig) -> None:
    """The peer's defect: with scale=1 and scale=100 in a batch both callers got 100."""
    rig.register("pair", models.two_inputs())
    await rig.deploy("pair", dynamic_batching=GATHER)
    inputs = [tensor("a", [[5, 5]]), tensor("b", [[2, 2]])]
    wanted = ([], [RequestedOutput("difference")], [RequestedOutput("difference"), RequestedOutput("sum")])
    answers = await asyncio.gather(
        *(rig.infer("pair", inputs, outputs=list(each), parameters={"scale": n}) for n, each in enumerate(wanted))
    )
    assert [answer.parameters for answer in answers] == [{"scale": 0}, {"scale": 1}, {"scale": 2}]
    values = [[(output.name, output.array.tolist()) for output in answer.outputs] for answer in answers]
    total, difference = ("sum", [[7, 7]]), ("difference", [[3, 3]])
    assert values == [[total, difference], [difference], [difference, total]]


async def test_classification_is_of_the_callers_rows(rig: Rig) -> None:
    """The top classes of one's own answer."""
    rig.register("scores", models.identity("FP32"))
    await rig.deploy("scores", dynamic_batching=GATHER)
    asked = [RequestedOutput("y", classification=1)]
    one, two = await asyncio.gather(
        rig.infer("scores", [[1, 9, 2]], outputs=asked), rig.infer("scores", [[7, 1, 2]], outputs=asked)
    )
    assert (first(one), first(two)) == ([[b"9.0:1"]], [[b"7.0:0"]])


@pytest.mark.parametrize("datatype", ["BYTES", "BF16", "BOOL", "FP16", "UINT64"])
async def test_every_datatype_is_merged_and_parted(rig: Rig, datatype: str) -> None:
    """Text and BF16, which numpy does not know, as well."""
    rig.register("same", models.identity(datatype))
    await rig.deploy("same", dynamic_batching=GATHER)
    dtype = {"BYTES": object, "BF16": np.uint16, "BOOL": bool, "FP16": np.float16, "UINT64": np.uint64}[datatype]
    texts = [[b"a", b"", "\u4e16".encode()], [b"x" * 99, b"b", b"c"]]
    numbers = [[0, 1, 1], [1, 0, 1]]
    rows = [np.array([row], dtype=dtype) for row in (texts if datatype == "BYTES" else numbers)]
    answers = await asyncio.gather(*(rig.infer("same", [tensor("x", row, datatype, dtype)]) for row in rows))
    assert [first(answer) for answer in answers] == [row.tolist() for row in rows]
    assert rig.dataplane.statistics("same")[0].execution_count == 1


async def test_a_pipeline_is_merged_as_a_whole(rig: Rig) -> None:
    """One run of the chain for all."""
    rig.register("first", models.constant_adder(1.0))
    rig.register("second", models.constant_adder(10.0))
    steps = (ModelRef("first", 1), ModelRef("second", 1))
    with_steps = Variant("primary", 1, pipeline=steps)
    await rig.deploy("first", with_steps, dynamic_batching=GATHER)
    answers = await asyncio.gather(*(rig.infer("first", [[float(n)]]) for n in range(4)))
    assert [first(answer) for answer in answers] == [[[n + 11.0]] for n in range(4)]
    assert rig.dataplane.statistics("first")[0].execution_count == 1


async def test_shadows_get_a_copy_of_each_request(rig: Rig) -> None:
    """Not of each run."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder", Variant("a", 1), shadow_variants=(Variant("shadow", 2),), dynamic_batching=GATHER)
    await asyncio.gather(*(rig.infer("adder", [[0.0]]) for _ in range(6)))
    async with asyncio.timeout(10):
        while rig.metrics.value("vedette_shadow_requests_total", endpoint="adder", code="OK") < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_model_with_a_fixed_first_dimension_is_never_merged(rig: Rig) -> None:
    """Though the operator asks, and the configuration says why."""
    rig.register("fixed", models.identity("FP32", (2, 3)))
    await rig.deploy("fixed", dynamic_batching=GATHER)
    answers = await asyncio.gather(*(rig.infer("fixed", np.full((2, 3), n)) for n in range(3)))
    assert [first(answer) for answer in answers] == [[[float(n)] * 3] * 2 for n in range(3)]
    config = rig.dataplane.config("fixed")
    assert "dynamic_batching" not in config
    assert "first dimension" in str(config["parameters"])
    assert rig.metrics.value("vedette_batching", endpoint="fixed") == 0


async def test_the_timeout_parameter_may_be_for_the_queue(rig: Rig) -> None:
    """Where the policy lets it: then it is no deadline of the run, and DELAY keeps the request."""
    rig.register("slow", models.slow(4000))
    policy = QueuePolicy("DELAY", 1_000_000, allow_timeout_override=True)
    await rig.deploy("slow", dynamic_batching=DynamicBatching(default_queue_policy=policy))
    answer = await rig.infer("slow", np.ones((1, 256)), parameters={"timeout": 1})
    assert answer.outputs[0].array.shape == (1, 256)
    strict = QueuePolicy("REJECT", 1_000_000, allow_timeout_override=True)
    await rig.deploy("slow", dynamic_batching=DynamicBatching(default_queue_policy=strict))
    requests = [rig.infer("slow", np.ones((1, 256)), parameters={"timeout": 2000}) for _ in range(12)]
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert any(isinstance(outcome, DeadlineExceeded) for outcome in outcomes)
    assert not isinstance(outcomes[0], BaseException)


async def test_a_request_cancelled_in_a_batch_leaves_the_route_free_to_go(rig: Rig) -> None:
    """A version is freed after the last merged request, whoever gave up."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder", dynamic_batching=GATHER)
    tasks = [asyncio.create_task(rig.dataplane.infer(request("adder", [[float(n)]]), _plain, protocol="http"))
             for n in range(4)]  # fmt: skip
    await asyncio.sleep(0)
    tasks[1].cancel()
    await rig.deploy("adder", Variant("primary", 2), dynamic_batching=GATHER)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [first(done[n]) for n in (0, 2, 3)] == [[[1.0]], [[3.0]], [[4.0]]]
    assert isinstance(done[1], asyncio.CancelledError)
    await rig.loader.settled()
    assert first(await rig.infer("adder", [[0.0]])) == [[2.0]]
    assert len(rig.residents.digests) == 1


async def _plain(_request: object, response: object) -> object:
    return response
