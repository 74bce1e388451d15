"""Rows and documents of the benchmark, as tests write them down."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from loadtests.contest import Heat, Row

JSON_32 = Heat("reference", "json", 32)
JSON_1 = Heat("reference", "json", 1)


def row(server: str, rates: list[float], *, heat: Heat = JSON_32, p50_ms: float = 1.0) -> Row:
    """A row with these rounds; the median of three is the second when they are sorted."""
    return Row(
        server, heat.model, heat.protocol, heat.in_flight, sorted(rates)[len(rates) // 2], p50_ms, 2 * p50_ms, 100.0,
        [[rate, p50_ms] for rate in rates],
    )  # fmt: skip


def document(rows: list[Row], figures: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What a run with these rows would have saved."""
    return {
        "at": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "test", "cpus": 2},
        "settings": {"rounds": 3, "seconds": 5, "threads": 1, "heats": "some"},
        "notes": {},
        "absent": [],
        "rows": [asdict(each) for each in rows],
        "limits": {"reference": {"1": 1e5, "8": 6e5, "32": 2e6}},
        "capture": [],
        "open_loop": [],
        "footprint": None,
        "figures": figures or [],
    }
