"""The process that runs a model: `python -P -m vedette.monitor.quality.predictor_child IN OUT FOLDER MEMORY CPU`.

Rule: limits come before the model is read; frames of tensors come in on descriptor IN and answers go out on OUT
until IN ends. Started only by `vedette.monitor.quality.predictor`.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vedette.core.errors import InvalidArgument, VedetteError
from vedette.core.models import GRAPH_FILE, SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine import memory
from vedette.engine.session import Session
from vedette.monitor.quality.tensor_frames import BrokenFrame, read_tensors, write_error, write_tensors

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MOST_ROWS = 4096
"""Rows of one run, where the model leaves their number open: what the runtime allocates stays bounded."""


def main(arguments: Sequence[str]) -> int:
    """Answer frames until there are no more; 0."""
    source, sink, folder, memory_bytes, cpu_s = arguments
    _confine(int(memory_bytes), int(cpu_s))
    with os.fdopen(int(source), "rb") as questions, os.fdopen(int(sink), "wb") as answers:
        try:
            session = Session.load(Path(folder) / GRAPH_FILE, SessionOptions(intra_op_threads=1))
        except VedetteError as error:
            write_error(answers, error)
            return 0
        try:
            while True:
                _answer(session, questions, answers)
        except (BrokenFrame, BrokenPipeError):  # the parent has closed its end
            return 0


def _answer(session: Session, questions: BinaryIO, answers: BinaryIO) -> None:
    try:
        given = read_tensors(questions)
        parts = [session.run({t.name: t for t in block}, ()) for block in _blocks(session, given)]
    except VedetteError as error:
        write_error(answers, error)
        return
    write_tensors(answers, [_joined(each) for each in zip(*parts)])


def _blocks(session: Session, tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The rows in blocks that the model takes: as many as it fixes, else up to 4,096."""
    fixed = {spec.shape[0] for spec in session.inputs if spec.shape and spec.shape[0] > 0}
    size = min(fixed) if fixed else _MOST_ROWS
    rows = len(tensors[0].array)
    if len(fixed) > 1 or (fixed and rows % size):
        raise InvalidArgument(f"the model takes {size} rows at a time, and there are {rows}")
    for start in range(0, rows, size):
        yield [Tensor(t.name, t.datatype, np.ascontiguousarray(t.array[start : start + size])) for t in tensors]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return Tensor(parts[0].name, parts[0].datatype, np.concatenate([part.array for part in parts]))


def _confine(memory_bytes: int, cpu_s: int) -> None:
    """Die with the parent, gain no rights, and use no more than was granted. The libraries are loaded already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    used_s = math.ceil(time.process_time())
    limits = {
        resource.RLIMIT_AS: memory.virtual_bytes() + memory_bytes,
        resource.RLIMIT_CPU: used_s + cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        ceiling = resource.getrlimit(kind)[1]
        fit = limit if ceiling == resource.RLIM_INFINITY else min(limit, ceiling)
        resource.setrlimit(kind, (fit, fit))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
