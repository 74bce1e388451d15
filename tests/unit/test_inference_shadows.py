"""Shadow variants and captures: what happens beside the answer, and never to it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, Tally, first, inference, request, tensor

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.events import Message, Topic
from vedette.core.models import CaptureSettings, SessionOptions, Signature, TensorSpec, Variant
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime
from vedette.engine.session import Session
from vedette.inference.capture import Capture, CaptureRecord, make_sampler
from vedette.storage.memory import MemoryEventStream


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running inference room."""
    async with inference(tmp_path, max_copies=4) as made:
        yield made


def shadow_count(rig: Rig, code: str) -> float:
    """Shadow copies with this outcome."""
    return rig.metrics.value("vedette_shadow_requests_total", variant="shadow", code=code)


async def shadows_done(rig: Rig, count: int) -> None:
    """Wait until so many copies have an outcome."""
    async with asyncio.timeout(10):
        while rig.metrics.value("vedette_shadow_requests_total") < count:  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0.002)


class Held:
    """A session whose runs in the shadow thread wait until they are let go."""

    def __init__(self, session: Runtime, gate: threading.Event) -> None:
        self._session = session
        self._gate = gate
        self.inputs, self.outputs, self.output_names = session.inputs, session.outputs, session.output_names
        self.memory_bytes, self.load_time_ms = session.memory_bytes, session.load_time_ms

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        if threading.current_thread().name.startswith("shadow"):
            assert self._gate.wait(10)
        return self._session.run(feeds, outputs)

    def close(self) -> None:
        self._session.close()


async def test_a_shadow_gets_a_copy_and_its_answer_is_never_seen(rig: Rig) -> None:
    """Callers get production's answers only; the copy runs and is counted."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
    for _ in range(3):
        answer = await rig.infer("adder", [[0.0]])
        assert (first(answer), answer.variant) == ([[1.0]], "primary")
    await shadows_done(rig, 3)
    assert shadow_count(rig, "OK") == 3
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", [[0.0]], target_variant="shadow")


async def test_a_shadows_weight_is_its_share_relative_to_production(rig: Rig) -> None:
    """Weight 1 beside production's 4 means every fourth request is copied."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder", Variant("primary", 1, weight=4), shadow_variants=(Variant("shadow", 2, weight=1),))
    for _ in range(40):
        await rig.infer("adder", [[0.0]])
    await rig.loader.settled()
    await shadows_done(rig, 9)
    assert 9 <= rig.metrics.value("vedette_shadow_requests_total") <= 11


async def test_a_hung_shadow_delays_nobody_and_its_copies_are_dropped_and_counted(tmp_path: Path) -> None:
    """With the shadow stuck, production answers at once and the queue stays bounded."""
    gate = threading.Event()

    def open_held(paths: Sequence[Path], options: SessionOptions) -> Runtime:
        return Held(Session.load(paths[0], options), gate)

    async with inference(tmp_path, open_runtime=open_held, max_copies=4) as rig:
        rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
        await rig.deploy("adder", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
        async with asyncio.timeout(5):
            for _ in range(50):
                assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
        assert shadow_count(rig, "dropped") >= 45
        gate.set()
        await shadows_done(rig, 50)
        assert shadow_count(rig, "OK") + shadow_count(rig, "dropped") == 50


class Production(Held):
    """A session whose runs in the model threads wait; those of the shadow do not."""

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        if threading.current_thread().name.startswith("model"):
            assert self._gate.wait(10)
        return self._session.run(feeds, outputs)


async def test_a_shadow_waits_while_callers_have_every_thread(tmp_path: Path) -> None:
    """A copy that waits does not start before a thread is free and no caller waits for one."""
    gate = threading.Event()

    def open_held(paths: Sequence[Path], options: SessionOptions) -> Runtime:
        return Production(Session.load(paths[0], options), gate)

    async with inference(tmp_path, inline_limit_s=0.0, threads=1, open_runtime=open_held) as rig:
        rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
        await rig.deploy("adder", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
        waiting = asyncio.create_task(rig.infer("adder", [[0.0]]))
        await asyncio.sleep(0)
        route = rig.router.route("adder")
        rig.shadows.offer(route.shadows[0], request("adder", [[0.0]]))
        await asyncio.sleep(0.1)
        assert rig.metrics.value("vedette_shadow_requests_total") == 0
        gate.set()
        await waiting
        await shadows_done(rig, 2)


async def test_a_failing_shadow_is_counted_by_its_code(rig: Rig) -> None:
    """A shadow of another signature fails by itself."""
    rig.register("adder", models.constant_adder(1.0), models.identity("FP32"))
    await rig.deploy("adder", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
    assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
    await shadows_done(rig, 1)
    assert shadow_count(rig, "invalid_argument") == 1


async def test_replacing_a_route_lets_go_of_waiting_copies(rig: Rig) -> None:
    """A swap does not wait for the shadow's queue, and the old versions are freed."""
    rig.register("adder", *(models.constant_adder(float(v)) for v in (1, 2, 3)))
    await rig.deploy("adder", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
    for _ in range(10):
        await rig.infer("adder", [[0.0]])
    await rig.deploy("adder", Variant("primary", 3))
    await rig.loader.settled()
    assert rig.metrics.value("vedette_models_loaded") == 1


async def test_sampled_requests_are_published_as_batches(rig: Rig) -> None:
    """What is captured holds ids, tensors and outcome, and a failed request is captured too."""
    rig.register("adder", models.constant_adder(1.0, width=2))
    await rig.deploy("adder", capture=CaptureSettings(sampling_percent=100))
    await rig.infer("adder", [[1.0, 2.0]], inference_id="i-1")
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", [[1.0]])
    await rig.capture.flush()
    (delivery,) = await rig.stream.read("captures", 0, 10)
    good, bad = (json.loads(line) for line in delivery.message.value.splitlines())
    assert (delivery.message.key, good["inference_id"], good["status"]) == ("adder", "i-1", "OK")
    values = np.frombuffer(base64.b64decode(good["outputs"][0]["data"]), np.float32)
    assert values.tolist() == [2.0, 3.0]
    assert (bad["status"], bad["outputs"]) == ("invalid_argument", [])
    assert rig.metrics.value("vedette_captures_total", outcome="captured") == 2


async def test_nothing_is_captured_unless_the_endpoint_asks(rig: Rig) -> None:
    """Off is the default."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    await rig.infer("adder", [[1.0]])
    await rig.capture.flush()
    assert await rig.stream.read("captures", 0, 10) == []


def signature() -> Signature:
    """Three named columns in, one value out."""
    return Signature(
        (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 1)),), feature_names=("age", "pay", "job")
    )


def test_excluded_columns_are_cut_out_before_anything_is_kept() -> None:
    """The column is gone from the tensor, not masked."""
    sampler = make_sampler(CaptureSettings(sampling_percent=100, exclude=("pay",)), signature())
    assert sampler is not None
    (kept,) = sampler.inputs([tensor("x", [[1, 2, 3], [4, 5, 6]])])
    assert kept.array.tolist() == [[1, 3], [4, 6]]
    assert sampler.outputs([tensor("y", [[1]])])[0].name == "y"


def test_a_whole_tensor_can_be_excluded_and_directions_can_be_off() -> None:
    """`exclude` takes tensors by name; `inputs` and `outputs` switch a direction."""
    by_name = make_sampler(CaptureSettings(sampling_percent=100, exclude=("x",)), signature())
    switched = make_sampler(CaptureSettings(sampling_percent=100, inputs=False, outputs=False), signature())
    assert by_name is not None
    assert switched is not None
    assert by_name.inputs([tensor("x", [[1, 2, 3]])]) == []
    assert switched.inputs([tensor("x", [[1, 2, 3]])]) == []
    assert switched.outputs([tensor("y", [[1]])]) == []


def test_sampling_follows_the_inference_id() -> None:
    """The same id is in the sample everywhere, and the share is the percentage."""
    quarter = make_sampler(CaptureSettings(sampling_percent=25), signature())
    assert quarter is not None
    chosen = [quarter.wants(f"id-{n}") for n in range(4000)]
    assert chosen == [quarter.wants(f"id-{n}") for n in range(4000)]
    assert 850 < sum(chosen) < 1150
    everything = make_sampler(CaptureSettings(sampling_percent=100), signature())
    assert everything is not None
    assert all(everything.wants(f"id-{n}") for n in range(1000))
    assert make_sampler(CaptureSettings(), signature()) is None


def record(size: int = 1) -> CaptureRecord:
    """A capture with an input of so many floats."""
    return CaptureRecord("e", "i", 0.0, "adder", "primary", "1", "OK", 0.001, [tensor("x", np.zeros(size))], [])


async def test_a_full_buffer_drops_and_counts() -> None:
    """Records and bytes are both bounded; what fits is published later."""
    metrics = Tally()
    capture = Capture(MemoryEventStream(), metrics, max_records=3, max_bytes=1000)
    assert [capture.offer(record()) for _ in range(5)] == [True, True, True, False, False]
    await capture.flush()
    assert [capture.offer(record(200)), capture.offer(record(200))] == [True, False]
    await capture.flush()
    assert metrics.value("vedette_captures_total", outcome="dropped") == 3
    assert metrics.value("vedette_captures_total", outcome="captured") == 4


class DownStream(MemoryEventStream):
    """A stream that refuses."""

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        raise Unavailable("the stream is down")


async def test_a_stream_that_is_down_costs_captures_and_nothing_else() -> None:
    """Failed batches are counted; the writer goes on and ends when told."""
    metrics = Tally()
    capture = Capture(DownStream(), metrics)
    writer = asyncio.create_task(capture.run())
    assert capture.offer(record())
    capture.stop()
    await asyncio.wait_for(writer, 5)
    assert metrics.value("vedette_captures_total", outcome="failed") == 1


async def test_sequence_numbers_of_messages_count_up() -> None:
    """A reader can tell a lost message from none."""
    stream: Any = MemoryEventStream()
    capture = Capture(stream, Tally())
    for _ in range(3):
        capture.offer(record())
        await capture.flush()
    deliveries = await stream.read("captures", 0, 10)
    assert [delivery.message.sequence for delivery in deliveries] == [0, 1, 2]
