"""Columns that are excluded from capture, from the stream to the result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.monitor_rig import START, Rig, watching
from tests.unit.capture_batches import batch

from vedette.entities.monitors import CheckSettings, ExecutionStatus


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A monitor of a version with a baseline."""
    rig = await Rig(tmp_path).know()
    yield rig
    rig.close()


async def test_whoever_hides_a_column_is_not_alarmed_for_it(rig: Rig) -> None:
    """The default checks say that it is excluded, in every window, and nothing else about it."""
    checks = (CheckSettings("data_quality"), CheckSettings("drift"))
    await rig.begin(watching(checks=checks))
    whole = batch([START + i / 20 for i in range(200)])
    x = whole.inputs["x"]
    cut = replace(x, values=x.values.reshape(-1, 3)[:, [0, 2]].reshape(-1), shapes=[(1, 2)] * 200)
    await rig.publish(replace(whole, inputs={"x": cut}, excluded=("height",)), batch([START + 30], first=200))
    await rig.read()
    (found,) = (each for each in rig.results() if each.rows)
    assert found.status is not ExecutionStatus.FAILED, found.reason
    told = {(r.check, r.kind): (r.outcome, r.description) for r in found.results if r.feature == "height"}
    excluded = ("skipped", "The column is excluded from capture.")
    assert told == {("data_quality", "missing_column_check"): excluded, ("drift", "drift"): excluded}
    assert [r.feature for r in found.violations if r.kind == "missing_column_check"] == []
