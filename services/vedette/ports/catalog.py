"""The registry's catalog: everything that it keeps but files.

Rule: the docstrings are the contract, and the suites of `vedette.testing` hold every adapter to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vedette.core.models import (
    ApprovalStatus,
    Endpoint,
    EndpointStatus,
    Generation,
    Model,
    ModelVersion,
    Upload,
)
from vedette.core.ports import Change, Deployment, ReplicaReport
from vedette.entities.monitors import Baseline


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
        """Those of `candidates` that some version or baseline of some model names."""

    def baseline(self, model: str, version: int, name: str) -> Baseline: ...

    def baselines(self, model: str, version: int, *, limit: int, after: str = "") -> tuple[list[Baseline], str]: ...

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
        """Delete the model with its versions, aliases and baselines. `Conflict` when an endpoint names one of them."""

    def next_version(self, model: str) -> int:
        """Take the next version number: one more than any ever taken, so that numbers are never used twice."""

    def insert_version(self, version: ModelVersion) -> None: ...

    def update_version(self, version: ModelVersion) -> None:
        """Replace status, description and metadata; the rest is immutable and not read from it."""

    def delete_version(self, model: str, version: int) -> None:
        """Delete the version, the aliases on it and its baselines. `Conflict` when an endpoint names it."""

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point the alias at the version, wherever it pointed before."""

    def delete_alias(self, model: str, alias: str) -> None: ...

    def put_baseline(self, baseline: Baseline) -> None:
        """Add the baseline to its version, in place of one of that name."""

    def delete_baseline(self, model: str, version: int, name: str) -> None: ...

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
