"""Packs of cached versions: large weights that the worker processes of this service map together.

The first worker that loads a version makes its pack, after the version's own digests were verified; the others wait
for it. Everything appears under its final name by one rename and is compared with its own digests on every load.
Where no pack can be made the version is loaded as it is: sharing is never a condition of serving.

Rule: packs are derived. A folder of them may be deleted at any time; what is mapped stays mapped.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import time
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from vedette.core.errors import InvalidArgument
from vedette.core.models import GRAPH_FILE, ModelVersion, SessionOptions, manifest
from vedette.engine.files import describe
from vedette.engine.packing import PACKED_GRAPH, can_pack, machine_key, packing_command

log = logging.getLogger(__name__)
_MANIFEST = "manifest"
_LOCK_POLL_S = 0.05
_REFUSED_S = 3600.0
"""A version that could not be packed is tried again after so long."""


class Packs:
    """A folder of packs, made when first used."""

    def __init__(self, folder: Path, *, min_bytes: int, timeout_s: float = 300.0) -> None:
        """`min_bytes`: a smaller version is not packed; 0: none is."""
        self._folder = folder
        self._min_bytes = min_bytes
        self._timeout_s = timeout_s

    async def graph(self, folder: Path, version: ModelVersion, options: SessionOptions) -> Path:
        """The graph to load for a verified version in `folder`: its pack's, made now if need be, else its own."""
        own = folder / GRAPH_FILE
        if not self._min_bytes or sum(file.size for file in version.files) < self._min_bytes or not can_pack(options):
            return own
        name = f"{version.digest}-{machine_key()}-{options.graph_optimization}"
        try:
            packed = await asyncio.to_thread(self._find, name) or await self._packed(name, own, options)
        except OSError as error:
            log.warning("weights are not shared", extra={"version": _title(version), "reason": error.strerror})
            return own
        return packed / PACKED_GRAPH if packed else own

    def sweep(self, digests: Collection[str], *, oldest: float) -> None:
        """Remove what was last used before `oldest` and belongs to none of these digests, or to another machine."""
        for path in self._folder.glob("*"):
            digest, machine, *_ = [*path.name.split("-"), ""]
            kept = digest in digests and machine == machine_key()
            with contextlib.suppress(FileNotFoundError):  # another worker sweeps, too
                if not kept and path.stat().st_mtime <= oldest:
                    _remove(path)

    def _find(self, name: str) -> Path | None:
        """The pack, with every byte as it was made; a damaged one is removed."""
        folder = self._folder / name
        if not folder.is_dir():
            return None
        try:
            if (folder / _MANIFEST).read_bytes() == _contents(folder):
                os.utime(folder)
                return folder
        except (OSError, InvalidArgument):
            pass
        log.warning("packed weights were damaged and are made again", extra={"pack": name})
        shutil.rmtree(folder, ignore_errors=True)
        return None

    async def _packed(self, name: str, graph: Path, options: SessionOptions) -> Path | None:
        """Make the pack, unless another worker does or lately could not. None: there is none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        refused = self._folder / f"{name}.refused"
        async with _alone(self._folder / f"{name}.lock"):
            if found := await asyncio.to_thread(self._find, name):
                return found
            if refused.exists() and time.time() - refused.stat().st_mtime < _REFUSED_S:
                return None
            incoming = self._folder / f"incoming-{uuid.uuid4().hex}"
            incoming.mkdir()
            try:
                why = await self._run(graph, incoming, options)
                if why:
                    log.warning("weights are not shared", extra={"pack": name, "reason": why})
                    refused.touch()
                    return None
                await asyncio.to_thread(_seal, incoming)
                return incoming.rename(self._folder / name)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)

    async def _run(self, graph: Path, target: Path, options: SessionOptions) -> str:
        """Run the child to its end; empty when the pack is good, else why not."""
        command, environment = packing_command(graph, target, options)
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                said, _ = await process.communicate()
        except TimeoutError:
            return f"packing took over {self._timeout_s:g} s"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode == 0:
            return ""
        return said.decode(errors="replace").strip()[-400:] or f"packing ended with {process.returncode}"


@asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Only one process at a time gets past; the kernel lets the next one in when its holder dies."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _contents(folder: Path) -> bytes:
    return manifest(file for file in describe(folder, graph=PACKED_GRAPH) if file.path != _MANIFEST)


def _seal(folder: Path) -> None:
    """Write down what the pack consists of; both are on the disk afterwards."""
    contents = _contents(folder)
    with (folder / _MANIFEST).open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _title(version: ModelVersion) -> str:
    return f"{version.model}:{version.version}"
