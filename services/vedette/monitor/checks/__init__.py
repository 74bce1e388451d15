"""The checks that a monitor can make, found by reflection: one a file.

A check is a frozen dataclass with a `name`, hyper-parameters as fields under their own names, and
`evaluate(evidence)`. Rule: to add one, add a file here; nothing else lists them. A file of this folder without such
a class serves the others.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import math
import pkgutil
import typing
from typing import ClassVar, Protocol, TypeGuard

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import CheckParameter, CheckResult, CheckSettings
from vedette.monitor.evidence import Evidence

MAX_TEXT = 1_000
MAX_ITEMS = 1_000


class Check(Protocol):
    """One question about a window, with its hyper-parameters."""

    name: ClassVar[str]
    """What `CheckSettings.check` says."""

    def evaluate(self, evidence: Evidence) -> list[CheckResult]:
        """Answer it, per feature or for the window as a whole. Blocks while it computes.

        Missing parts of the evidence and too few rows are `skipped` results, not errors; the evidence is not changed
        and the same evidence gives the same results.
        """
        ...


@functools.cache
def check_classes() -> dict[str, type[Check]]:
    """Every check by its name, in the order of names."""
    found: dict[str, type[Check]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and kind.__module__ == module.name and _is_check(kind):
                found[kind.name] = kind
    return dict(sorted(found.items()))


def _is_check(kind: type) -> TypeGuard[type[Check]]:
    return isinstance(getattr(kind, "name", None), str) and callable(getattr(kind, "evaluate", None))


def check_names() -> list[str]:
    """The names of all checks, sorted."""
    return list(check_classes())


def make_check(settings: CheckSettings) -> Check:
    """The check that `settings` name, with their parameters.

    Raises:
        InvalidArgument: there is no such check or parameter, or a value is not allowed there.
    """
    kind = check_classes().get(settings.check)
    if kind is None:
        raise InvalidArgument(f"there is no check {_unknown(settings.check, check_names())}")
    types = parameter_types(kind)
    values = {}
    for name, value in settings.parameters.items():
        if name not in types:
            raise InvalidArgument(f"the check {settings.check!r} has no parameter {_unknown(name, list(types))}")
        values[name] = _converted(f"parameter {name!r} of the check {settings.check!r}", value, types[name])
    return kind(**values)


def parameter_types(kind: type[Check]) -> dict[str, object]:
    """The parameters of a check and their types: those of its constructor."""
    hints = typing.get_type_hints(kind.__init__)
    return {name: hints[name] for name in inspect.signature(kind).parameters}


def _unknown(name: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name)[:80], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return f"{str(name)[:80]!r}; {hint}"


def _converted(what: str, value: object, wanted: object) -> CheckParameter:
    """The value as the type that the constructor names; JSON's whole numbers are floats too, its lists are tuples.

    One text is a list of one.
    """
    choices = typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ()
    if choices:
        if value not in choices:
            raise InvalidArgument(f"{what} is one of: {', '.join(map(str, choices))}")
        return typing.cast(CheckParameter, value)
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(what, value)
    if wanted is str and isinstance(value, str) and len(value) <= MAX_TEXT:
        return value
    if typing.get_origin(wanted) is tuple and _is_text_list(texts := [value] if isinstance(value, str) else value):
        return tuple(typing.cast("list[str]", texts))
    raise InvalidArgument(f"{what} must be {_TYPES.get(wanted, 'a list of texts')}")


def _is_text_list(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) > MAX_ITEMS:
        return False
    return all(isinstance(item, str) and len(item) <= MAX_TEXT for item in value)


def _finite(what: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidArgument(f"{what} must be a finite number")
    return number


_TYPES: dict[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
