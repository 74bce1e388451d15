"""The standard process metrics of Prometheus for every live worker, read from /proc.

Rule: any worker answers for all of its service, so each series carries the label `worker`.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from vedette.chassis.cells import Region

_UTIME, _STIME, _RSS = 11, 12, 21
"""Fields of /proc/PID/stat, counted after the command's name (proc(5), less the first two)."""
_TEXTS = {
    "process_resident_memory_bytes": "Resident memory size in bytes.",
    "process_open_fds": "Number of open file descriptors.",
    "process_max_fds": "Maximum number of open file descriptors.",
    "process_start_time_seconds": "Start time of the process since unix epoch in seconds.",
}


def process_families(regions: Sequence[Region]) -> Iterator[Family]:
    """Memory, descriptors, start time and CPU seconds of the workers that are alive."""
    gauges = {name: GaugeMetricFamily(name, text, labels=("worker",)) for name, text in _TEXTS.items()}
    cpu = CounterMetricFamily("process_cpu_seconds", "Total user and system CPU time in seconds.", labels=("worker",))
    for index, region in enumerate(regions):
        process = Path("/proc") / str(region.pid)
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            descriptors = sum(1 for _ in (process / "fd").iterdir())
        except OSError:  # not alive, or going away right now
            continue
        label = (str(index),)
        cpu.add_metric(label, (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK"))
        gauges["process_resident_memory_bytes"].add_metric(label, int(fields[_RSS]) * resource.getpagesize())
        gauges["process_open_fds"].add_metric(label, descriptors)
        gauges["process_max_fds"].add_metric(label, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        gauges["process_start_time_seconds"].add_metric(label, region.started)
    yield from (*gauges.values(), cpu)
