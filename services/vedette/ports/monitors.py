"""What the monitor keeps: monitors, open windows, results, ground truth, and where it stands in the stream.

Rule: the docstrings are the contract, and the suite of `vedette.testing.monitors` holds every adapter to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from vedette.core.events import Topic
from vedette.entities.monitors import Execution, ExecutionStatus, Monitor
from vedette.ports.alerts import AlertLedger

NoteKind = Literal["deployment", "baseline", "endpoint", "series", "producer", "consumer"]
"""What a note is about: small facts that are read whole at start and written when they change."""


@dataclass(frozen=True, slots=True)
class WindowKey:
    """Names one window of one series."""

    monitor: str
    variant: str
    version: str
    segment: str
    """`feature=value`, or empty for the whole window."""
    start: float


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window without a result: open, or sealed and waiting for its evaluation."""

    key: WindowKey
    endpoint: str
    end: float
    sealed: bool = False
    """True: it is due, nothing is added to it any more."""
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """What was set aside, by reason."""
    excluded: tuple[str, ...] = ()
    """Columns that were cut out of captures of it."""
    reason: str = ""
    """Why there is nothing to compare: `no requests`; empty when there are rows."""
    model: str = ""
    """The model whose version it is; empty: unknown."""
    baseline: str = ""
    """Digest of the baseline whose layout the profile has; empty: none was known when it was opened."""
    profile: bytes = b""
    """The serialised `profiles.Profile`; empty when there are no rows."""
    blocks: int = 0
    """Blocks of predictions that were kept of it."""
    attempts: int = 0
    """How often its evaluation was begun."""


@dataclass(frozen=True, slots=True)
class PredictionBlock:
    """Predictions of some rows of one window, kept until their ground truth may have come."""

    endpoint: str
    window: WindowKey
    block: int
    """Number of the block within its window."""
    rows: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Label:
    """The ground truth of one request: a JSON value, or a list with one for each of its rows."""

    id: str
    value: str
    """As JSON text."""
    at: float
    """When it was accepted, seconds since the epoch."""
    joined: bool = False
    """Whether its prediction was found; until then it waits."""


class MonitorSnapshot(Protocol):
    """Everything at one moment, for reading.

    What does not exist is `NotFound`. Lists take `limit` (1 to 1,000) and `after`, the token that the previous
    page ended with ("" for the first), and return the items and the next token ("" after the last). A token of
    another list or of other filters is `InvalidArgument`.
    """

    @property
    def alerts(self) -> AlertLedger:
        """Alerts, silences, webhooks and the outbox, in this very transaction."""

    def monitor(self, name: str) -> Monitor: ...

    def monitors(self, *, limit: int, after: str = "", endpoint: str = "") -> tuple[list[Monitor], str]:
        """By name; `endpoint` empty: of all."""

    def offset(self, topic: Topic) -> int:
        """The next message of the topic to handle; 0 before the first."""

    def note(self, kind: NoteKind, key: str) -> bytes | None: ...

    def notes(self, kind: NoteKind) -> dict[str, bytes]:
        """Every note of the kind."""

    def windows(self, *, monitor: str = "", profiles: bool = True) -> list[WindowState]:
        """Open windows by monitor, variant, version, segment and start; without `profiles` those are left empty."""

    def sealed(self, limit: int) -> list[WindowState]:
        """Sealed windows with their profiles, those that end first before others."""

    def sealed_count(self) -> int: ...

    def execution(self, execution_id: str) -> Execution: ...

    def executions(
        self,
        *,
        limit: int,
        after: str = "",
        monitor: str = "",
        endpoint: str = "",
        status: ExecutionStatus | None = None,
        since: float = 0.0,
    ) -> tuple[list[Execution], str]:
        """Newest window first; `since` is compared with the window's end."""

    def profile(self, execution_id: str) -> bytes:
        """The profile of an evaluated window, as long as it is kept."""

    def blocks(self, key: WindowKey) -> list[PredictionBlock]:
        """The kept predictions of one window, in order."""

    def prediction_windows(self, endpoint: str) -> list[tuple[WindowKey, int]]:
        """Windows of the endpoint with kept predictions, oldest first, and how many rows each has."""

    def labels(self, endpoint: str, ids: Collection[str]) -> dict[str, Label]:
        """The labels known for these ids."""

    def label_count(self, endpoint: str) -> int: ...

    def labelled_endpoints(self) -> list[str]:
        """Those that labels are kept of, by name."""

    def waiting_labels(self, endpoint: str) -> dict[str, float]:
        """Ids of the labels whose prediction was not found, and when each was accepted."""

    def reopened(self, limit: int) -> list[WindowKey]:
        """Windows that late labels have re-opened, taken or not, longest waiting first."""


class MonitorTransaction(MonitorSnapshot, Protocol):
    """Reads that see their own writes, and writes that are all kept or, after any exception, none.

    Inserting what exists is `AlreadyExists`; changing or deleting what does not is `NotFound`; text with NUL or
    half a surrogate pair is `InvalidArgument`.
    """

    def insert_monitor(self, monitor: Monitor) -> None: ...

    def update_monitor(self, monitor: Monitor) -> None: ...

    def delete_monitor(self, name: str) -> None:
        """Delete the monitor with its windows, results, profiles and predictions."""

    def set_offset(self, topic: Topic, offset: int) -> None: ...

    def put_note(self, kind: NoteKind, key: str, value: bytes) -> None: ...

    def drop_note(self, kind: NoteKind, key: str) -> None:
        """Forget a note; nothing happens where there is none."""

    def put_windows(self, windows: Sequence[WindowState]) -> None:
        """Insert or replace each; windows of monitors that do not exist (any more) are left out."""

    def drop_windows(self, keys: Iterable[WindowKey]) -> None:
        """Forget windows; nothing happens where there is none."""

    def count_attempt(self, key: WindowKey) -> int:
        """One more begun evaluation of a sealed window; how many there are now. 0: there is no such window."""

    def put_execution(self, execution: Execution) -> None:
        """Insert, or replace the one of the same id. `NotFound` when its monitor does not exist."""

    def put_profile(self, execution_id: str, profile: bytes, *, keep: int) -> None:
        """Keep the profile of an execution, and of its monitor's only the newest `keep` (by window)."""

    def put_blocks(self, blocks: Sequence[PredictionBlock], *, keep_rows: int) -> None:
        """Insert or replace each; beyond `keep_rows` of an endpoint its oldest windows' blocks are dropped.

        Blocks of monitors that do not exist (any more) are left out.
        """

    def put_labels(self, endpoint: str, labels: Sequence[Label], *, keep: int) -> None:
        """Insert or replace by id; beyond `keep` of an endpoint those accepted first are dropped."""

    def join_labels(self, endpoint: str, ids: Collection[str]) -> None:
        """The predictions of these labels were found; ids without a label are left out."""

    def reopen(self, keys: Iterable[WindowKey], *, at: float) -> None:
        """Mark windows to be evaluated again; one that is marked keeps its place, and is not taken any more."""

    def take_again(self, key: WindowKey) -> None:
        """The window is going to be evaluated again with what is known now; nothing happens where there is no mark."""

    def close_again(self, key: WindowKey) -> None:
        """Take the mark away, unless the window was marked again since `take_again`; so only one that is taken goes."""

    def forget(self, *, executions_before: float, predictions_before: float, labels_before: float) -> Mapping[str, int]:
        """Drop executions and predictions of windows that ended before, labels accepted before; how many of each."""


class MonitorStore(Protocol):
    """Where the monitor keeps everything. Thread-safe; every method blocks: call it in a thread.

    Every method raises `Unavailable` when the store is down, full or busy for too long. A transaction belongs to
    the thread that opened it, and a thread opens one at a time.
    """

    def migrate(self) -> None:
        """Bring the store's schema up to date; call once before anything else. Several processes may."""

    def transaction(self) -> AbstractContextManager[MonitorTransaction]:
        """One transaction at a time over all threads and processes; durable once the block is left."""

    def read(self) -> AbstractContextManager[MonitorSnapshot]:
        """A consistent view that neither waits for writers nor holds them up."""

    def close(self) -> None:
        """Release connections; idempotent."""
