"""Folding and evaluating while something goes wrong in the middle: labels, streams, stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.monitor_rig import Rig, watching

from vedette.core.monitors import CheckSettings
from vedette.ports.monitors import WindowState

DRIFT = (CheckSettings("drift"),)
QUALITY = (CheckSettings("drift"), CheckSettings("model_quality", {"min_labels": 10}))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A registry that knows the version and its baseline; no monitor yet."""
    rig = await Rig(tmp_path).know()
    yield rig
    if hasattr(rig, "executions"):
        rig.close()


def labels(first: int, last: int) -> bytes:
    """Lines for the requests of these numbers."""
    return b"\n".join(b'{"id": "p-%06d", "label": %d}' % (number, number % 2) for number in range(first, last))


async def test_labels_that_come_while_their_window_is_evaluated_again_count(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came after the others had been read are in the next revision, of the segments too."""
    await rig.begin(watching(checks=QUALITY, segments=("sex",), min_rows=5))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    real, late = rig.executions._outcomes, [labels(50, 100)]

    def slow(state: WindowState) -> Any:
        found = real(state)
        if late and not state.key.segment:
            rig.labels._accept("e", late.pop())
        return found

    monkeypatch.setattr(rig.executions, "_outcomes", slow)
    await rig.labels.accept("e", labels(0, 50))
    await rig.read()
    found = {each.segment: each for each in rig.results()[:3]}
    assert (found[""].labels, found[""].revision) == (100, 3)
    assert found["sex=f"].labels + found["sex=m"].labels == 100
    with rig.store.read() as snapshot:
        assert snapshot.reopened(9) == []
