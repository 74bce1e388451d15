"""Where uploads lie while they are being written: one folder each, on this machine.

    <root>/<upload id>/files/   finished files and nothing else: what admission looks at
    <root>/<upload id>/parts/   files being written, under names of our own

Rule: no name from outside reaches the file system before it has matched one of the two expressions in
`core.models`, and a file counts only if it is regular, has one link and is opened without following links.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vedette.core.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from vedette.core.models import FILE_NAME, ArtifactFile, check_name

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_BYTES = 1 << 20


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the operating system says about the disk into an error a caller may read.

    Raises:
        Unavailable: the disk is full, read-only, failing, or out of reach.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable("the artifact store is out of disk space; nothing was stored") from error
        raise Unavailable(f"the artifact store's disk fails: {errno.errorcode.get(error.errno or 0, 'EIO')}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without this a rename can be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bury(folder: Path) -> None:
    """Remove a folder so that it is gone in one step, though its files take longer; one that is not there is fine."""
    grave = folder.with_name(f".gone-{secrets.token_hex(16)}")
    try:
        folder.rename(grave)
    except FileNotFoundError:
        return
    sync_folder(folder.parent)
    shutil.rmtree(grave, ignore_errors=True)  # what stays behind is swept at the next start


def sweep_graves(root: Path) -> None:
    """Remove what `bury` left under `root` when its process was killed."""
    for grave in root.glob(".gone-*"):
        shutil.rmtree(grave, ignore_errors=True)


def check_file_name(name: str) -> str:
    """Return `name` if a file of a model version may be called that.

    Raises:
        InvalidArgument: it does not match `FILE_NAME`.
    """
    if not isinstance(name, str) or FILE_NAME.fullmatch(name) is None:
        raise InvalidArgument(
            f"{repr(name)[:80]} is not a valid file name: use 1 to 128 letters, digits, '.', '_' or '-', "
            "not beginning with '.' or '-'"
        )
    return name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against finishing a file and against being turned into an artifact, over processes.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # lets go of the lock, as does a kill


def open_plain(path: Path) -> int:
    """Open a file for reading and return its descriptor.

    Raises:
        InvalidArgument: it is a link, has a second link, or is no regular file.
        FileNotFoundError: it does not exist.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise InvalidArgument(f"{path.name!r} is not a regular file") from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise InvalidArgument(f"{path.name!r} is not a regular file with one link")
    return descriptor


def describe(path: Path) -> ArtifactFile:
    """Read the file whole and say what it is. Raises as `open_plain` does."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(open_plain(path), "rb", buffering=0) as source:
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return ArtifactFile(path.name, size, digest.hexdigest())


class StagedPart:
    """A file of an upload being written, under a name of our own until it is finished."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._part = folder / "parts" / secrets.token_hex(16)
        self._digest = hashlib.sha256()
        self._size = 0
        self._sound = True
        try:
            with disk_errors():
                self._file = self._part.open("xb", buffering=0)
        except Unavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _no_upload() from None
            raise

    def __enter__(self) -> StagedPart:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        self._digest.update(view)
        self._size += len(view)
        try:
            with disk_errors():
                while view:
                    view = view[self._file.write(view) :]
        except Unavailable:
            # What was asked to be written and what is on disk differ from here on: never let it be finished.
            self._sound = False
            raise

    def finish(self) -> ArtifactFile:
        if not self._sound:
            raise Unavailable("the file could not be written whole; nothing was stored")
        self._sound = False
        with disk_errors():
            os.fsync(self._file.fileno())
            try:
                with locked(self._folder):
                    self._part.rename(self._folder / "files" / self._name)
                    sync_folder(self._folder / "files")
            except FileNotFoundError:
                raise _no_upload() from None
        return ArtifactFile(self._name, self._size, self._digest.hexdigest())


class StagingArea:
    """The uploads under `root`. Thread-safe, and safe over processes that share the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, upload_id: str) -> Path:
        """The upload's own folder, which holds `files` and `parts`; it need not exist."""
        return self.root / check_name(upload_id, "upload id")

    def prepare(self) -> None:
        """Make the root and sweep away what a killed process had begun to remove."""
        with disk_errors():
            self.root.mkdir(parents=True, exist_ok=True)
            sweep_graves(self.root)

    def stage(self, upload_id: str) -> Path:
        folder = self.folder(upload_id)
        with disk_errors():
            try:
                folder.mkdir()
            except FileExistsError:
                raise AlreadyExists("an upload of that id is under way") from None
            try:
                (folder / "parts").mkdir()
                (folder / "files").mkdir()
                sync_folder(folder)
                sync_folder(self.root)
            except OSError:
                bury(folder)
                raise
        return folder / "files"

    def staged(self, upload_id: str) -> Path:
        files = self.folder(upload_id) / "files"
        if not files.is_dir():
            raise _no_upload()
        return files

    def create(self, upload_id: str, file: str) -> StagedPart:
        return StagedPart(self.staged(upload_id).parent, check_file_name(file))

    def staged_files(self, upload_id: str) -> tuple[ArtifactFile, ...]:
        folder = self.staged(upload_id)
        with disk_errors():
            try:
                names = sorted(path.name for path in folder.iterdir())
                return tuple(describe(folder / check_file_name(name)) for name in names)
            except FileNotFoundError:
                raise _no_upload() from None

    def uploads(self) -> list[str]:
        with disk_errors(), os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))

    def discard(self, upload_id: str) -> None:
        with disk_errors():
            bury(self.folder(upload_id))


def _no_upload() -> NotFound:
    return NotFound("no upload of that id is under way")
