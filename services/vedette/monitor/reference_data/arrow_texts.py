"""Arrow's columns of texts as numpy columns: numbers where they are numbers, else each different text made once."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.core.tensors import Array
from vedette.monitor.reference_data.columns import MAX_TEXT, objects

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "-nan")
"""What people write where a number is missing, in small letters. In a text column only an empty cell is."""


def numbers_of(column: Any) -> Array:
    """Texts as numbers, or as they are when one of them is no number and no sign of a missing one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return _floats(column)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(pc.utf8_lower(trimmed), pa.array(MISSING))
    kept = pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)
    try:
        return _floats(kept)
    except pa.ArrowInvalid:
        return _booleans(kept)


def _floats(column: Any) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))


def _booleans(column: Any) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.is_in(pc.utf8_lower(column), pa.array(["true", "false"]))
    if column.null_count == 0 and pc.all(words).as_py():
        return np.asarray(pc.equal(pc.utf8_lower(column), "true").to_numpy(zero_copy_only=False))
    return texts_of(column)


def texts_of(column: Any) -> Array:
    """Texts, each different one made once; what is empty is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
    # Of a dictionary that many chunks share only what this one uses is made into strings.
    places = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    used, inverse = np.unique(places, return_inverse=True)
    kept = coded.dictionary.take(pa.array(used[used >= 0])).to_pylist()
    words = [word[:MAX_TEXT] or None if word is not None else None for word in kept]
    return np.asarray(objects([None, *words] if len(words) < len(used) else words)[inverse])
