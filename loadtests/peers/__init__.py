"""The servers that vedette is measured against, one folder each: its packages, its server, and what to know of it.

Rule: a peer runs in its own environment and imports nothing of ours; it gets the settings that its own docs advise,
and `note` says which and where. All speak V2 JSON, V2 binary tensors or V2 gRPC for the models of `loadtests.models`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Protocol = Literal["json", "binary", "grpc"]

FOLDER = Path(__file__).parent

SERVER = (
    "{python}", "{folder}/server.py", "--models", "{models}", "--http-port", "{http_port}",
    "--grpc-port", "{grpc_port}", "--threads", "{threads}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to be measured against, and how it is started."""

    name: str
    """As the table shows it."""
    folder: str
    """The name of its folder beside this file, with `requirements.txt` (pins) and `server.py`."""
    speaks: tuple[Protocol, ...]
    models: tuple[str, ...] = ("reference", "tree", "mlp", "cnn")
    command: tuple[str, ...] = SERVER
    """`{python}` is that of its environment, `{folder}` its own, `{models}` the one of the ONNX files,
    `{threads}` what ONNX Runtime may use inside an operator, `{metrics_port}` one port more."""
    infer_path: str = "/v2/models/{model}/infer"
    """Of JSON and binary."""
    ready_path: str = "/v2/health/ready"
    """Answers 200 when every model serves."""
    env: tuple[tuple[str, str], ...] = ()
    metrics_path: str = "/metrics"
    """On the HTTP port, or on `{metrics_port}` when the command names that."""
    failures: str = ""
    """A pattern that the metrics' lines of failed requests begin with; they must stay at zero. Empty: it has none."""
    note: str = ""
    """Settings, the docs that advise them, and processes beyond the serving one; shown with the saved result."""

    @property
    def home(self) -> Path:
        """Where its files are."""
        return FOLDER / self.folder

    def line(
        self, *, python: Path, models: Path, http_port: int, grpc_port: int, metrics_port: int, threads: int
    ) -> list[str]:
        """The command that starts it."""
        facts = {"python": python, "folder": self.home, "models": models, "http_port": http_port,
                 "grpc_port": grpc_port, "metrics_port": metrics_port, "threads": threads}  # fmt: skip
        return [part.format_map(facts) for part in self.command]


def found() -> tuple[Peer, ...]:
    """Every peer that has a folder here, in the order of their folders' names."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]) if module.ispkg)
    return tuple(importlib.import_module(f"{__name__}.{name}").PEER for name in names)
