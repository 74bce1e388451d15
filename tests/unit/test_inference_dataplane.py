"""The data plane on real small models: answers, refusals, statistics, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, as_it_is, first, inference, request, tensor

from vedette.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ModelFailed,
    NotFound,
    Overloaded,
    Unavailable,
    Unimplemented,
)
from vedette.core.models import EndpointConfig, Limits, ModelRef, Variant
from vedette.core.tensors import RequestedOutput
from vedette.testing.registry import MemoryRegistry


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running inference room."""
    async with inference(tmp_path) as made:
        yield made


async def test_an_endpoint_answers_with_its_models_output(rig: Rig) -> None:
    """What comes back is what the graph computes, under the names of endpoint, version and variant."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    answer = await rig.infer("adder", [[1.0], [2.0]], id="r-1")
    assert first(answer) == [[2.0], [3.0]]
    assert (answer.endpoint, answer.version, answer.variant, answer.id) == ("adder", "1", "primary", "r-1")


async def test_the_answer_echoes_the_callers_parameters_and_no_reserved_ones(rig: Rig) -> None:
    """A caller's own parameters come back; those that steer the server do not."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    answer = await rig.infer("adder", [[1.0]], parameters={"trace": "abc", "priority": 1, "timeout": 5_000_000})
    assert answer.parameters == {"trace": "abc"}


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "missing input 'a', 'b'"),
        ([tensor("a", [[1, 2]])], "missing input 'b'"),
        ([tensor("a", [[1, 2]]), tensor("a", [[1, 2]])], "missing input 'b'"),
        ([tensor("a", [[1, 2]]), tensor("b", [[1, 2]]), tensor("b", [[1, 2]])], "'b' is given twice"),
        ([tensor("a", [[1, 2]]), tensor("c", [[1, 2]])], "unknown input 'c'"),
        ([tensor("a", [[1, 2]]), tensor("b", [[1, 2]], "FP64", np.float64)], "has datatype FP64; the model takes FP32"),
        ([tensor("a", [[1, 2]]), tensor("b", [1, 2])], "has shape [2]; the model takes [-1, 2]"),
        ([tensor("a", [[1, 2]]), tensor("b", [[1, 2, 3]])], "has shape [1, 3]; the model takes [-1, 2]"),
        ([tensor("a", [[1, 2]]), tensor("b", [[1, 2], [3, 4]])], "inputs disagree on rows"),
        ([tensor("a", np.zeros((0, 2))), tensor("b", np.zeros((0, 2)))], "zero rows"),
        ([tensor("a", np.zeros((9, 2))), tensor("b", np.zeros((9, 2)))], "9 rows; this endpoint takes at most 8"),
    ],
)
async def test_inputs_that_do_not_fit_are_refused_by_name(rig: Rig, inputs: list[object], text: str) -> None:
    """Every way in which inputs can miss the signature has a text that says which and why; the model never runs."""
    rig.register("pair", models.two_inputs())
    await rig.deploy("pair", limits=Limits(max_batch_rows=8))
    asked = request("pair", [[0.0]])
    asked.inputs = inputs  # type: ignore[assignment]
    with pytest.raises(InvalidArgument) as refused:
        await rig.dataplane.infer(asked, as_it_is, protocol="http")
    assert text in refused.value.message
    (line,) = rig.dataplane.statistics("pair")
    assert (line.fail.count, line.execution_count) == (1, 0)


async def test_requested_outputs_come_in_the_order_asked_for(rig: Rig) -> None:
    """A caller gets what it names, no more, in its order."""
    rig.register("pair", models.two_inputs())
    await rig.deploy("pair")
    both = [tensor("a", [[5, 7]]), tensor("b", [[1, 2]])]
    answer = await rig.infer("pair", both, outputs=[RequestedOutput("difference"), RequestedOutput("sum")])
    assert [(out.name, out.array.tolist()) for out in answer.outputs] == [("difference", [[4, 5]]), ("sum", [[6, 9]])]
    with pytest.raises(InvalidArgument, match="unknown output 'product'"):
        await rig.infer("pair", both, outputs=[RequestedOutput("product")])
    with pytest.raises(InvalidArgument, match="twice"):
        await rig.infer("pair", both, outputs=[RequestedOutput("sum"), RequestedOutput("sum")])


async def test_classification_gives_the_top_classes(rig: Rig) -> None:
    """`classification: 1` turns an output into value:index text."""
    rig.register("same", models.identity("FP32"))
    await rig.deploy("same")
    answer = await rig.infer("same", [[1, 3, 2]], outputs=[RequestedOutput("y", classification=1)])
    assert answer.outputs[0].datatype == "BYTES"
    assert first(answer)[0][0].endswith(b":1")


@pytest.mark.parametrize("datatype", list(models.ONNX_TYPES))
async def test_every_datatype_passes_through(rig: Rig, datatype: str) -> None:
    """Each datatype of the protocol reaches ONNX Runtime and comes back unchanged, BF16 and BYTES too."""
    name = f"same-{datatype.lower()}"
    rig.register(name, models.identity(datatype, (-1, 2)))
    await rig.deploy(name)
    from vedette.core.tensors import DATATYPES

    values = [[b"a", "ü".encode()]] if datatype == "BYTES" else [[1, 0]]
    given = tensor("x", values, datatype, DATATYPES[datatype].dtype)
    answer = await rig.infer(name, [given])
    assert answer.outputs[0].datatype == datatype
    assert answer.outputs[0].array.tolist() == given.array.tolist()


async def test_a_pinned_version_is_served_and_one_that_is_not_deployed_is_not_found(rig: Rig) -> None:
    """A version that exists in the registry and is not behind the endpoint is unknown to callers."""
    rig.register("adder", *(models.constant_adder(float(v)) for v in (1, 2, 3)))
    await rig.deploy("adder", Variant("a", 1), Variant("b", 2, weight=0))
    assert first(await rig.infer("adder", [[0.0]], version="2")) == [[2.0]]
    for version in ("3", "x", "-1"):
        with pytest.raises(NotFound, match="not deployed; deployed: 1, 2"):
            await rig.infer("adder", [[0.0]], version=version)


async def test_a_target_variant_overrides_the_weights(rig: Rig) -> None:
    """SageMaker's target variant reaches even a variant of weight 0; an unknown one is refused."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder", Variant("a", 1), Variant("b", 2, weight=0))
    assert first(await rig.infer("adder", [[0.0]], target_variant="b")) == [[2.0]]
    with pytest.raises(InvalidArgument, match="no variant 'c'"):
        await rig.infer("adder", [[0.0]], target_variant="c")
    with pytest.raises(InvalidArgument, match="serves version 2, not 1"):
        await rig.infer("adder", [[0.0]], target_variant="b", version="1")


async def test_an_unknown_endpoint_is_not_found(rig: Rig) -> None:
    """Names that nobody deployed, and names with tricks, are simply unknown."""
    for name in ("ghost", "../../etc", "", "a" * 500):
        with pytest.raises(NotFound):
            await rig.infer(name, [[0.0]])


async def test_sequences_are_unimplemented(rig: Rig) -> None:
    """A parameter that would change the answer and is not done is an error, not ignored."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    with pytest.raises(Unimplemented):
        await rig.infer("adder", [[0.0]], parameters={"sequence_id": 5})
    assert first(await rig.infer("adder", [[0.0]], parameters={"sequence_id": 0})) == [[1.0]]


async def test_a_model_that_fails_is_the_models_fault_and_goes_on_serving(rig: Rig) -> None:
    """An error inside the graph is ModelFailed or the caller's fault, counted, and the next request runs."""
    rig.register("table", models.gatherer())
    await rig.deploy("table")
    bad, good = tensor("index", [99], "INT64", np.int64), tensor("index", [3], "INT64", np.int64)
    with pytest.raises((ModelFailed, InvalidArgument)) as failed:
        await rig.infer("table", [bad])
    assert first(await rig.infer("table", [good])) == [30.0]
    assert rig.metrics.value("vedette_requests_total", endpoint="table", code=failed.value.code) == 1
    assert rig.metrics.value("vedette_requests_total", endpoint="table", code="OK") == 1


async def test_statistics_are_exact(rig: Rig) -> None:
    """Requests, rows, executions and batch sizes add up to what was sent, per version."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    for rows in (1, 1, 3):
        await rig.infer("adder", np.zeros((rows, 1)))
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", np.zeros((1, 2)))
    (line,) = rig.dataplane.statistics("adder", "1")
    assert (line.inference_count, line.execution_count, line.success.count, line.fail.count) == (5, 3, 3, 1)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in line.batch_stats] == [(1, 2), (3, 1)]
    parts = (line.queue, line.compute_input, line.compute_infer, line.compute_output)
    assert all(part.count == 3 for part in parts)
    assert 0 < sum(part.ns for part in parts) <= line.success.ns + 1000
    assert line.last_inference > 1_600_000_000_000
    assert rig.metrics.value("vedette_request_duration_seconds", endpoint="adder") == 4
    assert rig.metrics.value("vedette_batch_rows", endpoint="adder") == 3


async def test_statistics_survive_a_change_of_weights(rig: Rig) -> None:
    """Redeploying the same version does not set its counts to zero; removing it from the endpoint drops them."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder", Variant("a", 1))
    await rig.infer("adder", [[0.0]])
    await rig.deploy("adder", Variant("a", 1), Variant("b", 2))
    assert [(line.version, line.success.count) for line in rig.dataplane.statistics("adder")] == [("1", 1), ("2", 0)]
    await rig.deploy("adder", Variant("b", 2))
    assert [line.version for line in rig.dataplane.statistics()] == ["2"]


async def test_a_timeout_parameter_of_microseconds_is_kept(rig: Rig) -> None:
    """`timeout` is the caller's deadline; a slow model does not hold the caller longer."""
    rig.register("slow", models.slow(2000))
    await rig.deploy("slow")
    with pytest.raises(DeadlineExceeded):
        await rig.infer("slow", np.zeros((1, 256)), parameters={"timeout": 1})
    with pytest.raises(InvalidArgument, match="timeout"):
        await rig.infer("slow", np.zeros((1, 256)), parameters={"timeout": "soon"})


async def test_the_endpoints_own_timeout_holds(rig: Rig) -> None:
    """Without a deadline of the caller's, the endpoint's limit ends the wait."""
    rig.register("slow", models.slow(20_000))
    await rig.deploy("slow", limits=Limits(timeout_s=0.02))
    with pytest.raises(DeadlineExceeded):
        await rig.infer("slow", np.zeros((1, 256)))


async def test_one_request_over_the_queue_is_refused_before_it_runs(rig: Rig) -> None:
    """max_queue counts what waits or runs; one more is Overloaded at once, and there is room again afterwards."""
    rig.register("slow", models.slow(200))
    await rig.deploy("slow", limits=Limits(max_queue=2))
    waiting = [asyncio.create_task(rig.infer("slow", np.ones((1, 256)))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await rig.infer("slow", np.ones((1, 256)))
    assert rig.metrics.value("vedette_requests_in_flight", endpoint="slow") == 2
    assert len(await asyncio.gather(*waiting)) == 2
    await rig.infer("slow", np.ones((1, 256)))
    assert rig.metrics.value("vedette_requests_in_flight", endpoint="slow") == 0


async def test_a_pipeline_answers_as_one_model(rig: Rig) -> None:
    """Graphs in a row are one deployable: the endpoint takes the first one's input and gives the last one's output."""
    rig.register("first", models.constant_adder(1.0))
    rig.registry.add_version(
        "second", 1, models.constant_adder(10.0).files, signature=models.constant_adder(10.0).signature
    )
    chained = Variant("primary", 1, pipeline=(ModelRef("first", 1), ModelRef("second", 1)))
    config_of = rig.registry._named
    assert config_of
    await rig.deploy("first", chained)
    with pytest.raises(InvalidArgument, match="unknown input 'y'"):
        await rig.infer("first", [tensor("y", [[1.0]])])
    assert first(await rig.infer("first", [[1.0]])) == [[12.0]]


async def test_metadata_and_config_describe_what_serves(rig: Rig) -> None:
    """Inputs, outputs, versions; in Triton's configuration dims leave the batch dimension out."""
    rig.register("net", models.mlp())
    await rig.deploy("net")
    found = rig.dataplane.metadata("net")
    assert (found.versions, found.platform) == (("1",), "onnxruntime_onnx")
    assert found.signature.inputs[0].shape == (-1, 30)
    config = rig.dataplane.config("net")
    assert config["max_batch_size"] == 4096
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [30], "format": "FORMAT_NONE"}]
    with pytest.raises(NotFound):
        rig.dataplane.metadata("net", "2")


async def test_load_and_unload_change_desired_state_and_wait_for_it(rig: Rig) -> None:
    """The repository API goes through the registry; overrides are refused."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.dataplane.load("adder")
    assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
    assert [(entry.name, entry.state) for entry in await rig.dataplane.index()] == [("adder", "READY")]
    await rig.dataplane.unload("adder", {"unload_dependents": True})
    with pytest.raises(NotFound):
        await rig.infer("adder", [[0.0]])
    assert [(entry.name, entry.state) for entry in await rig.dataplane.index()] == [("adder", "UNAVAILABLE")]
    assert await rig.dataplane.index(ready_only=True) == []
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AA=="}):
        with pytest.raises(Unimplemented):
            await rig.dataplane.load("adder", parameters)
    with pytest.raises(NotFound):
        await rig.dataplane.load("ghost")


class Restarting(MemoryRegistry):
    """Makes a new generation of an endpoint that has failed, as the registry in a process of its own does."""

    async def load(self, endpoint: str) -> None:
        report = self.last_report(endpoint)
        assert report is not None
        if report.state == "failed":
            self.deploy(endpoint, EndpointConfig(endpoint, (Variant("primary", 1),)))


async def test_a_load_waits_for_its_own_outcome_and_not_for_that_of_the_last_one(tmp_path: Path) -> None:
    """A failure from before says nothing about this load; a new failure is told."""
    async with inference(tmp_path, registry=Restarting()) as rig:
        good = models.constant_adder(1.0)
        rig.registry.add_version("adder", 1, {"model.onnx": b"no"}, signature=good.signature)
        generation = await rig.deploy("adder", state="failed")
        with pytest.raises(Unavailable, match="failed to load"):
            await rig.dataplane.load("adder")
        assert rig.registry.last_report("adder").generation == generation + 1
        rig.register("adder", good)
        await rig.dataplane.load("adder")
        assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]


async def test_a_load_that_changes_nothing_ends_with_the_failure_that_stands(tmp_path: Path) -> None:
    """When no newer attempt shows up in time, the caller hears why the last one failed."""
    async with inference(tmp_path) as rig:
        rig.registry.add_version("adder", 1, {"model.onnx": b"no"}, signature=models.mlp().signature)
        await rig.deploy("adder", state="failed")
        rig.dataplane._load_timeout_s = 0.02
        with pytest.raises(Unavailable, match="the last load failed: "):
            await rig.dataplane.load("adder")
