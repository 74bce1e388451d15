"""Baselines made from data that a caller sends: spooled to disk, built in a child process, kept by the registry.

Rule: a parser of strangers' files never runs in the monitor's own process, and two builds never run at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vedette.core.errors import DeadlineExceeded, Internal, InvalidArgument, Overloaded, error_from_code
from vedette.core.models import Signature, check_name
from vedette.core.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE, Baseline
from vedette.monitor.baseline_child import Job, Result
from vedette.monitor.datasets import FORMATS, spooled
from vedette.ports.baselines import Baselines

log = logging.getLogger(__name__)

MAX_WAITING = 4
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class BaselineLimits:
    """What one build may take."""

    folder: Path
    """Where data lies while it is read."""
    max_bytes: int = 16 << 30
    memory_bytes: int = 4 << 30
    timeout_s: float = 3600.0


class BaselineJobs:
    """Makes baselines, one after another. Used on the event loop."""

    def __init__(self, baselines: Baselines, limits: BaselineLimits) -> None:
        self._baselines = baselines
        self._limits = limits
        self._one = asyncio.Lock()
        self._waiting = 0

    async def create(
        self, model: str, version: int, name: str, *, format: str, chunks: AsyncIterable[bytes]
    ) -> Baseline:
        """Build a baseline from the streamed file and keep it, in place of one of that name.

        Raises:
            InvalidArgument: the data does not fit the version's signature, or is no such file.
            NotFound: there is no such version.
            TooLarge: it is over the limit. Overloaded: too many builds wait.
            DeadlineExceeded: reading it takes too long. Unavailable: the registry or the disk is down.
        """
        check_name(name, "baseline name")
        if format not in FORMATS:
            raise InvalidArgument(f"the format must be one of {', '.join(FORMATS)}")
        found = await self._baselines.version(check_name(model, "model name"), version)
        if self._waiting >= MAX_WAITING:
            raise Overloaded("several baselines are being made; try again later")
        self._waiting += 1
        try:
            self._limits.folder.mkdir(parents=True, exist_ok=True)
            async with spooled(chunks, self._limits.folder, max_bytes=self._limits.max_bytes) as data, self._one:
                files, result = await self._built(data.parent, format, found.signature)
        finally:
            self._waiting -= 1
        return await self._baselines.put_baseline(model, version, name, files, rows=result.rows, columns=result.columns)

    async def _built(self, folder: Path, format: str, signature: Signature) -> tuple[dict[str, bytes], Result]:
        job = Job(format, signature, self._limits.memory_bytes)
        await asyncio.to_thread((folder / "job.json").write_bytes, msgspec.json.encode(job))
        said = await self._child(folder)
        try:
            result = msgspec.json.decode(await asyncio.to_thread((folder / "result.json").read_bytes), type=Result)
        except (OSError, msgspec.MsgspecError):
            log.error("building a baseline failed", extra={"said": said[-2000:].decode(errors="replace")})
            raise Internal("the baseline could not be built; see the log of the monitor") from None
        if result.code:
            raise error_from_code(result.code, result.message)
        return await asyncio.to_thread(_files, folder / "files"), result

    async def _child(self, folder: Path) -> bytes:
        """Run the child to its end; returns what it wrote to standard error."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "vedette.monitor.baseline_child", str(folder)),
            env={key: os.environ[key] for key in _PASSED_ON if key in os.environ} | {"OMP_NUM_THREADS": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), self._limits.timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(f"reading the data took over {self._limits.timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return said


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (STATISTICS_FILE, CONSTRAINTS_FILE, PROFILE_FILE)}
