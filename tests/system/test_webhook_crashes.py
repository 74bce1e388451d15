"""A sender that is killed again and again: every delivery arrives or is dead, and repeats carry the same id."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.webhook_receiver import Arrival, Post, Receiver, answering, hang, reset

from vedette.codec.webhook_signatures import verify
from vedette.core.clock import SystemClock
from vedette.entities.alerts import DeliveryState
from vedette.storage.sql_monitors import SqlMonitorStore

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("sender_process.py")
DELIVERIES = 40
KILLS = 6


async def sender(url: str) -> asyncio.subprocess.Process:
    """A process that sends, ready."""
    command = [sys.executable, str(PROGRAM), url]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"sending\n"
    return process


@pytest.mark.slow
async def test_killed_senders_lose_nothing(tmp_path: Path) -> None:
    """Six kill -9 at random arrivals, a receiver that fails a third of the time, and one that always does."""
    chance = random.Random(7)
    accepted: Counter[str] = Counter()

    async def moody(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        verify(post.secrets["good"], arrival.headers, arrival.body, now=clock.time())
        if chance.random() < 0.33:
            await chance.choice([answering(500), answering(302), reset])(arrival, writer)
            return
        accepted[arrival.id] += 1
        await answering(204)(arrival, writer)

    url = f"sqlite:///{tmp_path}/monitor.db"
    clock = SystemClock()
    async with Receiver() as good, Receiver() as bad:
        good.behaviour, bad.behaviour = moody, hang
        post = Post(store=SqlMonitorStore(url), clock=clock)  # type: ignore[arg-type]
        post.add("good", good.url)
        post.add("bad", bad.url)
        for number in range(DELIVERIES):
            post.post(f"d{number}", "good", topic=f"t{number % 10}")
        post.post("never", "bad")
        for _ in range(KILLS):
            process = await sender(url)
            await good.wait_for(len(good.arrivals) + chance.randrange(1, 8))
            process.kill()
            await process.wait()
        process = await sender(url)
        try:
            async with asyncio.timeout(60):
                for name in (*(f"d{number}" for number in range(DELIVERIES)), "never"):
                    await post.ended(name)
        finally:
            process.kill()
            await process.wait()
        states = {f"d{number}": post.state(f"d{number}").state for number in range(DELIVERIES)}
        delivered = {name for name, state in states.items() if state is DeliveryState.DELIVERED}
        assert delivered <= set(accepted), "marked as delivered, but the receiver never took it"
        assert set(states) - delivered == {name for name, state in states.items() if state is DeliveryState.DEAD}
        assert len(delivered) > DELIVERIES // 2
        assert post.state("never").state is DeliveryState.DEAD
        assert {arrival.id for arrival in good.arrivals} <= set(states)
        bodies = {arrival.id: {a.body for a in good.arrivals if a.id == arrival.id} for arrival in good.arrivals}
        assert all(len(said) == 1 for said in bodies.values()), "a repeat said something else"
        post.store.close()
