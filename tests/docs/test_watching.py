"""The pages on watching: their example runs from top to bottom, and what they show of webhooks is what is sent."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vedette.codec.webhook_signatures import new_secret, signed_headers
from vedette.entities.alerts import Alert, AlertState, DeliveryState, Notification, WebhookFormat
from vedette.monitor.alerting.payloads import render
from vedette.ports.alerts import Bulletin, Outgoing

GUIDES = Path(__file__).parents[2] / "docs/how-to"
WATCH, WEBHOOKS = (GUIDES / "watch.md").read_text(), (GUIDES / "webhooks.md").read_text()
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^### (\w+)\n.*?^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
TIMEOUT_S = 180.0
SERVICES = ("REGISTRY", "INFERENCE", "MONITOR")


class Reader:
    """Somebody who does what the page says, in a folder, with shorter windows and on free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / ".vedette"
        settings = {f"VEDETTE_{service}__{field}": "0" for service in SERVICES for field in ("PORT", "GRPC_PORT")}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("VEDETTE_")}
        self.env = {**clean, **settings, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])

    def here(self, text: str) -> str:
        """The text with this machine's addresses; windows and traffic of half the length."""
        for service, port in (("inference", "8080"), ("registry", "8090"), ("monitor", "8093")):
            file = self.data / "run" / f"{service}.json"
            text = text.replace(f"http://localhost:{port}", f"localhost:{port}")
            text = text.replace(f"localhost:{port}", json.loads(file.read_text())["http"])
        return text.replace("9099", self.port).replace("--window 10s", "--window 5s").replace("+ 25", "+ 12")

    def run(self, line: str) -> str:
        """What a line prints; the test fails when it does."""
        done = subprocess.run(
            ["bash", "-c", self.here(line)], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def beside(self, *command: str) -> Iterator[Path]:
        """A program in another terminal; yields the file with what it prints."""
        said = self.folder / f"{len(list(self.folder.glob('*.said')))}.said"
        with said.open("w") as output:
            process = subprocess.Popen(
                [BIN / command[0], *command[1:]], cwd=self.folder, env=self.env, stdout=output, stderr=output
            )
        try:
            yield said
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_until(said: Path, *wanted: str) -> None:
    """Until a program has printed all of these."""
    deadline = time.monotonic() + TIMEOUT_S
    while not all(text in said.read_text() for text in wanted):
        assert time.monotonic() < deadline, f"{wanted} not in {said.read_text()}"
        time.sleep(0.1)


def steps() -> Iterator[tuple[str, str]]:
    """Programs to save, by name, and lines to type, in the page's order."""
    for language, text in BLOCK.findall(WATCH):
        if language == "python":
            yield text.splitlines()[0].removeprefix("# "), text
        else:
            yield from (("", line) for line in text.splitlines())


def test_the_example_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Train, register, deploy, capture, baseline, monitors, webhook, labels: both alerts arrive, signed."""
    reader = Reader(tmp_path)
    with reader.beside("vedette", "up", "--no-models") as up:
        wait_until(up, "/metrics")
        todo = list(steps())
        at = todo.index(("", "python receiver.py"))
        look = todo.index(("", "vedette monitor watch --once"))
        do(reader, todo[:at])
        with reader.beside("python", "receiver.py") as heard:
            do(reader, todo[at + 1 : look])
            wait_until(heard, "vedette.test", "firing drift calls", "firing model_quality accuracy")
            do(reader, todo[look:])
        files = [path.name for path in (reader.data / "monitor/results/churn/churn").glob("*/*/*/*/*/*/*.json")]
        assert set(files) == {"statistics.json", "constraints.json", "constraint_violations.json"}


def do(reader: Reader, some: list[tuple[str, str]]) -> None:
    """Save the programs, type the lines."""
    for name, text in some:
        if name:
            (reader.folder / name).write_text(reader.here(text))
        else:
            reader.run(text)


def verifier(page: str) -> str:
    """The function of a page that checks signatures."""
    found = re.search(r"^def verify\(.*?\n(?=\n|```)", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_both_pages_check_signatures_alike() -> None:
    """Who corrects one corrects the other."""
    assert verifier(WATCH) == verifier(WEBHOOKS)


@pytest.fixture
def verify() -> Callable[[str, dict[str, str], bytes], bool]:
    """The page's own function."""
    [program] = [text for language, text in BLOCK.findall(WEBHOOKS) if language == "python"]
    held: dict[str, Any] = {}
    exec(compile(program, "webhooks.md", "exec"), held)
    checked: Callable[[str, dict[str, str], bytes], bool] = held["verify"]
    return checked


def test_the_pages_verification_takes_what_the_monitor_signs(
    verify: Callable[[str, dict[str, str], bytes], bool],
) -> None:
    """With the secret in force, also while two are; not another's, not changed, not old, and never an exception."""
    old, new = new_secret(), new_secret()
    now = int(time.time())
    headers = signed_headers([new, old], "msg_1", timestamp=now, body=b"{}")
    assert verify(old, headers, b"{}")
    assert verify(new, headers, b"{}")
    assert not verify(new_secret(), headers, b"{}")
    assert not verify(new, headers, b"{} ")
    assert not verify(new, headers | {"webhook-id": "msg_2"}, b"{}")
    assert not verify(new, signed_headers([new], "msg_1", timestamp=now - 301, body=b"{}"), b"{}")
    assert not verify(new, {}, b"{}")
    assert not verify(new, headers | {"webhook-timestamp": "soon"}, b"{}")


def shape(value: Any) -> Any:
    """The keys of a document and the kinds of its values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize(("format", "text"), EXAMPLE.findall(WEBHOOKS))
def test_payloads_of_the_page_are_what_is_sent(format: WebhookFormat, text: str) -> None:
    """Every field of a format is in its example, and no other."""
    alert = Alert(
        "a", "churn", "churn", "primary", "", "drift", "calls", AlertState.FIRING, since=2.0, updated_at=2.0,
        history="x", value=2.6, threshold=0.1, description="moved", execution="e", version="1", start=1.0, end=2.0,
    )  # fmt: skip
    notification = Notification("msg_1", "ops", DeliveryState.WAITING, 0, 2.0, 2.0, subject="churn/churn/primary")
    outgoing = Outgoing(notification, Bulletin("alerts", "churn/churn/primary", (alert,), 1.0, 2.0))
    sent = json.loads(render(outgoing, format, public_url="http://localhost:8093").body)
    assert shape(json.loads(text)) == shape(sent)


def test_every_format_has_an_example() -> None:
    """A new format is not forgotten on the page."""
    assert {name for name, _ in EXAMPLE.findall(WEBHOOKS)} == set(WebhookFormat.__args__)  # type: ignore[attr-defined]
