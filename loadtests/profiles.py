"""What watching costs: a drift check against Evidently's on the same frames, and ten million rows in constant memory.

`python -m loadtests.profiles [--rounds 3] [--rows 10000000] [--save NAME]`. Figures are medians over the rounds,
Evidently's and ours in turn; its import is not counted. Streams run in processes of their own, on one core, and read
their own peak memory. The run fails when a promise is broken: 25x Evidently, 300,000 rows/s a core, 400 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from loadtests.machine import RESULTS, facts
from vedette.entities.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.evidence import Evidence
from vedette.profiles import Columns, Layout, Profile, distances

ROWS, COLUMNS, CHUNK = 100_000, 30, 65_536
TIMES_EVIDENTLY, ROWS_A_SECOND, RSS_MB = 25, 300_000, 400


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    seconds: float
    note: str = ""


def frame(seed: int, rows: int = ROWS, *, shifted: int = 0) -> Columns:
    """Normal columns, the first few of them shifted by a quarter of a deviation."""
    matrix = np.random.default_rng(seed).normal(size=(COLUMNS, rows))
    return {f"f{n}": column + 0.25 * (n < shifted) for n, column in enumerate(matrix)}


def seconds(work: Callable[[], object]) -> float:
    """How long a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def folded(columns: Columns, layout: Layout | None = None) -> Profile:
    """The profile of a frame, settled."""
    profile = Profile(layout)
    profile.fold(columns)
    _ = profile.columns
    return profile


def versus_evidently(rounds: int) -> Iterator[Row]:
    """Fold a window and check every column for drift, against Evidently's preset on the same two frames."""
    reference, current = frame(1), frame(2, shifted=3)
    baseline = folded(reference)
    layout = Layout.of(baseline)
    drift = make_check(CheckSettings("drift"))
    _ = baseline.columns["f0"].quantiles.points()

    def ours() -> None:
        results = drift.evaluate(Evidence(window=folded(current, layout), baseline=baseline))
        found = {result.feature for result in results if result.outcome == "violated"}
        if found != {"f0", "f1", "f2"}:
            raise SystemExit(f"the drift check found {found}")

    theirs = evidently(reference, current)
    turns = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    evidently_s, ours_s = (statistics.median(column) for column in zip(*turns))
    window = folded(current, layout)
    yield Row("Evidently DataDriftPreset, 100,000 x 30", evidently_s, f"evidently {version('evidently')}")
    yield Row("fold + drift check of all columns", ours_s, f"{evidently_s / ours_s:.0f}x")
    yield Row("  of it: fold", statistics.median(seconds(lambda: folded(current, layout)) for _ in range(5)))
    evidence = Evidence(window=window, baseline=baseline)
    yield Row("  of it: drift check", statistics.median(seconds(lambda: drift.evaluate(evidence)) for _ in range(5)))
    pairs = [(baseline.columns[name], window.columns[name]) for name in layout.columns]
    yield Row("KS alone of all columns", seconds(lambda: [distances.ks(one, two) for one, two in pairs]))
    if evidently_s < TIMES_EVIDENTLY * ours_s:
        raise SystemExit(f"only {evidently_s / ours_s:.1f}x faster than Evidently")


def evidently(reference: Columns, current: Columns) -> Callable[[], object]:
    """Evidently's report on the two frames, ready to run; its frames are made beforehand."""
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(reference))
    sides = [Dataset.from_pandas(pd.DataFrame(dict(side)), definition) for side in (current, reference)]
    return lambda: Report([DataDriftPreset()]).run(*sides).dict()


def small_tables() -> Iterator[Row]:
    """Folding as windows see traffic: tables of a few rows with keys."""
    columns = frame(3)
    layout = Layout.of(folded(columns))
    for rows in (1, 100, 1_000):
        profile, count = Profile(layout), min(300, ROWS // rows)
        starts = range(0, count * rows, rows)
        tables = [
            ({n: c[s : s + rows] for n, c in columns.items()}, [f"{s + r:036d}" for r in range(rows)]) for s in starts
        ]

        def work(profile: Profile = profile, tables: list[tuple[Columns, list[str]]] = tables) -> None:
            for table, keys in tables:
                profile.fold(table, keys)
            _ = profile.columns

        each = seconds(work) / count
        yield Row(f"fold a table of {rows:,} x 30", each, f"{rows / each:,.0f} rows/s")


def size() -> Iterator[Row]:
    """What one profile weighs, in memory and on disk."""
    columns = frame(4)
    tracemalloc.start()
    profile = folded(columns)
    held = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    bare = Profile(sample_rows=0)
    bare.fold(columns)
    sketches = 0.0
    for column in profile.columns.values():
        sketches += len(column.quantiles.to_bytes()) / 1e6
    for compression in (0, 1):
        data, begun = b"", time.perf_counter()
        data = profile.to_bytes(compression=compression)
        took = time.perf_counter() - begun
        without = len(bare.to_bytes(compression=compression)) / 1e6
        note = f"{len(data) / 1e6:.2f} MB; without sample {without:.2f} MB"
        yield Row(f"write a profile of 100,000 x 30, compression {compression}", took, note)
    yield Row(
        "read it", seconds(lambda: Profile.from_bytes(data)), f"in memory {held:.1f} MB and sketches {sketches:.1f} MB"
    )
    other = folded(frame(5))
    yield Row("merge two", seconds(lambda: profile.merge(other)))


def texts() -> Iterator[Row]:
    """Text columns: a few categories, and a new one in every row."""
    rng = np.random.default_rng(6)
    few = np.array([f"category {n}" for n in rng.integers(0, 50, ROWS)], dtype=object)
    many = np.array([f"{n:x}" for n in range(1_000_000)], dtype=object)
    yield Row("fold 100,000 texts of 50 categories", seconds(lambda: folded({"t": few})))
    begun = time.perf_counter()
    profile = Profile()
    for start in range(0, len(many), 100_000):
        profile.fold({"t": many[start : start + 100_000]})
    took = time.perf_counter() - begun
    yield Row("fold 1,000,000 texts, all different", took, f"{len(profile.to_bytes()) / 1e3:.0f} kB serialised")


def generated(rows: int) -> Iterator[Columns]:
    """Chunks that are made as they are asked for."""
    rng = np.random.default_rng(7)
    for start in range(0, rows, CHUNK):
        matrix = rng.standard_normal((COLUMNS, min(CHUNK, rows - start)))
        yield {f"f{n}": column for n, column in enumerate(matrix)}


def parquet(path: str) -> Iterator[Columns]:
    """Chunks of a file, as pyarrow reads it in batches."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(CHUNK, use_threads=False):
            yield {name: column.to_numpy() for name, column in zip(batch.schema.names, batch.columns)}


def write_parquet(path: str, rows: int) -> None:
    """The generated chunks as a file, a row group each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(f"f{n}", pa.float64()) for n in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        for columns in generated(rows):
            writer.write_table(pa.table(dict(columns), schema=schema))


def stream(source: str, rows: int) -> None:
    """Fold a stream on one core and print what it took; the body of the processes below."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    layout = Layout.of(folded(next(generated(CHUNK))))
    chunks = generated(rows) if source == "generated" else parquet(source)
    profile, folding, begun, cpu = Profile(layout), 0.0, time.perf_counter(), time.process_time()
    for columns in chunks:
        started = time.process_time()
        profile.fold(columns)
        folding += time.process_time() - started
    status = Path("/proc/self/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1e3
    facts = {"rows": profile.columns["f0"].rows, "wall": time.perf_counter() - begun, "rss_mb": peak}
    print(json.dumps({**facts, "cpu": time.process_time() - cpu, "folding": folding}))


def streams(rows: int) -> Iterator[Row]:
    """Ten million rows, generated and from a file."""
    with tempfile.TemporaryDirectory(prefix="vedette-profiles-") as folder:
        path = str(Path(folder) / "rows.parquet")
        write_parquet(path, rows)
        for source, what in (
            ("generated", "generated chunks"),
            (path, f"Parquet of {Path(path).stat().st_size / 1e9:.1f} GB"),
        ):
            command = [sys.executable, "-m", "loadtests.profiles", "--stream", source, "--rows", str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            facts: dict[str, Any] = json.loads(done.stdout)
            folding, reading = rows / facts["folding"], rows / facts["cpu"]
            note = f"{folding:,.0f} rows/s a core, {reading:,.0f} with reading; RSS {facts['rss_mb']:.0f} MB"
            yield Row(f"stream {rows:,} x 30, {what}", facts["wall"], note)
            if facts["rows"] != rows or rows / facts["cpu"] < ROWS_A_SECOND or facts["rss_mb"] > RSS_MB:
                raise SystemExit(f"a stream broke its promise: {facts}")


def main() -> None:
    """Measure, print, and with --save keep the figures in loadtests/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the streams")
    parser.add_argument("--save", metavar="NAME", help="write loadtests/results/NAME.json")
    parser.add_argument("--stream", metavar="SOURCE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.stream, arguments.rows)
        return
    rows = [*versus_evidently(arguments.rounds), *small_tables(), *size(), *texts(), *streams(arguments.rows)]
    table = Table("what", "seconds", "", title="Profiles", title_justify="left")
    for row in rows:
        table.add_row(row.what, f"{row.seconds:.3f}" if row.seconds >= 0.0005 else f"{row.seconds:.6f}", row.note)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if arguments.save:
        document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts()}
        text = json.dumps({**document, "rows": [asdict(row) for row in rows]}, indent=1)
        (RESULTS / f"{arguments.save}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
