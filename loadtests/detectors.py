"""How often drift checks raise false alarms, and what they find: the numbers and plots of docs/detectors.md.

    python -m loadtests.detectors null [--windows 2000]    false alarms of the calibrated default, by population
    python -m loadtests.detectors power [--windows 500]    what the calibrated default finds
    python -m loadtests.detectors curves [--windows 200]   the same of the checks with fixed thresholds
    python -m loadtests.detectors plot                     docs/plots/*.svg and the page's tables from the results

Each writes its part of loadtests/results/detectors.json. Everything is seeded: the same run gives the same numbers.
A null window comes from the same population as its baseline; it raises a false alarm if any of its columns does.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.core.tensors import Array
from vedette.entities.monitors import CheckResult, CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.evidence import Evidence
from vedette.profiles import Layout, Profile

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "loadtests" / "results" / "detectors.json"
PLOTS = ROOT / "docs" / "plots"
PAGE = ROOT / "docs" / "detectors.md"

Table = dict[str, Array]
Draw = Callable[[np.random.Generator, int], Table]
WIDTH = 30
WINDOWS_PER_BASELINE = 5
"""Of the power curves; null windows have a baseline each, or a poor one would spoil many of them at once."""
SIZES = (200, 500, 1_000, 2_000, 5_000, 10_000)


def numbered(matrix: NDArray[np.float64]) -> Table:
    return {f"f{place}": matrix[:, place] for place in range(matrix.shape[1])}


def gaussian(rng: np.random.Generator, rows: int) -> Table:
    return numbered(rng.normal(size=(rows, WIDTH)))


def correlated(rng: np.random.Generator, rows: int) -> Table:
    """Every pair of columns has a correlation of 0.7."""
    return numbered(math.sqrt(0.7) * rng.normal(size=(rows, 1)) + math.sqrt(0.3) * rng.normal(size=(rows, WIDTH)))


def heavy(rng: np.random.Generator, rows: int) -> Table:
    """Half Student's t with 1.5 degrees of freedom (no variance), half log-normal with sigma 2."""
    half = WIDTH // 2
    return numbered(
        np.column_stack((rng.standard_t(1.5, size=(rows, half)), rng.lognormal(0, 2, size=(rows, WIDTH - half))))
    )


def discrete(rng: np.random.Generator, rows: int) -> Table:
    """Ten columns of coins, ten of small counts, ten of categories: 2, 10 and 200 of them, Zipf; some missing."""
    table: Table = {f"coin{i}": (rng.random(rows) < 0.05 * (i + 1)).astype(float) for i in range(10)}
    table |= {f"count{i}": rng.poisson(0.5 * (i + 1), rows).astype(float) for i in range(10)}
    for i in range(10):
        size = (2, 10, 200)[i % 3]
        shares = 1 / np.arange(1, size + 1)
        names = np.array([f"c{n}" for n in range(size)], dtype=object)
        column = names[rng.choice(size, rows, p=shares / shares.sum())]
        column[rng.random(rows) < 0.02] = None
        table[f"category{i}"] = column
    return table


POPULATIONS: dict[str, Draw] = {
    "gaussian": gaussian,
    "correlated": correlated,
    "heavy-tailed": heavy,
    "discrete": discrete,
}


def independent(draw: Draw, rng: np.random.Generator, rows: int) -> Iterator[tuple[Table, Draw]]:
    """Baselines of `rows` fresh rows, each with how its windows are drawn."""
    while True:
        yield draw(rng, rows), draw


def resampled(rng: np.random.Generator, rows: int) -> Iterator[tuple[Table, Draw]]:
    """Real rows (breast cancer, 569 x 30), split by chance: the baseline has one part, windows draw from the other.

    Windows draw with replacement, so that rows repeat. A baseline that does not fit its part (half of the rows)
    draws with replacement as well; one of 400 rows has 400 different rows, and its windows the other 169.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer().data
    while True:
        order = rng.permutation(len(data))
        part = rows if rows < len(data) - 100 else len(data) // 2
        ours, pool = data[order[:part]], data[order[part:]]
        baseline = ours if part == rows else ours[rng.integers(0, part, rows)]

        def draw(rng: np.random.Generator, rows: int, pool: NDArray[np.float64] = pool) -> Table:
            return numbered(pool[rng.integers(0, len(pool), rows)])

        yield numbered(baseline), draw


def worlds(population: str, rng: np.random.Generator, rows: int) -> Iterator[tuple[Table, Draw]]:
    if population == "resampled":
        return resampled(rng, rows)
    return independent(POPULATIONS[population], rng, rows)


def profiled(table: Table, layout: Layout | None = None) -> Profile:
    profile = Profile(layout)
    profile.fold(table)
    return profile


def null_windows(population: str, *, baseline_rows: int, windows: int, seed: int = 0) -> Iterator[Evidence]:
    """Windows of 200 to 10,000 rows from the population of their baseline, which is a fresh one for each."""
    rng = np.random.default_rng([seed, baseline_rows, *population.encode()])
    for number, (table, draw) in zip(range(windows), worlds(population, rng, baseline_rows)):
        baseline = profiled(table)
        yield Evidence(profiled(draw(rng, SIZES[number % len(SIZES)]), Layout.of(baseline)), baseline)


def false_alarms(population: str, *, baseline_rows: int, windows: int, seed: int = 0) -> dict[str, Any]:
    """Of the calibrated default: windows with any alarm, and windows where the test alone would have said so."""
    check = make_check(CheckSettings("drift"))
    alpha = 0.01
    alarms = significant = large = 0
    for evidence in null_windows(population, baseline_rows=baseline_rows, windows=windows, seed=seed):
        results = check.evaluate(evidence)
        alarms += any(result.outcome == "violated" for result in results)
        significant += any(result.p_value is not None and result.p_value <= alpha for result in results)
        large += any(result.value is not None and result.value > (result.threshold or 0) for result in results)
    return {
        "population": population,
        "baseline_rows": baseline_rows,
        "windows": windows,
        "alpha": alpha,
        "alarms": alarms,
        "test_alone": significant,
        "effect_alone": large,
    }


def shifted_windows(*, shift: float, rows: int, baseline_rows: int, windows: int, seed: int = 0) -> Iterator[Evidence]:
    """Gaussian windows whose first column moved by `shift` standard deviations."""
    rng = np.random.default_rng([seed, rows, baseline_rows, round(shift * 1000)])
    for number in range(windows):
        if number % WINDOWS_PER_BASELINE == 0:
            baseline = profiled(gaussian(rng, baseline_rows))
            layout = Layout.of(baseline)
        table = gaussian(rng, rows)
        table["f0"] = table["f0"] + shift
        yield Evidence(profiled(table, layout), baseline)


def found(results: list[CheckResult]) -> bool:
    return any(result.outcome == "violated" and result.feature == "f0" for result in results)


def power(*, shift: float, rows: int, baseline_rows: int, windows: int, check: str = "drift") -> dict[str, Any]:
    """In how many windows the shifted column is found."""
    evaluate = make_check(CheckSettings(check)).evaluate
    given = {"shift": shift, "rows": rows, "baseline_rows": baseline_rows, "windows": windows}
    return {**given, "found": sum(found(evaluate(e)) for e in shifted_windows(**given))}


FIXED: dict[str, CheckSettings] = {
    "ks > 0.1": CheckSettings("ks"),
    "psi > 0.2": CheckSettings("psi"),
    "jensen_shannon > 0.1": CheckSettings("jensen_shannon"),
    "hellinger > 0.1": CheckSettings("hellinger"),
    "wasserstein > 0.1": CheckSettings("wasserstein"),
    "sagemaker Simple > 0.1": CheckSettings("sagemaker", {"method": "Simple"}),
    "sagemaker Robust > 0.1": CheckSettings("sagemaker", {"method": "Robust"}),
    "drift (calibrated)": CheckSettings("drift"),
}
SHIFTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


def curve_points(windows: int, only_rows: int = 0) -> Iterator[dict[str, Any]]:
    """Alarms on anything in null windows by size, and on the shifted column by shift, for every check."""
    checks = {label: make_check(settings) for label, settings in FIXED.items()}
    plans = [(0.0, rows, baseline) for baseline in (400, 10_000) for rows in SIZES]
    plans += [(shift, rows, 10_000) for rows in (1_000, 10_000) for shift in SHIFTS if shift]
    for shift, rows, baseline_rows in plans:
        if only_rows not in (0, rows):
            continue
        alarms, hits = dict.fromkeys(checks, 0), dict.fromkeys(checks, 0)
        for evidence in shifted_windows(shift=shift, rows=rows, baseline_rows=baseline_rows, windows=windows):
            for label, check in checks.items():
                results = check.evaluate(evidence)
                alarms[label] += any(result.outcome == "violated" for result in results)
                hits[label] += found(results)
        yield {
            "shift": shift, "rows": rows, "baseline_rows": baseline_rows, "windows": windows,
            "alarms": alarms, "found": hits,
        }  # fmt: skip


def keep(part: str, rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    """Replace what was measured at the same settings, keep the rest."""
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known = {tuple(row[key] for key in keys): row for row in document.get(part, [])}
    known |= {tuple(row[key] for key in keys): row for row in rows}
    document[part] = list(known.values())
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("null", "power", "curves", "plot"))
    parser.add_argument("--windows", type=int, default=0)
    parser.add_argument("--rows", type=int, default=0, help="only windows of this size (curves)")
    parser.add_argument("--population", default="", help="only this one")
    parser.add_argument("--baseline-rows", type=int, default=0, help="only this size")
    args = parser.parse_args()
    if args.part == "null":
        for population in (*POPULATIONS, "resampled"):
            for rows in (400, 10_000):
                if args.population in ("", population) and args.baseline_rows in (0, rows):
                    row = false_alarms(population, baseline_rows=rows, windows=args.windows or 2_000)
                    print(row, flush=True)
                    keep("null", [row], ("population", "baseline_rows"))
    elif args.part == "power":
        for rows, baseline_rows, shift in ((10_000, 10_000, 0.25), (10_000, 400, 0.25), (1_000, 10_000, 0.25)):
            row = power(shift=shift, rows=rows, baseline_rows=baseline_rows, windows=args.windows or 500)
            print(row, flush=True)
            keep("power", [row], ("shift", "rows", "baseline_rows"))
    elif args.part == "curves":
        for row in curve_points(args.windows or 200, args.rows):
            print(row, flush=True)
            keep("curves", [row], ("shift", "rows", "baseline_rows"))
    else:
        plot()
        tables()


COLOURS = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#59a14f", "#222222")
MARKS = ("o", "s", "^", "v", "D", "P", "X", "o")


def plot() -> None:
    """Draw docs/plots/*.svg from the results."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "vedette", "font.size": 9, "font.family": "sans-serif"}
    )
    curves = json.loads(RESULTS.read_text())["curves"]
    PLOTS.mkdir(parents=True, exist_ok=True)
    null = [
        (f"baseline of {rows:,} rows", [row for row in curves if not row["shift"] and row["baseline_rows"] == rows])
        for rows in (400, 10_000)
    ]
    draw(
        "false-alarms.svg",
        null,
        x="rows",
        y="alarms",
        label="rows in the window",
        title="windows without drift that alarm, %",
    )
    found = [
        (
            f"window of {rows:,} rows",
            [r for r in curves if r["shift"] and r["rows"] == rows and r["baseline_rows"] == 10_000],
        )
        for rows in (1_000, 10_000)
    ]
    draw(
        "power.svg",
        found,
        x="shift",
        y="found",
        label="shift of one column of 30, standard deviations",
        title="windows in which it is found, %",
    )


def tables() -> None:
    """Write the tables of docs/detectors.md from the results."""
    document = json.loads(RESULTS.read_text())
    text = PAGE.read_text()
    for part, table in (("null", null_table(document["null"])), ("power", power_table(document["power"]))):
        begin, rest = text.split(f"<!-- {part} -->")
        _, end = rest.split(f"<!-- /{part} -->")
        text = f"{begin}<!-- {part} -->\n{table}\n<!-- /{part} -->{end}"
    PAGE.write_text(text)


def null_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| population | baseline rows | windows | alarms | of windows | test alone | effect alone |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        shares = [f"{100 * row[key] / row['windows']:.2f} %" for key in ("alarms", "test_alone", "effect_alone")]
        lines.append(
            f"| {row['population']} | {row['baseline_rows']:,} | {row['windows']:,} | {row['alarms']} | "
            f"{' | '.join(shares)} |"
        )
    return "\n".join(lines)


def power_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| baseline rows | window rows | windows | found |", "|---:|---:|---:|---:|"]
    for row in rows:
        share = f"{100 * row['found'] / row['windows']:.1f} %"
        lines.append(f"| {row['baseline_rows']:,} | {row['rows']:,} | {row['windows']:,} | {share} |")
    return "\n".join(lines)


def draw(name: str, panels: list[tuple[str, list[dict[str, Any]]]], *, x: str, y: str, label: str, title: str) -> None:
    """Two panels side by side with a line a check, and one legend below them."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(8.4, 4.2), sharey=True)
    for axis, (heading, rows) in zip(axes, panels):
        rows = sorted(rows, key=lambda row: row[x])
        for check, colour, mark in zip(FIXED, COLOURS, MARKS):
            if "Simple" in check:
                continue  # the same line as ks
            shares = [100 * row[y][check] / row["windows"] for row in rows]
            calibrated = check == "drift (calibrated)"
            axis.plot(
                [row[x] for row in rows], shares, color=colour, marker=mark, markersize=4,
                label=check.replace("ks", "ks, sagemaker Simple"),
                linewidth=2.2 if calibrated else 1.2, zorder=3 if calibrated else 2,
            )  # fmt: skip
        if x == "rows":
            axis.set_xscale("log")
            axis.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
            axis.minorticks_off()
        else:
            axis.set_xlim(0, max(SHIFTS) + 0.01)
        axis.set(title=heading, xlabel=label, ylim=(-3, 103))
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(PLOTS / name, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
