"""The doors of the house: what services need from the outside, as protocols.

Rule: a port takes the bare noun; the adapter adds the technology (`MemoryEventStream`). Each port's
docstrings are its contract, and one suite in `vedette.testing` holds every adapter to them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from vedette.core.events import Delivery, Message, Topic
from vedette.core.models import (
    ApprovalStatus,
    ArtifactFile,
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    Generation,
    Model,
    ModelVersion,
    Upload,
)


class EventStream(Protocol):
    """The metrics stream: append-only topics, at-least-once, offsets per consumer group.

    Offsets of a topic begin at 0 and grow; a committed offset names the *next* message to read.
    """

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> list[int]:
        """Append messages in order and return their offsets. When it returns they are durable."""

    async def read(self, topic: Topic, offset: int, limit: int) -> list[Delivery]:
        """Up to `limit` messages from `offset` on, in offset order; empty at the end. Does not wait.

        A stream may drop its oldest messages: the first delivery is then the oldest one kept.
        """

    async def wait(self, topic: Topic, offset: int, timeout_s: float) -> bool:
        """Wait until a message at `offset` exists; False if the time is over first."""

    async def commit(self, topic: Topic, group: str, offset: int) -> None:
        """Remember that `group` has handled everything before `offset`. Never moves backwards."""

    async def committed(self, topic: Topic, group: str) -> int:
        """The group's committed offset; 0 for a group never seen."""

    async def end(self, topic: Topic) -> int:
        """The offset that the next published message will get."""

    async def close(self) -> None:
        """Release what the stream holds; idempotent."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything a replica needs to serve one endpoint: configuration and the versions it names."""

    endpoint: str
    generation: int
    config: EndpointConfig
    versions: tuple[ModelVersion, ...]
    """Every version named by a variant, a shadow variant or a pipeline step."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of desired state. `deployment` None: this endpoint is not wanted any more."""

    revision: int
    """Position in the registry's log of changes; a watcher reconnects with the last one it handled."""
    endpoint: str
    deployment: Deployment | None


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything that existed when the watch began has been sent; `revision` is where it stands."""

    revision: int
    whole: bool = False
    """True: what was sent is all there is; an endpoint that was not in it is not wanted any more."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """How far one replica is with one endpoint."""

    replica: str
    """Unique id of the inference process life."""
    endpoint: str
    generation: int
    state: str
    """`loading`, `ready`, `failed` or `removed`."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """A line of the Open Inference Protocol's repository index."""

    name: str
    version: str
    state: str
    """`READY`, `LOADING`, `UNAVAILABLE`."""
    reason: str = ""


class Registry(Protocol):
    """What the data plane needs from the registry. Every method raises `Unavailable` when it is down."""

    def watch(self, after: int) -> AsyncIterator[Change | Synced]:
        """Desired state from revision `after` on (0: all of it), then every change as it happens.

        Yields current state first, then `Synced`, then later changes, in revision order. Ends with
        `Unavailable` when the connection breaks: call again with the last revision handled. When
        `after` is newer than the registry's own log (a restored backup), the whole state is sent.
        """

    async def report(self, report: ReplicaReport) -> None:
        """Tell how far this replica is."""

    async def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Put the version's files into the existing empty `folder`.

        Raises:
            DataLoss: a file does not match its digest; the folder may hold some of the files.
        """

    async def load(self, endpoint: str) -> None:
        """The repository API's load: start the endpoint, or deploy the model of that name."""

    async def unload(self, endpoint: str) -> None:
        """The repository API's unload: take the endpoint out of service, keep its configuration."""

    async def index(self) -> list[RepositoryEntry]:
        """Every model and endpoint known, for the repository index."""

    async def close(self) -> None:
        """Release connections; idempotent."""


@dataclass(frozen=True, slots=True)
class ChangeLog:
    """The span of the log of changes that is kept in full."""

    oldest: int
    """A watcher that has handled everything up to `oldest` - 1 or later can go on from where it was."""
    newest: int
    """The last revision; 0 when nothing ever changed."""


class CatalogSnapshot(Protocol):
    """The catalog at one moment, for reading; every answer is consistent with every other.

    A model, version, endpoint, ... that does not exist is `NotFound`. Versions and generations are listed
    newest first, everything else by name. Lists take `limit` (1 to 1,000) and `after`, the
    token that the previous page ended with ("" for the first), and return the items and the next token
    ("" after the last). A token that was not made for the same list and filters is `InvalidArgument`.
    """

    def model(self, name: str) -> Model: ...

    def models(
        self, *, limit: int, after: str = "", name_contains: str = "", tags: Mapping[str, str] | None = None
    ) -> tuple[list[Model], str]:
        """`name_contains` ignores case; a model must have all of `tags`."""

    def model_count(self) -> int: ...

    def version(self, model: str, version: int) -> ModelVersion: ...

    def versions(
        self, model: str, *, limit: int, after: str = "", status: ApprovalStatus | None = None
    ) -> tuple[list[ModelVersion], str]: ...

    def versions_with(self, model: str, digest: str) -> list[ModelVersion]:
        """The model's versions made of exactly these files, oldest first; their signatures may differ."""

    def digests_in_use(self, candidates: Collection[str]) -> set[str]:
        """Those of `candidates` that some version of some model names."""

    def endpoint(self, name: str) -> Endpoint: ...

    def endpoints(
        self,
        *,
        limit: int,
        after: str = "",
        model: str = "",
        status: EndpointStatus | None = None,
        name_contains: str = "",
    ) -> tuple[list[Endpoint], str]:
        """`model` is the endpoint's own model, not one in a pipeline; `name_contains` ignores case."""

    def endpoint_counts(self) -> dict[EndpointStatus, int]:
        """How many endpoints have each status; a status that none has is absent."""

    def endpoints_naming(self, model: str, version: int | None = None) -> list[str]:
        """Endpoints whose wanted configuration names the model (this version of it), pipelines and shadows too."""

    def generation(self, endpoint: str, generation: int) -> Generation: ...

    def generations(self, endpoint: str, *, limit: int, after: str = "") -> tuple[list[Generation], str]: ...

    def reports(self, endpoint: str, *, since: float = 0.0) -> list[ReplicaReport]:
        """The last report of each replica that reported at `since` or later, by replica."""

    def upload(self, upload_id: str) -> Upload: ...

    def uploads(self, *, expired_at: float | None = None) -> list[Upload]:
        """Uploads under way, oldest first; with `expired_at`, only those that have expired by then."""

    def log(self) -> ChangeLog: ...

    def changes(self, after: int, limit: int) -> list[Change]:
        """Up to `limit` changes with a revision over `after`, in order; gapless when `after` >= `log().oldest` - 1."""

    def desired(self, after: int, limit: int) -> list[Change]:
        """The last change of every endpoint that is wanted, in order of revision; page on with the last revision."""


class CatalogTransaction(CatalogSnapshot, Protocol):
    """Reads that see their own writes, and writes that are all kept or, after any exception, none.

    Inserting what exists is `AlreadyExists`; changing or deleting what does not is `NotFound`; text with NUL or
    half a surrogate pair is `InvalidArgument`.
    """

    def insert_model(self, model: Model) -> None:
        """Add the model; `latest_version` and `aliases` are derived and not read from it."""

    def update_model(self, model: Model) -> None:
        """Replace description, tags and `updated_at`; the rest is not read from it."""

    def delete_model(self, name: str) -> None:
        """Delete the model with its versions and aliases. `Conflict` when an endpoint names one of them."""

    def next_version(self, model: str) -> int:
        """Take the next version number: one more than any ever taken, so that numbers are never used twice."""

    def insert_version(self, version: ModelVersion) -> None: ...

    def update_version(self, version: ModelVersion) -> None:
        """Replace status, description and metadata; the rest is immutable and not read from it."""

    def delete_version(self, model: str, version: int) -> None:
        """Delete the version and the aliases on it. `Conflict` when an endpoint names it."""

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias at the version, wherever it pointed before."""

    def delete_alias(self, model: str, alias: str) -> None: ...

    def insert_endpoint(self, endpoint: Endpoint) -> None:
        """Add the endpoint. `NotFound` when its configuration names a version that does not exist."""

    def update_endpoint(self, endpoint: Endpoint) -> None:
        """Replace everything but the name and `created_at`; `NotFound` as for `insert_endpoint`."""

    def delete_endpoint(self, name: str) -> None:
        """Delete the endpoint with its generations and reports; its changes stay in the log."""

    def insert_generation(self, generation: Generation) -> None: ...

    def append_change(self, endpoint: str, deployment: Deployment | None) -> int:
        """Append to the log of changes and return the revision: 1, 2, 3, ... without a gap, in commit order.

        Old changes that a later one has replaced are dropped in time; see `log`.
        """

    def put_report(self, report: ReplicaReport, *, at: float) -> None:
        """Replace what this replica last reported on this endpoint; `at` is seconds since the epoch."""

    def forget_reports(self, *, before: float) -> int:
        """Delete reports made before this moment and return how many."""

    def insert_upload(self, upload: Upload) -> None: ...

    def delete_upload(self, upload_id: str) -> None: ...


class Catalog(Protocol):
    """Where the registry keeps everything but files. Thread-safe; every method blocks: call it in a thread.

    Every method raises `Unavailable` when the store is down, full or busy for too long. A transaction
    belongs to the thread that opened it, and a thread opens one at a time.
    """

    def migrate(self) -> None:
        """Bring the store's schema up to date; call once before anything else. Several processes may."""

    def transaction(self) -> AbstractContextManager[CatalogTransaction]:
        """One transaction at a time over all threads and processes; durable once the block is left."""

    def read(self) -> AbstractContextManager[CatalogSnapshot]:
        """A consistent view that neither waits for writers nor holds them up."""

    def wait_for_change(self, after: int, timeout_s: float) -> int:
        """Wait until the log's newest revision is not `after`, at most `timeout_s`, and return it.

        Wakes at once for changes of this process, within moments for those of others; `close` wakes it too.
        """

    def close(self) -> None:
        """Release connections and wake waiters; idempotent."""


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
