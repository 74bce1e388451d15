"""The loader: load aside, swap, drain, free; what serves goes on serving whatever fails."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests import inference_models as models
from tests.inference_rig import Rig, first, inference

from vedette.core.clock import ManualClock
from vedette.core.errors import NotFound, Unavailable
from vedette.core.models import CaptureSettings, EndpointConfig, SessionOptions, Variant
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime
from vedette.engine.session import Session
from vedette.inference.loader import BEGINNING_S, MISSES_OF_A_RESTART, Loader
from vedette.testing.registry import MemoryRegistry


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running inference room."""
    async with inference(tmp_path) as made:
        yield made


async def test_a_hundred_switches_under_load_lose_no_request_and_mix_no_answers(rig: Rig) -> None:
    """Every answer is the one of the version it names, and none fails, while versions change a hundred times."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder")
    answered: list[tuple[str, float]] = []
    switching = True

    async def ask() -> None:
        while switching:
            answer = await rig.infer("adder", [[0.0]])
            answered.append((answer.version, first(answer)[0][0]))
            await asyncio.sleep(0)

    callers = [asyncio.create_task(ask()) for _ in range(4)]
    for switch in range(100):
        await rig.deploy("adder", Variant("primary", 1 + (switch + 1) % 2))
    switching = False
    await asyncio.gather(*callers)
    assert set(answered) == {("1", 1.0), ("2", 2.0)}
    assert rig.metrics.value("vedette_requests_total", code="OK") == len(answered)


class Held:
    """A session whose runs in model threads wait until they are let go."""

    def __init__(self, session: Runtime, gate: threading.Event) -> None:
        self._session = session
        self._gate = gate
        self.inputs, self.outputs, self.output_names = session.inputs, session.outputs, session.output_names
        self.memory_bytes, self.load_time_ms = session.memory_bytes, session.load_time_ms

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        if threading.current_thread().name.startswith("model"):
            assert self._gate.wait(10)
        return self._session.run(feeds, outputs)

    def close(self) -> None:
        self._session.close()


async def test_threaded_requests_survive_a_switch_and_their_version_is_freed_after_them(tmp_path: Path) -> None:
    """Requests that wait or run keep their version alive until they are answered; then its memory is given back."""
    gate = threading.Event()

    def open_held(paths: Sequence[Path], options: SessionOptions) -> Runtime:
        return Held(Session.load(paths[0], options), gate)

    async with inference(tmp_path, inline_limit_s=0.0, open_runtime=open_held) as rig:
        rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
        await rig.deploy("adder")
        old = rig.router.route("adder").variants[0].executor.runtime
        waiting = [asyncio.create_task(rig.infer("adder", [[0.0]])) for _ in range(6)]
        await asyncio.sleep(0)
        await rig.deploy("adder", Variant("primary", 2))
        assert rig.metrics.value("vedette_models_loaded") == 2
        gate.set()
        assert {answer.version for answer in await asyncio.gather(*waiting)} == {"1"}
        await rig.loader.settled()
        with pytest.raises(Unavailable):
            old.run({}, ())
        assert rig.metrics.value("vedette_models_loaded") == 1


async def test_a_failed_load_leaves_the_old_version_serving(rig: Rig) -> None:
    """Wrong bytes, a graph that does not load, an unknown provider: reported with the reason, nothing changes."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    broken = rig.registry.add_version(
        "adder", 3, {"model.onnx": b"no graph"}, signature=models.constant_adder(3.0).signature
    )
    rig.registry.corrupt(rig.registry.versions["adder", 2], "model.onnx", models.constant_adder(9.0).data)
    assert broken.version == 3
    await rig.deploy("adder")
    for bad, reason in (
        (Variant("primary", 2), "digest"),
        (Variant("primary", 3), ""),
        (Variant("primary", 1, options=SessionOptions(providers=("TPUExecutionProvider",))), "TPUExecutionProvider"),
    ):
        await rig.deploy("adder", bad, state="failed")
        report = rig.registry.last_report("adder")
        assert report is not None
        assert report.reason
        assert reason in report.reason
        assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
    assert rig.metrics.value("vedette_model_load_failures_total", endpoint="adder") == 3
    await rig.deploy("adder")
    assert rig.loader.why_not_ready() == ""


async def test_an_endpoint_whose_first_load_failed_is_unavailable_with_the_reason(rig: Rig) -> None:
    """Callers learn why it does not serve; a later good deployment serves."""
    rig.registry.add_version("net", 1, {"model.onnx": b"no graph"}, signature=models.mlp().signature)
    await rig.deploy("net", state="failed")
    with pytest.raises(Unavailable, match="not ready"):
        await rig.infer("net", np.zeros((1, 30)))
    rig.register("net", models.mlp())
    await rig.deploy("net")
    await rig.infer("net", np.zeros((1, 30)))


async def test_settings_that_cannot_be_kept_are_refused_at_load(rig: Rig) -> None:
    """A capture mode or an excluded column that this service cannot honour fails the deployment."""
    rig.register("adder", models.constant_adder(1.0))
    for settings in ({"mode": "maybe"}, {"exclude": ("salary",)}):
        await rig.deploy("adder", state="failed", capture=CaptureSettings(sampling_percent=100, **settings))


async def test_one_version_is_loaded_once_for_all_who_use_it(rig: Rig) -> None:
    """Variants and endpoints share a session; it goes with the last of them."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("one", Variant("a", 1), Variant("b", 1), model="adder")
    await rig.deploy("two", model="adder")
    runtimes = {id(v.executor.runtime) for name in ("one", "two") for v in rig.router.route(name).variants}
    assert len(runtimes) == 1
    assert len(rig.registry.fetches) == 1
    assert rig.metrics.value("vedette_models_loaded") == 1
    rig.registry.remove("one")
    await rig.registry.reported("one", "removed")
    await rig.loader.settled()
    assert first(await rig.infer("two", [[0.0]])) == [[1.0]]
    rig.registry.remove("two")
    await rig.registry.reported("two", "removed")
    await rig.loader.settled()
    assert rig.metrics.value("vedette_models_loaded") == 0


async def test_a_deleted_endpoint_leaves_nothing_behind(rig: Rig) -> None:
    """Route, statistics, metrics and the kept deployment are gone."""
    rig.register("adder", models.constant_adder(1.0))
    await rig.deploy("adder")
    await rig.infer("adder", [[0.0]])
    rig.registry.remove("adder")
    await rig.registry.reported("adder", "removed")
    await rig.loader.settled()
    with pytest.raises(NotFound):
        await rig.infer("adder", [[0.0]])
    assert rig.dataplane.statistics() == []
    assert [key for key in rig.metrics.values if ("endpoint", "adder") in key[1]] == []
    assert rig.cache.remembered() == []


async def test_unload_gives_the_memory_back(rig: Rig) -> None:
    """Loading 160 MB and unloading it returns most of it to the system."""
    rig.register("big", models.big(160))
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    await rig.deploy("big")
    await rig.infer("big", [[1.0]])
    loaded = process.memory_info().rss - before
    assert loaded > 120 << 20
    await rig.dataplane.unload("big")
    await rig.loader.settled()
    gc.collect()
    assert process.memory_info().rss - before < loaded * 0.3


async def test_predictions_go_on_while_the_registry_is_down_and_changes_arrive_afterwards(rig: Rig) -> None:
    """The watch is taken up again where it broke."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder")
    rig.registry.down = True
    assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
    rig.registry.deploy("adder", EndpointConfig("adder", (Variant("primary", 2),)))
    rig.registry.down = False
    await rig.registry.reported("adder", "ready", 2)
    assert first(await rig.infer("adder", [[0.0]])) == [[2.0]]
    assert rig.metrics.value("vedette_registry_connected") == 1


async def test_a_restart_serves_what_was_served_though_the_registry_is_down(tmp_path: Path) -> None:
    """Artifacts and deployments are kept; the last good one counts, not a newer one that failed."""
    registry = MemoryRegistry()
    async with inference(tmp_path, registry=registry) as rig:
        rig.register("adder", models.constant_adder(1.0))
        rig.registry.add_version("adder", 2, {"model.onnx": b"no"}, signature=models.constant_adder(2.0).signature)
        await rig.deploy("adder")
        await rig.deploy("adder", Variant("primary", 2), state="failed")
    registry.down = True
    async with inference(tmp_path, registry=registry) as rig:
        await rig.loader.settled()
        assert rig.dataplane.ready() == ""
        assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
        registry.remove("adder")
        registry.down = False
        await registry.reported("adder", "removed")
        with pytest.raises(NotFound):
            await rig.infer("adder", [[0.0]])


async def test_a_restart_without_cache_and_registry_is_not_ready(tmp_path: Path) -> None:
    """Ready means that the wanted state is known."""
    registry = MemoryRegistry()
    registry.down = True
    async with inference(tmp_path, registry=registry) as rig:
        assert rig.dataplane.ready() == "waiting for the registry"


def damage(folder: Path, data: bytes) -> None:
    """Write other bytes over the only cached graph."""
    (graph,) = folder.glob("artifacts/*/model.onnx")
    graph.write_bytes(data)


async def test_a_damaged_artifact_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    """Nothing is loaded whose bytes do not match; the cache mends itself."""
    registry = MemoryRegistry()
    async with inference(tmp_path, registry=registry) as rig:
        rig.register("adder", models.constant_adder(1.0))
        await rig.deploy("adder")
    damage(tmp_path, models.constant_adder(5.0).data)
    async with inference(tmp_path, registry=registry) as rig:
        await registry.reported("adder", "ready")
        await rig.loader.settled()
        assert first(await rig.infer("adder", [[0.0]])) == [[1.0]]
    assert len(registry.fetches) == 2


async def test_a_wish_that_was_overtaken_is_skipped(rig: Rig) -> None:
    """Of many changes in a row only the first and the newest need to be loaded."""
    rig.register("adder", *(models.constant_adder(float(v)) for v in range(1, 21)))
    for version in range(1, 21):
        last = rig.registry.deploy("adder", EndpointConfig("adder", (Variant("primary", version),)))
    await rig.registry.reported("adder", "ready", last.generation)
    assert first(await rig.infer("adder", [[0.0]])) == [[20.0]]
    assert len(rig.registry.fetches) < 10


async def test_the_cache_is_swept_of_what_nobody_names(rig: Rig) -> None:
    """Artifacts of replaced versions go once they have not been used for a while."""
    rig.register("adder", models.constant_adder(1.0), models.constant_adder(2.0))
    await rig.deploy("adder")
    await rig.deploy("adder", Variant("primary", 2))
    await rig.loader.settled()
    assert rig.cache.sweep(rig.residents.digests) == []
    assert rig.cache.sweep(rig.residents.digests, grace_s=0.0) == [rig.registry.versions["adder", 1].digest]


async def test_a_registry_that_starts_beside_us_is_no_news(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Within ten seconds and with nothing served that is information; after that, or once it was there, a warning."""
    clock = ManualClock(1_000.0)
    loader = Loader.__new__(Loader)
    loader.__dict__.update(rig.loader.__dict__ | {"_monotonic": clock.monotonic, "_began": clock.monotonic()})
    caplog.set_level(logging.INFO, "vedette.inference.loader")

    def heard() -> list[tuple[str, str]]:
        said = [(record.levelname, record.message) for record in caplog.records]
        caplog.clear()
        return said

    def miss(times: int) -> None:
        for _ in range(times):
            loader._missed("no connection")

    loader._revision = 0
    miss(MISSES_OF_A_RESTART)
    assert heard() == []
    miss(5)
    assert heard() == [("INFO", "waiting for the registry")]
    clock.advance(BEGINNING_S)
    miss(5)
    assert heard() == [("WARNING", "the registry is out of reach; serving goes on")]
    loader._reached()
    assert heard() == [("WARNING", "the registry is back")]
    loader._reached()
    assert heard() == []
    loader._began, loader._revision = clock.monotonic(), 7
    miss(MISSES_OF_A_RESTART + 5)
    assert heard() == [("WARNING", "the registry is out of reach; serving goes on")]
