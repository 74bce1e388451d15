"""Where a command's servers are: given, from the environment, from the run files of a data folder, or the defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vedette.sdk.sync.client import Client

Registry = Annotated[
    str,
    typer.Option("--registry", envvar="VEDETTE_REGISTRY_URL", help="Registry, http://HOST:PORT.", show_default=False),
]
Inference = Annotated[
    str,
    typer.Option(
        "--inference", envvar="VEDETTE_INFERENCE_URL", help="Inference, http://HOST:PORT.", show_default=False
    ),
]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="VEDETTE_DATA_DIR", help="Data folder of a suite on this machine; tells its addresses."
    ),
]
DATA_DIR = Path(".vedette")


def connect(*, registry: str = "", inference: str = "", data_dir: Path = DATA_DIR) -> Client:
    """A client for these addresses; what is empty is looked up in the data folder, else the default port."""
    from vedette.sdk.sync.client import INFERENCE, REGISTRY, Client

    return Client(
        inference or running(data_dir / "run", "inference").get("http", "") or INFERENCE,
        registry or running(data_dir / "run", "registry").get("http", "") or REGISTRY,
    )


def running(run_dir: Path, service: str) -> dict[str, str]:
    """What a running service wrote of itself (`pid`, `http`, `grpc`, all as text); empty: it does not run."""
    try:
        document = json.loads((run_dir / f"{service}.json").read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}
