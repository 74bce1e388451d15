"""Versions from places that the operator allows: folders of this machine and s3:// prefixes.

Rule: the bytes are copied, and only from where the opened file really is; a link that leads out of a root is
refused with the same words as a place that does not exist.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from vedette.core.errors import InvalidArgument, PermissionDenied, Unavailable, Unimplemented
from vedette.core.models import GRAPH_FILE, ModelVersion
from vedette.registry.uploads import CHUNK, Uploads
from vedette.registry.versions import MAX_FILES, Details, check_file_name

S3 = "s3://"


class Source(Protocol):
    """Where the files of one version lie."""

    def files(self) -> dict[str, str]:
        """File name in the version -> where it lies. Blocks."""

    def open(self, place: str) -> IO[bytes]:
        """The file at one of those places. Blocks."""


class Imports:
    """Registers versions from the operator's import roots."""

    def __init__(self, uploads: Uploads, roots: Sequence[str]) -> None:
        self._uploads = uploads
        self._roots = tuple(roots)

    async def run(self, model: str, source: str, details: Details) -> tuple[ModelVersion, bool]:
        """Copy what lies at `source` and register it; False: identical bytes and signature were there already.

        Raises:
            PermissionDenied: no import root holds the source.
        """
        place = await asyncio.to_thread(self._locate, source)
        files = await asyncio.to_thread(place.files)
        for name in files:
            check_file_name(name)

        async def receive(upload_id: str) -> AsyncIterator[object]:
            for name, where in files.items():
                yield await self._uploads.receive(upload_id, name, _chunks(place, where))

        return await self._uploads.register(model, details, receive)

    def _locate(self, source: str) -> Source:
        if not self._roots:
            raise PermissionDenied("imports are switched off: the operator has set no import_roots")
        if "\0" in source or not source:
            raise InvalidArgument("the source is not a path")
        if source.startswith(S3):
            return ObjectSource(source, [root for root in self._roots if root.startswith(S3)])
        if "://" in source:
            raise InvalidArgument("the source must be a path or an s3:// address")
        return LocalSource(source, [root for root in self._roots if not root.startswith(S3)])


class LocalSource:
    """A file, which becomes `model.onnx`, or a folder that holds exactly a version's files."""

    def __init__(self, source: str, roots: Sequence[str]) -> None:
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        self._source = Path(os.path.realpath(source))
        if not Path(source).is_absolute() or not self._is_inside(self._source):
            raise _denied()

    def files(self) -> dict[str, str]:
        try:
            if not self._source.is_dir():
                return {GRAPH_FILE: str(self._source)}
            entries = sorted(path.name for path in self._source.iterdir())
        except OSError:
            raise _denied() from None
        _check_count(entries)
        return {name: str(self._source / name) for name in entries}

    def open(self, place: str) -> IO[bytes]:
        """The regular file at `place`, if what was opened lies in a root whatever was swapped meanwhile."""
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            raise _denied() from None
        file = os.fdopen(descriptor, "rb")
        real = Path(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and self._is_inside(real):
            return file
        file.close()
        raise _denied()

    def _is_inside(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)


class ObjectSource:
    """An object, which becomes `model.onnx`, or a prefix that holds exactly a version's files."""

    def __init__(self, source: str, roots: Sequence[str]) -> None:
        key = source.removeprefix(S3).rstrip("/")
        parts = PurePosixPath(key).parts
        if ".." in parts or "." in key.split("/") or "//" in key or any(sign in key for sign in "*?[]#"):
            raise InvalidArgument("the source is not a plain s3:// address")
        allowed = [root.removeprefix(S3).rstrip("/") for root in roots]
        if not any(key == root or key.startswith(root + "/") for root in allowed):
            raise _denied()
        self._key = key

    def files(self) -> dict[str, str]:
        found = self._reach(lambda store: store.find(self._key, maxdepth=1, withdirs=False))
        names = {PurePosixPath(place).name: str(place) for place in found}
        if not names:
            raise _denied()
        if list(names.values()) == [self._key]:
            return {GRAPH_FILE: self._key}
        _check_count(list(names))
        return names

    def open(self, place: str) -> IO[bytes]:
        opened: IO[bytes] = self._reach(lambda store: store.open(place, "rb"))
        return opened

    def _reach(self, ask: Any) -> Any:
        """What the object store answers; its library is an extra and its errors are its own."""
        try:
            import fsspec

            store = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
            return ask(store)
        except ImportError:
            raise Unimplemented("imports from s3:// need the extra `s3` of this installation") from None
        except (FileNotFoundError, PermissionError):
            raise _denied() from None
        except Exception as error:
            raise Unavailable("the object store cannot be reached") from error


def _check_count(names: Sequence[str]) -> None:
    if len(names) > MAX_FILES:
        raise InvalidArgument(f"the folder has {len(names)} entries; a version has at most {MAX_FILES} files")


def _denied() -> PermissionDenied:
    return PermissionDenied("the source is not a readable file or folder below one of the import roots")


async def _chunks(place: Source, where: str) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(place.open, where)
    try:
        while chunk := await asyncio.to_thread(_read, file):
            yield chunk
    finally:
        await asyncio.to_thread(file.close)


def _read(file: IO[bytes]) -> bytes:
    try:
        return file.read(CHUNK)
    except Exception as error:
        raise Unavailable("the source broke off while it was read") from error


def read_chunks(file: IO[bytes], size: int = CHUNK) -> Iterator[bytes]:
    """The file's bytes in pieces; closes it. Blocks."""
    with file:
        while chunk := file.read(size):
            yield chunk
