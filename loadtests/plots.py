"""The result as a picture: `python -m loadtests.plots [FILE]` draws a saved result beside it, as SVG.

Bars, not lines: servers are no sequence. Rule: bars begin at zero on a linear scale, so that their lengths are the
ratios, and each carries its number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtests.compare import SAVED
from loadtests.contest import Heat, Row
from loadtests.contestants import OURS
from loadtests.report import WAYS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MINE, OTHERS, INK = "#c2410c", "#94a3b8", "#1f2937"


def panels(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Title and rows of each panel, the fastest first; a heat with a single server is no comparison."""
    heats: dict[Heat, list[Row]] = {}
    for row in rows:
        heats.setdefault(row.heat, []).append(row)
    return [
        (f"{heat.model}, {WAYS[heat.protocol]}, {heat.in_flight} in flight",
         sorted(mine, key=lambda row: row.requests_per_s, reverse=True))
        for heat, mine in heats.items()
        if len(mine) > 1
    ]  # fmt: skip


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the picture; nothing when there is nothing to compare."""
    drawn = panels([Row(**row) for row in document["rows"]])
    if not drawn:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(2, len(drawn))
    lines = [drawn[at : at + columns] for at in range(0, len(drawn), columns)]
    heights = [max(len(rows) for _, rows in line) + 1.6 for line in lines]
    figure, grid = plt.subplots(
        len(lines), columns, squeeze=False, figsize=(6.6 * columns, 0.3 * sum(heights)),
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for axes in grid.flat:
        axes.set_axis_off()
    for line, places in zip(lines, grid, strict=True):
        for (title, rows), axes in zip(line, places):
            _bars(axes, title, rows)
    figure.suptitle(f"requests/s; {document['machine']['cpu']}, {document['at'][:10]}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(axes: Axes, title: str, rows: Sequence[Row]) -> None:
    axes.set_axis_on()
    rates = [row.requests_per_s for row in rows]
    colours = [MINE if row.server.startswith(OURS) else OTHERS for row in rows]
    bars = axes.barh([row.server for row in rows], rates, color=colours, height=0.72)
    axes.bar_label(bars, [f" {rate:,.0f}   p50 {row.p50_ms:.2f} ms" for rate, row in zip(rates, rows)], fontsize=7)
    axes.set_xlim(0, max(rates) * 1.5)
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.invert_yaxis()
    axes.tick_params(labelsize=8, length=0)
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def main() -> None:
    """Draw a saved result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=SAVED)
    given = parser.parse_args()
    draw(json.loads(given.file.read_text()), given.file.with_suffix(".svg"))


if __name__ == "__main__":
    main()
