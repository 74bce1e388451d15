"""Several workers on one port: killed, hung or coming, none of them is ever in a caller's way."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests import inference_models as models
from tests.suite import Suite
from tests.system.test_inference_swap import register
from tests.system.test_lifecycle import address, get, metric, toy, until

from vedette.engine.cpus import share

Check = health_pb2.HealthCheckRequest
SERVING = health_pb2.HealthCheckResponse.SERVING


def rpc(where: str, timeout_s: float = 10.0) -> int:
    """One health check over a connection of its own: which worker gets it is the kernel's choice."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(where, options=options) as channel:
        return int(health_pb2_grpc.HealthStub(channel).Check(Check(), timeout=timeout_s).status)


class Knocks:
    """Clients that ask over a new connection each time; what failed, and the longest wait."""

    def __init__(self, url: str, clients: int) -> None:
        self._address = address(url)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.answered = 0
        self.failed: list[str] = []
        self.longest_s = 0.0

    def __enter__(self) -> Knocks:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._end.is_set():
            connection, began = http.client.HTTPConnection(*self._address, timeout=20), time.monotonic()
            try:
                connection.request("GET", "/readyz")
                answer = connection.getresponse()
                if (answer.status, answer.read()) != (200, b"ready\n"):
                    self.failed.append(f"status {answer.status}")
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()
            self.longest_s = max(self.longest_s, time.monotonic() - began)


def test_a_worker_killed_under_load_loses_only_what_it_had(tmp_path: Path) -> None:
    """kill -9 of one of two: at most the requests inside it fail, no connection hangs, everyone is told ready."""
    with toy(tmp_path, workers="2") as suite:
        victim = suite.workers("toy")[0]
        with Knocks(suite.url("toy"), clients=6) as knocks:
            until(lambda: knocks.answered > 100)
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in suite.workers("toy"))
            assert [rpc(suite.address("toy")) for _ in range(20)] == [SERVING] * 20
            until(lambda: len(suite.workers("toy")) == 2)
            seen = knocks.answered
            until(lambda: knocks.answered > seen + 100)
        assert len(knocks.failed) <= 6, knocks.failed
        assert not any("status" in failure for failure in knocks.failed), knocks.failed
        assert not any("timed out" in failure for failure in knocks.failed), knocks.failed


def test_a_hung_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    """SIGSTOP of one of two: it is found, named, killed and replaced; its caller is let go, others never noticed."""
    with toy(tmp_path, workers="2", hang_timeout_s="1") as suite, ThreadPoolExecutor(2) as pool:
        inside = [pool.submit(get, f"{suite.url('toy')}/wait/3") for _ in range(2)]
        until(lambda: metric(get(f"{suite.url('toy')}/metrics")[1], "x") == 0)
        victim = suite.workers("toy")[0]
        os.kill(victim, signal.SIGSTOP)
        with Knocks(suite.url("toy"), clients=2) as knocks:
            until(lambda: victim not in suite.workers("toy") and len(suite.workers("toy")) == 2)
        assert knocks.failed == []
        assert "toy: worker 0 stands still; it is killed" in suite.logs("toy")
        assert [rpc(suite.address("toy")) for _ in range(20)] == [SERVING] * 20
        for call in inside:
            assert call.exception() is not None or call.result() == (200, "waited")


def test_a_stopped_suite_goes_on_with_the_same_workers(tmp_path: Path) -> None:
    """Supervisor and workers stopped for longer than the limit, as by Ctrl-Z: nobody is killed when they go on."""
    with toy(tmp_path, workers="2", hang_timeout_s="1") as suite:
        before = suite.workers("toy")
        everyone = (suite.process("toy").pid, *before)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everyone:
                os.kill(pid, number)
            time.sleep(1.5)  # the time that passes is what is tested: the processes themselves are stopped
        assert suite.workers("toy") == before
        assert "stands still" not in suite.logs("toy")
        assert get(suite.url("toy") + "/readyz") == (200, "ready\n")


def test_a_successor_takes_no_connection_before_it_is_ready(tmp_path: Path) -> None:
    """While a dead worker's successor still loads, every caller of the shared ports meets the one that is ready."""
    file = tmp_path / "ready"
    file.touch()
    with toy(tmp_path, workers="2", ready_file=str(file)) as suite:
        url, rpcs = suite.url("toy"), suite.address("toy")
        victim, survivor = suite.workers("toy")
        file.rename(tmp_path / "away")
        os.kill(victim, signal.SIGKILL)
        until(lambda: list(tmp_path.glob("ready.*")))
        (successor,) = [int(path.suffix[1:]) for path in tmp_path.glob("ready.*")]
        assert [get(f"{url}/readyz") for _ in range(40)] == [(200, "ready\n")] * 40
        assert [rpc(rpcs) for _ in range(20)] == [SERVING] * 20
        assert (listens(survivor, rpcs), listens(successor, rpcs)) == (True, False)
        (tmp_path / "away").rename(file)
        until(lambda: successor in suite.workers("toy"))
        assert listens(successor, rpcs)
        assert [rpc(rpcs) for _ in range(20)] == [SERVING] * 20


def listens(pid: int, where: str) -> bool:
    """Whether the process has a listening socket of its own on this port."""
    port = f":{int(where.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(port) and line[3] == "0A"}
    return any(str(entry.readlink()) in inodes for entry in Path(f"/proc/{pid}/fd").iterdir())


def test_ready_is_said_when_all_workers_are(tmp_path: Path) -> None:
    """The run file of a start names every worker: nobody who waited for it meets one that is not ready."""
    with toy(tmp_path, workers="3") as suite:
        assert len(suite.workers("toy")) == 3


def smaps(pid: int) -> dict[str, int]:
    """What the kernel says of a process's memory, in kB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}


def serve(suite: Suite, model: str, data: bytes) -> None:
    """Register a version and wait until every worker serves it."""
    register(suite, model, data)
    config = {"model": model, "variants": [{"name": "primary", "version": 1}]}
    url = f"{suite.registry_http}/v1/endpoints"
    httpx.post(url, json={"name": model, "config": config}, timeout=30).raise_for_status()
    until(lambda: httpx.get(f"{url}/{model}", timeout=30).json()["status"] == "InService", seconds=60)


def infer(url: str, model: str, width: int) -> None:
    """One prediction, over a connection of its own: which worker answers is chance."""
    document = {"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32", "data": [0.5] * width}]}
    httpx.post(f"{url}/v2/models/{model}/infer", json=document, timeout=30).raise_for_status()


def test_workers_hold_large_weights_once_and_count_together(tmp_path: Path) -> None:
    """Two workers map one pack, also after one was killed; /metrics sums what both have answered."""
    wide = models.mlp(features=1024, hidden=8192, classes=64)
    with Suite(tmp_path, env={"VEDETTE_INFERENCE__WORKERS": "2"}) as suite:
        before = {pid: smaps(pid)["Private_Dirty"] for pid in suite.workers("inference")}
        serve(suite, "wide", wide.data)
        for _ in range(20):
            infer(suite.http, "wide", 1024)
        (pack,) = [path for path in (tmp_path / "inference" / "packs").iterdir() if path.is_dir()]
        for pid, private_kb in before.items():
            assert str(pack) in Path(f"/proc/{pid}/maps").read_text()
            assert smaps(pid)["Private_Dirty"] - private_kb < (len(wide.data) >> 10) * 0.75
        made = pack.stat().st_ino
        os.kill(victim := next(iter(before)), signal.SIGKILL)
        until(lambda: victim not in suite.workers("inference") and len(suite.workers("inference")) == 2, seconds=60)
        assert all(str(pack) in Path(f"/proc/{pid}/maps").read_text() for pid in suite.workers("inference"))
        assert pack.stat().st_ino == made, "the successor found it and made no other"
        for _ in range(20):
            infer(suite.http, "wide", 1024)
        page = httpx.get(f"{suite.http}/metrics").text
        answered = [line for line in page.splitlines() if line.startswith("vedette_requests_total{")]
        assert sum(float(line.split()[-1]) for line in answered) == 40


def test_one_tabular_model_takes_less_than_150_mb(tmp_path: Path) -> None:
    """Supervisor and worker of inference together, with a model served and a thousand rows answered."""
    with Suite(tmp_path) as suite:
        serve(suite, "tabular", models.mlp().data)
        rows = np.ones((1000, 30)).ravel().tolist()
        document = {"inputs": [{"name": "x", "shape": [1000, 30], "datatype": "FP32", "data": rows}]}
        httpx.post(f"{suite.http}/v2/models/tabular/infer", json=document, timeout=30).raise_for_status()
        processes = (suite.process("inference").pid, *suite.workers("inference"))
        assert sum(smaps(pid)["Rss"] for pid in processes) < 150 * 1024


def test_models_add_no_threads_to_workers_that_fill_the_processors(tmp_path: Path) -> None:
    """A worker's share of the processors bounds the threads of a run; five slow models wait for the same few."""
    with Suite(tmp_path, env={"VEDETTE_INFERENCE__WORKERS": "2"}) as suite, ThreadPoolExecutor(8) as pool:

        def counted(*names: str) -> int:
            for name in names:
                serve(suite, name, models.slow(iterations=100).data)
            for _ in range(2):
                list(pool.map(lambda name: infer(suite.http, name, 256), names * 8))
            return max(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in suite.workers("inference"))

        one = counted("a")
        assert counted("b", "c", "d", "e") - one <= 4 * (share(2) - 1) + 2, "two more threads of the loader may come"
