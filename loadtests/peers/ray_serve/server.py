"""Ray Serve, held together: Ray's cluster as children of this process, all that it keeps in one temporary folder.

Rule: stopped at any moment, nothing stays. Ray leaves agents to notice by themselves that their cluster is gone, and
a driver that gets SIGTERM while it starts aborts; so this process adopts them all and ends them before the folder goes.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def environment(folder: str) -> dict[str, str]:
    """HAProxy's files and ports are fixed by default, for one cluster a machine."""
    return {
        **os.environ,
        "TMPDIR": folder,
        "RAY_TMPDIR": folder,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": free_port(),
        "RAY_SERVE_HAPROXY_STATS_PORT": free_port(),
    }


def adopt_orphans() -> None:
    """Let a process whose parent is gone become our child."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise SystemExit("Ray Serve's processes cannot be adopted: prctl refused")


def end_children() -> None:
    """Kill every child and wait for it, until the last of their own children has become ours and ended."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(pid) for pid in children.read_text().split()]:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def stop(*_: object) -> None:
    raise SystemExit(0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", required=True)
    parser.add_argument("--http-port", required=True)
    parser.add_argument("--grpc-port")
    parser.add_argument("--threads", default="1")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    adopt_orphans()
    application = Path(__file__).with_name("application.py")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # sockets in it: HAProxy takes 97 letters
        command = [sys.executable, str(application), options.models, options.http_port, options.threads, folder]
        try:
            return subprocess.Popen(command, env=environment(folder)).wait()
        finally:
            end_children()


if __name__ == "__main__":
    sys.exit(main())
