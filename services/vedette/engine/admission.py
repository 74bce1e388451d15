"""Admission: whether a stranger's graph may be loaded, found out in a process that may die of it.

Rule: this module opens none of the model's files and imports no ONNX library. It starts
`vedette.engine.admission_child`, believes nothing but well-formed lines on one pipe, and ends the child's
whole process group whatever happens.
"""

from __future__ import annotations

import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.models import Admission, ArtifactFile, Signature, TensorSpec
from vedette.core.tensors import DATATYPES

_SOURCE_ROOT = Path(__file__).absolute().parents[2]

Step = Literal["files", "check", "load", "canary"]
STEPS: tuple[Step, ...] = ("files", "check", "load", "canary")

_MOST_REPORT_BYTES = 4 << 20
_MOST_STDERR_BYTES = 4096
_OUT_OF_MEMORY = re.compile(rb"bad_alloc|MemoryError|[Ff]ailed to allocate|annot allocate memory")
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")
"""All that the child sees of our environment: what it takes to find its libraries, and no secret."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What one admission may use; over any of these the model is refused."""

    memory_bytes: int = 2 << 30
    """Address space beyond what the libraries themselves take."""
    wall_s: float = 60.0
    cpu_s: int = 0
    """Processor seconds over all threads, beyond what starting takes; 0: as many as `wall_s`."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the child found out about a model that may be served."""

    signature: Signature
    admission: Admission
    files: tuple[ArtifactFile, ...] = ()
    """Every file of the folder as the child read it, by name."""


class AdmissionRefused(InvalidArgument):
    """The model may not be loaded; the message is `step: why`."""

    def __init__(self, step: Step, why: str) -> None:
        super().__init__(f"{step}: {why}")
        self.step = step
        self.why = why


@dataclass(slots=True)
class _Transcript:
    """What a child has said and how it ended."""

    report: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    exit_code: int | None = None
    """As `Popen.returncode`; None: it was still running when its time was over."""


def admit(folder: Path, limits: AdmissionLimits = AdmissionLimits()) -> Admitted:
    """Try the model in `folder` (`model.onnx` and its external data) in a throw-away process.

    Blocks, at most about a second longer than `limits.wall_s`: call it in a thread. Start it only on files
    that nobody writes any more.

    Raises:
        AdmissionRefused: the model is broken, hostile, over a limit or nothing that can be served.
        Unavailable: the process could not be started.
    """
    with _child(folder.absolute(), limits) as (process, report):
        transcript = _follow(process, report, deadline=time.monotonic() + limits.wall_s)
    return _verdict(transcript, limits)


@contextmanager
def _child(folder: Path, limits: AdmissionLimits) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The running child and the pipe it reports on; both are gone afterwards."""
    report, report_end = os.pipe()
    try:
        try:
            arguments = [str(report_end), str(folder), str(limits.memory_bytes), str(_cpu_s(limits))]
            process = subprocess.Popen(
                # -P: the folder of the model never becomes a place to import from
                [sys.executable, "-P", "-m", "vedette.engine.admission_child", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(report_end,),
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
        except OSError:
            raise Unavailable("the admission process could not be started") from None
        finally:
            os.close(report_end)
        try:
            yield process, report
        finally:
            _end(process)
    finally:
        os.close(report)


def _cpu_s(limits: AdmissionLimits) -> int:
    return limits.cpu_s or math.ceil(limits.wall_s)


def _environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # The child stands in another folder: it shall find this very package, and what we find by relative paths.
    searched = [str(_SOURCE_ROOT), *(str(Path(entry).absolute()) for entry in sys.path if entry)]
    passed["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(searched))
    return {**passed, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group and take away what is left of it. The group exists until its leader has been waited for."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody is left in it
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _follow(process: subprocess.Popen[bytes], report: int, *, deadline: float) -> _Transcript:
    """Collect what the child says until it has ended, says too much, or the deadline has passed."""
    transcript = _Transcript()
    stderr = cast("IO[bytes]", process.stderr).fileno()
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in (report, stderr):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            done = False
            while not done and len(transcript.report) <= _MOST_REPORT_BYTES:
                left = deadline - time.monotonic()
                ready = {key.fd for key, _ in selector.select(max(0.0, left))}
                if not ready and left <= 0:
                    return transcript
                done = ended in ready
                _collect(transcript, selector, ready | {report, stderr} if done else ready, report, stderr)
    finally:
        os.close(ended)
    if done:
        transcript.exit_code = _exit_code(process)
    return transcript


def _collect(
    transcript: _Transcript, selector: selectors.BaseSelector, ready: set[int], report: int, stderr: int
) -> None:
    """Read once from each descriptor that is ready; one at its end is not asked again."""
    for descriptor in ready & {report, stderr} & set(selector.get_map()):
        try:
            chunk = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            continue
        if not chunk:
            selector.unregister(descriptor)
        elif descriptor == report:
            transcript.report += chunk
        else:
            transcript.stderr = (transcript.stderr + chunk)[-_MOST_STDERR_BYTES:]


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """How the child ended, leaving it to `_end` to take it away with its group."""
    status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if status is None:  # pragma: no cover -- only with WNOHANG
        return 0
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def _verdict(transcript: _Transcript, limits: AdmissionLimits) -> Admitted:
    step: Step | None = None
    try:
        for line in bytes(transcript.report).splitlines():
            said = json.loads(line)
            if "refused" in said:
                raise AdmissionRefused(_step(said["refused"]), str(said["why"])[:1000])
            if "admitted" in said:
                return _admitted(said["admitted"])
            step = _step(said["step"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AdmissionRefused(step or "files", "ended in the middle of its report") from None
    if step is None and transcript.exit_code is not None:
        raise Unavailable("the admission process did not come as far as the model")
    raise AdmissionRefused(step or "files", _why_ended(transcript, limits))


def _why_ended(transcript: _Transcript, limits: AdmissionLimits) -> str:
    code = transcript.exit_code
    if len(transcript.report) > _MOST_REPORT_BYTES:
        return "said more than anybody would read"
    if code is None:
        return f"still running after {limits.wall_s:g} s"
    if _OUT_OF_MEMORY.search(transcript.stderr):
        return f"needed more than {limits.memory_bytes >> 20} MiB"
    if code == -signal.SIGXCPU:
        return f"used more than {_cpu_s(limits)} s of processor time"
    if code == -signal.SIGKILL:
        return "was killed by the system, most likely for want of memory"
    if code < 0:
        return f"died of signal {-code}"
    return f"ended without a result (exit code {code})"


def _step(value: object) -> Step:
    for step in STEPS:
        if step == value:
            return step
    raise ValueError(value)


def _admitted(said: dict[str, Any]) -> Admitted:
    signature = Signature(inputs=_specs(said["inputs"]), outputs=_specs(said["outputs"]))
    admission = Admission(
        run_time_us=float(said["run_time_us"]),
        load_time_ms=float(said["load_time_ms"]),
        memory_bytes=max(0, int(said["memory_bytes"])),
    )
    files = tuple(ArtifactFile(str(path), int(size), str(sha256)) for path, size, sha256 in said["files"])
    return Admitted(signature, admission, files)


def _specs(said: list[Any]) -> tuple[TensorSpec, ...]:
    for _, datatype, _ in said:
        if datatype not in DATATYPES:
            raise ValueError(datatype)
    return tuple(TensorSpec(str(name), datatype, tuple(int(dim) for dim in shape)) for name, datatype, shape in said)
