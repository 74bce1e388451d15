"""What this replica keeps on disk: artifacts by digest, and the deployments it last served.

With it a restart serves without the registry. Several worker processes share one folder: everything appears
under its final name by one rename, so they meet only complete things.

Rule: every method blocks; call them in a thread. Nothing is used before its digests are verified.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Collection
from pathlib import Path

import msgspec

from vedette.core.errors import DataLoss, Unavailable
from vedette.core.models import ModelVersion
from vedette.core.ports import Deployment
from vedette.inference.packs import Packs

log = logging.getLogger(__name__)
_CHUNK = 1 << 20


class ModelCache:
    """A folder under the service's `data_dir`; made when first used."""

    def __init__(self, folder: Path, *, pack_from_bytes: int = 0) -> None:
        """`pack_from_bytes`: see `Packs`."""
        self.packs = Packs(folder / "packs", min_bytes=pack_from_bytes)
        self._artifacts = folder / "artifacts"
        self._incoming = folder / "incoming"
        self._deployments = folder / "deployments"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self._artifacts, self._incoming, self._deployments):
            folder.mkdir(parents=True, exist_ok=True)

    def find(self, version: ModelVersion) -> Path | None:
        """The verified folder of a version; None when it is not here. A damaged one is removed."""
        folder = self._artifacts / version.digest
        if not folder.is_dir():
            return None
        try:
            verify(folder, version)
        except DataLoss:
            log.warning("a cached artifact was damaged and is fetched again", extra={"digest": version.digest})
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)
        return folder

    def receive(self) -> Path:
        """A new empty folder to fetch into; hand it to `keep` or `drop`."""
        folder = self._incoming / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise Unavailable("the model cache cannot be written") from error
        return folder

    def keep(self, incoming: Path, version: ModelVersion) -> Path:
        """Verify what was fetched and give it its name. Raises DataLoss; `incoming` is gone afterwards."""
        try:
            verify(incoming, version)
            folder = self._artifacts / version.digest
            try:
                incoming.rename(folder)
            except OSError:
                if not folder.is_dir():  # else: another worker was first with the same bytes
                    raise
            return folder
        finally:
            self.drop(incoming)

    def drop(self, incoming: Path) -> None:
        """Remove a folder that `receive` made, if it is still there."""
        shutil.rmtree(incoming, ignore_errors=True)

    def remember(self, deployment: Deployment) -> None:
        """Keep the deployment as the one to serve after a restart."""
        target = self._deployments / f"{deployment.endpoint}.json"
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(deployment))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(target)
        except OSError as error:
            draft.unlink(missing_ok=True)
            log.warning("a deployment could not be kept for a restart", extra={"reason": error.strerror})

    def forget(self, endpoint: str) -> None:
        """Do not serve the endpoint after a restart."""
        (self._deployments / f"{endpoint}.json").unlink(missing_ok=True)

    def remembered(self) -> list[Deployment]:
        """The deployments last served, by endpoint. What cannot be read is left out and logged."""
        found = []
        for path in sorted(self._deployments.glob("[!.]*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Deployment))
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("a kept deployment cannot be read", extra={"file": path.name, "reason": str(error)})
        return found

    def sweep(self, digests_in_use: Collection[str], *, grace_s: float = 3600.0) -> list[str]:
        """Remove artifacts that neither the given digests nor a kept deployment names; return their digests.

        What was used within `grace_s` stays: another worker process may be about to load it.
        """
        wanted = set(digests_in_use)
        for deployment in self.remembered():
            wanted.update(version.digest for version in deployment.versions)
        oldest = time.time() - grace_s
        unwanted = [path for path in self._artifacts.iterdir() if path.name not in wanted]
        removed = [path for path in (*unwanted, *self._incoming.iterdir()) if path.stat().st_mtime <= oldest]
        for path in removed:
            shutil.rmtree(path, ignore_errors=True)
        self.packs.sweep(wanted, oldest=oldest)
        return [path.name for path in removed]


def verify(folder: Path, version: ModelVersion) -> None:
    """Compare the folder with the version's manifest.

    Raises:
        DataLoss: a file is missing, is no regular file, has other bytes, or is not in the manifest.
    """
    expected = {file.path: file for file in version.files}
    if {path.name for path in folder.iterdir()} != set(expected):
        raise DataLoss(f"the files of {version.model}:{version.version} are not those of its manifest")
    for name, file in expected.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size or _sha256(path) != file.sha256:
            raise DataLoss(f"file {name!r} of {version.model}:{version.version} does not match its digest")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
