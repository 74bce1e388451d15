"""How large a regression's errors probably are, row by row, learned from rows whose truth is known (DLE).

Direct loss estimation, as NannyML publishes it: a second model learns the loss of the first from its features
and its prediction. It holds where the reference has rows of the kind; beyond them it knows nothing.

Rule: learned on the reference's labelled rows and never on the window's labels; deterministic.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.monitor.quality.boosting import binned_columns, regressed
from vedette.monitor.quality.outcomes import NotComparable, Outcomes

Values = NDArray[np.float64]

_MOST_COLUMNS = 200
_MOST_LEARNED = 5_000
_MOST_JUDGED = 20_000


def expected_losses(
    reference: Outcomes, losses: Sequence[Values], window: Outcomes, *, without: Collection[str] = ()
) -> list[Values]:
    """For each kind of loss the expected one of each row of the window (at most 20,000 of them), never below 0.

    `losses` are those of the reference's rows, of which at most 5,000 are learned from; the columns `without`
    take no part.

    Raises:
        NotComparable: the two have no column in common.
    """
    names = [name for name in reference.columns if name in window.columns and name not in without][:_MOST_COLUMNS]
    if not names:
        raise NotComparable("the window and the reference data have no column in common")
    chosen, rows = _chosen(reference.rows, _MOST_LEARNED), _chosen(window.rows, _MOST_JUDGED)
    pairs = [binned_columns(reference.columns[name][chosen], window.columns[name][rows]) for name in names]
    known, asked = (np.stack(side, axis=1) for side in zip(*pairs))
    return [
        np.maximum(0.0, each[chosen].mean() + regressed(known, each[chosen]).score(asked)).astype(np.float64)
        for each in losses
    ]


def _chosen(rows: int, most: int) -> NDArray[np.intp]:
    """All rows, or as many of them as may be, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.intp))
