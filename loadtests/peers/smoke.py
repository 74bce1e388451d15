"""Proof that a peer works as the benchmark needs it: `python -m loadtests.peers.smoke [FOLDER ...]`, all without names.

Each is started in its environment, asked once for every model in every protocol it speaks, and stopped by SIGTERM.
Rule: an answer that is wrong, a process, a file in /dev/shm or one in the temporary folder that stays behind fails it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from loadtests import models, peers
from loadtests.environments import NotInstalled, python_of
from loadtests.targets import free_port
from vedette.proto.inference.v1 import inference_pb2 as pb

READY_TIMEOUT_S, STOP_TIMEOUT_S, SETTLE_S = 120, 30, 3
MARK = "BENCH_SMOKE"


class Broken(Exception):
    """What a peer did wrong, in one line."""


def ask_json(url: str, name: str) -> NDArray[np.float32]:
    """One V2 JSON request for `row(name)`; the output."""
    x = models.row(name)
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape, "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"content-type": "application/json"})) as response:
        (output,) = json.load(response)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def ask_binary(url: str, name: str) -> NDArray[np.float32]:
    """The same with V2 binary tensors both ways."""
    x = models.row(name)
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape, "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    with urllib.request.urlopen(urllib.request.Request(url, head + x.tobytes(), headers)) as response:
        body = response.read()
        end = int(response.headers["inference-header-content-length"])
    (output,) = json.loads(body[:end])["outputs"]
    return np.frombuffer(body[end:], np.float32).reshape(output["shape"])


def ask_grpc(port: int, name: str) -> NDArray[np.float32]:
    """The same as a gRPC ModelInfer with raw contents."""
    x = models.row(name)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
    request = pb.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[x.tobytes()])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = call(request, timeout=30)
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(answer.outputs[0].shape)


def check_answers(peer: peers.Peer, http_port: int, grpc_port: int) -> None:
    """Every model in every protocol, twice: a first answer may come from elsewhere than the second."""
    for name in peer.models * 2:
        url = f"http://127.0.0.1:{http_port}{peer.infer_path.format(model=name)}"
        asked = {"json": lambda: ask_json(url, name), "binary": lambda: ask_binary(url, name)}  # noqa: B023
        for protocol in peer.speaks:
            answer = asked[protocol]() if protocol != "grpc" else ask_grpc(grpc_port, name)
            if not np.allclose(answer, models.expected(name), rtol=1e-4):
                raise Broken(f"{name} over {protocol}: {answer}")


def wait_ready(peer: peers.Peer, port: int, running: subprocess.Popen[bytes]) -> float:
    """Seconds until `ready_path` answers 200."""
    began = time.monotonic()
    while time.monotonic() < began + READY_TIMEOUT_S:
        if running.poll() is not None:
            raise Broken(f"ended with {running.returncode}")
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{peer.ready_path}", timeout=5):
            return time.monotonic() - began
        time.sleep(0.05)
    raise Broken(f"not ready after {READY_TIMEOUT_S} s")


def processes(mark: str) -> Iterator[Path]:
    """The folders in /proc of all processes that were started with our mark, whoever is their parent now."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield folder


def shared_memory(mark: str) -> set[str]:
    """The files of /dev/shm that they have mapped."""
    found: set[str] = set()
    for folder in processes(mark):
        with suppress(OSError):
            found.update(re.findall(r"/dev/shm/\S+", (folder / "maps").read_text()))
    return found


def left_over(mark: str, shared: set[str], temporary: Path) -> list[str]:
    """What is still there of a peer that was stopped: processes, shared memory, files."""
    left = [(folder / "cmdline").read_bytes().replace(b"\0", b" ").decode() for folder in processes(mark)]
    left += [path for path in shared if Path(path).exists()]
    return left + [str(path) for path in temporary.rglob("*")]


def check_gone(mark: str, shared: set[str], temporary: Path) -> None:
    """Nothing stays; children that only wait for their parent's end have a moment for it."""
    until = time.monotonic() + SETTLE_S
    while left := left_over(mark, shared, temporary):
        if time.monotonic() > until:
            raise Broken(f"stayed behind: {', '.join(left)}")
        time.sleep(0.05)


def smoke(peer: peers.Peer, folder: Path, temporary: Path) -> str:
    """Start, ask, stop; what was seen, or Broken. The peer's temporary files go to `temporary`, which is empty."""
    mark = secrets.token_hex(8)
    http_port, grpc_port, metrics_port = free_port(), free_port(), free_port()
    command = peer.line(
        python=python_of(peer.home), models=folder, http_port=http_port,
        grpc_port=grpc_port, metrics_port=metrics_port, threads=1,
    )  # fmt: skip
    env = {**os.environ, **dict(peer.env), MARK: mark, "TMPDIR": str(temporary)}
    running = subprocess.Popen(command, env=env)
    try:
        took_s = wait_ready(peer, http_port, running)
        check_answers(peer, http_port, grpc_port)
        shared, count = shared_memory(mark), len(list(processes(mark)))
    finally:
        running.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        running.wait(timeout=STOP_TIMEOUT_S)
    stop_s = time.monotonic() - stopped
    check_gone(mark, shared, temporary)
    return f"ready in {took_s:.1f} s, {count} processes, stopped in {stop_s:.1f} s"


def main() -> int:
    """A line a peer; 1 when one of them is broken."""
    wanted, status = sys.argv[1:], 0
    with tempfile.TemporaryDirectory(prefix="smoke-models-") as folder:
        models.write(Path(folder))
        for peer in (peer for peer in peers.found() if not wanted or peer.folder in wanted):
            try:
                with tempfile.TemporaryDirectory(prefix="smoke-") as temporary:
                    print(f"{peer.name}: {smoke(peer, Path(folder), Path(temporary))}", flush=True)
            except (Broken, NotInstalled, OSError, grpc.RpcError, subprocess.TimeoutExpired) as error:
                print(f"{peer.name}: BROKEN: {error}", flush=True)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
