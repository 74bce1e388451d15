"""The throw-away process of an admission: `python -P -m vedette.engine.admission_child FD FOLDER MEMORY CPU`.

Rule: limits come before the first byte of the model is read, each step is announced before it begins, and
nothing is written but lines of JSON on descriptor FD. Started only by `vedette.engine.admission`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import onnx
import onnx.checker

from vedette.core.errors import InvalidArgument, VedetteError
from vedette.core.models import GRAPH_FILE, ArtifactFile, SessionOptions, TensorSpec
from vedette.engine import files, graph, memory, warmup
from vedette.engine.failures import is_out_of_memory, plain
from vedette.engine.session import Session

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_STANDARD_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
_MOST_GRAPH_BYTES = (1 << 31) - 1
"""Protobuf's own limit on a message."""
_OPTIONS = SessionOptions(intra_op_threads=1)
"""One thread: figures of different models compare, and thread stacks do not count against the budget."""

Say = Callable[[dict[str, Any]], None]


def main(arguments: list[str]) -> int:
    """Admit the model in FOLDER; 0 when a verdict was reported, whichever it is."""
    descriptor, folder, memory_bytes, cpu_s = (
        int(arguments[0]),
        Path(arguments[1]),
        int(arguments[2]),
        int(arguments[3]),
    )
    step = "files"

    def say(message: dict[str, Any]) -> None:
        nonlocal step
        step = message.get("step", step)
        _write(descriptor, message)

    _confine(memory_bytes, cpu_s)
    try:
        say({"admitted": _admit(folder, say)})
    except Exception as error:  # noqa: BLE001 -- every failure is a verdict; what kills us the parent sees
        why = _why(error, memory_bytes)
        say({"refused": step, "why": why})
    return 0


def _confine(memory_bytes: int, cpu_s: int) -> None:
    """Die with the parent, gain no rights, and use no more than was granted. The libraries are loaded already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with contextlib.suppress(OSError):  # a sandbox may not show it
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out all the same, let it be us
    used_s = math.ceil(time.process_time())
    limits = {
        resource.RLIMIT_AS: (memory.virtual_bytes() + memory_bytes,) * 2,
        resource.RLIMIT_CPU: (
            used_s + cpu_s,
            used_s + cpu_s + 1,
        ),  # SIGXCPU first, which names the reason; then SIGKILL
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
    }
    for kind, (soft, hard) in limits.items():
        ceiling = resource.getrlimit(kind)[1]
        fit = [value if ceiling == resource.RLIM_INFINITY else min(value, ceiling) for value in (soft, hard)]
        resource.setrlimit(kind, (fit[0], fit[1]))


def _admit(folder: Path, say: Say) -> dict[str, Any]:
    say({"step": "files"})
    described = files.describe(folder)
    say({"step": "check"})
    _check(folder / GRAPH_FILE, described)
    say({"step": "load"})
    before = memory.resident_bytes()
    session = Session.load(folder / GRAPH_FILE, _OPTIONS)
    say({"step": "canary"})
    outputs = _outputs_as_run(session)
    run_time_s = warmup.measure(session, 1)
    return {
        "inputs": [astuple(spec) for spec in session.inputs],
        "outputs": [astuple(spec) for spec in outputs],
        "files": [astuple(file) for file in described],
        "run_time_us": run_time_s * 1e6,
        "load_time_ms": session.load_time_ms,
        "memory_bytes": max(0, memory.resident_bytes() - before),
    }


def _check(path: Path, described: tuple[ArtifactFile, ...]) -> None:
    """Read the graph, then let onnx's checker read it; the type check only where all operators are onnx's own.

    The checker's strict type inference knows nothing of other domains and would refuse what runs. It never
    propagates data, which is how a small graph makes shape inference allocate.
    """
    sizes = {file.path: file.size for file in described}
    if sizes[GRAPH_FILE] > _MOST_GRAPH_BYTES:
        raise InvalidArgument("the graph is over 2 GiB; keep its weights as external data")
    model = graph.parse(path.read_bytes())
    graph.check_model(model, sizes)
    standard = not model.functions and {opset.domain for opset in model.opset_import} <= _STANDARD_DOMAINS
    del model  # the checker and ONNX Runtime parse the file for themselves
    try:
        onnx.checker.check_model(str(path), full_check=standard)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InvalidArgument(plain(str(error).replace(str(path.parent), ""))) from None


def _outputs_as_run(session: Session) -> tuple[TensorSpec, ...]:
    """The outputs with shapes that hold: -1 wherever a run of one row or of two shows another size than declared.

    Graphs lie about their outputs: onnxmltools' LightGBM converter declares one label whatever the batch.
    """
    runs = [session.run(warmup.zero_feeds(session.inputs), ())]
    try:
        runs.append(session.run(warmup.zero_feeds(session.inputs, rows=2), ()))
    except VedetteError:
        pass  # a graph may take one row only and not say so; callers get its own error then
    shapes = [[run[index].array.shape for run in runs] for index in range(len(session.outputs))]
    return tuple(
        TensorSpec(spec.name, spec.datatype, _shape_that_holds(spec.shape, seen))
        for spec, seen in zip(session.outputs, shapes)
    )


def _shape_that_holds(declared: tuple[int, ...], seen: list[tuple[int, ...]]) -> tuple[int, ...]:
    if any(len(shape) != len(declared) for shape in seen):
        return (-1,) * len(seen[0])
    return tuple(dim if all(shape[axis] == dim for shape in seen) else -1 for axis, dim in enumerate(declared))


def _why(error: Exception, memory_bytes: int) -> str:
    if is_out_of_memory(error) or "more memory than there is" in str(error):
        return f"needed more than {memory_bytes >> 20} MiB"
    if isinstance(error, InvalidArgument):
        return error.message
    return plain(str(error)) or type(error).__name__


def _write(descriptor: int, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
