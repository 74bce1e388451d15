"""The registry's artifacts: immutable folders of files.

Rule: the docstrings are the contract, and the suites of `vedette.testing` hold every adapter to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from vedette.core.models import ArtifactFile


class StagedFile(AbstractContextManager["StagedFile"], Protocol):
    """A file of an upload being written. Unless `finish` was reached, leaving its block removes the file."""

    def write(self, chunk: bytes) -> None:
        """Append. `Unavailable` when the disk is full."""

    def finish(self) -> ArtifactFile:
        """Make the file part of the upload, durably, in place of one of that name, and return what it is."""


class ArtifactStore(Protocol):
    """Immutable folders of files under the `manifest_digest` of their contents. Blocks: call it in a thread.

    An upload is staged, then `put`. Insert the catalog's `Upload` before `stage` and sweep only what no row
    names (list `uploads()` here first, read the rows after); collect orphans and check `holds` before
    inserting a version inside a catalog transaction, and neither can race. Digests and file names that are
    not well formed are `InvalidArgument`; a full or failing disk is `Unavailable` and leaves nothing behind.
    """

    def prepare(self) -> None:
        """Make the store ready and finish removals that a killed process began; call once before anything else."""

    def stage(self, upload_id: str) -> Path:
        """Make an empty folder for an upload on this machine. `AlreadyExists` when there is one."""

    def staged(self, upload_id: str) -> Path:
        """The upload's folder, holding its finished files and nothing else. `NotFound` when there is none."""

    def create(self, upload_id: str, file: str) -> StagedFile:
        """Begin to write a file of the upload."""

    def staged_files(self, upload_id: str) -> tuple[ArtifactFile, ...]:
        """What the upload holds, by name, read and hashed now. `InvalidArgument` for links and the like."""

    def uploads(self) -> list[str]:
        """Ids of all staged uploads."""

    def discard(self, upload_id: str) -> None:
        """Remove a staged upload; one that is not there is fine."""

    def put(self, digest: str, upload_id: str) -> None:
        """Turn the upload into the artifact `digest`, all or nothing and durable; the upload is gone then.

        An artifact that is there already is kept if it verifies and replaced if it does not. `DataLoss` when
        the upload's files do not have this digest; it stays staged.
        """

    def holds(self, digest: str) -> bool: ...

    def files(self, digest: str) -> tuple[ArtifactFile, ...]:
        """The artifact's files by name. `NotFound`; `DataLoss` when its manifest is damaged."""

    def open(self, digest: str, file: str) -> BinaryIO:
        """The file, open for reading; the caller closes it. `NotFound`."""

    def verify(self, digest: str) -> None:
        """Read everything and compare. `NotFound`; `DataLoss` when a byte is not as it was put."""

    def remove(self, digest: str) -> None:
        """Remove the artifact, all at once; one that is not there is fine."""

    def digests(self) -> Iterator[str]:
        """Every artifact held, in no order."""
