"""Artifacts in a local folder: what was acknowledged is on disk, what was not is invisible.

    <root>/staging/         uploads under way, see `staging.py`
    <root>/objects/<digest>/manifest      what the digest is taken of, so that it vouches for itself
    <root>/objects/<digest>/files/<name>  read-only

Rule: an object appears by one rename, after every byte and name in it is on disk, and goes by one rename.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vedette.core.errors import DataLoss, InvalidArgument, NotFound
from vedette.core.models import ArtifactFile, manifest, manifest_digest
from vedette.ports.artifacts import StagedFile
from vedette.storage.staging import (
    StagingArea,
    bury,
    check_file_name,
    describe,
    disk_errors,
    locked,
    open_plain,
    sweep_graves,
    sync_folder,
)

_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_digest(digest: str) -> str:
    """Return `digest` if it is a sha256 in lower-case hexadecimal; else `InvalidArgument`."""
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise InvalidArgument("a digest is 64 hexadecimal digits in lower case")
    return digest


class FileArtifactStore:
    """An `ArtifactStore` under `root`, which may be shared by the processes of one host."""

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._staging = StagingArea(root / "staging")

    def prepare(self) -> None:
        self._staging.prepare()
        with disk_errors():
            self._objects.mkdir(parents=True, exist_ok=True)
            sweep_graves(self._objects)
            sync_folder(self._objects.parent)

    def stage(self, upload_id: str) -> Path:
        return self._staging.stage(upload_id)

    def staged(self, upload_id: str) -> Path:
        return self._staging.staged(upload_id)

    def create(self, upload_id: str, file: str) -> StagedFile:
        return self._staging.create(upload_id, file)

    def staged_files(self, upload_id: str) -> tuple[ArtifactFile, ...]:
        return self._staging.staged_files(upload_id)

    def uploads(self) -> list[str]:
        return self._staging.uploads()

    def discard(self, upload_id: str) -> None:
        self._staging.discard(upload_id)

    def put(self, digest: str, upload_id: str) -> None:
        target = self._object(digest)
        upload = self._staging.staged(upload_id).parent
        with disk_errors():
            try:
                with locked(upload):
                    files = self._staging.staged_files(upload_id)
                    if manifest_digest(files) != digest:
                        raise DataLoss("the uploaded files do not have the digest they should have")
                    self._seal(upload, files)
                    self._place(upload, target, digest)
            except FileNotFoundError:
                raise NotFound("no upload of that id is under way") from None

    def _seal(self, upload: Path, files: tuple[ArtifactFile, ...]) -> None:
        """Make the upload's folder an object in all but place: read-only files, manifest, all of it on disk."""
        for file in files:
            descriptor = open_plain(upload / "files" / file.path)
            try:
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        with (upload / "manifest").open("wb") as out:
            out.write(manifest(files))
            out.flush()
            os.fsync(out.fileno())
        shutil.rmtree(upload / "parts", ignore_errors=True)
        sync_folder(upload / "files")
        sync_folder(upload)

    def _place(self, upload: Path, target: Path, digest: str) -> None:
        """Give the sealed folder its name. One rename decides; losing the race to an equal object is fine."""
        if self._sound(digest):
            bury(upload)
            return
        bury(target)
        try:
            upload.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            bury(upload)
        sync_folder(self._objects)
        sync_folder(self._staging.root)

    def _sound(self, digest: str) -> bool:
        try:
            self.verify(digest)
        except (NotFound, DataLoss):
            return False
        return True

    def holds(self, digest: str) -> bool:
        return self._object(digest).is_dir()

    def files(self, digest: str) -> tuple[ArtifactFile, ...]:
        with disk_errors():
            try:
                text = (self._object(digest) / "manifest").read_bytes()
            except FileNotFoundError:
                raise self._missing(digest) from None
        if hashlib.sha256(text).hexdigest() != digest:
            raise DataLoss(f"the manifest of artifact {digest[:12]} is damaged")
        lines = (line.split(" ", 2) for line in text.decode().splitlines())
        return tuple(ArtifactFile(path, int(size), sha256) for sha256, size, path in lines)

    def open(self, digest: str, file: str) -> BinaryIO:
        path = self._object(digest) / "files" / check_file_name(file)
        with disk_errors():
            try:
                return os.fdopen(open_plain(path), "rb")
            except FileNotFoundError:
                raise NotFound(f"artifact {digest[:12]} has no such file") from None

    def verify(self, digest: str) -> None:
        wanted = self.files(digest)
        folder = self._object(digest) / "files"
        with disk_errors():
            try:
                found = tuple(describe(folder / file.path) for file in wanted)
                extra = {path.name for path in folder.iterdir()} - {file.path for file in wanted}
            except (FileNotFoundError, InvalidArgument):
                raise DataLoss(f"artifact {digest[:12]} has lost a file") from None
        if found != wanted or extra:
            raise DataLoss(f"artifact {digest[:12]} does not match its digest")

    def remove(self, digest: str) -> None:
        with disk_errors():
            bury(self._object(digest))

    def digests(self) -> Iterator[str]:
        with disk_errors(), os.scandir(self._objects) as entries:
            names = [entry.name for entry in entries]
        return (name for name in names if _DIGEST.fullmatch(name))

    def _object(self, digest: str) -> Path:
        return self._objects / check_digest(digest)

    def _missing(self, digest: str) -> NotFound | DataLoss:
        if self.holds(digest):
            return DataLoss(f"the manifest of artifact {digest[:12]} is missing")
        return NotFound(f"there is no artifact {digest[:12]}")
