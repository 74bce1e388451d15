"""What one tabular model costs before anybody asks much: memory of the service under load, and the time to be ready.

Rule: the service starts from its own folder as after a reboot; the registry is there already and has the model.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

from loadtests import contest, machine, messages, targets
from loadtests.contest import Heat


def measured(rounds: int) -> dict[str, float]:
    """`rss_mb` after a second of load over HTTP and gRPC, and `ready_s` of a fresh start, medians."""
    memory, ready = [], []
    for _ in range(rounds):
        cpu = machine.pin(contest.SERVER_CPU)
        with targets.vedette(cpu, options=targets.CAPTURED) as target:
            for protocol in ("json", "grpc"):
                contest.run(target, Heat("reference", protocol, 32), seconds=1)
            memory.append(machine.rss_mb(target.pid))
            ready.append(_ready_s(target, cpu))
    return {"rss_mb": statistics.median(memory), "ready_s": statistics.median(ready)}


def _ready_s(target: targets.Target, cpu: list[str]) -> float:
    """From the start of a second service beside the first to the model's first answer."""
    begun = time.perf_counter()
    with targets.inference(target, cpu) as port:
        targets.wait_ready(f"http://127.0.0.1:{port}", "reference", pause_s=0.002)
        passed = time.perf_counter() - begun
        check = partial(messages.check_http, f"http://127.0.0.1:{port}/v2/models/reference/infer")
        check("reference", "json")
    return passed
