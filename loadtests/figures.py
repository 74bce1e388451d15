"""What is asked of vedette, as ratios within one run: asked, measured, met.

Rule: every figure comes out of every run. One that could not be measured says so with the reason, and is not met.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.contest import Heat, Row, ratios
from loadtests.contestants import BARE_GRPC, FAST, OURS, UNBATCHED
from loadtests.limits import BATCHES, Limits

JSON_32, JSON_1 = Heat("reference", "json", 32), Heat("reference", "json", 1)
GRPC_32 = Heat("reference", "grpc", 32)
MLP_32 = Heat("mlp", "binary", 32)
CNN_32 = (Heat("cnn", "binary", 32), Heat("cnn", "grpc", 32))
FIELD = (("mlserver", 8.0), ("kserve", 10.0), ("mosec", 3.0), ("triton", 1.3), ("triton_cache", 0.9))
"""Over HTTP with JSON: the folder of the peer, and how many times its throughput is asked."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `unit` is x for a ratio; `at_most` turns the comparison around."""

    what: str
    asked: float
    measured: float | None
    unit: str = "x"
    at_most: bool = False
    noise: float = 1.0
    """How much more than throughput it moves from run to run: a tail moves more than a median. 0: a row of the contest
    is compared instead."""

    @property
    def met(self) -> bool:
        """Whether what was measured is what was asked, or better."""
        if self.measured is None:
            return False
        return self.measured <= self.asked if self.at_most else self.measured >= self.asked


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that one run of the benchmark found."""

    names: Mapping[str, str]
    """Peers by their folders."""
    rows: Sequence[Row]
    limits: Sequence[Limits]
    """ONNX Runtime in process, one of them a round."""
    capture: Sequence[dict[str, Any]] = ()
    open_loop: Sequence[dict[str, Any]] = ()
    footprint: dict[str, float] | None = None

    def row(self, server: str, heat: Heat) -> Row | None:
        """What a server did when it was asked this."""
        return next((row for row in self.rows if row.server == server and row.heat == heat), None)


def figures(found: Measured) -> list[Figure]:
    """All that is asked, in the order of the table."""
    names = found.names
    return [
        *(_against(found, OURS, JSON_32, _settings(names, folder), asked) for folder, asked in FIELD),
        _latency(found, names.get("fastapi_uvicorn", "fastapi_uvicorn")),
        _against(found, FAST, GRPC_32, [BARE_GRPC], 4.0),
        _against(found, FAST, GRPC_32, _settings(names, "triton"), 1.2),
        _against(found, OURS, GRPC_32, [BARE_GRPC], 0.9),
        _of_limit(found, "cnn", CNN_32, 0.92, batches=BATCHES),
        _against(found, OURS, MLP_32, [UNBATCHED], 1.5),
        _of_limit(found, "mlp", (MLP_32,), 0.6, batches=(32,)),
        _captured(found, "on", "100 % capture, monitor stopped, to none", 0.9),
        _captured(found, "on, monitor", "100 % capture, monitor consuming, to none", 0.8),
        _tail(found),
        _foot(found, "rss_mb", "RSS, one tabular model, one worker", 150.0, "MB"),
        _foot(found, "ready_s", "start to ready with that model", 1.5, "s"),
    ]


def describe(heat: Heat) -> str:
    """A heat in a few words."""
    ways = {"json": "HTTP JSON", "binary": "HTTP binary", "grpc": "gRPC"}
    return f"{heat.model}, {ways[heat.protocol]}, {heat.in_flight} in flight"


def _settings(names: Mapping[str, str], folder: str) -> list[str]:
    """The names of a peer and of the same peer without batching, where that is there, too."""
    return [names.get(folder, folder), *(names[each] for each in (f"{folder}_unbatched",) if each in names)]


def _against(found: Measured, mine: str, heat: Heat, others: Sequence[str], asked: float) -> Figure:
    """Throughput of ours to another's in the same heat, round by round; to the better one of its settings."""
    own, theirs = found.row(mine, heat), [row for name in others if (row := found.row(name, heat))]
    measured = None
    if own and theirs:
        best = max(theirs, key=lambda row: row.requests_per_s)
        measured = statistics.median(ratios(own, best))
    return Figure(f"{describe(heat)}: {mine} to {others[0]}", asked, measured, noise=0)


def _latency(found: Measured, plain: str) -> Figure:
    """How many times shorter our median is with one connection."""
    own, theirs = found.row(OURS, JSON_1), found.row(plain, JSON_1)
    measured = None
    if own and theirs:
        measured = statistics.median(b[1] / a[1] for a, b in zip(own.rounds, theirs.rounds, strict=True))
    return Figure(f"{describe(JSON_1)}: p50 of {plain} to {OURS}", 1.0, measured, noise=0)


def _of_limit(found: Measured, model: str, asked_of: Sequence[Heat], asked: float, *, batches: Sequence[int]) -> Figure:
    """The best of ours in those heats, as a share of what ONNX Runtime does at its best batch of those."""
    shares = [
        _share(row, model, batches, found.limits)
        for row in found.rows
        if row.server in (OURS, FAST) and row.heat in asked_of and found.limits
    ]
    ways = " or ".join(dict.fromkeys({"binary": "HTTP binary", "grpc": "gRPC"}[heat.protocol] for heat in asked_of))
    limit = f"ONNX Runtime in process, {'best batch' if len(batches) > 1 else f'batch {batches[0]}'}"
    return Figure(f"{model}, {ways}, {asked_of[0].in_flight} in flight: {OURS} to {limit}", asked,
                  max(shares, default=None))  # fmt: skip


def _share(row: Row, model: str, batches: Sequence[int], limits: Sequence[Limits]) -> float:
    """Round by round to the batch that is the best over all rounds."""
    best = max(batches, key=lambda batch: statistics.median(limit[model][batch] for limit in limits))
    return statistics.median(run[0] / limit[model][best] for run, limit in zip(row.rounds, limits, strict=True))


def _captured(found: Measured, way: str, what: str, asked: float) -> Figure:
    ratio = next((row["ratio"] for row in found.capture if row["capture"] == way), None)
    return Figure(f"{describe(JSON_32)}: {what}", asked, ratio)


def _tail(found: Measured) -> Figure:
    """Over HTTP: p99 to p50 at a constant arrival rate of 80 % of the peak."""
    run = next((run for run in found.open_loop if run["protocol"] == "json" and run["share"] == 0.8), None)
    measured = run["p99_ms"] / run["p50_ms"] if run else None
    return Figure("open loop at 80 % of peak, HTTP JSON: p99 to p50", 5.0, measured, at_most=True, noise=4.0)


def _foot(found: Measured, key: str, what: str, asked: float, unit: str) -> Figure:
    measured = found.footprint[key] if found.footprint else None
    return Figure(what, asked, measured, unit, at_most=True, noise=1.0 if unit == "MB" else 4.0)
