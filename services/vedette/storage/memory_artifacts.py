"""Artifacts in memory. Uploads under way still lie in a folder, because admission reads files."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vedette.core.errors import DataLoss, NotFound
from vedette.core.models import ArtifactFile, manifest_digest
from vedette.ports.artifacts import StagedFile
from vedette.storage.files import check_digest
from vedette.storage.staging import StagingArea, check_file_name, disk_errors, locked


class MemoryArtifactStore:
    """An `ArtifactStore` that keeps what is put in memory and stages uploads under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._staging = StagingArea(folder)
        self._objects: dict[str, tuple[tuple[ArtifactFile, ...], dict[str, bytes]]] = {}
        self._lock = threading.Lock()

    def prepare(self) -> None:
        self._staging.prepare()

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
        check_digest(digest)
        folder = self._staging.staged(upload_id)
        with disk_errors(), locked(folder.parent):
            files = self._staging.staged_files(upload_id)
            if manifest_digest(files) != digest:
                raise DataLoss("the uploaded files do not have the digest they should have")
            contents = {file.path: (folder / file.path).read_bytes() for file in files}
            with self._lock:
                self._objects[digest] = files, contents
            self._staging.discard(upload_id)

    def holds(self, digest: str) -> bool:
        return check_digest(digest) in self._objects

    def files(self, digest: str) -> tuple[ArtifactFile, ...]:
        return self._object(digest)[0]

    def open(self, digest: str, file: str) -> BinaryIO:
        contents = self._object(digest)[1]
        if check_file_name(file) not in contents:
            raise NotFound(f"artifact {digest[:12]} has no such file")
        return io.BytesIO(contents[file])

    def verify(self, digest: str) -> None:
        self._object(digest)  # bytes objects cannot change under us

    def remove(self, digest: str) -> None:
        with self._lock:
            self._objects.pop(check_digest(digest), None)

    def digests(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._objects))

    def _object(self, digest: str) -> tuple[tuple[ArtifactFile, ...], dict[str, bytes]]:
        try:
            return self._objects[check_digest(digest)]
        except KeyError:
            raise NotFound(f"there is no artifact {digest[:12]}") from None
