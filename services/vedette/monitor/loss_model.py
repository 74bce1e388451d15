"""How large a regression's errors probably are, row by row, learned from rows whose truth is known (DLE).

Direct loss estimation, as NannyML publishes it: a second model learns the loss of the first from its features
and its prediction. It holds where the reference has rows of the kind; beyond them it knows nothing.

Rule: learned on the reference's labelled rows and never on the window's labels; deterministic.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from vedette.monitor.boosting import binned_columns, regressed
from vedette.monitor.outcomes import NotComparable, Outcomes

Values = NDArray[np.float64]

_MOST_COLUMNS = 200
_MOST_LEARNED = 5_000
_MOST_JUDGED = 100_000


def expected_losses(reference: Outcomes, losses: Values, window: Outcomes, *, without: Collection[str] = ()) -> Values:
    """The expected loss of each row of the window (at most 100,000 of them), never below 0.

    `losses` are those of the reference's rows, of which at most 5,000 are learned from; the columns `without`
    take no part.

    Raises:
        NotComparable: the two have no column in common.
    """
    names = [name for name in reference.columns if name in window.columns and name not in without][:_MOST_COLUMNS]
    if not names:
        raise NotComparable("the window and the reference data have no column in common")
    chosen = _chosen(losses.size, _MOST_LEARNED)
    rows = _chosen(window.rows, _MOST_JUDGED)
    pairs = [binned_columns(reference.columns[name][chosen], window.columns[name][rows]) for name in names]
    learned = regressed(np.stack([first for first, _ in pairs], axis=1), losses[chosen])
    beyond = learned.score(np.stack([second for _, second in pairs], axis=1))
    return np.asarray(np.maximum(0.0, losses[chosen].mean() + beyond), np.float64)


def _chosen(rows: int, most: int) -> NDArray[np.intp]:
    """All rows, or as many of them as may be, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.intp))
