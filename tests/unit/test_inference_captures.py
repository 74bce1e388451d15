"""Captures: one joined record a request, loss counted to the last one, and never in the way of an answer."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import inference_models as models
from tests.inference_rig import Rig, Tally, first, inference, request, tensor

from vedette.codec.binary import object_array
from vedette.codec.captures import CONTENT_TYPE, CaptureBatch, decode_captures
from vedette.core.errors import CaptureFailed, InvalidArgument, Unavailable, VedetteError
from vedette.core.events import Message, Topic
from vedette.core.models import CaptureSettings, Signature, TensorSpec, Variant
from vedette.core.ports import EventStream
from vedette.core.tensors import InferResponse, RequestedOutput, Tensor
from vedette.inference import capture as module
from vedette.inference.capture import Bounds, Capture, Lane
from vedette.inference.producer import Producer
from vedette.inference.records import Source
from vedette.inference.sampling import KeptTensors, make_sampler
from vedette.storage.memory import MemoryEventStream
from vedette.storage.sqlite_stream import SqliteEventStream

EVERYTHING = CaptureSettings(sampling_percent=100)
STRICT = CaptureSettings(sampling_percent=100, mode="strict")


class ModedStream(MemoryEventStream):
    """A stream that refuses while `error` is set, and waits while `gate` is not."""

    def __init__(self, error: VedetteError | None = None) -> None:
        super().__init__()
        self.error = error
        self.gate = asyncio.Event()
        self.gate.set()
        self.publishes: list[int] = []

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.publishes.append(len(messages))
        return await super().publish(topic, messages)


@pytest.fixture
def stream() -> ModedStream:
    """The stream of the rig."""
    return ModedStream()


@pytest.fixture
async def rig(tmp_path: Path, stream: ModedStream) -> AsyncIterator[Rig]:
    """A running inference room over the stream."""
    async with inference(tmp_path, stream=stream) as made:
        yield made


async def batches(rig: Rig) -> list[CaptureBatch]:
    """Everything captured so far."""
    await rig.capture.flush()
    return await published(rig.stream)


async def published(stream: EventStream) -> list[CaptureBatch]:
    """Every batch on the stream."""
    return [decode_captures(delivery.message.value) for delivery in await stream.read("captures", 0, 10_000)]


def count(metrics: Any, outcome: str, **labels: str) -> float:
    """Captures with this outcome."""
    return float(metrics.value("vedette_captures_total", outcome=outcome, **labels))


async def test_each_request_is_one_record_with_all_that_is_known_of_it(rig: Rig) -> None:
    """Ids, times, types, tensors and outcome; a request that failed is there with its code."""
    rig.register("adder", models.constant_adder(1.0, width=2))
    await rig.deploy("adder", capture=EVERYTHING)
    told = {"content_type": "text/csv", "custom_attributes": "a=b"}
    await rig.infer("adder", [[1.0, 2.0]], inference_id="i-1", **told)
    await rig.infer("adder", [[3.0, 4.0], [5.0, 6.0]])
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", [[1.0]])
    (batch,) = await batches(rig)
    assert (batch.endpoint, batch.variant, batch.model, batch.version) == ("adder", "primary", "adder", "1")
    assert (batch.codes, batch.rows.tolist()) == (["OK", "OK", "invalid_argument"], [1, 2, 0])
    assert batch.inference_ids == ["i-1", "", ""]
    assert (batch.request_types, batch.custom_attributes) == (["text/csv", "", ""], ["a=b", "", ""])
    assert list(batch.inputs["x"].shapes) == [(1, 2), (2, 2), None]
    assert batch.inputs["x"].stacked().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert batch.outputs["y"].stacked().tolist() == [[2, 3], [4, 5], [6, 7]]
    assert batch.sequences.tolist() == [0, 1, 2]
    assert [(name[:24], name[24:]) for name in batch.event_ids] == [
        (batch.event_ids[0][:24], f"{n:012x}") for n in range(3)
    ]
    assert all(uuid.UUID(name).version == 4 for name in batch.event_ids)
    assert count(rig.metrics, "captured") == 3
    (delivery,) = await rig.stream.read("captures", 0, 10)
    message = delivery.message
    assert (message.key, message.content_type, message.producer) == ("adder", CONTENT_TYPE, batch.producer)


async def test_an_answer_that_cannot_be_written_is_a_failed_request(rig: Rig) -> None:
    """The record says what the caller got, with the inputs and without outputs."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", capture=EVERYTHING)

    async def unwritable(*_: object) -> None:
        raise InvalidArgument("cannot be written")

    with pytest.raises(InvalidArgument):
        await rig.dataplane.infer(request("adder", [[1.0]]), unwritable, protocol="http")
    (batch,) = await batches(rig)
    assert (batch.codes, batch.inputs["x"].shapes, batch.outputs["y"].shapes) == (
        ["invalid_argument"],
        [(1, 1)],
        [None],
    )


async def test_nothing_is_captured_unless_the_endpoint_asks(rig: Rig) -> None:
    """Off is the default."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    await rig.infer("adder", [[1.0]])
    assert await batches(rig) == []


async def test_a_request_is_wholly_in_the_sample_or_not(rig: Rig) -> None:
    """A share of the requests, by inference id; each of them with inputs and outputs."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", capture=CaptureSettings(sampling_percent=30))
    for number in range(400):
        await rig.infer("adder", [[float(number)]], inference_id=f"i-{number}")
    (batch,) = await batches(rig)
    assert 80 < len(batch) < 160
    assert batch.inputs["x"].values.tolist() == [float(name[2:]) for name in batch.inference_ids]
    assert (batch.outputs["y"].values == batch.inputs["x"].values + 1).all()
    assert batch.sequences.tolist() == list(range(len(batch)))
    assert count(rig.metrics, "captured") == len(batch)


async def test_messages_are_of_one_endpoint_variant_and_version_each(rig: Rig) -> None:
    """Whatever gathered goes out in one publish; every message and record has its own number."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("a", Variant("one", 1), Variant("two", 2), model="adder", capture=EVERYTHING)
    await rig.deploy("b", model="adder", capture=EVERYTHING)
    for number in range(4):
        await rig.infer("a", [[0.0]], target_variant=("one", "two")[number % 2])
        await rig.infer("b", [[0.0]])
    found = await batches(rig)
    assert sorted((b.endpoint, b.variant, b.version, len(b)) for b in found) == [
        ("a", "one", "1", 2), ("a", "two", "2", 2), ("b", "primary", "1", 4),
    ]  # fmt: skip
    assert sorted(n for b in found for n in b.sequences.tolist()) == list(range(8))
    assert [d.message.sequence for d in await rig.stream.read("captures", 0, 9)] == [0, 1, 2]
    assert rig.stream.publishes == [3]  # type: ignore[attr-defined]


async def test_a_classified_output_stands_in_a_message_of_its_own(rig: Rig) -> None:
    """`y` as text "value:index" is not the `y` of the other requests."""
    rig.register("adder", models.constant_adder(1.0, width=2))
    await rig.deploy("adder", capture=EVERYTHING)
    await rig.infer("adder", [[1.0, 2.0]])
    await rig.infer("adder", [[1.0, 2.0]], outputs=[RequestedOutput("y", classification=1)])
    await rig.infer("adder", [[3.0, 2.0]], outputs=[RequestedOutput("y")])
    found = sorted(await batches(rig), key=len)
    assert [(len(b), b.outputs["y"].datatype) for b in found] == [(1, "BYTES"), (2, "FP32")]
    assert found[0].outputs["y"].values.tolist() == [b"3.0:1"]
    assert found[1].outputs["y"].stacked().tolist() == [[2, 3], [4, 3]]


async def test_a_large_flush_is_cut_into_bounded_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message grows beyond its bound of bytes; the order of records stays."""
    monkeypatch.setattr("vedette.inference.records.PART_BYTES", 10_000)
    async with capturing() as (capture, lane, stream, metrics):
        for number in range(100):
            offer(lane, np.full((1, 100), number, np.float32))
        await capture.flush()
        found = await published(stream)
        assert len(found) == 100 // 12 + 1
        assert [n for b in found for n in b.inputs["x"].values[::100].tolist()] == list(range(100))
        assert count(metrics, "captured") == 100


async def test_excluded_columns_are_in_no_file_of_the_stream(tmp_path: Path) -> None:
    """The bytes of an excluded column, tensor or output leave the process nowhere; those beside them do."""
    secret, plain = np.float32(1234.5678), np.float32(8765.4321)
    made = models.constant_adder(0.0, width=3)
    named = replace(made, signature=replace(made.signature, feature_names=("age", "pay", "job")))
    stream = SqliteEventStream(tmp_path / "stream")
    async with inference(tmp_path / "cache", stream=stream) as rig:
        rig.register("adder", named)
        await rig.deploy("adder", capture=CaptureSettings(sampling_percent=100, exclude=("pay", "y")))
        await rig.infer("adder", [[plain, secret, 1.0]])
        with pytest.raises(InvalidArgument):
            await rig.infer("adder", [[secret, secret]])
        (batch,) = await batches(rig)
        assert (batch.excluded, list(batch.outputs)) == (("pay", "y"), [])
        assert batch.inputs["x"].stacked().tolist() == [[plain, 1.0]]
    await stream.close()
    written = [path.read_bytes() for path in (tmp_path / "stream").rglob("*") if path.is_file()]
    assert any(plain.tobytes() in data for data in written)
    assert not any(secret.tobytes() in data for data in written)


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
    (batch,) = await batches(rig)
    assert list(batch.inputs["x"].shapes) == [None] * len(wrong) + [(1, 2)]


async def test_a_capture_that_fails_costs_the_capture_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers and errors reach callers as they are; captures are counted as failed and the log says it once."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", capture=EVERYTHING)

    def broken(*_: object) -> None:
        raise IndexError("a defect")

    monkeypatch.setattr(KeptTensors, "take", broken)
    assert first(await rig.infer("adder", [[0.0]], inference_id="i-5")) == [[1.0]]
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", [[0.0, 1.0]])
    assert count(rig.metrics, "failed", reason="defect") == 2
    assert await batches(rig) == []
    told = [entry for entry in caplog.records if "capture" in entry.message]
    assert [entry.__dict__["inference_id"] for entry in told] == ["i-5"]


def source(**fields: Any) -> Source:
    """A variant `adder` with three columns in and one value out."""
    signature = Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, 1)),))
    sampler = make_sampler(CaptureSettings(**{"sampling_percent": 100, **fields}), signature)
    assert sampler is not None
    return Source("adder", "primary", "risk", "1", sampler)


@asynccontextmanager
async def capturing(
    stream: MemoryEventStream | None = None, *, bounds: Bounds | None = None, **fields: Any
) -> AsyncIterator[tuple[Capture, Lane, MemoryEventStream, Tally]]:
    """A capture without its background task, and a lane."""
    stream, metrics = stream or MemoryEventStream(), Tally()
    capture = Capture(stream, metrics, bounds=bounds, pause_s=fields.pop("pause_s", 60.0))
    try:
        yield capture, Lane(capture, source(**fields)), stream, metrics
    finally:
        await capture.close()


def offer(lane: Lane, values: Any = ((1.0, 2.0, 3.0),), **fields: Any) -> None:
    """Offer a successful best-effort request."""
    response = InferResponse("adder", "1", "primary", [tensor("y", [[0.5]])], content_type="application/json")
    asked = request("adder", values, **fields)
    lane.offer(asked, response, None, code="OK", rows=1, at=1.0, latency_s=0.001)


async def test_a_full_buffer_drops_and_counts_by_reason() -> None:
    """Records and bytes are both bounded; what is being written counts; numbers of what was dropped are left out."""
    async with capturing(bounds=Bounds(records=3, bytes=5000)) as (capture, lane, stream, metrics):
        for _ in range(5):
            offer(lane)
        await capture.flush()
        for _ in range(2):
            offer(lane, np.zeros((1, 900), np.float32))
        await capture.flush()
        offer(lane)
        await capture.flush()
        assert count(metrics, "dropped", reason="buffer_full") == 2
        assert count(metrics, "dropped", reason="bytes_full") == 1
        assert [b.sequences.tolist() for b in await published(stream)] == [[2, 3, 4], [6], [7]]
        assert count(metrics, "captured") == 5


async def test_texts_count_by_their_length() -> None:
    """Long strings, ids and attributes are as long for the bound as they are in memory."""
    long = "x" * 900
    async with capturing(bounds=Bounds(bytes=2000)) as (capture, lane, _, metrics):
        offer(lane, inference_id=long)
        offer(lane, custom_attributes=long)
        assert count(metrics, "dropped", reason="bytes_full") == 1
        await capture.flush()
        offer(lane, [Tensor("x", "BYTES", object_array([long.encode()] * 2))])
        assert count(metrics, "dropped", reason="bytes_full") == 2


async def test_a_record_too_large_for_a_message_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never fit."""
    monkeypatch.setattr(module, "_LARGEST", 1000)
    async with capturing() as (_, lane, _, metrics):
        offer(lane, np.zeros((1, 900), np.float32))
        assert count(metrics, "dropped", reason="too_large") == 1


async def test_a_message_is_sent_again_while_the_stream_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same numbers, a few times; then its records have failed, and the next ones are tried."""
    monkeypatch.setattr(module, "_RETRY_S", (0.0, 0.0))
    stream = ModedStream(Unavailable("the stream is down"))
    async with capturing(stream) as (capture, lane, _, metrics):
        offer(lane)
        await capture.flush()
        assert count(metrics, "failed", reason="stream_down") == 1
        offer(lane)
        stream.gate.clear()
        flush = asyncio.create_task(capture.flush())
        await asyncio.sleep(0)
        stream.error = None
        stream.gate.set()
        await flush
        (batch,) = await published(stream)
        assert batch.sequences.tolist() == [1]
        assert count(metrics, "captured") == 1


async def test_a_message_that_the_stream_refuses_is_not_sent_again() -> None:
    """It would be refused again."""
    async with capturing(ModedStream(InvalidArgument("no"))) as (capture, lane, _, metrics):
        offer(lane)
        await capture.flush()
        assert count(metrics, "failed", reason="refused") == 1


async def test_capture_pauses_while_the_disk_is_full() -> None:
    """What is offered then is dropped at once with that reason; later it goes on."""
    stream = ModedStream(Unavailable("the stream is out of disk space; nothing was stored"))
    async with capturing(stream, pause_s=0.05) as (capture, lane, _, metrics):
        offer(lane)
        await capture.flush()
        assert count(metrics, "failed", reason="disk") == 1
        offer(lane)
        assert count(metrics, "dropped", reason="disk") == 1
        stream.error = None
        async with asyncio.timeout(5):
            while not count(metrics, "captured"):
                await asyncio.sleep(0.01)
                offer(lane)
                await capture.flush()


class FullDisk(Producer):
    """A producer whose mark cannot be moved."""

    def take(self, records: int, messages: int) -> tuple[int, int]:
        raise OSError(28, "No space left on device")


async def test_without_numbers_nothing_is_published() -> None:
    """A full disk keeps the mark from moving: capture pauses, as when the stream has no room."""
    metrics = Tally()
    capture = Capture(MemoryEventStream(), metrics, producer=FullDisk(None), pause_s=60)
    lane = Lane(capture, source())
    offer(lane)
    await capture.flush()
    offer(lane)
    assert count(metrics, "failed", reason="disk") == 1
    assert count(metrics, "dropped", reason="disk") == 1
    await capture.close()


async def test_a_defect_in_one_message_costs_its_own_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other lanes' messages of the same publish arrive."""
    real = module.message_of

    def broken(part: Any, **fields: Any) -> Message:
        if part.source.endpoint == "bad":
            raise RuntimeError("a defect")
        return real(part, **fields)

    monkeypatch.setattr(module, "message_of", broken)
    async with capturing() as (capture, lane, stream, metrics):
        bad = Lane(capture, replace(source(), endpoint="bad"))
        offer(bad)
        offer(lane)
        await capture.flush()
        assert [b.sequences.tolist() for b in await published(stream)] == [[1]]
        assert count(metrics, "failed", endpoint="bad", reason="defect") == 1
        assert count(metrics, "captured", endpoint="adder") == 1


async def test_the_writer_publishes_by_age_and_ends_with_what_is_left() -> None:
    """Nobody calls flush; after stop everything is on the stream and the numbers are exact."""
    stream, metrics = MemoryEventStream(), Tally()
    capture = Capture(stream, metrics, age_s=0.01)
    lane = Lane(capture, source())
    writer = asyncio.create_task(capture.run())
    offer(lane)
    assert await stream.wait("captures", 0, 5)
    offer(lane)
    capture.stop()
    await asyncio.wait_for(writer, 5)
    await capture.close()
    offer(lane)
    assert count(metrics, "captured") == 2
    assert count(metrics, "dropped", reason="stopping") == 1


async def test_many_bytes_do_not_wait_for_their_age() -> None:
    """A burst is published before it fills the buffer."""
    stream = MemoryEventStream()
    capture = Capture(stream, Tally(), bounds=Bounds(records=4), age_s=60)
    lane = Lane(capture, source())
    writer = asyncio.create_task(capture.run())
    for _ in range(3):
        offer(lane)
    assert await stream.wait("captures", 0, 5)
    capture.stop()
    await asyncio.wait_for(writer, 5)
    await capture.close()


STEPS = st.sampled_from(["offer", "large", "flush", "down", "disk", "up", "defect", "cancel"])


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40), st.integers(0, 2**32))
def test_every_sampled_request_is_captured_dropped_or_failed(steps: list[str], seed: int) -> None:
    """Over random fills, refusals, defects and cancelled flushes: the three add up, and numbers and room agree."""
    asyncio.run(_accounted(steps, random.Random(seed)))


async def _accounted(steps: list[str], chance: random.Random) -> None:
    stream, offered, retries = ModedStream(), 0, module._RETRY_S
    module._RETRY_S = ()  # type: ignore[assignment]
    try:
        async with capturing(stream, bounds=Bounds(records=5, bytes=8000), pause_s=0.0) as (capture, lane, _, metrics):
            for step in steps:
                if step == "flush":
                    await capture.flush()
                elif step == "cancel":
                    flush = asyncio.create_task(capture.flush())
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                    flush.cancel()
                    await asyncio.wait([flush])
                elif step in ("down", "disk"):
                    stream.error = Unavailable("no disk space" if step == "disk" else "down")
                elif step == "up":
                    stream.error = None
                else:
                    offered += 1
                    values = [Tensor("x", "BYTES", object_array([7]))] if step == "defect" else None
                    offer(lane, values or np.zeros((1, 900 if step == "large" else 3), np.float32))
                waiting = offered - sum(count(metrics, outcome) for outcome in ("captured", "dropped", "failed"))
                assert capture._records == waiting
            stream.error = None
            await asyncio.sleep(0)
            await capture.flush()
    finally:
        module._RETRY_S = retries
    captured, dropped, failed = (count(metrics, outcome) for outcome in ("captured", "dropped", "failed"))
    assert captured + dropped + failed == offered
    assert (capture._records, capture._bytes) == (0, 0)
    numbers = [n for b in await published(stream) for n in b.sequences.tolist()]
    assert numbers == sorted(set(numbers))
    assert captured <= len(numbers) <= captured + failed
    assert capture._producer._records == offered


async def strict_rig(rig: Rig) -> None:
    """An adder in strict mode."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", capture=STRICT)


async def test_a_strict_answer_waits_for_its_record(rig: Rig, stream: ModedStream) -> None:
    """Not before the commit; then at once, and without anyone calling flush."""
    await strict_rig(rig)
    stream.gate.clear()
    asking = asyncio.create_task(rig.infer("adder", [[1.0]], inference_id="i-1"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    assert await published(stream) == []
    stream.gate.set()
    assert first(await asking) == [[2.0]]
    (batch,) = await published(stream)
    assert (batch.inference_ids, batch.codes) == (["i-1"], ["OK"])


async def test_many_strict_answers_share_a_commit(rig: Rig, stream: ModedStream) -> None:
    """What arrives while one publish runs goes into the next."""
    await strict_rig(rig)
    stream.gate.clear()
    asking = [asyncio.create_task(rig.infer("adder", [[float(n)]])) for n in range(200)]
    await asyncio.sleep(0.05)
    stream.gate.set()
    await asyncio.gather(*asking)
    assert len(stream.publishes) <= 4
    assert sum(len(batch) for batch in await published(stream)) == 200


async def test_without_room_a_strict_request_does_not_run(tmp_path: Path, stream: ModedStream) -> None:
    """503 before any work; the sampled request is counted as dropped."""
    async with inference(tmp_path, stream=stream, bounds=Bounds(records=2)) as rig:
        await strict_rig(rig)
        stream.gate.clear()
        asking = [asyncio.create_task(rig.infer("adder", [[1.0]])) for _ in range(2)]
        await asyncio.sleep(0.02)
        with pytest.raises(Unavailable, match="no room"):
            await rig.infer("adder", [[1.0]])
        assert rig.metrics.value("vedette_compute_duration_seconds", endpoint="adder") == 0
        stream.gate.set()
        await asyncio.gather(*asking)
        await rig.infer("adder", [[1.0]])
        assert count(rig.metrics, "dropped", reason="buffer_full") == 1
        assert count(rig.metrics, "captured") == 3


async def test_a_strict_request_whose_record_is_lost_is_capture_failed(rig: Rig, stream: ModedStream) -> None:
    """The answer is not given; while the disk is full further requests do not run."""
    await strict_rig(rig)
    stream.error = Unavailable("the stream is out of disk space; nothing was stored")
    with pytest.raises(CaptureFailed):
        await rig.infer("adder", [[1.0]])
    with pytest.raises(Unavailable, match="disk"):
        await rig.infer("adder", [[1.0]])
    assert rig.metrics.value("vedette_requests_total", code="capture_failed") == 1
    assert rig.metrics.value("vedette_requests_total", code="OK") == 0
    assert count(rig.metrics, "failed", reason="disk") == 1
    assert count(rig.metrics, "dropped", reason="disk") == 1


async def test_a_strict_error_waits_for_its_record_too(rig: Rig, stream: ModedStream) -> None:
    """What a caller is told is on the stream; when it is not, the caller is told that."""
    await strict_rig(rig)
    with pytest.raises(InvalidArgument):
        await rig.infer("adder", [[1.0, 2.0]])
    (batch,) = await published(stream)
    assert batch.codes == ["invalid_argument"]
    stream.error = InvalidArgument("refused by the stream")
    with pytest.raises(CaptureFailed):
        await rig.infer("adder", [[1.0, 2.0]])


async def test_a_strict_caller_does_not_wait_for_ever(
    rig: Rig, stream: ModedStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time for the request the answer is capture_failed; the record may still arrive and is counted."""
    monkeypatch.setattr("vedette.inference.dataplane._LEAST_PATIENCE_S", 0.02)
    await strict_rig(rig)
    stream.gate.clear()
    with pytest.raises(CaptureFailed, match="in time"):
        await rig.infer("adder", [[1.0]], deadline=asyncio.get_running_loop().time() + 0.02)
    stream.gate.set()
    await rig.capture.flush()
    assert count(rig.metrics, "captured") == 1


async def test_a_strict_caller_that_leaves_gives_its_room_back(rig: Rig, stream: ModedStream) -> None:
    """Cancelled while it waits for the commit: the record is written, the room is free."""
    await strict_rig(rig)
    stream.gate.clear()
    asking = asyncio.create_task(rig.infer("adder", [[1.0]]))
    await asyncio.sleep(0.02)
    asking.cancel()
    await asyncio.wait([asking])
    stream.gate.set()
    await rig.capture.flush()
    assert rig.capture._records == rig.capture._bytes == 0
    (batch,) = await published(stream)
    assert batch.codes == ["OK"]


async def test_strict_requests_outside_the_sample_wait_for_nothing(rig: Rig, stream: ModedStream) -> None:
    """Neither room nor a commit."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder", capture=replace(STRICT, sampling_percent=50))
    stream.gate.clear()
    sampler = rig.router.route("adder").variants[0].lane._sampler  # type: ignore[union-attr]
    outside = next(f"i-{n}" for n in range(100) if not sampler.wants(f"i-{n}"))
    assert first(await asyncio.wait_for(rig.infer("adder", [[1.0]], inference_id=outside), 5)) == [[2.0]]
    stream.gate.set()
    assert await batches(rig) == []


async def test_the_mark_follows_what_waits_and_is_exact_at_rest(tmp_path: Path, stream: ModedStream) -> None:
    """A kill while the stream hangs shows as a gap of at least what waited; a kill at rest shows as none."""
    file = tmp_path / "0.json"

    def marked() -> int:
        return int(json.loads(file.read_bytes())["records"]) if file.exists() else 0

    capture = Capture(stream, Tally(), producer=Producer(file), age_s=0.01)
    lane = Lane(capture, source())
    stream.gate.clear()
    writer = asyncio.create_task(capture.run())
    async with asyncio.timeout(10):
        for waiting in (1, 51):
            while capture._records < waiting:
                offer(lane)
            while marked() < waiting:  # noqa: ASYNC110 - only the file can tell
                await asyncio.sleep(0.001)
            assert marked() <= waiting + 63
        stream.gate.set()
        while marked() != 51 or capture._records:  # noqa: ASYNC110 - only the file can tell
            await asyncio.sleep(0.001)
    capture.stop()
    await writer
    await capture.close()
    assert marked() == 51


async def test_a_stop_counts_what_never_got_out(tmp_path: Path, stream: ModedStream) -> None:
    """The stream hangs at the end of the process: everything sampled still has an outcome."""
    metrics = Tally()
    capture = Capture(stream, metrics, producer=Producer(tmp_path / "0.json"), age_s=0.001)
    lane = Lane(capture, source())
    stream.gate.clear()
    writer = asyncio.create_task(capture.run())
    offer(lane)
    await asyncio.sleep(0.05)
    for _ in range(3):
        offer(lane)
    writer.cancel()
    await asyncio.wait([writer])
    await capture.close()
    assert count(metrics, "failed", reason="stopping") == 1
    assert count(metrics, "dropped", reason="stopping") == 3
    again = Producer(tmp_path / "0.json")
    assert again.take(1, 1)[0] == 4
    again.close()
