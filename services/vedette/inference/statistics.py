"""What Triton's statistics extension tells of each model: counts and nanoseconds, exact, for one process.

Rule: recording costs a handful of additions and no allocation; everything that can be derived is derived
when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Duration:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """Executions with one number of rows."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory that the loaded version takes, in Triton's words (`CPU`, device 0)."""

    type: str
    id: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """One line of the statistics extension. Durations are cumulative since the endpoint first served the version."""

    name: str
    version: str
    last_inference: int
    """Milliseconds since the epoch; 0: never."""
    inference_count: int
    """Rows answered."""
    execution_count: int
    """Times the model ran."""
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    batch_stats: tuple[BatchStatistics, ...]
    cache_hit: Duration = Duration()
    """There is no response cache: always zero, as the extension asks."""
    cache_miss: Duration = Duration()
    memory_usage: tuple[MemoryUsage, ...] = ()


@dataclass(slots=True)
class _Batches:
    """Sums for executions with one number of rows, in seconds."""

    executions: int = 0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0


class Recorder:
    """Collects for one endpoint and version. Used on the event loop only, so it needs no lock."""

    __slots__ = ("_batches", "_fail_s", "_failures", "_last_s", "_queue_s", "_rows", "_sharers", "_success_s",
                 "endpoint", "version")  # fmt: skip

    def __init__(self, endpoint: str, version: str) -> None:
        self.endpoint = endpoint
        self.version = version
        self._batches: dict[int, _Batches] = {}
        self._success_s = self._queue_s = self._fail_s = self._last_s = 0.0
        self._failures = self._rows = 0
        self._sharers = _Batches()
        """Requests answered by an execution that is counted with another of them."""

    def succeeded(
        self,
        rows: int,
        batch_rows: int,
        *,
        at: float,
        total_s: float,
        queue_s: float,
        input_s: float,
        infer_s: float,
        output_s: float,
    ) -> None:
        """Count one answered request; `at` is seconds since the epoch. About 0.5 us.

        `batch_rows`: rows of the execution that answered it; 0: it is counted with another request of its batch.
        """
        batch = self._batches.get(batch_rows) if batch_rows else self._sharers
        if batch is None:
            batch = self._batches[batch_rows] = _Batches()
        batch.executions += 1
        self._rows += rows
        batch.input_s += input_s
        batch.infer_s += infer_s
        batch.output_s += output_s
        self._success_s += total_s
        self._queue_s += queue_s
        self._last_s = at

    def failed(self, *, at: float, total_s: float) -> None:
        """Count one request that was routed here and got an error."""
        self._failures += 1
        self._fail_s += total_s
        self._last_s = at

    def snapshot(self, memory_bytes: int = 0) -> ModelStatistics:
        """Everything so far, in the extension's shape."""
        batches = sorted(self._batches.items())
        executions = sum(batch.executions for _, batch in batches)
        each = [*self._batches.values(), self._sharers]
        answered = executions + self._sharers.executions
        return ModelStatistics(
            name=self.endpoint,
            version=self.version,
            last_inference=int(self._last_s * 1000),
            inference_count=self._rows,
            execution_count=executions,
            success=_duration(answered, self._success_s),
            fail=_duration(self._failures, self._fail_s),
            queue=_duration(answered, self._queue_s),
            compute_input=_duration(answered, sum(batch.input_s for batch in each)),
            compute_infer=_duration(answered, sum(batch.infer_s for batch in each)),
            compute_output=_duration(answered, sum(batch.output_s for batch in each)),
            batch_stats=tuple(_batch_statistics(rows, batch) for rows, batch in batches),
            memory_usage=(MemoryUsage("CPU", 0, memory_bytes),) if memory_bytes else (),
        )


class StatisticsBook:
    """The recorders of every endpoint; they outlive redeployments of the same version and go with the endpoint."""

    def __init__(self) -> None:
        self._recorders: dict[tuple[str, str], Recorder] = {}

    def recorder(self, endpoint: str, version: str) -> Recorder:
        """The one recorder of this endpoint and version."""
        return self._recorders.setdefault((endpoint, version), Recorder(endpoint, version))

    def keep(self, endpoint: str, versions: Iterable[str]) -> None:
        """Forget what this endpoint serves no longer; no versions: the endpoint is gone."""
        wanted = set(versions)
        for key in [key for key in self._recorders if key[0] == endpoint and key[1] not in wanted]:
            del self._recorders[key]


def _duration(count: int, seconds: float) -> Duration:
    return Duration(count, int(seconds * 1e9))


def _batch_statistics(rows: int, batch: _Batches) -> BatchStatistics:
    return BatchStatistics(
        rows,
        _duration(batch.executions, batch.input_s),
        _duration(batch.executions, batch.infer_s),
        _duration(batch.executions, batch.output_s),
    )
