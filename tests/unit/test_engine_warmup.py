"""What is measured when a model is loaded: cost of a run, cost of a row, and an end to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from vedette.core.errors import InvalidArgument
from vedette.core.models import TensorSpec
from vedette.core.tensors import Tensor
from vedette.engine import warmup
from vedette.engine.warmup import measured


class Timed:
    """A model whose runs take `base_s` and `row_s` a row on a clock of their own, and longer when interrupted."""

    inputs = (TensorSpec("x", "FP32", (-1, 2)),)

    def __init__(
        self, base_s: float, row_s: float, *, most_rows: int = 1000, interrupted: tuple[int, ...] = ()
    ) -> None:
        self.now = 0.0
        self.runs: list[int] = []
        self._base_s, self._row_s = base_s, row_s
        self._most_rows = most_rows
        self._interrupted = interrupted

    def run(self, feeds: Mapping[str, Tensor], outputs: object) -> list[object]:
        rows = len(feeds["x"].array)
        if rows > self._most_rows:
            raise InvalidArgument("one at a time")
        self.now += self._base_s + self._row_s * rows + (0.5 if len(self.runs) in self._interrupted else 0.0)
        self.runs.append(rows)
        return []


def measure(monkeypatch: pytest.MonkeyPatch, model: Timed) -> tuple[float, float]:
    monkeypatch.setattr(warmup.time, "perf_counter", lambda: model.now)
    runtime: Any = model
    return measured(runtime)


@pytest.mark.parametrize(("base_s", "row_s"), [(8e-6, 1e-7), (1e-5, 4e-4), (5e-4, 1e-3), (0.0, 0.01), (0.05, 0.002)])
def test_a_run_and_its_rows_are_told_apart(monkeypatch: pytest.MonkeyPatch, base_s: float, row_s: float) -> None:
    """From microseconds to tens of milliseconds a run, models too slow for the event loop included."""
    assert measure(monkeypatch, Timed(base_s, row_s)) == pytest.approx((base_s, row_s), abs=1e-12)


def test_interruptions_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that were kept from the processor for half a second, the first one among them, change no figure."""
    for interrupted in ((0,), (5,), (0, 6)):
        assert measure(monkeypatch, Timed(1e-4, 1e-5, interrupted=interrupted)) == pytest.approx((1e-4, 1e-5))


@pytest.mark.parametrize(("row_s", "most"), [(1e-5, 64), (0.01, 8), (0.1, 5), (0.2, 2), (10.0, 1)])
def test_measuring_ends(monkeypatch: pytest.MonkeyPatch, row_s: float, most: int) -> None:
    """The slower the model, the fewer runs: one of a model that takes seconds."""
    model = Timed(0.0, row_s)
    base_s, measured_row_s = measure(monkeypatch, model)
    assert base_s + measured_row_s == pytest.approx(row_s)
    assert len(model.runs) <= most
    assert model.now <= max(1.1, row_s)


def test_a_model_of_one_row_has_no_cost_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured on what it takes."""
    assert measure(monkeypatch, Timed(1e-4, 1e-5, most_rows=1)) == pytest.approx((1.1e-4, 0.0))
