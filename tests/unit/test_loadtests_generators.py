"""What load generators report, read strictly: a run with a wrong answer has no figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from loadtests import messages, models
from loadtests.environments import _reason
from loadtests.generators import BrokenRun, Figures, parse_h2load, parse_wrk
from loadtests.targets import process

from vedette.proto.inference.v1 import inference_pb2 as pb

WRK = """Running 2s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.70ms    0.50ms   9.10ms   90.00%
    Req/Sec    18.00k     0.90k   19.00k    80.00%
  Latency Distribution
     50%    1.69ms
     75%    1.80ms
     90%    2.00ms
     99%  950.00us
  36000 requests in 2.00s, 10.00MB read
Requests/sec:  18000.50
Transfer/sec:      5.00MB
"""
H2LOAD = """finished in 2.00s, 500.00 req/s, 50.00KB/s
requests: 1000 total, 1032 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 100.00KB (102400) total, 20.00KB (20480) headers (space savings 80.00%), {data} data
"""


def test_wrk_figures() -> None:
    """Rate, p50 and p99, each in its unit."""
    assert parse_wrk(WRK) == Figures(18000.5, pytest.approx(1.69), pytest.approx(0.95))


@pytest.mark.parametrize("flaw", ["  Non-2xx or 3xx responses: 3", "  Socket errors: connect 0, read 1", None])
def test_a_wrk_run_with_a_single_error_has_no_figures(flaw: str | None) -> None:
    """Neither has a report that says nothing."""
    with pytest.raises(BrokenRun):
        parse_wrk("" if flaw is None else WRK + flaw)


def test_wrk_answers_are_counted_by_their_bytes() -> None:
    """10 MB are 291 bytes for each of 36,000: a server that says 200 and less than the right answer has no figures."""
    assert parse_wrk(WRK, 291).requests_per_s == 18000.5
    with pytest.raises(BrokenRun, match="some were wrong"):
        parse_wrk(WRK, 302)


def test_h2load_answers_are_counted_by_their_bytes() -> None:
    """1000 answers of 60 bytes, and 5 bytes before each."""
    assert parse_h2load(H2LOAD.format(data="63.48KB (65000)"), 60) == 1000


@pytest.mark.parametrize(
    "report",
    [
        H2LOAD.format(data="63.48KB (64999)"),
        H2LOAD.format(data="63.48KB (65000)").replace("0 failed", "1 failed"),
        H2LOAD.format(data="63.48KB (65000)").replace("1000 succeeded", "0 succeeded"),
        "",
    ],
    ids=["a byte too few", "a failure", "nothing done", "no report"],
)
def test_an_h2load_run_with_an_error_has_no_figures(report: str) -> None:
    """h2load takes a call that ended with an error for a success: it has no data, and that is seen."""
    with pytest.raises(BrokenRun):
        parse_h2load(report, 60)


@pytest.mark.parametrize("name", models.NAMES)
def test_every_message_carries_the_one_row(name: str) -> None:
    """JSON, binary and gRPC say the same to four decimals, so that answers can be compared with one truth."""
    row = models.row(name)
    written = json.loads(messages.json_message(name).body)["inputs"][0]
    np.testing.assert_array_equal(np.array(written["data"], np.float32).reshape(written["shape"]), row)
    binary = messages.binary_message(name)
    start = int(binary.headers[messages.HEADER_LENGTH])
    assert json.loads(binary.body[:start])["inputs"][0]["parameters"]["binary_data_size"] == row.nbytes
    assert binary.body[start:] == row.tobytes()
    request = pb.ModelInferRequest.FromString(messages.grpc_message(name))
    assert (request.model_name, request.raw_input_contents[0]) == (name, row.tobytes())


def test_the_models_answer_as_their_docs_say() -> None:
    """One input x, one output y, rows free; probabilities that sum to one."""
    for name in models.NAMES:
        answer = models.expected(name)
        assert answer.shape[0] == 1
        assert answer.sum() == pytest.approx(1.0, abs=1e-5)


def test_answers_are_read_in_every_form_and_checked() -> None:
    """JSON, binary, gRPC raw and gRPC typed; another number is a wrong answer."""
    truth = models.expected("reference")
    output = {"name": "y", "shape": list(truth.shape), "datatype": "FP32"}
    header = json.dumps({"outputs": [output]}).encode()
    spec = pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=truth.shape)
    raw = pb.ModelInferResponse(outputs=[spec], raw_output_contents=[truth.tobytes()])
    typed = pb.ModelInferResponse(outputs=[spec])
    typed.outputs[0].contents.fp32_contents.extend(truth.ravel())
    for answer in (
        messages.http_answer(json.dumps({"outputs": [{**output, "data": truth.ravel().tolist()}]}).encode(), None),
        messages.http_answer(header + truth.tobytes(), str(len(header))),
        messages.grpc_answer(raw.SerializeToString()),
        messages.grpc_answer(typed.SerializeToString()),
    ):
        messages.check(answer, "reference")
        with pytest.raises(BrokenRun, match="a wrong answer"):
            messages.check(answer + np.float32(0.001), "reference")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"outputs": []}', b'{"outputs": [{"shape": [2], "data": [1]}]}'])
def test_what_is_no_answer_is_a_broken_run(content: bytes) -> None:
    """And no exception of a parser."""
    with pytest.raises(BrokenRun, match="not a V2 response"):
        messages.http_answer(content, None)


def test_a_server_is_ended_with_what_it_started() -> None:
    """A child that ignores SIGTERM does not outlive the run."""
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('', flush=True); time.sleep(600)"
    parent = f"""
import subprocess, sys, time
started = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
started.stdout.readline()
print(started.pid, flush=True)
time.sleep(600)
"""
    reading, writing = _pipe()
    with writing, reading, process([sys.executable, "-c", parent], cpu=[], log=writing) as running:
        pid = int(reading.readline())
        assert psutil.pid_exists(pid)
    assert running.returncode is not None
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def _pipe():  # type: ignore[no-untyped-def]
    import os

    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")


def test_the_reason_of_an_installer_is_one_line() -> None:
    """The line that tells, not the last one."""
    text = "Resolving\n  × No solution found when resolving dependencies:\n  ╰─▶ Because x==1 needs y, none fits.\n"
    assert _reason(text) == "No solution found when resolving dependencies:"
    assert _reason("") == "the installer said nothing"


def test_missing_generators_are_named_with_their_packages() -> None:
    """The user of a fresh machine is told what to install."""
    program = "from loadtests import generators; generators.require('wrk', 'h2load')"
    done = subprocess.run([sys.executable, "-c", program], env={"PATH": "/nowhere"}, capture_output=True, text=True,
                          cwd=Path(__file__).parents[2], check=False)  # fmt: skip
    assert done.returncode == 1
    assert "apt-get install wrk nghttp2-client" in done.stderr
