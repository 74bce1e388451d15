"""Measure vedette against plain servers, in turn, on the same CPU, and print one table.

`python -m loadtests.run [--seconds 5] [--rounds 3] [--save]`. Answers are checked before and after every
run and error counters must be zero; a run with a wrong answer stops the whole test.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import psutil
from rich.console import Console
from rich.table import Table

from loadtests import generators, reference_model, targets
from loadtests.generators import BrokenRun, Figures
from loadtests.targets import Target
from vedette.proto.inference.v1 import inference_pb2 as pb

RESULTS = Path(__file__).parent / "results"
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
ServerOf = Callable[[list[str]], AbstractContextManager[Target]]


def pin(cpu: int) -> list[str]:
    """The command prefix that ties a process to one CPU; nothing on a machine with a single one."""
    cpus = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cpus[cpu % len(cpus)])] if len(cpus) > 1 else []


def expected() -> np.ndarray:
    """The reference model's answer to the row that is sent, from ONNX Runtime itself."""
    session = onnxruntime.InferenceSession(reference_model.build(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": reference_model.row()})[0])


def json_request() -> bytes:
    """The V2 request for one row, as a client writes it."""
    data = [float(f"{value:.4f}") for value in reference_model.row().ravel()]
    tensor = {"name": "x", "shape": [1, reference_model.FEATURES], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def grpc_request() -> pb.ModelInferRequest:
    """The same row with raw contents."""
    spec = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, reference_model.FEATURES])
    return pb.ModelInferRequest(
        model_name="reference", inputs=[spec], raw_input_contents=[reference_model.row().tobytes()]
    )


def check_http(target: Target, truth: np.ndarray) -> None:
    """One request whose answer must be the model's."""
    url = f"http://127.0.0.1:{target.http_port}/v2/models/reference/infer"
    (output,) = targets.call("POST", url, json_request())["outputs"]
    _check(np.array(output["data"], np.float32).reshape(output["shape"]), truth)


def ask_grpc(target: Target, truth: np.ndarray) -> bytes:
    """One call whose answer must be the model's; the response message as bytes."""
    with grpc.insecure_channel(f"127.0.0.1:{target.grpc_port}") as channel:
        answer: bytes = channel.unary_unary(GRPC_PATH)(grpc_request().SerializeToString(), timeout=10)
    response = pb.ModelInferResponse.FromString(answer)
    _check(np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape), truth)
    return answer


def _check(answer: np.ndarray, truth: np.ndarray) -> None:
    if answer.shape != truth.shape or not np.allclose(answer, truth, rtol=0, atol=1e-6):
        raise BrokenRun(f"a wrong answer: {answer} instead of {truth}")


def http_run(target: Target, connections: int, seconds: int, truth: np.ndarray) -> Figures:
    """Load the target with V2 JSON, one row a request."""
    url = f"http://127.0.0.1:{target.http_port}/v2/models/reference/infer"
    headers = {"content-type": "application/json"}
    load = partial(generators.wrk, url, json_request(), headers=headers, connections=connections, cpu=pin(0))
    return _measured(target, load, partial(check_http, target, truth), seconds)


def grpc_run(target: Target, streams: int, seconds: int, truth: np.ndarray) -> Figures:
    """Load the target with ModelInfer, raw contents, one row a call."""
    answer = ask_grpc(target, truth)
    load = partial(
        generators.h2load, target.grpc_port, GRPC_PATH, grpc_request().SerializeToString(),
        answer=answer, streams=streams, cpu=pin(0),
    )  # fmt: skip
    return _measured(target, load, lambda: ask_grpc(target, truth), seconds)


def _measured(target: Target, load: Callable[..., Figures], check: Callable[[], object], seconds: int) -> Figures:
    check()
    load(seconds=1)
    figures = load(seconds=seconds)
    check()
    if wrong := targets.errors_counted(target):
        raise BrokenRun(f"{target.name} counted {wrong:.0f} failed requests")
    return figures


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server and the protocol it is loaded over."""

    protocol: str
    start: ServerOf
    run: Callable[[Target, int, int, np.ndarray], Figures]


CONTESTANTS = (
    Contestant("HTTP, V2 JSON", targets.plain_fastapi, http_run),
    Contestant("HTTP, V2 JSON", targets.vedette, http_run),
    Contestant("gRPC, raw", targets.plain_grpc, grpc_run),
    Contestant("gRPC, raw", targets.vedette, grpc_run),
)
"""The first is what every ratio is taken to."""

IN_FLIGHT = (1, 32)
"""Connections over HTTP, calls in flight on one connection over gRPC."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: medians over the rounds, and the ratio to the first server round by round."""

    server: str
    protocol: str
    in_flight: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    ratio: float
    rss_mb: float


def measure(rounds: int, seconds: int) -> Iterator[Row]:
    """Run the contestants in turn, A B C D, A B C D, and yield the medians."""
    truth = expected()
    runs: dict[tuple[Contestant, int], list[Figures]] = {}
    names: dict[Contestant, str] = {}
    memory: dict[Contestant, float] = {}
    for _ in range(rounds):
        for contestant in CONTESTANTS:
            with contestant.start(pin(1)) as target:
                for in_flight in IN_FLIGHT:
                    figures = contestant.run(target, in_flight, seconds, truth)
                    runs.setdefault((contestant, in_flight), []).append(figures)
                names[contestant], memory[contestant] = target.name, _rss_mb(target.pid)
    for in_flight in IN_FLIGHT:
        first = runs[CONTESTANTS[0], in_flight]
        for contestant in CONTESTANTS:
            mine = runs[contestant, in_flight]
            ratios = [own.requests_per_s / other.requests_per_s for own, other in zip(mine, first, strict=True)]
            yield Row(
                names[contestant], contestant.protocol, in_flight,
                *(_median(mine, field) for field in ("requests_per_s", "p50_ms", "p99_ms")),
                ratio=statistics.median(ratios), rss_mb=memory[contestant],
            )  # fmt: skip


def _median(runs: list[Figures], field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


def _rss_mb(pid: int) -> float:
    """Resident memory of a process and what it started: the supervisor counts, too."""
    root = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 2**20


def machine() -> dict[str, object]:
    """The facts of this machine that a reader of the figures needs."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    packages = ("granian", "grpcio", "onnxruntime", "fastapi", "uvicorn", "numpy", "msgspec")
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release().split("-")[0],
        **{name: version(name) for name in packages},
    }


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    drawn = Table(title="30-64-2 network, one row a request, one CPU", title_justify="left")
    for column in ("server", "protocol", "in flight", "requests/s", "p50 ms", "p99 ms", "ratio", "RSS MB"):
        drawn.add_column(column, justify="left" if column in ("server", "protocol") else "right")
    for row in rows:
        drawn.add_row(
            row.server, row.protocol, str(row.in_flight), f"{row.requests_per_s:,.0f}", f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}", f"{row.ratio:.2f}x", f"{row.rss_mb:.0f}",
        )  # fmt: skip
    return drawn


def save(name: str, rows: list[Row]) -> None:
    """Keep the figures with the facts of the machine in loadtests/results/NAME.json."""
    document = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    text = json.dumps({**document, "rows": [asdict(row) for row in rows]}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def main() -> None:
    """Measure, print, and with --save keep the figures in loadtests/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="each server is started this often, in turn")
    parser.add_argument("--save", metavar="NAME", help="write loadtests/results/NAME.json")
    arguments = parser.parse_args()
    generators.require("wrk", "h2load", "taskset")
    console = Console(width=None if sys.stdout.isatty() else 110)
    with console.status(f"measuring, {arguments.rounds} rounds"):
        rows = list(measure(arguments.rounds, arguments.seconds))
    console.print(table(rows))
    if arguments.save:
        save(arguments.save, rows)


if __name__ == "__main__":
    main()
