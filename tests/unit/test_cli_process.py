"""The `vedette` command as a process: quick, plain in a pipe, coloured on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.unit.sdk_suite import FakeSuite, serving

VEDETTE = [sys.executable, "-m", "vedette"]


def vedette(*arguments: str, cwd: Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command without a terminal."""
    return subprocess.run([*VEDETTE, *arguments], cwd=cwd, input=input, capture_output=True, check=False, timeout=60)


def test_help_loads_no_client_and_no_server() -> None:
    """Help answers at once: numpy, httpx, pydantic and the rest stay on the shelf."""
    program = (
        "import sys, runpy\nsys.argv = ['vedette', '--help']\n"
        "try: runpy.run_module('vedette', run_name='__main__')\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = set(output.split())
    assert "typer" in loaded
    assert loaded & {"numpy", "httpx", "msgspec", "pydantic", "grpc", "onnxruntime", "sklearn", "granian"} == set()


def test_a_pipe_gets_plain_text_and_exit_codes(tmp_path: Path) -> None:
    """0, 1 and 2 as promised, from the real process; standard input is read."""
    suite = FakeSuite()
    with serving(suite) as address:
        done = vedette("predict", "iris", "--inference", address, cwd=tmp_path, input=b"1,5,2\n")
        assert (done.returncode, done.stdout.splitlines()[1].split(b"\t")[1]) == (0, b"versicolor")
        assert b"\x1b" not in done.stdout + done.stderr
        failed = vedette("predict", "nobody", "1", "--inference", address, cwd=tmp_path)
        assert (failed.returncode, failed.stdout, failed.stderr) == (1, b"", b"vedette: nobody: not deployed here\n")
        wrong = vedette("predict", "iris", "--colour", cwd=tmp_path)
        assert wrong.returncode == 2
        assert b"--colour" in wrong.stderr
        listed = vedette("model", "list", "--json", "--registry", address, cwd=tmp_path)
        assert json.loads(listed.stdout) == []


def test_a_terminal_gets_tables(tmp_path: Path) -> None:
    """On a terminal the same command draws; nothing breaks when names look like markup."""
    suite = FakeSuite()
    suite._model("m", {"description": "[red]not markup[/red]"})
    with serving(suite) as address:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
        command = [*VEDETTE, "model", "list", "--registry", address]
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, cwd=tmp_path, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        assert process.wait() == 0
    assert b"\x1b[" in shown
    assert b"[red]not markup[/red]" in shown


def test_the_version_is_the_packages() -> None:
    """`vedette --version` says what is installed."""
    import vedette as package

    output = subprocess.run([*VEDETTE, "--version"], capture_output=True, text=True, check=True).stdout
    assert output == f"vedette {package.__version__}\n"


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    """A second suite on the same port ends with 1 and names the port."""
    with serving(FakeSuite()) as address:
        port = address.rpartition(":")[2]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VEDETTE_")}
        environment |= {"VEDETTE_REGISTRY__PORT": port, "VEDETTE_REGISTRY__GRPC_PORT": "0"}
        command = [*VEDETTE, "serve", "registry"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stderr.count("\n") == 1
