"""The README's figures are those of the saved result, with the script that makes them."""

from __future__ import annotations

import json
from pathlib import Path

from loadtests import peers
from loadtests.compare import SAVED
from loadtests.contestants import OURS
from loadtests.figures import Measured, figures
from loadtests.report import in_readme

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SAVED_RESULT = json.loads(SAVED.read_text())


def test_the_readme_says_what_was_measured() -> None:
    """`python -m loadtests.report --readme` would change nothing."""
    assert in_readme(README, SAVED_RESULT) == README


def test_the_saved_result_has_every_figure_that_is_asked() -> None:
    """A figure that is added is measured before it is published."""
    names = {peer.folder: peer.name for peer in peers.found()}
    asked = [(figure.what, figure.asked) for figure in figures(Measured(names, [], []))]
    assert [(figure["what"], figure["asked"]) for figure in SAVED_RESULT["figures"]] == asked


def test_every_peer_was_measured_or_the_reason_is_told() -> None:
    """Nobody is left out in silence."""
    told = {row["server"] for row in SAVED_RESULT["rows"]} | {each["server"] for each in SAVED_RESULT["absent"]}
    assert {OURS, *(peer.name for peer in peers.found())} <= told
