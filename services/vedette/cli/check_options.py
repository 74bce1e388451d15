"""Checks as `--check` says them: `psi:threshold=0.2`, `bias:facets=Sex=F,facets=Age>45`.

Rule: only the form is read here; which checks and parameters there are is the monitor's to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vedette.cli.output import names_of, pairs_of

if TYPE_CHECKING:
    from vedette.entities.monitors import CheckParameter, CheckSettings


def checks_of(texts: list[str]) -> tuple[CheckSettings, ...]:
    """`name` or `name:parameter=value,...`; a parameter that stands there several times is a list."""
    from vedette.entities.monitors import CheckSettings

    made = []
    for text in texts:
        name, _, said = text.partition(":")
        values: dict[str, list[str]] = {}
        for part in names_of(said):
            [(key, value)] = pairs_of([part], "--check").items()
            values.setdefault(key, []).append(value)
        parameters = {key: tuple(each) if len(each) > 1 else _value(each[0]) for key, each in values.items()}
        made.append(CheckSettings(name, parameters))
    return tuple(made)


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text  # JSON has no other numbers; the monitor says what it wants
    return text


def written(value: CheckParameter) -> str:
    """A default as it is written in `--check`."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
