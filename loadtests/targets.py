"""The servers that a load test compares, each started on the same CPUs with one process for the data plane.

Rule: what is started here is ended here, with everything it started itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from loadtests import models, reference_model
from loadtests.environments import BENCH
from loadtests.peers import Peer

START_TIMEOUT_S = 60
PEER_TIMEOUT_S = 150
"""Ray Serve needs half a minute on a small machine."""
STOP_TIMEOUT_S = 20
OUR_FAILURES = r'vedette_requests_total\{(?!.*code="(OK|cancelled)")'
"""Without cancelled ones: a generator hangs up on what is in flight when its time is over."""
CAPTURED = {"capture": {"sampling_percent": 100.0}}
"""Of an endpoint's configuration: everything is recorded."""


class NotStarted(Exception):
    """A server that does not come up; the message is one line."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running server with models behind `infer_path`."""

    name: str
    http_port: int = 0
    grpc_port: int = 0
    pid: int = 0
    registry_port: int = 0
    registry_grpc_port: int = 0
    data_dir: Path = Path()
    infer_path: str = "/v2/models/{model}/infer"
    metrics: str = ""
    """URL of its metrics; empty: it has none."""
    failures: str = ""
    """Matches the beginning of the metrics' lines that count failed requests."""
    served: str = ""
    """What a line begins with that must be among the metrics once a request was answered."""

    def infer_url(self, model: str) -> str:
        """Where the model answers over HTTP."""
        return f"http://127.0.0.1:{self.http_port}{self.infer_path.format(model=model)}"


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    for _ in range(START_TIMEOUT_S * 20):
        if process.poll() is not None:
            said = "" if log is None else f": {_last_words(log)}"
            raise NotStarted(f"the server on port {port} ended with {process.returncode}{said}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NotStarted(f"nothing listens on port {port} after {START_TIMEOUT_S} s")


@contextmanager
def process(
    command: list[str], *, cpu: list[str], env: Mapping[str, str] | None = None, log: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command pinned to `cpu` and end it, with what it started, at the end of the block."""
    errors = None if log is None else subprocess.STDOUT
    running = subprocess.Popen(
        [*cpu, *command], env={**os.environ, **(env or {})}, stdout=log or subprocess.DEVNULL, stderr=errors
    )
    try:
        yield running
    finally:
        _end(running)


def _end(running: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, and SIGKILL for whatever the process or one of its children leaves behind."""
    try:
        family = psutil.Process(running.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    running.send_signal(signal.SIGTERM)
    try:
        running.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    _, left = psutil.wait_procs(family, timeout=2)
    for child in left:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)


@contextmanager
def plain_grpc(cpu: list[str]) -> Iterator[Target]:
    """A bare grpcio aio servicer."""
    port = free_port()
    with process([sys.executable, "-m", "loadtests.plain_grpc", str(port)], cpu=cpu) as running:
        _wait_for_port(port, running)
        yield Target("bare grpcio aio", grpc_port=port, pid=running.pid)


@contextmanager
def peer(facts: Peer, python: Path, folder: Path, *, cpu: list[str], threads: int = 1) -> Iterator[Target]:
    """A peer in its own environment with the models of `folder`; ready when it says so."""
    http, grpc, metrics = free_port(), free_port(), free_port()
    line = facts.line(
        python=python, models=folder, http_port=http, grpc_port=grpc, metrics_port=metrics, threads=threads
    )
    path = _log(facts.folder)
    with path.open("wb") as log, process(line, cpu=cpu, env=dict(facts.env), log=log) as running:
        try:
            _wait_ready(f"http://127.0.0.1:{http}{facts.ready_path}", running)
        except NotStarted as error:
            raise NotStarted(f"{error}: {_last_words(path)}") from None
        port = metrics if "{metrics_port}" in facts.command else http
        yield Target(
            facts.name, http, grpc, running.pid, infer_path=facts.infer_path,
            metrics=f"http://127.0.0.1:{port}{facts.metrics_path}", failures=facts.failures,
        )  # fmt: skip


def _wait_ready(url: str, running: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PEER_TIMEOUT_S
    while time.monotonic() < end:
        if running.poll() is not None:
            raise NotStarted(f"it ended with {running.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:
            pass  # not yet: HTTPError and a refused connection are both OSError
        time.sleep(0.1)
    raise NotStarted(f"not ready after {PEER_TIMEOUT_S} s")


def _log(name: str) -> Path:
    """Where a server's words of its last run are; nobody reads them unless it fails."""
    path = BENCH / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-160:] if lines else "it said nothing"


@contextmanager
def vedette(
    cpu: list[str],
    *,
    names: tuple[str, ...] = ("reference",),
    options: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Target]:
    """Our registry and inference service, metrics on, one worker, with an endpoint for each model.

    `options` go into the endpoints' configuration, `env` to the inference service.
    """
    path = _log("vedette")
    with tempfile.TemporaryDirectory(prefix="vedette-load-") as data, path.open("wb") as log:
        ports = {name: free_port() for name in ("registry", "registry_grpc", "http", "grpc")}
        settings = {**_settings(ports, data), **(env or {})}
        with process(_serve("registry"), cpu=[], env=settings, log=log) as registry:
            _wait_for_port(ports["registry"], registry, path)
            with process(_serve("inference"), cpu=cpu, env=settings, log=log) as inference:
                _wait_for_port(ports["http"], inference, path)
                for name in names:
                    deploy(f"http://127.0.0.1:{ports['registry']}", name, options or {})
                for name in names:
                    wait_ready(f"http://127.0.0.1:{ports['http']}", name)
                yield _ours(ports, inference.pid, Path(data))


@contextmanager
def inference(target: Target, cpu: list[str]) -> Iterator[int]:
    """One more inference service with an empty folder of its own at the registry of `target`; its HTTP port, at which
    nobody may listen yet."""
    with tempfile.TemporaryDirectory(prefix="vedette-load-") as data, _log("vedette-second").open("wb") as log:
        ports = {"registry": 0, "registry_grpc": target.registry_grpc_port, "http": free_port(), "grpc": free_port()}
        with process(_serve("inference"), cpu=cpu, env=_settings(ports, data), log=log):
            yield ports["http"]


def _serve(service: str) -> list[str]:
    return [sys.executable, "-m", "vedette", "serve", service]


def _settings(ports: Mapping[str, int], data: str) -> dict[str, str]:
    return {
        "VEDETTE_REGISTRY__PORT": str(ports["registry"]),
        "VEDETTE_REGISTRY__GRPC_PORT": str(ports["registry_grpc"]),
        "VEDETTE_REGISTRY__DATA_DIR": data,
        "VEDETTE_REGISTRY__LOG_LEVEL": "WARNING",
        "VEDETTE_INFERENCE__WORKERS": "1",
        "VEDETTE_INFERENCE__PORT": str(ports["http"]),
        "VEDETTE_INFERENCE__GRPC_PORT": str(ports["grpc"]),
        "VEDETTE_INFERENCE__DATA_DIR": data,
        "VEDETTE_INFERENCE__REGISTRY_ADDRESS": f"127.0.0.1:{ports['registry_grpc']}",
        "VEDETTE_INFERENCE__LOG_LEVEL": "WARNING",
    }


def _ours(ports: Mapping[str, int], pid: int, data: Path) -> Target:
    return Target(
        "vedette", ports["http"], ports["grpc"], pid, ports["registry"], ports["registry_grpc"], data,
        metrics=f"http://127.0.0.1:{ports['http']}/metrics", failures=OUR_FAILURES,
        served="vedette_requests_total{",
    )  # fmt: skip


def deploy(registry: str, name: str, options: Mapping[str, Any]) -> None:
    """Make a version of the model and an endpoint of its name."""
    content = reference_model.build() if name == "reference" else models.build(name)
    call("POST", f"{registry}/v1/models/{name}/versions", content, "application/octet-stream")
    config = {"model": name, "variants": [{"name": "primary", "version": 1}], **options}
    call("POST", f"{registry}/v1/endpoints", json.dumps({"name": name, "config": config}).encode())


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
    with _log("vedette-monitor").open("wb") as log, process(_serve("monitor"), cpu=cpu, env=env, log=log) as running:
        _wait_for_port(http, running)
        yield running, http


def wait_ready(url: str, endpoint: str, *, pause_s: float = 0.05) -> None:
    """Return when the endpoint of the service at `url` answers."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        try:
            call("GET", f"{url}/v2/models/{endpoint}/ready")
            return
        except OSError:
            time.sleep(pause_s)  # not there yet, or not ready: HTTPError is an OSError
    raise NotStarted(f"{endpoint} is not in service")


def call(method: str, url: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
    """One HTTP call; the JSON of the answer, or None for an empty one."""
    request = urllib.request.Request(url, body, {"content-type": content_type}, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text.startswith((b"{", b"[")) else None


def errors_counted(target: Target) -> float:
    """Requests that the target itself counted as failed (0 for a server without such a counter)."""
    if not target.failures:
        return 0.0
    with urllib.request.urlopen(target.metrics, timeout=30) as response:
        lines = response.read().decode().splitlines()
    if not any(line.startswith(target.served) for line in lines):
        raise NotStarted(f"{target.name} counted no request at all: the metrics are not on")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(target.failures, line))
