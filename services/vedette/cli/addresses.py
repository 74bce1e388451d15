"""Where a command's servers are: given, from the environment, from the run files of a data folder, or the defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette.core.errors import Unavailable

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
MonitorUrl = Annotated[
    str,
    typer.Option("--monitor", envvar="VEDETTE_MONITOR_URL", help="Monitor, http://HOST:PORT.", show_default=False),
]
DATA_DIR = Path(".vedette")


def _said(ctx: typer.Context, param: typer.CallbackParam, value: Path) -> Path:
    """Make a folder that somebody named absolute, so that `connect` can tell it from the default."""
    source = ctx.get_parameter_source(param.name or "")
    return value if source is None or source.name == "DEFAULT" else value.absolute()


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="VEDETTE_DATA_DIR",
        help="Data folder of a suite on this machine; tells its addresses.",
        callback=_said,
    ),
]


def connect(
    *,
    registry: str | None = None,
    inference: str | None = None,
    monitor: str | None = None,
    data_dir: Path = DATA_DIR,
) -> Client:
    """A client for these addresses; what is empty is looked up in the data folder; None: not needed.

    Raises:
        Unavailable: `data_dir` is not the default, and what is needed does not run there. In the default
            folder that means the default port.
    """
    from vedette.sdk.sync.client import INFERENCE, MONITOR, REGISTRY, Client

    return Client(
        _address(inference, "inference", data_dir) or INFERENCE,
        _address(registry, "registry", data_dir) or REGISTRY,
        _address(monitor, "monitor", data_dir) or MONITOR,
    )


def _address(given: str | None, service: str, data_dir: Path) -> str:
    found = given or running(data_dir / "run", service).get("http", "")
    if found or given is None or data_dir == DATA_DIR:
        return found
    others = any(running(data_dir / "run", other) for other in ("registry", "inference", "monitor"))
    raise Unavailable(f"no {f'{service} service' if others else 'suite'} runs in {data_dir}")


def running(run_dir: Path, service: str) -> dict[str, str]:
    """What a running service wrote of itself (`pid`, `http`, `grpc`, all as text); empty: it does not run."""
    try:
        document = json.loads((run_dir / f"{service}.json").read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in document.items()} if isinstance(document, dict) else {}
