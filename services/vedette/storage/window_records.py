"""Records of the monitor's store to rows and back, for every adapter.

Rule: documents are the JSON of the dataclasses themselves, so a field added with a default reads old rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vedette.entities.monitors import Execution
from vedette.ports.monitors import PredictionBlock, WindowKey, WindowState
from vedette.storage.records import Row, Values, document, parse


def key_values(key: WindowKey) -> Values:
    """The columns that name a window."""
    return {name: getattr(key, name) for name in WindowKey.__dataclass_fields__}


def key_of(row: Row) -> WindowKey:
    """The window that a row names."""
    return WindowKey(row.monitor, row.variant, row.version, row.segment, row.start)


def window_values(state: WindowState) -> Values:
    """A row of `windows`; the document leaves out what has a column."""
    kept = replace(state, profile=b"", attempts=0)
    return {
        **key_values(state.key),
        "end": state.end,
        "sealed": state.sealed,
        "attempts": state.attempts,
        "document": document(kept),
        "profile": state.profile,
    }


def window_of(row: Row, profile: bytes) -> WindowState:
    """A window from its row."""
    return replace(parse(row.document, WindowState), attempts=row.attempts, profile=profile)


def execution_values(execution: Execution) -> Values:
    """A row of `executions`."""
    names = ("id", "monitor", "endpoint", "start", "end")
    values: dict[str, Any] = {name: getattr(execution, name) for name in names}
    return values | {"status": execution.status.value, "document": document(execution)}


def block_values(block: PredictionBlock) -> Values:
    """A row of `predictions`."""
    names = ("endpoint", "block", "rows", "payload")
    return key_values(block.window) | {name: getattr(block, name) for name in names}


def place(start: float, identity: str) -> str:
    """Where an execution stands in lists, newest window first, as the key of a page token."""
    return f"{start!r} {identity}"


def read_place(text: str) -> tuple[float, str]:
    """What `place` was made of; before everything for the empty text."""
    if not text:
        return float("inf"), ""
    start, _, identity = text.partition(" ")
    return float(start), identity
