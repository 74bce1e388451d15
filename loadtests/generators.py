"""The load generators, both Debian packages: wrk for HTTP/1.1, h2load for gRPC.

Rule: a run counts only if every answer was right. wrk reports statuses; h2load knows nothing of
grpc-status, so the bytes of data it received must be those of the right answer, times the requests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
FRAME_BYTES = 5
"""What gRPC puts before a message."""
WRK_ROUNDING = 0.97
"""wrk tells what it has read in three digits, and an answer may be a few digits shorter than the one checked."""
GRACE_S = 60
"""How long a generator may take to connect, drain and report."""


class BrokenRun(Exception):
    """A load run in which something was answered wrongly; its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def require(*programs: str) -> None:
    """Exit with the package names when a generator is not installed."""
    packages = {"wrk": "wrk", "h2load": "nghttp2-client", "taskset": "util-linux"}
    missing = [packages[program] for program in programs if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"load tests need: apt-get install {' '.join(missing)}")


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    if match is None:
        raise BrokenRun(f"not a duration: {text}")
    return float(match[1]) * UNITS_S[match[2]] * 1e3


@dataclass(frozen=True, slots=True)
class Message:
    """A body and the headers that go with it."""

    body: bytes
    headers: dict[str, str]


def wrk(
    url: str, message: Message, *, connections: int, seconds: int, cpu: list[str], answer_bytes: int = 0
) -> Figures:
    """POST the message to `url` over `connections` keep-alive connections, one thread, closed loop.

    `answer_bytes` is the length of a right answer's body: a 200 that says something shorter is none.
    """
    lines = ['wrk.method = "POST"', f"wrk.body = {_lua_string(message.body)}"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in message.headers.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        command = [*cpu, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        output = _run(command, seconds)
    return parse_wrk(output, answer_bytes)


def parse_wrk(output: str, answer_bytes: int = 0) -> Figures:
    """The figures of a report.

    Raises:
        BrokenRun: an answer was an error, or the report says nothing.
    """
    flaws = [line.strip() for line in output.splitlines() if "Non-2xx" in line or "Socket errors" in line]
    if flaws:
        raise BrokenRun("; ".join(flaws))
    read = re.search(r"(\d+) requests in \S+, ([\d.]+)([KMGT]?)B read", output)
    if read is None:
        raise BrokenRun(output)
    received = float(read[2]) * 1024 ** " KMGT".index(read[3] or " ")
    if received < int(read[1]) * answer_bytes * WRK_ROUNDING:
        raise BrokenRun(f"{received:.0f} bytes for {read[1]} answers of {answer_bytes} bytes and more: some were wrong")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p50, p99 = (re.search(rf"^\s+{share}%\s+(\S+)$", output, re.MULTILINE) for share in (50, 99))
    if rate is None or p50 is None or p99 is None:
        raise BrokenRun(output)
    return Figures(float(rate[1]), _milliseconds(p50[1]), _milliseconds(p99[1]))


def _run(command: list[str], seconds: int) -> str:
    """The report of a generator that ends by itself."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + GRACE_S).stdout
    except subprocess.TimeoutExpired as error:
        raise BrokenRun(f"no end after {seconds} s and {GRACE_S} s more") from error
    except subprocess.CalledProcessError as error:
        raise BrokenRun((error.stderr or error.stdout)[-300:]) from error


def _lua_string(body: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in body) + '"'


def h2load(
    port: int, path: str, message: bytes, *, answer: bytes, streams: int, seconds: int, cpu: list[str]
) -> Figures:
    """Send one gRPC message again and again over one connection with `streams` calls in flight.

    `answer` is the right response message: the data received must be it and nothing else.
    """
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "frame", Path(folder) / "log"
        data.write_bytes(frame)
        command = [*cpu, "h2load", "-c1", f"-m{streams}", f"-D{seconds}", "-t1", f"-d{data}", f"--log-file={log}"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{path}"]
        output = _run(command, seconds)
        latencies_us = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    done = parse_h2load(output, len(answer))
    p50, p99 = (latencies_us[int(len(latencies_us) * share)] / 1e3 for share in (0.50, 0.99))
    return Figures(done / seconds, p50, p99)


def parse_h2load(output: str, answer_bytes: int) -> int:
    """How many calls were answered, each with a message of `answer_bytes`.

    Raises:
        BrokenRun: fewer bytes of data came than that many right answers have: some were errors.
    """
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    received = re.search(r"\((\d+)\) data", output)
    if counts is None or received is None or any(int(n) for n in counts.groups()[1:]):
        raise BrokenRun(output)
    done = int(counts[1])
    frame = answer_bytes + FRAME_BYTES
    if done == 0 or int(received[1]) < done * frame:
        raise BrokenRun(f"{received[1]} bytes of data for {done} answers of {frame} bytes: some were errors")
    return done
