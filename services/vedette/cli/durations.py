"""Spans of time as people type them: 30s, 5m, 2h, 1d."""

from __future__ import annotations

import re

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION_HELP = "30s, 5m, 2h or 1d"


def seconds_of(text: str, option: str) -> float:
    """Seconds; a wrong one is a usage error of `option`."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(f"write {DURATION_HELP}, not {text!r}", param_hint=option)
    return float(match[1]) * _UNITS[match[2]]
