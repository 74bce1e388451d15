"""The conformance kit as others use it: given the URL of a server that it did not start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.wire.target import Target

ROOT = Path(__file__).parents[2]
KIT = ["tests/wire/test_conformance_http.py", "tests/wire/test_conformance_grpc.py"]


def run_kit(target: Target, model: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on the kit against this server as if it were a stranger's."""
    options = ["--oip-http", target.http, "--oip-grpc", target.grpc, "--oip-model", model]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("VEDETTE_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", *KIT, *options, *more]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)


@pytest.mark.ours
def test_the_kit_runs_against_any_url(target: Target) -> None:
    """Everything of the protocol passes; what only we have is skipped with the reason."""
    done = run_kit(target, "identity-{datatype}")
    assert done.returncode == 0, done.stdout
    assert re.search(r"needs an extension or a model of vedette's own", done.stdout)
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100


@pytest.mark.ours
def test_one_model_suffices_for_the_kit(target: Target) -> None:
    """With a single model its datatype is tested and the others are skipped by name."""
    done = run_kit(target, "identity-fp32", "-k", "come_back or datatype")
    assert done.returncode == 0, done.stdout
    assert "takes FP32, not INT64" in done.stdout


@pytest.mark.ours
def test_a_server_that_breaks_the_protocol_fails_the_kit(target: Target) -> None:
    """A model that does not give back what it takes is noticed: the kit can fail."""
    done = run_kit(target, "root", "-k", "test_binary_tensors_come_back or test_raw_tensors_come_back")
    assert done.returncode == 1, done.stdout
    assert "2 failed" in done.stdout
