"""The servers that a load test compares, each started on the same CPUs with one process for the data plane."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests import reference_model

START_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Target:
    """A running server with the reference model behind `/v2/models/reference/infer`."""

    name: str
    http_port: int = 0
    grpc_port: int = 0
    pid: int = 0
    registry_port: int = 0
    registry_grpc_port: int = 0
    data_dir: Path = Path()


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(START_TIMEOUT_S * 20):
        if process.poll() is not None:
            raise SystemExit(f"the server on port {port} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port} after {START_TIMEOUT_S} s")


@contextmanager
def process(
    command: list[str], *, cpu: list[str], env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command pinned to `cpu` and end it, with what it started, at the end of the block."""
    running = subprocess.Popen([*cpu, *command], env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=60)


@contextmanager
def plain_fastapi(cpu: list[str]) -> Iterator[Target]:
    """FastAPI + pydantic + ONNX Runtime on uvicorn."""
    port = free_port()
    with process([sys.executable, "-m", "loadtests.plain_fastapi", str(port)], cpu=cpu) as running:
        _wait_for_port(port, running)
        yield Target("FastAPI + pydantic + ORT", http_port=port, pid=running.pid)


@contextmanager
def plain_grpc(cpu: list[str]) -> Iterator[Target]:
    """A bare grpcio aio servicer."""
    port = free_port()
    with process([sys.executable, "-m", "loadtests.plain_grpc", str(port)], cpu=cpu) as running:
        _wait_for_port(port, running)
        yield Target("bare grpcio aio", grpc_port=port, pid=running.pid)


@contextmanager
def vedette(cpu: list[str]) -> Iterator[Target]:
    """Our registry and inference service with the reference model deployed, metrics on, one worker."""
    with tempfile.TemporaryDirectory(prefix="vedette-load-") as data:
        ports = {name: str(free_port()) for name in ("registry", "registry_grpc", "http", "grpc")}
        env = {
            "VEDETTE_REGISTRY__PORT": ports["registry"],
            "VEDETTE_REGISTRY__GRPC_PORT": ports["registry_grpc"],
            "VEDETTE_REGISTRY__DATA_DIR": data,
            "VEDETTE_INFERENCE__PORT": ports["http"],
            "VEDETTE_INFERENCE__GRPC_PORT": ports["grpc"],
            "VEDETTE_INFERENCE__DATA_DIR": data,
            "VEDETTE_INFERENCE__REGISTRY_ADDRESS": f"127.0.0.1:{ports['registry_grpc']}",
            "VEDETTE_INFERENCE__LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "vedette", "serve"]
        with process([*command, "registry"], cpu=[], env=env) as registry:
            _wait_for_port(int(ports["registry"]), registry)
            with process([*command, "inference"], cpu=cpu, env=env) as inference:
                _wait_for_port(int(ports["http"]), inference)
                _deploy(f"http://127.0.0.1:{ports['registry']}", f"http://127.0.0.1:{ports['http']}")
                yield Target(
                    "vedette",
                    int(ports["http"]),
                    int(ports["grpc"]),
                    inference.pid,
                    int(ports["registry"]),
                    int(ports["registry_grpc"]),
                    Path(data),
                )


@contextmanager
def monitor(target: Target, cpu: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Our monitor beside a running suite, on its own CPUs; the process and its HTTP port."""
    http, grpc = free_port(), free_port()
    env = {
        "VEDETTE_MONITOR__PORT": str(http),
        "VEDETTE_MONITOR__GRPC_PORT": str(grpc),
        "VEDETTE_MONITOR__DATA_DIR": str(target.data_dir),
        "VEDETTE_MONITOR__REGISTRY_ADDRESS": f"127.0.0.1:{target.registry_grpc_port}",
        "VEDETTE_MONITOR__LOG_LEVEL": "WARNING",
    }
    with process([sys.executable, "-m", "vedette", "serve", "monitor"], cpu=cpu, env=env) as running:
        _wait_for_port(http, running)
        yield running, http


def _deploy(registry: str, inference: str) -> None:
    call("POST", f"{registry}/v1/models/reference/versions", reference_model.build(), "application/octet-stream")
    call("POST", f"{registry}/v1/endpoints", b'{"name": "reference"}', "application/json")
    wait_ready(inference, "reference")


def wait_ready(inference: str, endpoint: str) -> None:
    """Return when the endpoint answers."""
    for _ in range(START_TIMEOUT_S * 20):
        try:
            call("GET", f"{inference}/v2/models/{endpoint}/ready")
            return
        except urllib.error.HTTPError:
            time.sleep(0.05)
    raise SystemExit(f"{endpoint} is not in service")


def call(method: str, url: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
    """One HTTP call; the JSON of the answer, or None for an empty one."""
    request = urllib.request.Request(url, body, {"content-type": content_type}, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text.startswith((b"{", b"[")) else None


def errors_counted(target: Target) -> float:
    """Requests that the target itself counted as not OK (0 for a server without such a counter)."""
    if target.name != "vedette":
        return 0.0
    with urllib.request.urlopen(f"http://127.0.0.1:{target.http_port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    counted = [line for line in lines if line.startswith("vedette_requests_total{")]
    if not counted:
        raise SystemExit("vedette counted no request at all: the metrics are not on")
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted if 'code="OK"' not in line)
