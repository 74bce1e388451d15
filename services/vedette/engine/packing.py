"""A model laid out as ONNX Runtime uses it on this machine, in files that every process maps.

ONNX Runtime copies weights twice: out of the graph's file, and into the order its kernels read them in. Both copies
are each process's own. A pack is the optimised graph with its weights beside it, those that kernels reorder in that
order already: they are mapped and never copied, so that processes share them and a load reads nothing.

Rule: a pack is made by `vedette.engine.packing_child`, a process that may die of it, and counts only when its answers
are those of the original to the bit. It fits one version of ONNX Runtime on one kind of processor: `machine_key`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

import onnxruntime as ort

from vedette.core.models import SessionOptions

PACKED_GRAPH = "packed.onnx"
"""The graph of a pack. A session of this name is loaded as it is: optimising again would undo the packing."""
PACKED_WEIGHTS = "packed.bin"

_CPU_PROVIDER = ("CPUExecutionProvider",)
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")
"""All that the child sees of our environment: what it takes to find its libraries, and no secret."""
_SOURCE_ROOT = Path(__file__).absolute().parents[2]
_PROCESSOR = re.compile(r"^(?:model name|flags|Features|CPU part)\s*:.*$", re.MULTILINE)


def can_pack(options: SessionOptions) -> bool:
    """Whether a pack serves these options: other providers keep weights in memory of their own."""
    return options.providers == _CPU_PROVIDER


@cache
def machine_key(root: Path = Path("/")) -> str:
    """What a pack is bound to: the build of ONNX Runtime and the instructions of this processor. 16 hex digits."""
    try:
        described = (root / "proc/cpuinfo").read_text()
    except OSError:
        described = platform.processor()
    processor = sorted(set(_PROCESSOR.findall(described)))
    facts = "\n".join((ort.__version__, ort.get_build_info(), platform.machine(), *processor))
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def packing_command(graph: Path, target: Path, options: SessionOptions) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the child that packs `graph` into the empty folder `target`.

    It ends with 0 when the pack is good. Otherwise the last line of its standard output says why.
    """
    line = ["-P", "-m", "vedette.engine.packing_child", str(graph), str(target), options.graph_optimization]
    searched = [str(_SOURCE_ROOT), *(str(Path(entry).absolute()) for entry in sys.path if entry)]
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    passed["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(searched))
    return [sys.executable, *line], {**passed, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
