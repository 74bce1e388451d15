"""The service with nothing but curl, as people try it first."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from tests.wire.target import Target

pytestmark = [pytest.mark.ours, pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")]


def curl(*arguments: str) -> bytes:
    """What curl prints; an HTTP error is a failure."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "30", "--noproxy", "*", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def test_health(target: Target) -> None:
    """Ready is a status."""
    curl(f"{target.http}/v2/health/ready")


def test_json(target: Target) -> None:
    """One row, as one types it."""
    document = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'
    told = json.loads(curl(f"{target.http}/v2/models/row-sum/infer", "-d", document))
    assert told["outputs"][0]["data"] == [10.0]


def test_binary(target: Target, tmp_path: Path) -> None:
    """A file with JSON and tensor, and the header that says where the one ends."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [tensor]}).encode()
    file = tmp_path / "request.bin"
    file.write_bytes(head + struct.pack("<4f", 1, 2, 3, 4))
    told = curl(
        f"{target.http}/v2/models/row-sum/infer",
        *("-H", f"Inference-Header-Content-Length: {len(head)}"),
        *("-H", "Content-Type: application/octet-stream"),
        *("--data-binary", f"@{file}"),
    )
    assert json.loads(told)["outputs"][0]["data"] == [10.0]


def test_compressed(target: Target) -> None:
    """--compressed asks for gzip and undoes it."""
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [500, 4], "data": [1] * 2000}]}
    told = curl("--compressed", f"{target.http}/v2/models/identity-fp32/infer", "-d", json.dumps(document))
    assert json.loads(told)["outputs"][0]["data"] == [1] * 2000


def test_sagemaker(target: Target) -> None:
    """A line of CSV to an endpoint."""
    told = curl(
        f"{target.http}/endpoints/row-sum/invocations", "-H", "Content-Type: text/csv", "--data-binary", "1,2,3,4"
    )
    assert float(told) == 10.0


def test_kserve_v1(target: Target) -> None:
    """The older protocol's :predict."""
    told = curl(f"{target.http}/v1/models/row-sum:predict", "-d", '{"instances": [[1, 2, 3, 4]]}')
    assert json.loads(told) == {"predictions": [[10.0]]}
