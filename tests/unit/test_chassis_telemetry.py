"""Metrics as cells: exact over threads, workers and deaths, bounded, and correct on the page."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from vedette.chassis.cells import Region, beats, count_restart, create_region, mark_dead
from vedette.chassis.telemetry import CellMetrics, Exposition

SERVED = {"endpoint": "e", "variant": "v", "version": "1"}
REQUESTS = "vedette_requests_total"
SECONDS = "vedette_request_duration_seconds"


@pytest.fixture
def slots() -> Iterator[list[int]]:
    """Regions of two workers, as a supervisor holds them."""
    made = [create_region("test-0"), create_region("test-1")]
    yield made
    for fd in made:
        os.close(fd)


def worker(slots: list[int], own: int, **settings: int) -> CellMetrics:
    return CellMetrics([Region(fd) for fd in slots], own=own, **settings)


def samples(slots: list[int]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    page, _ = Exposition([Region(fd) for fd in slots], service="test").render("")
    families = parse(page.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(slots: list[int], name: str, **labels: str) -> float:
    return samples(slots)[name, frozenset(labels.items())]


def test_workers_are_summed(slots: list[int]) -> None:
    """Counters and histograms of all workers add up."""
    labels = {**SERVED, "protocol": "http", "code": "OK"}
    for own in (0, 1):
        metrics = worker(slots, own)
        metrics.counter(REQUESTS, **labels).inc()
        metrics.counter(REQUESTS, **labels).inc(2)
        histogram = metrics.histogram(SECONDS, **SERVED)
        for seconds in (0.0001, 0.0002, 0.3, 99.0):
            histogram.observe(seconds)
    assert value(slots, REQUESTS, **labels) == 6
    assert value(slots, f"{SECONDS}_count", **SERVED) == 8
    assert value(slots, f"{SECONDS}_sum", **SERVED) == pytest.approx(2 * 99.3003)
    assert value(slots, f"{SECONDS}_bucket", **SERVED, le="0.0001") == 2
    assert value(slots, f"{SECONDS}_bucket", **SERVED, le="0.25") == 4
    assert value(slots, f"{SECONDS}_bucket", **SERVED, le="+Inf") == 8


def test_a_beat_is_seen_by_whoever_holds_the_region(slots: list[int]) -> None:
    """The supervisor counts a worker's beats without mapping anything; of a dead worker it expects none."""
    region = Region(slots[1])
    assert beats(slots[1]) == 0
    region.beat()
    region.beat()
    assert (beats(slots[0]), beats(slots[1])) == (0, 2)
    mark_dead(slots[1])
    assert beats(slots[1]) == 0


def test_a_successor_counts_on(slots: list[int]) -> None:
    """What a dead worker counted stays, its gauges end, and the next worker of the slot goes on."""
    first = worker(slots, 0)
    first.counter("vedette_admissions_total", outcome="admitted").inc(3)
    first.gauge("vedette_requests_in_flight", endpoint="e").set(5)
    mark_dead(slots[0])
    count_restart(slots[0])
    assert value(slots, "vedette_admissions_total", outcome="admitted") == 3
    assert ("vedette_requests_in_flight", frozenset({("endpoint", "e")})) not in samples(slots)
    second = worker(slots, 0)
    second.counter("vedette_admissions_total", outcome="admitted").inc()
    assert value(slots, "vedette_admissions_total", outcome="admitted") == 4
    assert value(slots, "vedette_requests_in_flight", endpoint="e") == 0
    assert value(slots, "vedette_worker_restarts_total", service="test") == 1


def test_gauges_say_how_workers_come_together(slots: list[int]) -> None:
    """Summed, the greatest, or one series a worker."""
    for own, metrics in enumerate([worker(slots, 0), worker(slots, 1)]):
        metrics.gauge("vedette_requests_in_flight", endpoint="e").set(2 + own)
        metrics.gauge("vedette_registry_models").set(7 + own)
        metrics.gauge("vedette_models_loaded").set(1 + own)
    assert value(slots, "vedette_requests_in_flight", endpoint="e") == 5
    assert value(slots, "vedette_registry_models") == 8
    assert (value(slots, "vedette_models_loaded", worker="0"), value(slots, "vedette_models_loaded", worker="1")) == (
        1,
        2,
    )


def test_threads_lose_nothing() -> None:
    """Increments from several threads at once are all counted."""
    metrics = CellMetrics.alone()
    counter = metrics.counter("vedette_admissions_total", outcome="admitted")
    histogram = metrics.histogram(SECONDS, **SERVED)

    def work() -> None:
        for _ in range(50_000):
            counter.inc()
            histogram.observe(0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.cells[counter.base] == 200_000
    assert histogram.cells[histogram.total] == 100_000


def test_same_labels_same_series() -> None:
    """Asking again gives the same instrument, whatever the order of the labels."""
    metrics = CellMetrics.alone()
    first = metrics.histogram(SECONDS, endpoint="e", variant="v", version="1")
    assert metrics.histogram(SECONDS, version="1", variant="v", endpoint="e") is first


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [
        ("counter", "vedette_nothing", {}),
        ("counter", "vedette_models_loaded", {}),
        ("gauge", REQUESTS, {**SERVED, "protocol": "http", "code": "OK"}),
        ("histogram", SECONDS, {"endpoint": "e"}),
        ("histogram", SECONDS, {**SERVED, "more": "x"}),
    ],
)
def test_only_what_the_table_has(kind: str, name: str, labels: dict[str, str]) -> None:
    """Unknown names, wrong kinds and wrong labels are mistakes of ours."""
    with pytest.raises(KeyError):
        getattr(CellMetrics.alone(), kind)(name, **labels)


def test_counters_do_not_shrink() -> None:
    """A negative increment is refused."""
    with pytest.raises(ValueError, match="only grows"):
        CellMetrics.alone().counter("vedette_admissions_total", outcome="x").inc(-1)


def test_forgotten_series_leave_the_page(slots: list[int]) -> None:
    """Series of a deleted endpoint go, those of others stay, and their cells are used again from zero."""
    metrics = worker(slots, 0)
    gone = metrics.histogram(SECONDS, **SERVED)
    kept = metrics.histogram(SECONDS, **{**SERVED, "endpoint": "kept"})
    gone.observe(1.0)
    kept.observe(2.0)
    metrics.forget(endpoint="e")
    gone.observe(1.0)  # a request that was in flight
    assert value(slots, f"{SECONDS}_sum", **{**SERVED, "endpoint": "kept"}) == 2.0
    assert (f"{SECONDS}_sum", frozenset(SERVED.items())) not in samples(slots)
    again = metrics.histogram(SECONDS, **{**SERVED, "endpoint": "new"})
    again.observe(4.0)
    assert value(slots, f"{SECONDS}_sum", **{**SERVED, "endpoint": "new"}) == 4.0


def test_churn_is_bounded() -> None:
    """Ten thousand endpoints that come and go use no more cells than one."""
    metrics = CellMetrics.alone()
    for number in range(10_000):
        metrics.histogram(SECONDS, **{**SERVED, "endpoint": f"e{number}"}).observe(1.0)
        metrics.forget(endpoint=f"e{number}")
    assert metrics.regions[0]._next < 200


def test_series_over_the_limit_overflow(slots: list[int]) -> None:
    """Label sets over the limit share one series per metric, and are counted."""
    metrics = worker(slots, 0, max_series=10)
    for number in range(50):
        metrics.counter("vedette_admissions_total", outcome=f"o{number}").inc()
    found = samples(slots)
    shown = [labels for name, labels in found if name == "vedette_admissions_total"]
    assert len(shown) <= 11
    assert sum(number for (name, _), number in found.items() if name == "vedette_admissions_total") == 50
    assert value(slots, "vedette_admissions_total", outcome="_overflow") == value(
        slots, "vedette_metric_series_dropped_total"
    )


def test_strange_label_values_survive(slots: list[int]) -> None:
    """Quotes, line breaks and other scripts in a label arrive unchanged on the page."""
    strange = 'a"b\\c\nd\u00e9\u2028'
    worker(slots, 0).counter("vedette_admissions_total", outcome=strange).inc()
    assert value(slots, "vedette_admissions_total", outcome=strange) == 1


def test_reader_survives_half_a_line(slots: list[int]) -> None:
    """A region whose writer was killed while writing is read as far as it is whole."""
    worker(slots, 0).counter("vedette_admissions_total", outcome="admitted").inc()
    region = Region(slots[0])
    region.cells[1] -= 3  # the directory's length: its last line is cut
    region.cells[0] += 1  # and a rewrite was under way
    assert value(slots, "vedette_metric_series_dropped_total") == 0
    worker(slots, 0).counter("vedette_admissions_total", outcome="again").inc()
    assert value(slots, "vedette_admissions_total", outcome="again") == 1


def test_openmetrics_when_asked(slots: list[int]) -> None:
    """A scraper that prefers OpenMetrics gets a page that the reference parser takes."""
    worker(slots, 0).histogram(SECONDS, **SERVED).observe(0.2)
    page, kind = Exposition([Region(fd) for fd in slots], service="test").render("application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert SECONDS in [family.name for family in parse_openmetrics(page.decode())]


def test_process_metrics(slots: list[int]) -> None:
    """Every live worker shows its memory, descriptors, start and CPU time."""
    worker(slots, 0)
    assert value(slots, "process_resident_memory_bytes", worker="0") > 10_000_000
    assert value(slots, "process_open_fds", worker="0") > 3
    assert value(slots, "process_start_time_seconds", worker="0") > 1_700_000_000
    assert value(slots, "process_cpu_seconds_total", worker="0") > 0
    assert ("process_open_fds", frozenset({("worker", "1")})) not in samples(slots)
