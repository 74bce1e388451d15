"""Damage done to copies of a stream's folder, and what a reader then makes of it.

    python stream_damage.py flips FOLDER COUNT SEED     one random bit flipped in a copy, again and again
    python stream_damage.py cuts FOLDER STEP            every file cut at every STEP-th byte of its last 4 KiB

It prints one JSON object: how many copies were damaged, how many of those were noticed, the messages that were
lost over all, the most that one fault cost, and every promise broken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vedette.core.errors import VedetteError
from vedette.core.events import Message
from vedette.storage.sqlite_stream import SqliteEventStream

MESSAGES = 300
COMMITTED = 123
RETENTION_BYTES = 12 << 20
LAST_BYTES = 4096


def message(number: int) -> Message:
    """One of the stream's messages: most are small, some take several pages."""
    chance = random.Random(number)
    size = chance.choice((10, 100, 100, 1_000, 3_000, 20_000))
    return Message(f"key{number % 3}", chance.randbytes(size), "application/test", f"producer{number % 2}", number)


async def make(folder: Path) -> None:
    """A stream of several segments, copied while it is open, as a killed process leaves it."""
    stream = SqliteEventStream(folder / "live", retention_bytes=RETENTION_BYTES)
    for first in range(0, MESSAGES, 5):
        await stream.publish("captures", [message(number) for number in range(first, first + 5)])
    await stream.commit("captures", "monitor", COMMITTED)
    await stream.fail("captures", "monitor", 150, "it failed")
    shutil.copytree(folder / "live", folder / "original")
    await stream.close()


async def look(folder: Path) -> tuple[list[str], set[int]]:
    """Every broken promise of a damaged stream, in words, and the offsets that it has lost."""
    stream = SqliteEventStream(folder, retention_bytes=RETENTION_BYTES)
    broken, found, position = [], {}, 0
    try:
        while deliveries := await stream.read("captures", position, 50):
            if deliveries[0].offset < position:
                broken.append(f"read at {position}, got {deliveries[0].offset}")
                break
            found |= {delivery.offset: delivery.message for delivery in deliveries}
            position = deliveries[-1].offset + 1
        damaged = {o for d in await stream.damage("captures") for o in range(d.first, min(d.last, MESSAGES) + 1)}
        broken += await state_of(stream)
        broken += await going_on(stream)
    except VedetteError as error:
        return [f"failed with {error!r}"], set()
    finally:
        await stream.close()
    broken += [f"{o} is wrong" for o, got in found.items() if o < MESSAGES and got != message(o)]
    lost = set(range(MESSAGES)) - set(found)
    broken += [f"{offset} is lost without a word" for offset in sorted(lost - damaged)]
    broken += [f"{offset} is there and called damaged" for offset in sorted(damaged & set(found))]
    return broken, lost


async def state_of(stream: SqliteEventStream) -> list[str]:
    """Offsets that no group has committed, failures that nobody counted."""
    committed = await stream.committed("captures", "monitor")
    return [] if committed in (0, COMMITTED) else [f"committed {committed}"]


async def going_on(stream: SqliteEventStream) -> list[str]:
    """A damaged stream takes new messages, at new offsets, and gives them back."""
    new = message(10_000)
    (offset,) = await stream.publish("captures", [new])
    if offset < MESSAGES:
        return [f"offset {offset} was given out twice"]
    back = await stream.read("captures", offset, 1)
    return [] if [d.message for d in back] == [new] else [f"published at {offset}, read {back}"]


def flips(original: Path, count: int, seed: int) -> Iterator[tuple[Path, int, bytes]]:
    """Random places: a file, where in it, and the byte that stands there afterwards."""
    chance = random.Random(seed)
    files = [path for path in sorted(original.rglob("*")) if path.is_file() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    for _ in range(count):
        (path,) = chance.choices(files, sizes)
        at = chance.randrange(path.stat().st_size)
        yield path, at, bytes([path.read_bytes()[at] ^ 1 << chance.randrange(8)])


def cuts(original: Path, step: int) -> Iterator[tuple[Path, int, bytes]]:
    """Every place where a file may end too early."""
    for path in sorted(original.rglob("*")):
        size = path.stat().st_size
        if path.is_file():
            yield from ((path, at, b"") for at in range(max(size - LAST_BYTES, 0), size, step))


async def run(folder: Path, places: Iterator[tuple[Path, int, bytes]]) -> dict[str, Any]:
    """Damage one copy after the other and look at each."""
    copies, noticed, worst, lost_over_all = 0, 0, 0, 0
    broken: list[str] = []
    kinds: Counter[str] = Counter()
    for path, at, byte in places:
        copy = folder / "copy"
        shutil.copytree(folder / "original", copy)
        damaged = copy / path.relative_to(folder / "original")
        data = damaged.read_bytes()
        damaged.write_bytes(data[:at] + byte + data[at + 1 :] if byte else data[:at])
        problems, lost = await look(copy)
        shutil.rmtree(copy)
        copies, noticed, lost_over_all = copies + 1, noticed + bool(lost), lost_over_all + len(lost)
        worst = max(worst, len(lost))
        kinds[f"{path.name.partition('.')[2] or path.name}"] += bool(lost)
        broken += [f"{path.name} at {at}: {problem}" for problem in problems]
    return {"copies": copies, "noticed": noticed, "lost": lost_over_all, "worst": worst, "broken": broken, "in": kinds}


async def main() -> None:
    """Make the stream and run what the command line asks for."""
    logging.disable()
    mode, folder = sys.argv[1], Path(sys.argv[2])
    numbers = [int(word) for word in sys.argv[3:]]
    await make(folder)
    places = {"flips": flips, "cuts": cuts}[mode]
    print(json.dumps(await run(folder, places(folder / "original", *numbers))))  # type: ignore[operator]


if __name__ == "__main__":
    asyncio.run(main())
