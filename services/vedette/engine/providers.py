"""Execution providers and session options: what this build of ONNX Runtime has.

Rule: an option that would not take effect is refused; nothing is dropped in silence.
"""

from __future__ import annotations

from typing import get_args, get_type_hints

import onnxruntime as ort

from vedette.core.errors import InvalidArgument
from vedette.core.models import SessionOptions

_MOST_THREADS = 1024

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def available_providers() -> tuple[str, ...]:
    """Execution providers of the installed build, best first."""
    return tuple(ort.get_available_providers())


def check_options(options: SessionOptions) -> None:
    """Check that the installed build can do what `options` ask for.

    Raises:
        InvalidArgument: it names what is missing or contradictory.
    """
    check_settings(options)
    have = available_providers()
    missing = [name for name in options.providers if name not in have]
    if missing:
        named = ", ".join(name[:80] for name in missing)
        raise InvalidArgument(f"this installation of ONNX Runtime has no {named}; it has {', '.join(have)}")


def check_settings(options: SessionOptions) -> None:
    """Check `options` in themselves, whatever the installed build has: it may not be the one that runs them.

    Raises:
        InvalidArgument: it names the option.
    """
    if not options.providers:
        raise InvalidArgument("providers must name at least one execution provider")
    if len(set(options.providers)) != len(options.providers):
        raise InvalidArgument("providers names an execution provider twice")
    for name in ("intra_op_threads", "inter_op_threads"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_THREADS:
            raise InvalidArgument(f"{name} must be a whole number from 0 to {_MOST_THREADS}, not {value!r}")
    levels = get_args(get_type_hints(SessionOptions)["graph_optimization"])
    if options.graph_optimization not in levels:
        raise InvalidArgument(f"graph_optimization must be one of {', '.join(levels)}")


def thread_count(options: SessionOptions) -> int:
    """Threads that work on one run, the caller's among them; `options` say none as 0."""
    return max(1, options.intra_op_threads) + max(1, options.inter_op_threads) - 1


def ort_options(options: SessionOptions, *, threads: int) -> ort.SessionOptions:
    """ONNX Runtime's form of `options`; `threads` is used where they say 0.

    No thread spins: between two runs that waits on a core which the event loop or another model could use. Forty
    runs of 50 us, one every 5 ms on two threads, took 10 ms of processor time like this and 160 to 210 ms spinning.
    ONNX Runtime's global pool would bound the threads of all models together, but from Python it always spins.
    """
    made = ort.SessionOptions()
    made.intra_op_num_threads = options.intra_op_threads or threads
    made.inter_op_num_threads = options.inter_op_threads or threads
    parallel = made.inter_op_num_threads > 1
    made.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    made.graph_optimization_level = _LEVELS[options.graph_optimization]
    for pool in ("intra", "inter"):
        made.add_session_config_entry(f"session.{pool}_op.allow_spinning", "0")
    # Everything the library would log it also raises; its log lines carry client data and source paths.
    made.log_severity_level = 4
    return made
