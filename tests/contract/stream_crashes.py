"""A program for the crash tests of the embedded stream: it publishes, dies or fails on the way, and checks the rest.

    python stream_crashes.py random FOLDER ROUNDS SEED   kill -9 two publishing processes at random moments, repeatedly
    python stream_crashes.py publish FOLDER WHO COUNT    publish COUNT messages one by one, say `ok N` or `failed N`
    python stream_crashes.py produce FOLDER WHO COUNT    publish COUNT messages, eight at once, after a line on stdin
    python stream_crashes.py verify FOLDER NUMBERS...    check that these messages of `a` are there

`random` and `verify` print one JSON object: what was acknowledged and every promise broken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from vedette.core.errors import VedetteError
from vedette.core.events import Message
from vedette.storage.sqlite_stream import SqliteEventStream

RETENTION_BYTES = 1 << 30
"""Segments are a sixteenth of it, so that they are rolled under way, and nothing is old enough to go."""
AT_ONCE = 8
Id = tuple[str, int]


def message(who: str, number: int) -> Message:
    """A message that can be made again from its producer and its number."""
    chance = random.Random(f"{who}{number}")
    return Message(who, chance.randbytes(chance.choice((50, 500, 5_000, 30_000))), "application/test", who, number)


def open_stream(folder: Path) -> SqliteEventStream:
    """The stream as a service has it."""
    return SqliteEventStream(folder, retention_bytes=RETENTION_BYTES)


async def publish_without_end(folder: Path, who: str, first: int, acknowledgements: int) -> None:
    """Publish from number `first` on, `AT_ONCE` calls at once, and write each number that was acknowledged."""
    stream = open_stream(folder)
    numbers = iter(range(first, 10**9))

    async def work() -> None:
        for number in numbers:
            await stream.publish("captures", [message(who, number)])
            os.write(acknowledgements, f"{number}\n".encode())

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def start(folder: Path, who: str, first: int) -> tuple[int, int]:
    """Fork a publishing process; return its id and the pipe of its acknowledgements."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(publish_without_end(folder, who, first, writing))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os.close(writing)
    return child, reading


def acknowledged_by(child: int, reading: int) -> list[int]:
    """Kill the process, now; return what it had acknowledged."""
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        numbers = [int(line) for line in pipe if line.endswith(b"\n")]
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("a publishing process failed by itself")
    return numbers


async def read_on(folder: Path, position: int, seen: Counter[Id], broken: list[str]) -> int:
    """Read from `position` to the end, note every id and every wrong message; return the new position."""
    stream = open_stream(folder)
    while page := await stream.read("captures", position, 1_000):
        for delivery in page:
            got = delivery.message
            seen[got.producer, got.sequence] += 1
            if got != message(got.producer, got.sequence) or delivery.offset < position:
                broken.append(f"the message at {delivery.offset} is not what was published")
        position = page[-1].offset + 1
    broken += [f"damage without a cause: {damage}" for damage in await stream.damage("captures")]
    if await stream.end("captures") != position:
        broken.append("the end is not behind the last message")
    await stream.close()
    return position


def random_kills(folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Kill two processes that publish without end at random moments, `rounds` times, on the same data."""
    chance = random.Random(seed)
    acknowledged: set[Id] = set()
    seen: Counter[Id] = Counter()
    broken: list[str] = []
    first = position = 0
    for _ in range(rounds):
        children = {who: start(folder, who, first) for who in "ab"}
        for who in chance.sample("ab", 2):
            time.sleep(chance.uniform(0.0, 0.3))
            acknowledged |= {(who, number) for number in acknowledged_by(*children[who])}
        position = asyncio.run(read_on(folder, position, seen, broken))
        lost = acknowledged - set(seen)
        broken += [f"acknowledged {identity} is lost" for identity in lost]
        # As a producer that was not told: it begins with some that may be there already.
        first = max((number for _, number in [*acknowledged, *seen]), default=0) - AT_ONCE // 2
        first = max(first, 0)
    again: Counter[Id] = Counter()
    if asyncio.run(read_on(folder, 0, again, broken)) != position or set(again) != set(seen):
        broken.append("reading from the beginning gives something else")
    repeated = sum(count - 1 for count in again.values())
    return {
        "kills": 2 * rounds,
        "acknowledged": len(acknowledged),
        "stored": len(again),
        "repeated": repeated,
        "lost": len(acknowledged - set(again)),
        "broken": broken,
    }


async def publish(folder: Path, who: str, count: int) -> None:
    """Publish one message after the other, and say what came of each at once."""
    stream = open_stream(folder)
    for number in range(count):
        try:
            await stream.publish("captures", [message(who, number)])
        except VedetteError as error:
            os.write(1, f"failed {number} {error.code}\n".encode())
        else:
            os.write(1, f"ok {number}\n".encode())
    await stream.close()


async def produce(folder: Path, who: str, count: int) -> None:
    """Publish with several tasks at once, when told to, and print the offsets."""
    stream = open_stream(folder)
    print("ready", flush=True)
    sys.stdin.readline()
    numbers = iter(range(count))
    offsets: list[int] = []

    async def work() -> None:
        for number in numbers:
            offsets.extend(await stream.publish("captures", [message(who, number)]))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    await stream.close()
    print(json.dumps(sorted(offsets)))


def verify(folder: Path, numbers: list[int]) -> dict[str, Any]:
    """Whether these messages are there, as they were, and nothing else is wrong."""
    seen: Counter[Id] = Counter()
    broken: list[str] = []
    asyncio.run(read_on(folder, 0, seen, broken))
    broken += [f"acknowledged {number} is lost" for number in numbers if not seen["a", number]]
    return {"stored": len(seen), "repeated": sum(seen.values()) - len(seen), "broken": broken}


def main() -> None:
    """Run what the command line asks for."""
    logging.disable()
    mode, folder = sys.argv[1], Path(sys.argv[2])
    if mode == "random":
        print(json.dumps(random_kills(folder, int(sys.argv[3]), int(sys.argv[4]))))
    elif mode == "verify":
        print(json.dumps(verify(folder, [int(word) for word in sys.argv[3:]])))
    else:
        asyncio.run({"publish": publish, "produce": produce}[mode](folder, sys.argv[3], int(sys.argv[4])))


if __name__ == "__main__":
    main()
