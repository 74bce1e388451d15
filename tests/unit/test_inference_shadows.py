"""Shadow variants: what happens beside the answer, and never to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, first, inference, request, tensor

from vedette.codec.binary import object_array
from vedette.core.errors import InvalidArgument
from vedette.core.models import SessionOptions, Variant
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime
from vedette.engine.session import Session
from vedette.inference.http.offload import SHORT, text_size
from vedette.inference.shadows import ShadowLane


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


def texts(length: int) -> Tensor:
    """One BYTES element of this length."""
    return Tensor("x", "BYTES", object_array([b"x" * length]))


async def test_the_bytes_of_texts_count_against_the_bounds(rig: Rig) -> None:
    """A long string is as long for the shadow's queue as it is in memory."""
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
