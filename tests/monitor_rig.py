"""The monitor's flow without its servers: a stream, a store, a registry with one version, and the parts in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.unit.capture_batches import SIGNATURE, batch, message, rows_of
from vedette.codec.captures import CaptureBatch
from vedette.core.clock import ManualClock
from vedette.core.events import Message
from vedette.core.metrics import NoMetrics
from vedette.core.ports import EventStream
from vedette.core.tensors import Array
from vedette.entities.alerts import Notification
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE, Execution, Monitor
from vedette.monitor.executions import EvaluationLimits, Executions
from vedette.monitor.reference_data.constraints import constraints_file, suggest
from vedette.monitor.references import References
from vedette.monitor.traffic.folding import FoldLimits
from vedette.monitor.traffic.intake import Intake, IntakeLimits
from vedette.monitor.traffic.labels import Labels, PredictionIndex
from vedette.monitor.traffic.tabulation import tabulate
from vedette.ports.monitors import MonitorStore
from vedette.profiles import Layout, Profile
from vedette.storage.memory import MemoryEventStream, MemoryMonitorStore
from vedette.testing.registry import MemoryRegistry

START = 1_700_000_000.0
"""The beginning of a window of ten seconds."""


def watching(**fields: Any) -> Monitor:
    """A monitor `m` of the endpoint `e`: windows of ten seconds, two more for late events."""
    return Monitor(**{"name": "m", "endpoint": "e", "window_s": 10.0, "lateness_s": 2.0, "min_rows": 20, **fields})


def baseline_files(rows: int = 2_000) -> dict[str, bytes]:
    """A baseline of rows like those that `rows_of` draws, with their predictions."""
    return files_of(rows_of(rows, seed=77))


def files_of(rows: Array) -> dict[str, bytes]:
    """A baseline of these rows of the three features, with their predictions."""
    columns = tabulate(batch([0.0] * len(rows), rows=rows), SIGNATURE).columns
    first = Profile()
    first.fold(columns)
    profile = Profile(Layout.of(first))
    profile.fold(columns)
    constraints = constraints_file(suggest(profile))
    return {PROFILE_FILE: profile.to_bytes(), CONSTRAINTS_FILE: constraints, STATISTICS_FILE: b"{}"}


async def know(registry: MemoryRegistry, *, baseline: bool = True) -> None:
    """Give the registry the version that captures name, and its baseline."""
    registry.add_version("m", 1, {"model.onnx": b"graph"}, signature=SIGNATURE)
    if baseline:
        await registry.put_baseline("m", 1, "default", baseline_files(), rows=2_000, columns=6)


class Seen(NoMetrics):
    """Keeps what was counted and shown, by name and label values."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def counter(self, name: str, **labels: str) -> Any:
        """A counter that adds up here."""
        return _Instrument(self.values, (name, *labels.values()))

    def gauge(self, name: str, **labels: str) -> Any:
        """A gauge that is seen here."""
        return _Instrument(self.values, (name, *labels.values()))

    def forget(self, **labels: str) -> None:
        """Drop what has these label values."""
        for key in [key for key in self.values if set(labels.values()) <= set(key)]:
            del self.values[key]


@dataclass
class _Instrument:
    values: dict[tuple[str, ...], float]
    key: tuple[str, ...]

    def inc(self, amount: float = 1.0) -> None:
        self.values[self.key] = self.values.get(self.key, 0.0) + amount

    def set(self, value: float) -> None:
        self.values[self.key] = value


@dataclass
class Rig:
    """Parts that belong together; `begin` makes new ones on the same store and stream, as a restart does."""

    folder: Path
    stream: EventStream = field(default_factory=MemoryEventStream)
    store: MonitorStore = field(default_factory=MemoryMonitorStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    told: list[Notification] = field(default_factory=list)
    metrics: Any = field(default_factory=NoMetrics)
    sent: int = 0

    async def begin(self, *monitors: Monitor) -> Rig:
        """Put the monitors into the store where they are not, and make the parts."""
        self.store.migrate()
        with self.store.transaction() as tx:
            for monitor in monitors:
                tx.insert_monitor(monitor)
        self.references = References(
            self.registry, self.registry, self.store, clock=self.clock, folder=self.folder / "models"
        )
        self.references.restore()
        self.index = PredictionIndex()
        parts: dict[str, Any] = {"clock": self.clock, "metrics": self.metrics}
        self.intake = Intake(
            self.stream, self.store, self.references, self.index, **parts,
            fold_limits=FoldLimits(idle_s=5.0), limits=IntakeLimits(commit_s=1.0),
        )  # fmt: skip
        self.executions = Executions(
            self.store, self.references, **parts, limits=EvaluationLimits(reopen_s=0.0), told=self.told.extend
        )
        self.labels = Labels(self.store, self.index, **parts)
        await self.intake.start()
        return self

    async def know(self, *, baseline: bool = True) -> Rig:
        """Give the registry the version that captures name, and its baseline."""
        await know(self.registry, baseline=baseline)
        return self

    async def publish(self, *batches: CaptureBatch | Message) -> None:
        """Onto the stream, one message each."""
        await self.stream.publish("captures", [b if isinstance(b, Message) else message(b) for b in batches])

    async def traffic(self, start: float, *, rows: int = 100, shift: float = 0.0, **fields: Any) -> None:
        """Ten seconds of requests from `start` seconds after the beginning on, in two messages."""
        for part in range(2):
            half = rows // 2
            at = [START + start + 5 * part + 5 * i / half for i in range(half)]
            drawn = rows_of(half, seed=self.sent + 1, shift=shift)
            await self.publish(batch(at, rows=drawn, first=self.sent, **fields))
            self.sent += half

    async def read(self) -> None:
        """Read the stream to its end, store, and evaluate what is due."""
        while await self.intake.step(wait_s=0.0):
            pass
        await self.intake.commit()
        while await self.executions.step():
            pass

    async def pass_time(self, seconds: float) -> None:
        """Let the clock go on and look again."""
        self.clock.advance(seconds)
        await self.read()

    def results(self, **filters: Any) -> list[Execution]:
        """Every stored execution, oldest window first."""
        with self.store.read() as snapshot:
            return snapshot.executions(limit=1_000, **filters)[0][::-1]

    def close(self) -> None:
        """End this life: what is not stored is gone."""
        self.intake.stop()


def short(executions: Sequence[Execution]) -> list[tuple[float, str, str, str, int, str]]:
    """Start after the beginning, variant, segment, status, rows and reason."""
    return [
        (each.start - START, each.variant, each.segment, each.status.value, each.rows, each.reason)
        for each in executions
    ]
