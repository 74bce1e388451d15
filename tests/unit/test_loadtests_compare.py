"""A regression is a fall of ratios that noise does not explain, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loadtests.compare import TOLERANCE, changes, report
from loadtests.contestants import OURS
from tests.unit.loadtest_rows import document, row

PEERS = {"a": [100.0, 100.0, 100.0], "b": [50.0, 50.0, 50.0], "c": [10.0, 10.0, 10.0]}


def run(ours: list[float], *, machine: float = 1.0, peers: dict[str, list[float]] = PEERS) -> dict[str, Any]:
    """A document in which we and the peers did this, on a machine that is so many times as fast."""
    rows = [row(OURS, [rate * machine for rate in ours])]
    rows += [row(name, [rate * machine for rate in rates]) for name, rates in peers.items()]
    return document(rows)


def worse(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """What regressed."""
    return [change.what for change in changes(new, old) if change.regressed(TOLERANCE)]


def test_a_slower_machine_is_no_regression() -> None:
    """Absolute figures are never compared."""
    assert worse(run([1000.0, 1000.0, 1000.0], machine=0.2), run([1000.0, 1000.0, 1000.0])) == []


def test_a_fall_beyond_the_tolerance_is_one() -> None:
    """A third less than before against the same peers."""
    found = worse(run([660.0, 670.0, 650.0]), run([1000.0, 1000.0, 1000.0]))
    assert found == [f"reference, HTTP JSON, 32 in flight: {OURS} to 3 others"]


def test_a_fall_within_the_tolerance_is_none() -> None:
    """Ten percent less is what a shared machine does by itself."""
    assert worse(run([900.0, 900.0, 900.0]), run([1000.0, 1000.0, 1000.0])) == []


def test_one_good_round_shows_that_it_was_the_machine() -> None:
    """Two bad rounds of three while another reached what was: noise."""
    assert worse(run([600.0, 600.0, 1010.0]), run([1000.0, 1000.0, 1000.0])) == []


def test_one_peer_that_got_faster_does_not_decide() -> None:
    """The middle of the ratios to all peers counts."""
    faster = {**PEERS, "a": [300.0, 300.0, 300.0]}
    assert worse(run([1000.0, 1000.0, 1000.0], peers=faster), run([1000.0, 1000.0, 1000.0])) == []


def test_only_peers_of_both_runs_count() -> None:
    """A peer that is new or gone has no before or after."""
    (change,) = changes(run([1000.0] * 3, peers={"a": PEERS["a"], "new": [1.0] * 3}), run([1000.0] * 3))
    assert change.what.endswith("to 1 others")
    assert change.quotient == pytest.approx(1.0)


def figure(measured: float | None, *, at_most: bool = True, noise: float = 1.0) -> dict[str, Any]:
    return {"what": "RSS", "asked": 150.0, "measured": measured, "unit": "MB", "at_most": at_most, "noise": noise}


@pytest.mark.parametrize(
    ("now", "noise", "expected"),
    [(120.0, 1.0, True), (110.0, 1.0, False), (150.0, 4.0, False), (170.0, 4.0, True), (170.0, 0.0, False),
     (None, 1.0, False), (50.0, 1.0, False)],
)  # fmt: skip
def test_figures_regress_in_their_own_direction(now: float | None, noise: float, expected: bool) -> None:
    """More memory is worse; what moves more by itself has more room; 0 leaves it to the contest's rows."""
    new, old = document([], [figure(now, noise=noise)]), document([], [figure(100.0, noise=noise)])
    assert (worse(new, old) == ["RSS"]) is expected


def test_report_says_what_is_missing_and_fails_on_a_regression(capsys: pytest.CaptureFixture[str]) -> None:
    """0 as before, 1 on a regression, 2 when there is nothing to compare."""
    old = run([1000.0, 1000.0, 1000.0])
    assert report(old, old, TOLERANCE) == 0
    assert report(run([500.0, 500.0, 500.0]), old, TOLERANCE) == 1
    assert report(document([]), old, TOLERANCE) == 2
    assert "not in the new run: reference, HTTP JSON, 32 in flight: vedette" in capsys.readouterr().out


def test_the_command_exits_with_the_verdict(tmp_path: Path) -> None:
    """What a CI job sees."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(run([1000.0, 1000.0, 1000.0])))
    bad.write_text(json.dumps(run([500.0, 500.0, 500.0])))

    def compare(new: Path, old: Path) -> int:
        command = [sys.executable, "-m", "loadtests.compare", str(new), str(old)]
        return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False).returncode

    assert compare(good, good) == 0
    assert compare(bad, good) == 1
    assert compare(tmp_path / "none.json", good) == 2
