"""Baselines on request: reference data comes in as a stream, a baseline of the model version is kept in the registry.

Rule: the version is asked for before a byte is received, the data never stays, and a parser of strangers' files never
runs in the monitor's own process: one baseline is computed at a time, in a child process with limits.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import msgspec

from vedette.core.errors import Internal, InvalidArgument, Overloaded, error_from_code
from vedette.core.models import ModelVersion, Signature, check_name
from vedette.entities.monitors import CreatedBaseline
from vedette.monitor.children import run_child
from vedette.monitor.reference_data.baseline import expected_columns
from vedette.monitor.reference_data.baseline_child import Job, Result
from vedette.monitor.reference_data.datasets import FORMATS, disk_errors, spooled
from vedette.monitor.reference_data.measurement import Measurement
from vedette.ports import baselines

log = logging.getLogger(__name__)
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
"""How a C++ reader ends on some damaged files, whatever its caller would catch."""

DEFAULT_NAME = "default"
MAX_WAITING = 4

Files = dict[str, bytes]
Graph = Callable[[ModelVersion], Awaitable[Path | None]]
"""Where the verified files of a version lie; None: they cannot be had now."""


class Baselines:
    """Computes baselines; `folder` is where data lies meanwhile, `max_bytes` how much of it there may be.

    `graph` gives the model itself, for predictions that the data does not hold; None: it is never asked.
    A build may take `memory_bytes` of address space and `timeout_s`; `MAX_WAITING` requests may wait for theirs.
    """

    def __init__(
        self,
        registry: baselines.Baselines,
        *,
        folder: Path,
        max_bytes: int,
        memory_bytes: int = 4 << 30,
        timeout_s: float = 3600.0,
        graph: Graph | None = None,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._max_bytes = max_bytes
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._graph = graph
        self._turn = asyncio.Semaphore(1)
        self._asked = 0

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
        measurement: Measurement | None = None,
    ) -> CreatedBaseline:
        """Compute the version's baseline of this name from the data, in place of one that was there.

        What the data did not allow, and nobody demanded, is told in `left_out`.

        Raises:
            NotFound: there is no such version.
            InvalidArgument: the data is no table of this format, or does not fit the version's signature, or what
                `measurement` demands cannot be measured on it.
            TooLarge: the data is over a limit.
            Overloaded: several baselines wait to be made. DeadlineExceeded: reading the data takes too long.
        """
        check_name(model, "model name")
        check_name(name, "baseline name")
        if format not in FORMATS:
            raise InvalidArgument(f"format {format[:40]!r} is none of {', '.join(FORMATS)}")
        of = await self._registry.version(model, version)
        async with self._place(), spooled(chunks, self._folder, max_bytes=self._max_bytes) as path, self._turn:
            files, result = await self._built(path.parent, format, of, measurement or Measurement())
        rows, columns = result.rows, result.columns
        kept = await self._registry.put_baseline(model, version, name, files, rows=rows, columns=columns)
        whole = {field.name: getattr(kept, field.name) for field in fields(kept)}
        return CreatedBaseline(**whole, left_out=tuple(result.left_out))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the few places of requests under way, whose data lies on the disk."""
        if self._asked >= MAX_WAITING:
            raise Overloaded("several baselines are being made; try again later")
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    async def _built(
        self, folder: Path, format: str, of: ModelVersion, measurement: Measurement
    ) -> tuple[Files, Result]:
        """The files that the child makes of the folder's data; the model is fetched only when that takes it."""
        job = Job(format, of.signature, measurement, _names(of.signature), self._memory_bytes)
        result = await self._done(folder, job)
        if result.asks_model:
            place = await self._graph(of) if self._graph is not None else None
            job.model = str(place.absolute()) if place is not None else ""
            result = await self._done(folder, job)
        if result.left_out:
            told = {"model": of.model, "version": of.version, "reason": "; ".join(result.left_out)}
            log.warning("not everything of a baseline could be measured", extra=told)
        return await asyncio.to_thread(_files, folder / "files"), result

    async def _done(self, folder: Path, job: Job) -> Result:
        """Run the child."""
        await asyncio.to_thread((folder / "job.json").write_bytes, msgspec.json.encode(job))
        status, said = await run_child(
            "vedette.monitor.reference_data.baseline_child",
            folder,
            timeout_s=self._timeout_s,
            doing="reading the data",
            env={"OMP_NUM_THREADS": "1"},
        )
        try:
            result = msgspec.json.decode(await asyncio.to_thread((folder / "result.json").read_bytes), type=Result)
        except (OSError, msgspec.MsgspecError):
            log.error("building a baseline failed", extra={"said": said[-2000:].decode(errors="replace")})
            if -status in _CRASHES:
                raise InvalidArgument("the data cannot be read: it is damaged in a way that ends its reader") from None
            raise Internal("the baseline could not be built; see the log of the monitor") from None
        if result.code:
            raise error_from_code(result.code, result.message)
        return result


def _files(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _names(signature: Signature) -> tuple[str, ...]:
    """The features in order, for data that does not name them; none where the signature leaves them open."""
    try:
        return tuple(expected_columns(signature).features)
    except InvalidArgument:
        return ()
