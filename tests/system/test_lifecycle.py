"""The life of a service in real processes: start, readiness, drain, replacement, totals, refusal to start."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.suite import Suite

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.toy")


def toy(folder: Path, **settings: str) -> Suite:
    env = {f"VEDETTE_TOY__{key.upper()}": value for key, value in settings.items()}
    return Suite(folder, ["toy"], env={"PYTHONPATH": str(ROOT), **env}, command=COMMAND)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(what: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for another process to get there; it has no way to tell us."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if what():
                return
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def metric(page: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)


class Load:
    """Clients that ask without a pause on kept connections until nobody listens; counts answers and losses."""

    def __init__(self, url: str, clients: int) -> None:
        self._address = address(url)
        self.answered = 0
        self.lost: list[str] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._end.is_set():
            connection = http.client.HTTPConnection(*self._address, timeout=20)
            try:
                connection.connect()
            except OSError:
                return  # the door is closed: nothing was sent, nothing is lost
            with contextlib.closing(connection):
                if not self._talk(connection):
                    return

    def _talk(self, connection: http.client.HTTPConnection) -> bool:
        """Ask on one connection until the server announces its end; False after a loss."""
        while not self._end.is_set():
            try:
                connection.request("POST", "/echo", body=b"x" * 100)
                answer = connection.getresponse()
                whole = answer.read() == b"x" * 100 and answer.status == 200
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.lost.append(repr(error))
                return False
            with self._lock:
                self.answered += 1
                if not whole:
                    self.lost.append(f"status {answer.status}")
            if answer.will_close:
                return True
        return True


def test_sigterm_under_load_drops_nothing(tmp_path: Path) -> None:
    """Every request sent before and during the drain is answered; then the door is closed and the status is 0."""
    with toy(tmp_path, workers="2") as suite:
        with Load(suite.url("toy"), clients=8) as load:
            until(lambda: load.answered > 200)
            assert suite.stop("toy") == 0
        assert load.lost == []
        assert not (tmp_path / "run" / "toy.json").exists()


def test_requests_in_flight_finish(tmp_path: Path) -> None:
    """A request that was running when SIGTERM came is answered, with `connection: close`."""
    with toy(tmp_path) as suite:
        connection = http.client.HTTPConnection(*address(suite.url("toy")), timeout=20)
        connection.request("GET", "/wait/1")
        page = suite.url("toy") + "/metrics"
        until(lambda: get(page)[0] == 200)
        suite.process("toy").terminate()
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.getheader("connection")) == (200, b"waited", "close")
        connection.close()


def test_a_stuck_request_does_not_hold_the_end_up(tmp_path: Path) -> None:
    """What is not finished within the drain timeout is given up, and the service still ends in order."""
    with toy(tmp_path, drain_timeout_s="1") as suite:
        connection = http.client.HTTPConnection(*address(suite.url("toy")), timeout=20)
        connection.request("GET", "/wait/60")
        until(lambda: get(suite.url("toy") + "/livez")[0] == 200)
        began = time.monotonic()
        assert suite.stop("toy") == 0
        assert time.monotonic() - began < 10
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_terminal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and a closed terminal reach supervisor and workers at once, and are a drain like any other."""
    suite = toy(tmp_path)
    suite.start("toy")
    connection = http.client.HTTPConnection(*address(suite.url("toy")), timeout=20)
    connection.request("GET", "/wait/1")
    until(lambda: get(suite.url("toy") + "/livez")[0] == 200)
    for pid in (*suite.workers("toy"), suite.process("toy").pid):
        os.kill(pid, number)
    assert connection.getresponse().read() == b"waited"
    connection.close()
    assert suite.process("toy").wait(20) == 0


def test_drain_delay_answers_but_is_not_ready(tmp_path: Path) -> None:
    """Between SIGTERM and the end of accepting, work is done while /readyz and gRPC health say not ready."""
    with toy(tmp_path, drain_delay_s="2") as suite:
        url, rpc = suite.url("toy"), suite.address("toy")
        assert get(f"{url}/readyz") == (200, "ready\n")
        with grpc.insecure_channel(rpc) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest(service="toys.ToyService")).status == 1
            suite.process("toy").terminate()
            until(lambda: get(f"{url}/readyz") == (503, "shutting down\n"))
            assert get(f"{url}/items/a") == (200, "a ")
            assert check(health_pb2.HealthCheckRequest()).status == 2
        assert get(f"{url}/livez")[0] == 200


def test_a_killed_worker_is_replaced_and_totals_stay_exact(tmp_path: Path) -> None:
    """kill -9 of one of two workers loses no count, and the service goes on answering."""
    with toy(tmp_path, workers="2") as suite:
        url = suite.url("toy")
        until(lambda: len(suite.workers("toy")) == 2)
        for _ in range(40):
            assert get(f"{url}/items/x")[0] == 200
        before = metric(get(f"{url}/metrics")[1], 'vedette_http_responses_total{service="toy",status="2xx"}')
        victim = suite.workers("toy")[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in suite.workers("toy") and len(suite.workers("toy")) == 2)
        page = get(f"{url}/metrics")[1]
        after = metric(page, 'vedette_http_responses_total{service="toy",status="2xx"}')
        assert after == before + 1, "the metrics page asked for before is the only request between"
        assert metric(page, 'vedette_worker_restarts_total{service="toy"}') == 1
        assert page.count("process_resident_memory_bytes{worker=") == 2


def test_two_workers_give_one_page(tmp_path: Path) -> None:
    """Whichever worker answers /metrics, the page counts what both have answered."""
    with toy(tmp_path, workers="2") as suite:
        url = suite.url("toy")
        until(lambda: len(suite.workers("toy")) == 2)
        base = metric(get(f"{url}/metrics")[1], 'vedette_http_responses_total{service="toy",status="2xx"}')
        with Load(url, clients=6) as load:
            until(lambda: load.answered > 300)
        pages = [get(f"{url}/metrics")[1] for _ in range(6)]
        counts = [metric(page, 'vedette_http_responses_total{service="toy",status="2xx"}') for page in pages]
        assert counts == [base + 1 + load.answered + asked for asked in range(6)]


def test_workers_die_with_their_supervisor(tmp_path: Path) -> None:
    """kill -9 of the supervisor leaves no worker behind and the port free."""
    suite = toy(tmp_path)
    suite.start("toy")
    (worker,) = suite.workers("toy")
    suite.process("toy").kill()
    suite.process("toy").wait()
    until(lambda: not Path(f"/proc/{worker}").exists() or "State:\tZ" in Path(f"/proc/{worker}/status").read_text())


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def run_toy(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {"VEDETTE_TOY__PORT": "0", "VEDETTE_TOY__GRPC_PORT": "0", "VEDETTE_TOY__DATA_DIR": str(folder)}
    env |= {f"VEDETTE_TOY__{key.upper()}": value for key, value in settings.items()}
    environ = {key: value for key, value in os.environ.items() if not key.startswith("VEDETTE_")}
    return subprocess.run(
        [*COMMAND, "toy"], env={**environ, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("which", ["port", "grpc_port"])
def test_a_port_in_use_is_one_line(tmp_path: Path, taken: int, which: str) -> None:
    """A taken port ends the start with exit status 1 and one line that names the address."""
    ended = run_toy(tmp_path, **{which: str(taken)})
    assert ended.returncode == 1
    assert ended.stderr == (
        f"vedette: toy: cannot listen on 127.0.0.1:{taken}: Address already in use; "
        f"set VEDETTE_TOY__{which.upper()} to another port, or 0 for a free one\n"
    )


@pytest.mark.parametrize("which", ["port", "grpc_port"])
def test_a_second_suite_does_not_share_the_port(tmp_path: Path, which: str) -> None:
    """SO_REUSEPORT, which our workers use for gRPC, does not let a second suite in."""
    with toy(tmp_path / "first") as suite:
        _, _, port = (suite.url("toy") if which == "port" else suite.address("toy")).rpartition(":")
        ended = run_toy(tmp_path / "second", **{which: port})
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_a_second_suite_does_not_share_the_data_folder(tmp_path: Path) -> None:
    """A second start on one folder ends with one line that names the first, whose run file stays."""
    with toy(tmp_path) as suite:
        before = (tmp_path / "run" / "toy.json").read_text()
        ended = run_toy(tmp_path)
        first = f"pid {suite.process('toy').pid} ({suite.url('toy')})"
        assert (ended.returncode, ended.stderr) == (1, f"vedette: {tmp_path} is in use by {first}\n")
        assert (tmp_path / "run" / "toy.json").read_text() == before


def test_a_killed_suite_leaves_no_lock(tmp_path: Path) -> None:
    """After kill -9 of supervisor and nothing else the folder is free at once."""
    with toy(tmp_path) as suite:
        suite.process("toy").kill()
        suite.process("toy").wait()
        suite.start("toy")
    assert not (tmp_path / "run" / "toy.json").exists()


@pytest.mark.parametrize("which", ["file", "below a file", "proc"])
def test_a_data_folder_that_cannot_be_is_one_line(tmp_path: Path, which: str) -> None:
    """A wrong data folder ends the start with exit status 1 and one line that names it."""
    (tmp_path / "file").write_text("")
    folder, reason = {
        "file": (tmp_path / "file", "Not a directory"),
        "below a file": (tmp_path / "file" / "deeper", "Not a directory"),
        "proc": (Path("/proc/vedette"), "No such file or directory"),
    }[which]
    ended = run_toy(folder)
    assert (ended.returncode, ended.stderr) == (1, f"vedette: data_dir {folder}: {reason}\n")


def test_a_folder_lost_while_running_does_not_disturb_the_service(tmp_path: Path) -> None:
    """Without its run folder the supervisor still replaces a worker, and ends with its port closed and status 0."""
    with toy(tmp_path) as suite:
        url, (victim,) = suite.url("toy"), suite.workers("toy")
        for file in (tmp_path / "run").iterdir():
            file.unlink()
        (tmp_path / "run").rmdir()
        (tmp_path / "run").write_text("")
        os.kill(victim, signal.SIGKILL)
        until(lambda: "toy.json: Not a directory" in suite.logs("toy") and get(f"{url}/livez")[0] == 200)
        assert suite.stop("toy") == 0
        assert "replaced at once" in suite.logs("toy")
        assert "Traceback" not in suite.logs("toy")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"prot": "1"}, "VEDETTE_TOY__PROT: no such setting; did you mean VEDETTE_TOY__PORT?"),
        ({"fail": "start"}, "toy: RuntimeError: the toy is broken"),
        ({"fail": "folder"}, "toy: /proc/vedette: No such file or directory"),
        ({"fail": "action"}, "toy: service toy: GET /open has no action"),
    ],
)
def test_a_service_that_cannot_start_says_why(tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    """A failed start ends the whole suite with exit status 1 and its reason on a line of stderr."""
    ended = run_toy(tmp_path, **settings)
    assert ended.returncode == 1
    assert f"vedette: {reason}" in ended.stderr.splitlines()
    assert ("Traceback" in ended.stderr) == (settings.get("fail") == "start")
    assert not (tmp_path / "run" / "toy.json").exists()


def test_the_supervisor_stays_light(tmp_path: Path) -> None:
    """The parent has loaded no third-party library and takes less than 24 MB."""
    with toy(tmp_path) as suite:
        status = Path(f"/proc/{suite.process('toy').pid}/status").read_text()
        maps = Path(f"/proc/{suite.process('toy').pid}/maps").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) < 24 * 1024  # type: ignore[index]
    assert "site-packages" not in maps


async def test_grpc_calls_in_flight_finish(tmp_path: Path) -> None:
    """A call that was running when SIGTERM came gets its answer."""
    suite = toy(tmp_path)
    await asyncio.to_thread(suite.start, "toy")
    async with grpc.aio.insecure_channel(suite.address("toy")) as channel:
        call = channel.unary_unary(
            "/toys.ToyService/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(service="wait1"))
        await call.wait_for_connection()
        status = asyncio.create_task(asyncio.to_thread(suite.stop, "toy"))
        assert (await call).status == 1
    assert await status == 0


def test_run_file_names_the_service(tmp_path: Path) -> None:
    """The run file has the supervisor's pid and addresses that answer."""
    with toy(tmp_path) as suite:
        facts = json.loads((tmp_path / "run" / "toy.json").read_text())
        assert facts["service"] == "toy"
        assert facts["pid"] == suite.process("toy").pid
        assert get(facts["http"] + "/livez") == (200, "live\n")
