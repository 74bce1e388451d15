"""The README's commands and programs run as they stand, on a suite started the README's way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
START_TIMEOUT_S = 180
SERVICES = ("REGISTRY", "INFERENCE", "MONITOR")


class Laptop:
    """A folder in which the suite runs, with the addresses that stand in for the README's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / ".vedette"
        settings = {f"VEDETTE_{service}__{field}": "0" for service in SERVICES for field in ("PORT", "GRPC_PORT")}
        folders = {f"VEDETTE_{service}__DATA_DIR": str(self.data) for service in SERVICES}
        self.env = {**os.environ, **settings, **folders, "VEDETTE_DATA_DIR": str(self.data), "PYTHONUNBUFFERED": "1"}

    def address(self, service: str) -> str:
        """`host:port` of a service's HTTP side."""
        return str(json.loads((self.data / "run" / f"{service}.json").read_text())["http"]).removeprefix("http://")

    def here(self, text: str) -> str:
        """The text with this machine's addresses and programs."""
        text = text.replace("localhost:8080", self.address("inference"))
        text = text.replace("localhost:8090", self.address("registry"))
        text = text.replace("localhost:8093", self.address("monitor"))
        return text.replace(".venv/bin/", f"{BIN}/").replace(" examples/", f" {ROOT}/examples/")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command here; the test fails when it does."""
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """The suite as `make up` starts it."""
    laptop = Laptop(tmp_path_factory.mktemp("readme"))
    log = laptop.folder / "up.log"
    with log.open("w") as output:
        up = subprocess.Popen([BIN / "vedette", "up"], cwd=laptop.folder, env=laptop.env, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Ctrl-C ends it" not in log.read_text() or "boto3" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield laptop
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=60) == 0


def test_make_up_is_what_the_other_tests_run() -> None:
    """The README's first command starts `vedette up` and nothing else."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^up:[^\n]*\n\t(.*)$", makefile, re.MULTILINE)
    assert recipe is not None
    assert recipe[1] == "@$(BIN)/vedette up"
    assert "make up" in README


def test_blocks_of_the_readme_run_in_order(laptop: Laptop) -> None:
    """Every console line and every Python program of the README works, top to bottom."""
    ran = 0
    for language, text in BLOCK.findall(README):
        if language == "python":
            laptop.run(sys.executable, "-W", "error", "-c", laptop.here(text))
            ran += 1
            continue
        for line in text.splitlines():
            if line != "make up":
                laptop.run("bash", "-c", laptop.here(line))
                ran += 1
    assert ran >= 9


def test_a_command_is_within_the_first_twenty_five_lines() -> None:
    """Who opens the page sees at once how to start."""
    assert "```console" in "\n".join(README.splitlines()[:25])


@pytest.mark.parametrize(
    "page",
    sorted(
        [
            *ROOT.glob("*.md"),
            *(ROOT / "docs").rglob("*.md"),
            *(ROOT / "services").glob("*.md"),
            *(ROOT / "loadtests").rglob("*.md"),
        ]
    ),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link of a page names a file that is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_reference_pages_are_what_the_code_says() -> None:
    """`make docs` would change nothing."""
    check = subprocess.run(
        [sys.executable, ROOT / "docs/reference/generate.py", "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr
