"""What the pages say can be typed: commands exist with their options, documents are well-formed, programs compile."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from loadtests import watching

from vedette import modules
from vedette.chassis.config import check_sections, load_settings
from vedette.cli.application import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "services").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")

Case = tuple[str, str]


def name_of(page: Path) -> str:
    """The page as errors name it."""
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[Case]:
    """Page and text of every block in a language."""
    return [
        (name_of(page), text) for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == language
    ]


def words_of(line: str) -> list[str]:
    """The arguments after `vedette`, nothing when the line is not such a command; what follows `>` is the shell's."""
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    while words and ASSIGNMENT.match(words[0]):
        words.pop(0)
    return words[1:] if words and words[0] in ("vedette", ".venv/bin/vedette") else []


def command_lines() -> Iterator[Case]:
    """Page and line of every `vedette ...`, in console blocks and in running text."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for kind, block in BLOCK.findall(text) if kind == "console" for line in block.splitlines()]
        for line in [*lines, *CODE.findall(BLOCK.sub("", text))]:
            if re.search(r"(^|[\s/|])vedette ", line):
                yield name_of(page), line.rpartition("|")[2].strip()


def parse(words: list[str]) -> str:
    """What is wrong with a command line; nothing when the command takes it. Runs nothing, reads no file."""
    command: Any = typer.main.get_command(app)
    context: Any = command.context_class(command, info_name="vedette")
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return "" if words in ([], ["--help"]) else f"no command {words[:1]} in {context.command_path}"
        command = command.commands[words.pop(0)]
        context = command.context_class(command, info_name=command.name, parent=context)
    try:
        values, left, _ = command.make_parser(context).parse_args(args=words)
    except Exception as error:  # whatever the parser raises is the answer
        return str(error) or type(error).__name__
    missing = [parameter.name for parameter in command.params if parameter.required and not values.get(parameter.name)]
    return f"left over {left}, missing {missing}" if left or missing else ""


def test_there_is_something_to_check() -> None:
    """A change of the pages' form must not empty these tests in silence."""
    assert len(list(command_lines())) >= 15
    assert [kind for kind in ("json", "toml", "python") if len(blocks(kind)) < 2] == []
    assert {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text())} == {
        *("console", "json", "toml", "python", "text")
    }


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_commands_of_the_pages_exist(page: str, line: str) -> None:
    """The command, every option of it and the number of its arguments."""
    assert parse(words_of(line)) == ""


@pytest.mark.parametrize(
    "line", ["vedette nothing", "vedette endpoint update x --share 3", "vedette predict", "vedette up now"]
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    """The check itself: a wrong command, option, and too few or too many arguments."""
    assert parse(words_of(line)) != ""


@pytest.mark.parametrize(("page", "text"), blocks("json"))
def test_json_of_the_pages_is_json(page: str, text: str) -> None:
    """Copied as it stands, it is read."""
    assert json.loads(text)


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_settings_of_the_pages_are_settings(page: str, text: str, tmp_path: Path) -> None:
    """Every table is a service and every key one of its fields, with a value that fits."""
    file = tmp_path / "vedette.toml"
    file.write_text(text)
    check_sections(modules.SERVICES, file=file, environ={})
    for name, module in modules.SERVICES.items():
        assert load_settings(module.load_class(name), name, file=file, environ={})


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_programs_of_the_pages_compile(page: str, text: str) -> None:
    """The README's run (test_readme.py); the others are at least Python."""
    assert compile(text, page, "exec")


@pytest.mark.parametrize("path", [*PAGES, ROOT / "deploy/compose.yaml", ROOT / "deploy/Dockerfile"], ids=name_of)
def test_variables_that_are_named_are_read(path: Path) -> None:
    """Every VEDETTE_<SERVICE>__<FIELD> outside the reference's pattern is a field of that service."""
    named = re.findall(r"VEDETTE_([A-Z]+)__([A-Z_]+)", path.read_text())
    unknown = [
        f"{service}__{field}"
        for service, field in named
        if service.lower() not in modules.SERVICES
        or field.lower() not in modules.SERVICES[service.lower()].load_class(service.lower()).model_fields
    ]
    assert unknown == []


def test_make_targets_of_the_pages_exist() -> None:
    """Every `make target` in code is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for kind, block in [*BLOCK.findall(page.read_text()), *(("", code) for code in CODE.findall(page.read_text()))]
        if kind in ("", "console")
        for target in re.findall(r"^make ([a-z]+)", block, re.MULTILINE)
    }
    assert named - targets == set()


def test_the_readmes_figures_of_watching_are_the_saved_ones() -> None:
    """Whoever measures again writes them down again."""
    assert watching.markdown(watching.figures()) in (ROOT / "README.md").read_text()
