"""Watchers that come and go, are slow, or live in another process see every step in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.registry_room import Tally

from vedette.core.errors import Unavailable
from vedette.core.models import Model
from vedette.core.ports import Change, Synced
from vedette.ports.catalog import Catalog
from vedette.registry import watch as module
from vedette.registry.watch import Watch
from vedette.storage.memory import MemoryCatalog
from vedette.storage.sql import SqlCatalog
from vedette.testing.samples import deployment, model_version

STEPS = 120
NAMES = ("a", "b", "c", "d", "e")


@asynccontextmanager
async def watching(catalog: Catalog, metrics: Tally | None = None) -> AsyncIterator[Watch]:
    """A watch with its task."""
    watch = Watch(catalog, metrics or Tally())
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        watch.close()
        task.cancel()
        catalog.close()
        await asyncio.gather(task, return_exceptions=True)


def step(catalog: Catalog, name: str, generation: int | None) -> int:
    """One change of desired state; None takes the endpoint away."""
    with catalog.transaction() as tx:
        return tx.append_change(name, None if generation is None else deployment(name, generation))


def filled(catalog: Catalog) -> Catalog:
    """The catalog with the models that the deployments name."""
    catalog.migrate()
    with catalog.transaction() as tx:
        for name in NAMES:
            tx.insert_model(Model(name, 0))
            tx.insert_version(model_version(name, tx.next_version(name)))
    return catalog


class Follower:
    """A watcher as a replica is one: remembers the last revision handled, may go away at any moment."""

    def __init__(self, watch: Watch, chance: random.Random) -> None:
        self.watch = watch
        self.chance = chance
        self.revision = 0
        self.state: dict[str, int] = {}
        self.seen: list[int] = []
        self.wholes = 0
        self.complete_from = 0

    async def follow(self, until: int) -> None:
        """Reconnect until the revision is reached."""
        while self.revision < until or not self.wholes:
            await self._once(until, events=self.chance.randint(1, 30))

    async def _once(self, until: int, *, events: int) -> None:
        begun, whole = self.revision, {}
        async with aclosing(self.watch.events(begun)) as stream:
            async for event in stream:
                if isinstance(event, Synced):
                    if event.whole:
                        self.state, self.wholes = whole, self.wholes + 1
                        self.complete_from = event.revision + 1
                    assert event.revision >= self.revision
                    self.revision = event.revision
                    synced = True
                else:
                    self._take(event, whole)
                    synced = False
                events -= 1
                if events <= 0 and (synced or begun):
                    return
                if self.revision >= until and self.wholes:
                    return
                if self.chance.random() < 0.1:
                    await asyncio.sleep(0)

    def _take(self, change: Change, whole: dict[str, int]) -> None:
        for state in (self.state, whole):
            if change.deployment is None:
                state.pop(change.endpoint, None)
            else:
                state[change.endpoint] = change.deployment.generation
        self.revision = change.revision
        self.seen.append(change.revision)


@pytest.mark.parametrize("seed", range(3))
async def test_watchers_that_come_and_go_miss_nothing(seed: int) -> None:
    """Every revision once, in order, and the same state at the end as in the catalog."""
    chance = random.Random(seed)
    catalog = filled(MemoryCatalog())
    world: dict[str, int] = {}
    async with watching(catalog) as watch:
        await asyncio.to_thread(step, catalog, "a", 1)
        world["a"] = 1
        followers = [Follower(watch, random.Random(f"{seed} {n}")) for n in range(4)]
        tasks = [asyncio.create_task(follower.follow(STEPS)) for follower in followers]
        for generation in range(2, STEPS + 1):
            name = chance.choice(NAMES)
            gone = name in world and chance.random() < 0.3
            world.pop(name, None)
            if not gone:
                world[name] = generation
            await asyncio.to_thread(step, catalog, name, None if gone else generation)
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
    for follower in followers:
        assert follower.state == world
        assert follower.seen == sorted(set(follower.seen))
        assert set(range(follower.complete_from, STEPS + 1)) <= set(follower.seen)
        assert follower.wholes == 1


async def test_a_watcher_that_the_log_has_left_behind_gets_the_whole_state() -> None:
    """Old changes are dropped in time; what it must drop itself, the whole state tells."""
    catalog = filled(MemoryCatalog(kept_changes=5))
    async with watching(catalog) as watch:
        for generation in range(1, 40):
            step(catalog, NAMES[generation % 3], generation)
        step(catalog, "a", None)
        stream = watch.events(2)
        events = [await anext(stream) for _ in range(3)]
        await stream.aclose()
    assert [event.endpoint for event in events if isinstance(event, Change)] == ["b", "c"]
    assert events[-1] == Synced(40, whole=True)


async def test_a_slow_watcher_is_not_queued_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds one page whatever happens meanwhile, and goes on from where it stands."""
    monkeypatch.setattr(module, "PAGE", 3)
    catalog = filled(MemoryCatalog(kept_changes=10))
    async with watching(catalog) as watch:
        step(catalog, "a", 1)
        stream = watch.events(0)
        assert [await anext(stream), await anext(stream)][1] == Synced(1, whole=True)
        for generation in range(2, 200):
            step(catalog, "b", generation)
        step(catalog, "a", None)
        found = []
        async with asyncio.timeout(10):
            while not (found and isinstance(found[-1], Synced)):
                found.append(await anext(stream))
        await stream.aclose()
    assert [getattr(event, "endpoint", "synced") for event in found] == ["b", "synced"]
    assert found[-1] == Synced(200, whole=True)


async def test_the_whole_state_is_true_though_the_world_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are read one by one: what changes between them comes once, what goes is told."""
    monkeypatch.setattr(module, "PAGE", 1)
    catalog = filled(MemoryCatalog())
    async with watching(catalog) as watch:
        for generation, name in enumerate(NAMES[:4], 1):
            step(catalog, name, generation)
        stream = watch.events(0)
        first = await anext(stream)
        step(catalog, "b", 5)
        step(catalog, "a", None)
        step(catalog, "e", 7)
        events = [first]
        async with asyncio.timeout(10):
            while not isinstance(events[-1], Synced):
                events.append(await anext(stream))
        await stream.aclose()
    told = [(e.endpoint, e.revision, e.deployment is not None) if isinstance(e, Change) else e for e in events]
    assert told == [
        ("a", 1, True), ("c", 3, True), ("d", 4, True), ("b", 5, True), ("a", 6, False), ("e", 7, True),
        Synced(7, whole=True),
    ]  # fmt: skip


async def test_two_processes_on_one_database_see_each_other(tmp_path: Path) -> None:
    """A change made through one catalog reaches a watcher of the other."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    ours, theirs = filled(SqlCatalog(url)), SqlCatalog(url)
    try:
        async with watching(theirs) as watch:
            stream = watch.events(0)
            assert await anext(stream) == Synced(0, whole=True)
            for generation in range(1, 6):
                await asyncio.to_thread(step, ours, "a", generation)
                async with asyncio.timeout(10):
                    change = await anext(stream)
                assert isinstance(change, Change)
                assert change.revision == generation
            await stream.aclose()
    finally:
        ours.close()
        theirs.close()


async def test_watchers_are_counted_and_ended() -> None:
    """The gauge goes up and down; closing ends every stream with Unavailable."""
    metrics = Tally()
    async with watching(filled(MemoryCatalog()), metrics) as watch:
        streams = [watch.events(0) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        assert metrics.value("vedette_registry_watchers") == 3
        await streams.pop().aclose()
        assert metrics.value("vedette_registry_watchers") == 2
        watch.close()
        for stream in streams:
            with pytest.raises(Unavailable):
                await anext(stream)
        assert metrics.value("vedette_registry_watchers") == 0
