"""The throw-away process that makes a pack: `python -P -m vedette.engine.packing_child GRAPH TARGET LEVEL`.

Rule: it writes into TARGET alone, and ends with 0 only for a pack whose signature and answers are the original's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from vedette.core.errors import VedetteError
from vedette.core.models import SessionOptions
from vedette.core.tensors import Tensor
from vedette.engine.failures import plain
from vedette.engine.packing import PACKED_GRAPH, PACKED_WEIGHTS
from vedette.engine.providers import ort_options
from vedette.engine.session import Session
from vedette.engine.warmup import zero_feeds

_PR_SET_PDEATHSIG = 1
_LEAST_MAPPED_BYTES = "1024"
"""Smaller weights stay in the graph: a mapping takes a page at least."""
_PROBED_ROWS = (1, 16)
"""Kernels for one row are others than those for many."""
_SAVE = {
    "session.optimized_model_external_initializers_file_name": PACKED_WEIGHTS,
    "session.optimized_model_external_initializers_min_size_in_bytes": _LEAST_MAPPED_BYTES,
    "session.save_external_prepacked_constant_initializers": "1",
}


def main(arguments: list[str]) -> int:
    """Pack; 0 when the pack is good."""
    graph, target = Path(arguments[0]), Path(arguments[1])
    options = SessionOptions(intra_op_threads=1, graph_optimization=arguments[2])  # type: ignore[arg-type]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, let it be us and no worker
    try:
        _save(graph, target / PACKED_GRAPH, options)
        why = _difference(Session.load(graph, options), Session.load(target / PACKED_GRAPH, options))
    except Exception as error:  # noqa: BLE001 - whatever fails here leaves the original to be served
        why = error.message if isinstance(error, VedetteError) else plain(str(error)) or type(error).__name__
    if why:
        sys.stdout.write(f"{why}\n")
        return 1
    for path in target.iterdir():
        _settle(path)
    return 0


def _save(graph: Path, packed: Path, options: SessionOptions) -> None:
    made = ort_options(options, threads=1)
    made.optimized_model_filepath = str(packed)
    for key, value in _SAVE.items():
        made.add_session_config_entry(key, value)
    ort.InferenceSession(str(graph), made, providers=list(options.providers), enable_fallback=0)


def _difference(original: Session, packed: Session) -> str:
    """What the pack does otherwise than the original; empty: nothing."""
    if (original.inputs, original.outputs) != (packed.inputs, packed.outputs):
        return "the packed graph has another signature"
    for feeds in _probes(original):
        if _answer(original, feeds) != _answer(packed, feeds):
            return "the packed graph answers otherwise"
    return ""


def _probes(session: Session) -> Iterator[dict[str, Tensor]]:
    random = np.random.default_rng(0)
    for rows in _PROBED_ROWS:
        zeros = zero_feeds(session.inputs, rows=rows)
        yield zeros
        yield {name: _drawn(tensor, random) for name, tensor in zeros.items()}


def _drawn(tensor: Tensor, random: np.random.Generator) -> Tensor:
    if tensor.datatype not in ("FP16", "FP32", "FP64"):
        return tensor  # whole numbers are mostly indices: drawn ones would be beyond the table
    return Tensor(tensor.name, tensor.datatype, random.normal(size=tensor.array.shape).astype(tensor.array.dtype))


def _answer(session: Session, feeds: dict[str, Tensor]) -> list[Any]:
    """Comparable to the bit, also NaN; an error is an answer, too: the pack must fail where the original does."""
    try:
        given = session.run(feeds, ())
    except VedetteError as error:
        return [error.code]
    arrays = [tensor.array for tensor in given]
    return [(array.shape, array.tolist() if array.dtype == object else array.tobytes()) for array in arrays]


def _settle(path: Path) -> None:
    """On the disk, and read-only: a mapped file that is written to changes under every process that serves it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.fchmod(descriptor, 0o444)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
