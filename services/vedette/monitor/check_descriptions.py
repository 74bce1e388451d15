"""What each check is and takes, in words: for the reference page and the command line.

Rule: every word comes from the check's own class, so that nothing here can be out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from dataclasses import dataclass

from vedette.entities.monitors import CheckParameter
from vedette.monitor.checks import Check, check_classes, parameter_types


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """One parameter of a check."""

    name: str
    type: str
    default: CheckParameter
    meaning: str


@dataclass(frozen=True, slots=True)
class CheckDescription:
    """One check."""

    check: str
    summary: str
    """One sentence."""
    details: str
    """Paragraphs, empty lines between them."""
    parameters: tuple[ParameterDescription, ...]


def describe_checks() -> list[CheckDescription]:
    """Every check that a monitor can make, by name."""
    return [_described(name, kind) for name, kind in check_classes().items()]


def _described(name: str, kind: type[Check]) -> CheckDescription:
    summary, _, details = (inspect.getdoc(kind) or "").partition("\n\n")
    meanings = _meanings(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(typing.cast(typing.Any, kind))}
    parameters = (
        ParameterDescription(each, _type(wanted), typing.cast(CheckParameter, defaults[each]), meanings.get(each, ""))
        for each, wanted in parameter_types(kind).items()
    )
    return CheckDescription(name, " ".join(summary.split()), details, tuple(parameters))


def _meanings(kind: type) -> dict[str, str]:
    """What the source says below each field, of the class and of those that it inherits from."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]).body
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def _type(wanted: object) -> str:
    if choices := typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ():
        return f"one of {', '.join(map(str, choices))}"
    return _TYPES.get(wanted, "list of texts")


_TYPES: dict[object, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}
