"""Shadow variants and captures: what happens beside the answer, and never to it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, Tally, first, inference, request, tensor

from vedette.codec.binary import object_array
from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.events import Message, Topic
from vedette.core.models import CaptureSettings, SessionOptions, Signature, TensorSpec, Variant
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime
from vedette.engine.session import Session
from vedette.inference.capture import Capture, CaptureRecord, Sampler, make_sampler
from vedette.inference.http.offload import SHORT, text_size
from vedette.inference.shadows import ShadowLane
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


async def test_a_request_that_outlives_its_route_is_not_copied_to_shadows_that_are_gone(tmp_path: Path) -> None:
    """The old route's shadows are freed first; a copy for them would run on nothing."""
    gate = threading.Event()

    def open_held(paths: Sequence[Path], options: SessionOptions) -> Runtime:
        return Production(Session.load(paths[0], options), gate)

    async with inference(tmp_path, inline_limit_s=0.0, open_runtime=open_held) as rig:
        rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
        await rig.deploy("adder", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
        waiting = asyncio.create_task(rig.infer("adder", [[0.0]]))
        await asyncio.sleep(0)
        await rig.deploy("adder", Variant("primary", 1))
        gate.set()
        assert first(await waiting) == [[1.0]]
        await rig.loader.settled()
        assert rig.metrics.value("vedette_shadow_requests_total") == 0
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


def kept(signature: Signature, exclude: tuple[str, ...], *tensors: Tensor) -> dict[str, Any]:
    """What a sampler that excludes these names keeps of the inputs."""
    sampler = make_sampler(CaptureSettings(sampling_percent=100, exclude=exclude), signature)
    assert sampler is not None
    return {found.name: found.array.tolist() for found in sampler.inputs(tensors)}


def side_by_side(*inputs: TensorSpec, names: tuple[str, ...] = ("age", "pay", "job")) -> Signature:
    """A signature with these inputs and named columns."""
    return Signature(inputs, (TensorSpec("y", "FP32", (-1, 1)),), feature_names=names)


def test_columns_are_counted_over_inputs_side_by_side() -> None:
    """Feature names run through the inputs in the order of the signature, however many each takes."""
    two = side_by_side(TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, 1)))
    a, b = tensor("a", [[1, 2], [4, 5]]), tensor("b", [[3], [6]])
    assert kept(two, ("pay",), b, a) == {"a": [[1], [4]], "b": [[3], [6]]}
    assert kept(two, ("job",), a, b) == {"a": [[1, 2], [4, 5]]}
    own = side_by_side(*(TensorSpec(f"in_{name}", "FP32", (-1,)) for name in ("age", "pay", "job")))
    each = [tensor(f"in_{name}", [value]) for name, value in (("age", 1), ("pay", 2), ("job", 3))]
    assert kept(own, ("age", "job"), *each) == {"in_pay": [2]}


def test_an_open_width_is_the_number_of_features_and_another_width_is_not_kept() -> None:
    """[-1, -1] with three named columns: a request of three is cut, one of four cannot be and is left out."""
    wide = side_by_side(TensorSpec("x", "FP32", (-1, -1)))
    assert kept(wide, ("pay",), tensor("x", [[1, 2, 3]])) == {"x": [[1, 3]]}
    assert kept(wide, ("pay",), tensor("x", [[1, 2, 3, 4]])) == {}
    assert kept(wide, ("pay",), tensor("x", [1, 2, 3])) == {}
    assert kept(wide, ("pay",), tensor("x", 2)) == {}


def test_deeper_inputs_are_cut_as_rows() -> None:
    """A row of [2, 2] is four columns; what is left of it is a flat row."""
    deep = side_by_side(TensorSpec("x", "FP32", (-1, 2, 2)), names=("a", "b", "c", "d"))
    assert kept(deep, ("c",), tensor("x", [[[1, 2], [3, 4]]])) == {"x": [[1, 2, 4]]}


def test_an_input_that_the_names_do_not_reach_is_not_kept() -> None:
    """When columns cannot be told apart nothing is recorded of them; excluding a tensor needs no columns."""
    odd = side_by_side(TensorSpec("x", "FP32", (-1, 4)), TensorSpec("s", "FP32", ()))
    x, s = tensor("x", [[1, 2, 3, 4]]), tensor("s", 1)
    assert kept(odd, ("pay",), x, s) == {}
    assert kept(odd, ("s",), x, s) == {"x": [[1, 2, 3, 4]]}
    assert kept(signature(), ("pay",), tensor("z", [[1, 2, 3]])) == {}


async def test_nothing_is_kept_of_inputs_that_do_not_fit_the_signature(rig: Rig) -> None:
    """A refused request is recorded without tensors: nobody knows what its columns are."""
    made = models.constant_adder(1.0, width=3)
    named = replace(made, signature=replace(made.signature, feature_names=("age", "pay", "job")))
    rig.register("adder", named)
    await rig.deploy("adder", capture=CaptureSettings(sampling_percent=100, exclude=("pay",)))
    wrong = ([tensor("x", 7.0)], [tensor("x", [1, 2])], [tensor("z", [[1, 2, 3]])], [tensor("x", [[1]])],
             [tensor("x", [[1, 2, 3]], "FP64", np.float64)])  # fmt: skip
    for inputs in wrong:
        with pytest.raises(InvalidArgument):
            await rig.infer("adder", inputs)
    await rig.infer("adder", [[1, 2, 3]])
    await rig.capture.flush()
    (delivery,) = await rig.stream.read("captures", 0, 10)
    records = [json.loads(line) for line in delivery.message.value.splitlines()]
    assert [record["inputs"] for record in records[:-1]] == [[]] * len(wrong)
    assert records[-1]["inputs"][0]["shape"] == [1, 2]


async def test_a_capture_that_fails_costs_the_capture_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers and errors reach callers as they are; captures are counted as failed and the log says it once."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", capture=CaptureSettings(sampling_percent=100))

    def broken(*_: object) -> list[Tensor]:
        raise IndexError("a defect")

    monkeypatch.setattr(Sampler, "outputs", broken)
    assert first(await rig.infer("adder", [[0.0]], inference_id="i-5")) == [[1.0]]
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", [[0.0, 1.0]])
    assert rig.metrics.value("vedette_captures_total", outcome="failed") == 2
    told = [entry for entry in caplog.records if "capture" in entry.message]
    assert [entry.__dict__["inference_id"] for entry in told] == ["i-5"]


def texts(length: int) -> Tensor:
    """One BYTES element of this length."""
    return Tensor("x", "BYTES", object_array([b"x" * length]))


async def test_the_bytes_of_texts_count_against_the_bounds(rig: Rig) -> None:
    """A long string is as long for the capture's buffer and the shadow's queue as it is in memory."""
    metrics = Tally()
    capture = Capture(MemoryEventStream(), metrics, max_bytes=1000)
    assert capture.offer(replace(record(), inputs=[texts(900)]))
    assert not capture.offer(replace(record(), inputs=[texts(900)]))
    rig.register("same", *[models.identity("BYTES", (-1,))] * 2)
    await rig.deploy("same", Variant("primary", 1), shadow_variants=(Variant("shadow", 2),))
    lane = ShadowLane(rig.workers, max_bytes=1000)
    shadow = rig.router.route("same").shadows[0]
    for _ in range(2):
        lane.offer(shadow, request("same", [texts(900)]))
    assert shadow_count(rig, "dropped") == 1
    lane.discard([shadow.variant])
    lane.close()
    assert shadow_count(rig, "dropped") == 2


def test_the_length_of_a_text_answer_is_that_of_its_elements() -> None:
    """So that a long one is written beside the loop."""
    assert text_size([texts(SHORT)]) > SHORT
    assert text_size([tensor("x", np.zeros(10))]) == 80


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
