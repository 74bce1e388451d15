"""Execution on a stage: an event loop whose time is made up, a model whose answers are known, threads that take turns.

Nothing here waits: time jumps to the next thing that happens, and when nothing ever will, the test fails there.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vedette.core.errors import ModelFailed
from vedette.core.metrics import NoMetrics
from vedette.core.models import DynamicBatching, TensorSpec
from vedette.core.tensors import Tensor
from vedette.inference.execution import Execution, Executor, Work
from vedette.inference.run_time import RunTime
from vedette.inference.workers import Batch, Gate, Workers

BAD = -1.0
"""A value that the model fails on."""


class _Jumping(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        self.loop.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps: its time jumps."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now = 1000.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def play(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end in made-up time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class TenTimes:
    """`x` FP32 [-1, -1] -> `y` = 10 x and `z` = x + 1, row by row; a row that holds BAD fails the run."""

    inputs = (TensorSpec("x", "FP32", (-1, -1)),)
    outputs = (TensorSpec("y", "FP32", (-1, -1)), TensorSpec("z", "FP32", (-1, -1)))
    output_names = ("y", "z")
    memory_bytes = 0
    load_time_ms = 0.0

    def __init__(self, *, alone_from: int = 10**9) -> None:
        self.ran: list[np.ndarray] = []
        self.alone_from = alone_from
        """Runs of so many rows or more fail, as for want of memory."""
        self.pass_time: Callable[[int], None] | None = None

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        x = feeds["x"].array
        self.ran.append(x)
        if self.pass_time is not None:
            self.pass_time(len(x))
        if (x == BAD).any():
            raise ModelFailed(f"bad row among {sorted(x[:, 0].tolist())}")
        if len(x) >= self.alone_from:
            raise ModelFailed("too much at once")
        answers = {"y": x * 10, "z": x + 1}
        return [Tensor(name, "FP32", answers[name]) for name in outputs or self.output_names]

    def close(self) -> None: ...


class Turns(Workers):
    """Threads in made-up time: a run ends so many seconds after it began."""

    def __init__(self, threads: int, run_s: float) -> None:
        super().__init__(threads)
        self.run_s = run_s
        self.running = 0
        self.most = 0
        self.at_work = False
        """A thread runs now, not the event loop."""

    def start(self, batch: Batch) -> None:
        self._free -= min(batch.width, self.threads)
        self.running += 1
        self.most = max(self.most, self.running)
        self.at_work = True
        result = batch.run()
        self.at_work = False
        asyncio.get_running_loop().call_later(self.run_s, self._end, batch, result)

    def _end(self, batch: Batch, result: Any) -> None:
        self.running -= 1
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(result)
        self._finished(batch, done)


@dataclass
class Stage:
    """An executor over `TenTimes`. Make it inside a running loop."""

    settings: DynamicBatching = field(default_factory=DynamicBatching)
    run_time: RunTime = field(default_factory=lambda: RunTime(1.0, 1e-4))
    threads: int = 1
    thread_s: float = 1.0
    limit: int = 1000
    unbatched: str = ""
    width: int = 1
    model: TenTimes = field(default_factory=TenTimes)
    workers: Turns | None = None
    takes_time: bool = False
    """Whether a run on the event loop takes as long as `run_time` says; else no time at all."""

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        if self.takes_time:
            self.model.pass_time = self._pass_time
        self.gate = Gate(self.limit, NoMetrics().gauge("vedette_requests_in_flight"))
        self.workers = self.workers or Turns(self.threads, self.thread_s)
        self.executor = Executor(
            self.model,
            self.run_time,
            gate=self.gate,
            workers=self.workers,
            now=self.loop.time,
            settings=self.settings,
            unbatched=self.unbatched,
            width=self.width,
        )

    def send(
        self,
        *values: float,
        width: int = 1,
        outputs: Sequence[str] = ("y", "z"),
        priority: int = 0,
        within_s: float = 60.0,
        timeout_s: float = 0.0,
    ) -> asyncio.Task[Execution]:
        """Submit one request with a row for each value."""
        x = np.repeat(np.array(values, np.float32).reshape(-1, 1), width, axis=1)
        deadline = self.loop.time() + within_s
        work = Work({"x": Tensor("x", "FP32", x)}, outputs, len(values), deadline, priority, timeout_s)
        return self.loop.create_task(self.executor.submit(work))

    def _pass_time(self, rows: int) -> None:
        if not self.workers.at_work:  # type: ignore[union-attr]
            self.loop.now += self.run_time.base_s + self.run_time.row_s * rows  # type: ignore[attr-defined]

    async def meet(self) -> None:
        """Let the executor see company until it expects some."""
        while self.executor._company < 1.5:
            await asyncio.gather(*(self.send(number) for number in range(8)))
        self.model.ran.clear()

    @property
    def batches(self) -> list[list[float]]:
        """The first column of every run so far."""
        return [x[:, 0].tolist() for x in self.model.ran]


async def moment(seconds: float = 0.0) -> None:
    """Let that much time pass; none: let everybody do what they can now."""
    if seconds:
        await asyncio.sleep(seconds)
    for _ in range(8):
        await asyncio.sleep(0)


def values(execution: Execution, output: str = "y") -> list[float]:
    """The first column of an answer."""
    (tensor,) = [tensor for tensor in execution.outputs if tensor.name == output]
    column: list[float] = tensor.array[:, 0].tolist()
    return column
