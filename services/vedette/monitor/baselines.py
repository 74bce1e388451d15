"""Baselines on request: reference data comes in as a stream, a baseline of the model version is kept in the registry.

Rule: the version is asked for before a byte is received, the data never stays, and one baseline is computed at a time,
in a thread, so that memory is bounded by one of them.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterable
from pathlib import Path

from vedette.core.errors import Cancelled, InvalidArgument
from vedette.core.models import Signature, check_name
from vedette.core.monitors import Baseline
from vedette.monitor.baseline import BuiltBaseline, build, expected_columns
from vedette.monitor.datasets import FORMATS, disk_errors, open_dataset, spooled
from vedette.ports import baselines

DEFAULT_NAME = "default"


class Baselines:
    """Computes baselines; `folder` is where data lies meanwhile, `max_bytes` how much of it there may be."""

    def __init__(self, registry: baselines.Baselines, *, folder: Path, max_bytes: int) -> None:
        self._registry = registry
        self._folder = folder
        self._max_bytes = max_bytes
        self._turn = asyncio.Semaphore(1)

    def prepare(self) -> None:
        """Make the folder and clear what a killed process left in it; call once before anything else. Blocks."""
        with disk_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob("dataset-*"):
            shutil.rmtree(left, ignore_errors=True)

    async def create(
        self,
        model: str,
        version: int,
        name: str = DEFAULT_NAME,
        *,
        format: str,
        chunks: AsyncIterable[bytes],
        target: str = "",
    ) -> Baseline:
        """Compute the version's baseline of this name from the data, in place of one that was there.

        Raises:
            NotFound: there is no such version.
            InvalidArgument: the data is no table of this format, or does not fit the version's signature.
            TooLarge: the data is over a limit.
        """
        check_name(model, "model name")
        check_name(name, "baseline name")
        if format not in FORMATS:
            raise InvalidArgument(f"format {format[:40]!r} is none of {', '.join(FORMATS)}")
        signature = (await self._registry.version(model, version)).signature
        async with spooled(chunks, self._folder, max_bytes=self._max_bytes) as path, self._turn:
            built = await _in_thread(path, format, signature, target)
        return await self._registry.put_baseline(
            model, version, name, built.files, rows=built.rows, columns=built.columns
        )


async def _in_thread(path: Path, format: str, signature: Signature, target: str) -> BuiltBaseline:
    """Build beside the event loop; a caller who goes away ends it at the next chunk."""
    gone = threading.Event()

    def check(_rows: int, _pass: int) -> None:
        if gone.is_set():
            raise Cancelled("the caller has gone")

    def run() -> BuiltBaseline:
        data = open_dataset(path, format, names=_names(signature))
        return build(data, signature, target=target, progress=check)

    task = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        gone.set()
        await asyncio.wait({task})  # the data must not go while it is read
        raise


def _names(signature: Signature) -> tuple[str, ...]:
    """The features in order, for data that does not name them; none where the signature leaves them open."""
    try:
        return tuple(expected_columns(signature).features)
    except InvalidArgument:
        return ()
