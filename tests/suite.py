"""The product as its users run it: real processes started through the command line, on free ports.

    with Suite(tmp_path) as suite:
        httpx.get(f"{suite.http}/v2/health/ready")

Rule: leaves nothing behind. Leaving the block sends SIGTERM and insists on exit status 0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0


@dataclass(slots=True)
class Started:
    """One `vedette serve` and what it said of itself."""

    service: str
    process: subprocess.Popen[bytes]
    log: Path
    run_file: Path

    def wait_ready(self, deadline: float) -> None:
        """Return when the run file is this process's; fail with the log when it ends or time is over."""
        while self._pid() != self.process.pid:
            status = self.process.poll()
            if status is not None or time.monotonic() > deadline:
                what = "is not ready in time" if status is None else f"ended with {status}"
                raise AssertionError(f"{self.service} {what}:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)  # the only sign a process can give us is its file

    def facts(self) -> dict[str, Any]:
        """The run file."""
        return dict(json.loads(self.run_file.read_text()))

    def _pid(self) -> int:
        try:
            return int(self.facts()["pid"])
        except (OSError, ValueError):
            return 0


class Suite:
    """Services in processes of their own, `registry` first, each told where the registry is."""

    def __init__(
        self,
        data_dir: Path,
        services: Sequence[str] = ("registry", "inference"),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "vedette", "serve"),
    ) -> None:
        self.data_dir = Path(data_dir)
        self._services = tuple(services)
        self._env = dict(env or {})
        self._command = tuple(command)
        self._started: dict[str, Started] = {}

    def __enter__(self) -> Suite:
        try:
            for service in self._services:
                self.start(service)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for service in reversed(self._services):
                status = self.stop(service)
                if kind is None:
                    assert status == 0, f"{service} ended with {status}:\n{self.logs(service)[-4000:]}"
        finally:
            self._kill()

    def start(self, service: str) -> None:
        """Start a service and wait until it is ready. Also starts one again that was stopped or killed."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log = self.data_dir / f"{service}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [*self._command, service], env=self._environment(service), stdout=stream, stderr=stream,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        started = Started(service, process, log, self.data_dir / "run" / f"{service}.json")
        self._started[service] = started
        started.wait_ready(time.monotonic() + START_TIMEOUT_S)

    def stop(self, service: str) -> int:
        """SIGTERM, wait, return the exit status (also of one that has ended already)."""
        process = self._started[service].process
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{service} does not stop:\n{self.logs(service)[-4000:]}") from None

    def process(self, service: str) -> subprocess.Popen[bytes]:
        """The supervisor process of a service."""
        return self._started[service].process

    def workers(self, service: str) -> list[int]:
        """Process ids of a service's live workers."""
        return list(self._started[service].facts()["workers"])

    def logs(self, service: str) -> str:
        """Everything the service has written so far."""
        return self._started[service].log.read_text(errors="replace")

    def url(self, service: str) -> str:
        """Base URL of a service, without a slash at the end."""
        return str(self._started[service].facts()["http"])

    def address(self, service: str) -> str:
        """gRPC `host:port` of a service."""
        return str(self._started[service].facts()["grpc"])

    @property
    def http(self) -> str:
        """Base URL of inference."""
        return self.url("inference")

    @property
    def grpc(self) -> str:
        """gRPC address of inference."""
        return self.address("inference")

    @property
    def registry_http(self) -> str:
        """Base URL of the registry."""
        return self.url("registry")

    @property
    def registry_grpc(self) -> str:
        """gRPC address of the registry."""
        return self.address("registry")

    @property
    def monitor_http(self) -> str:
        """Base URL of the monitor."""
        return self.url("monitor")

    @property
    def monitor_grpc(self) -> str:
        """gRPC address of the monitor."""
        return self.address("monitor")

    def _environment(self, service: str) -> dict[str, str]:
        """The caller's environment without its vedette settings, then free ports, then what the test asks for."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("VEDETTE_")}
        prefix = f"VEDETTE_{service.upper()}__"
        environ[f"{prefix}PORT"] = environ[f"{prefix}GRPC_PORT"] = "0"
        environ[f"{prefix}DATA_DIR"] = str(self.data_dir)
        if service in ("inference", "monitor") and "registry" in self._started:
            environ[f"{prefix}REGISTRY_ADDRESS"] = self.registry_grpc
        return environ | {key: value for key, value in self._env.items() if _concerns(key, service)}

    def _kill(self) -> None:
        for started in self._started.values():
            if started.process.poll() is None:
                started.process.kill()
                started.process.wait()


def _concerns(key: str, service: str) -> bool:
    return not key.startswith("VEDETTE_") or "__" not in key or key.startswith(f"VEDETTE_{service.upper()}__")
