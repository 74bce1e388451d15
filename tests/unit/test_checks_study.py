"""The study of the detectors as it was kept: the promises hold in it, and the page shows its numbers."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from loadtests.detectors import FIXED, PAGE, PLOTS, POPULATIONS, RESULTS, SHIFTS, SIZES, null_table, power_table

STUDY = json.loads(RESULTS.read_text())


@pytest.mark.parametrize("baseline_rows", [400, 10_000])
@pytest.mark.parametrize("population", [*POPULATIONS, "resampled"])
def test_false_alarms_stay_within_the_level(population: str, baseline_rows: int) -> None:
    """At most 1 % of 2,000 windows without drift, with small and large baselines, fresh rows and repeated ones."""
    (row,) = [r for r in STUDY["null"] if (r["population"], r["baseline_rows"]) == (population, baseline_rows)]
    assert row["windows"] >= 2_000
    assert row["alarms"] <= row["alpha"] * row["windows"]


def test_a_shift_of_one_column_is_found() -> None:
    """A quarter of a standard deviation in one column of 30 at 10,000 rows: in at least 99 % of windows."""
    (row,) = [r for r in STUDY["power"] if (r["shift"], r["rows"], r["baseline_rows"]) == (0.25, 10_000, 10_000)]
    assert row["windows"] >= 500
    assert row["found"] >= 0.99 * row["windows"]


def test_the_page_shows_the_numbers() -> None:
    """Its tables are those that the script writes from the results."""
    text = PAGE.read_text()
    assert null_table(STUDY["null"]) in text
    assert power_table(STUDY["power"]) in text


def test_the_curves_are_whole_and_drawn() -> None:
    """Every point of both pictures was measured, for every check, and the pictures are small."""
    points = {(r["shift"], r["rows"], r["baseline_rows"]) for r in STUDY["curves"]}
    assert points == {(0.0, rows, baseline) for rows in SIZES for baseline in (400, 10_000)} | {
        (shift, rows, 10_000) for shift in SHIFTS if shift for rows in (1_000, 10_000)
    }
    assert all(set(r["alarms"]) == set(r["found"]) == set(FIXED) for r in STUDY["curves"])
    for name in ("false-alarms.svg", "power.svg"):
        assert ET.parse(PLOTS / name).getroot().tag.endswith("svg")
        assert (PLOTS / name).stat().st_size < 100_000
        assert f"plots/{name}" in PAGE.read_text()
