"""The size and name rules of the house, held by measurement."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services" / "vedette"
MODULES = sorted(path for path in SERVICES.rglob("*.py") if "proto" not in path.relative_to(SERVICES).parts)
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "shared", "lib"}

LONG_FUNCTIONS: dict[str, str] = {}
"""Functions allowed over 60 lines, `module:function` -> reason."""


def functions() -> Iterator[tuple[str, int]]:
    """Yield every function of the product with its length in lines, docstring included."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(SERVICES)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_over_sixty_lines() -> None:
    """A function that does not fit a screen hides something with a name of its own."""
    long = {name: length for name, length in functions() if length > 60 and name not in LONG_FUNCTIONS}
    assert long == {}


def test_nine_functions_in_ten_are_under_twenty_five_lines() -> None:
    """Short functions are the habit, not the exception."""
    lengths = [length for _, length in functions()]
    assert statistics.quantiles(lengths, n=10)[-1] < 25


def test_no_module_is_over_five_hundred_lines() -> None:
    """A file that grows past its size wants a new noun."""
    long = {str(path.relative_to(SERVICES)): n for path in MODULES if (n := path.read_text().count("\n")) > 500}
    assert long == {}


def test_the_kernel_stays_small() -> None:
    """core is at most 1,200 lines in all."""
    assert sum(path.read_text().count("\n") for path in (SERVICES / "core").rglob("*.py")) <= 1_200


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SERVICES)))
def test_names_are_nouns_of_the_domain(path: Path) -> None:
    """No junk drawer, and every module says what lives in it."""
    assert path.stem not in BANNED
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "the module has no docstring"


CLASS_SUFFIXES = ("Manager", "Helper", "Base", "Abstract", "Impl", "Utils")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SERVICES)))
def test_classes_name_a_thing_and_not_a_pattern(path: Path) -> None:
    """No class is called Manager, Helper, Base, Abstract, Impl or Utils."""
    classes = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name.endswith(CLASS_SUFFIXES) or name.startswith(("Abstract", "Base"))] == []
