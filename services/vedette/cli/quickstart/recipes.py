"""Lines to copy into another terminal: one prediction with each kind of client.

Rule: each is one line that works as it is printed, in the folder where `vedette up` runs.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENDPOINT = "diabetes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A client, the line that uses it, and the package to install first (empty: it is there)."""

    client: str
    line: str
    install: str = ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the suite answers; HTTP as URLs, gRPC as host:port."""

    inference: str
    inference_grpc: str
    registry: str
    registry_grpc: str
    monitor: str
    monitor_grpc: str


def recipes(addresses: Addresses, row: Sequence[float]) -> list[Recipe]:
    """One line for each client, all asking the diabetes model about `row`."""
    values = ", ".join(f"{value:.4f}" for value in row)
    shape = f"[1, {len(row)}]"
    python = shlex.quote(_here(Path(sys.executable)))
    return [
        Recipe("curl", _curl(addresses, [round(value, 4) for value in row])),
        Recipe("command line", f"{_command(python)} predict {ENDPOINT} '[[{values}]]'{_inference_option(addresses)}"),
        Recipe(
            "Python",
            f'{python} -c \'import vedette; client = vedette.Client("{addresses.inference}"); '
            f'print(client.predict("{ENDPOINT}", [[{values}]]).array)\'',
        ),
        Recipe(
            "tritonclient (gRPC)",
            f"{python} -c 'import numpy as np, tritonclient.grpc as triton; "
            f'x = triton.InferInput("x", {shape}, "FP32"); x.set_data_from_numpy(np.array([[{values}]], np.float32)); '
            f'client = triton.InferenceServerClient("{addresses.inference_grpc}"); '
            f'print(client.infer("{ENDPOINT}", [x]).as_numpy("prediction"))\'',
            _missing("tritonclient", f"{python} -m pip install 'tritonclient[grpc]>=2.73'"),
        ),
        Recipe(
            "boto3 (SageMaker)",
            f"{python} -c 'import boto3; "
            f'client = boto3.client("sagemaker-runtime", endpoint_url="{addresses.inference}", '
            'region_name="local", aws_access_key_id="any", aws_secret_access_key="any"); '
            f'print(client.invoke_endpoint(EndpointName="{ENDPOINT}", ContentType="text/csv", '
            f'Body="{values.replace(" ", "")}")["Body"].read().decode())\'',
            _missing("boto3", f"{python} -m pip install boto3"),
        ),
    ]


def demo_line(addresses: Addresses) -> str:
    """The command that shows an alert; addresses are named where they are not the usual ones."""
    from vedette.sdk.sync.client import INFERENCE, MONITOR, REGISTRY

    usual = {"inference": INFERENCE, "registry": REGISTRY, "monitor": MONITOR}
    options = [f" --{name} {getattr(addresses, name)}" for name in usual if getattr(addresses, name) != usual[name]]
    return f"{_command(shlex.quote(_here(Path(sys.executable))))} demo drift{''.join(options)}"


def _curl(addresses: Addresses, row: list[float]) -> str:
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": [row]}
    return f"curl -s {addresses.inference}/v2/models/{ENDPOINT}/infer -d '{json.dumps({'inputs': [tensor]})}'"


def _command(python: str) -> str:
    """The `vedette` beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("vedette")
    return shlex.quote(_here(script)) if script.exists() else f"{python} -m vedette"


def _inference_option(addresses: Addresses) -> str:
    from vedette.sdk.sync.client import INFERENCE

    return "" if addresses.inference == INFERENCE else f" --inference {addresses.inference}"


def _here(path: Path) -> str:
    """Relative where the path lies below this folder: shorter to read."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _missing(package: str, install: str) -> str:
    return "" if importlib.util.find_spec(package) else install
