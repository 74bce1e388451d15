"""The size and name rules of the house, held by measurement."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services" / "vedette"
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
    assert [
        name for name in classes if name.endswith(CLASS_SUFFIXES) or re.match(r"(Abstract|Base)([A-Z_]|$)", name)
    ] == []


STRANGERS = {
    "a folder of one machine": r"(?<![\w.$}/-])/(?:work|home|Users|root|mnt|workspaces?|builds?)/(?=\w)|"
    r"(?<![\w.$}/-])/(?:work|root)\b(?![/-]?\w)",
    "a package index": r"(?i)(?:files\.)?python[h]osted\.org|\bpypi\.[\w-]+|\b(?:extra[-_])?index[-_]url\b|"
    r"\bfind[-_]links\b|artifac[t]ory|\bnexus\b",
    "a private network": r"(?<![\w.])(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+(?![\w.])|"
    r"\b(?:[\w-]+\.)+(?:intern[a]l|l[a]n|corp)(?::\d+|/)",
}
"""What holds on one machine and no other. Brackets keep the patterns from finding themselves."""


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of every file of the repository but what .gitignore names, and bytes that are no text."""
    ignored = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().split())]
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatch.fnmatch(name, rule) for rule in ignored)]
        for path in (Path(folder) / name for name in files):
            content = path.read_bytes()
            if b"\0" not in content and path.name != ".git":
                yield str(path.relative_to(ROOT)), content.decode()


@pytest.mark.parametrize("kind", STRANGERS)
def test_no_file_names_the_machine_it_was_written_on(kind: str) -> None:
    """The repository works in any clone: no paths of a home, no address of a private index or network."""
    found = {f"{name}: {hit[0]}" for name, text in texts() for hit in re.finditer(STRANGERS[kind], text)}
    assert found == set()


def test_the_machine_patterns_find_what_they_are_for() -> None:
    """A pattern that finds nothing proves nothing."""
    slash = "/"
    lines = {
        "a folder of one machine": [f"cd {slash}work/main", f"`{slash}work`", f"'{slash}home/me/x'"],
        "a package index": ["pip install --index" + "-url x", "https://pypi" + ".org/simple"],
        "a private network": ["http://10.1" + ".2.3:80", "http://mirror.intern" + "al/simple"],
    }
    assert [line for kind, many in lines.items() for line in many if not re.search(STRANGERS[kind], line)] == []
