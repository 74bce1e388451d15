"""Arrivals that the server cannot move, and latencies that omit nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loadtests.arrivals import DRAIN_S, Times, drive, schedule, whole_answer
from loadtests.generators import BrokenRun
from loadtests.http2 import GrpcWire, header_block
from loadtests.messages import GRPC_PATH


class Clock:
    """A clock that goes on by a step whenever somebody looks."""

    def __init__(self, step: float = 1e-6) -> None:
        self.now, self._step = 0.0, step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


class Stalling:
    """A server with one connection that answers in a millisecond, and stands still from one second to two."""

    def __init__(self, clock: Clock, connections: int = 1) -> None:
        self._clock, self._connections = clock, connections
        self._due: list[tuple[float, int]] = []

    def ready(self) -> bool:
        return len(self._due) < self._connections

    def send(self, number: int) -> None:
        now = self._clock.now
        end = now + 0.001
        self._due.append((2.0 + (end - 1.0) if 1.0 <= end < 2.0 else end, number))

    def answered(self) -> list[int]:
        done = [number for end, number in self._due if end <= self._clock.now]
        self._due = [waiting for waiting in self._due if waiting[1] not in done]
        return done

    def close(self) -> None:
        pass


class Silent(Stalling):
    """A server that answers nothing after its fifth request."""

    def answered(self) -> list[int]:
        return [number for number in super().answered() if number < 5]


def test_constant_arrivals_are_at_equal_distances() -> None:
    """As many as the rate says, from zero on."""
    assert schedule(4.0, 1.0).tolist() == [0.0, 0.25, 0.5, 0.75]


@given(rate=st.floats(1, 5000), seconds=st.floats(0.5, 3), poisson=st.booleans())
def test_schedule_has_the_rate_and_never_goes_back(rate: float, seconds: float, poisson: bool) -> None:
    """Due times begin at zero and are ordered, whatever the arrivals are."""
    due = schedule(rate, seconds, poisson=poisson)
    assert len(due) == round(rate * seconds)
    assert not len(due) or due[0] == 0.0
    assert (np.diff(due) >= 0).all()


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_callers() -> None:
    """Mean gap 1/rate, and a standard deviation as long as the mean."""
    gaps = np.diff(schedule(1000.0, 50.0, poisson=True))
    assert gaps.mean() == pytest.approx(0.001, rel=0.02)
    assert gaps.std() == pytest.approx(0.001, rel=0.03)


def test_a_stall_is_counted_for_everyone_who_came_during_it() -> None:
    """100 a second for three seconds with one second of silence: a third waited, on average half a second. A closed
    loop would have counted one slow request."""
    clock = Clock()
    times = drive(Stalling(clock), schedule(100.0, 3.0).tolist(), 0.0, clock=clock)
    latency = times.done - times.due
    during = (times.due >= 1.0) & (times.due < 1.98)
    assert during.sum() == 98
    assert latency[during].mean() == pytest.approx(0.5, abs=0.1)
    assert latency[times.due < 0.99].max() < 0.002
    found = times.summary(100.0)
    assert found.p50_ms < 2
    assert found.p99_ms > 900
    assert found.unanswered == 0


def test_waiting_for_a_connection_is_not_the_generators_lateness() -> None:
    """`late_ms` says how good the generator is, not how slow the server."""
    clock = Clock()
    found = drive(Stalling(clock), schedule(100.0, 3.0).tolist(), 0.0, clock=clock).summary(100.0)
    assert found.late_ms < 0.1


def test_what_is_never_answered_is_counted_and_ends_the_run() -> None:
    """The percentiles among them are lower bounds: the time until the run was given up."""
    clock = Clock(1e-4)
    found = drive(Silent(clock, 100), schedule(100.0, 0.2).tolist(), 0.0, clock=clock).summary(100.0)
    assert (found.answered, found.unanswered) == (5, 15)
    assert found.p99_ms > (DRAIN_S - 1) * 1e3
    assert clock.now < DRAIN_S + 1


def test_the_warm_up_is_not_counted() -> None:
    """Only what was due after it."""
    due = np.array([0.0, 1.0, 2.0])
    late = Times(due, due, due, due + np.array([9.0, 0.1, 0.2])).since(1.0).summary(1.0)
    assert late.answered == 2
    assert late.max_ms == pytest.approx(200.0)


def test_a_run_of_nothing_is_no_result() -> None:
    """Neither no request nor no answer has percentiles."""
    none = np.array([])
    with pytest.raises(BrokenRun):
        Times(none, none, none, none).summary(1.0)
    one, never = np.array([0.0]), np.array([math.nan])
    with pytest.raises(BrokenRun):
        Times(one, one, one, never).summary(1.0)


WHOLE = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH: 5\r\n\r\nhello"


def test_an_answer_is_whole_when_its_last_byte_is_there() -> None:
    """Wherever the network cuts it."""
    assert [whole_answer(WHOLE[:end]) for end in range(1, len(WHOLE) + 1)] == [False] * (len(WHOLE) - 1) + [True]


@pytest.mark.parametrize("content", [b"", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_anything_but_a_200_with_a_length_breaks_the_run(content: bytes) -> None:
    """A closed connection, an error, an answer whose end nobody knows."""
    with pytest.raises(BrokenRun):
        whole_answer(content)


@contextmanager
def echo(answer: bytes, *, code: grpc.StatusCode | None = None) -> Iterator[int]:
    """A gRPC server that answers every call with these bytes, or with an error; its port."""

    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if code is not None:
            context.abort(code, "no")
        return answer + request[:0]

    handler = grpc.unary_unary_rpc_method_handler(infer)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        service, method = GRPC_PATH[1:].split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


def test_calls_over_our_http2_reach_a_server_we_did_not_write() -> None:
    """grpcio answers every one of them; more than one flow-control window goes through one connection."""
    with echo(b"answer" * 10) as port, closing(GrpcWire(port, GRPC_PATH, b"m" * 1000, 60)) as wire:
        times = drive(wire, schedule(2000.0, 0.2).tolist(), time.perf_counter())
    assert not np.isnan(times.done).any()


@pytest.mark.parametrize("failing", [{"code": grpc.StatusCode.UNAVAILABLE}, {}], ids=["an error", "a short answer"])
def test_an_error_of_a_call_breaks_the_run(failing: dict[str, grpc.StatusCode]) -> None:
    """h2load would count both as answers."""
    with (
        echo(b"short", **failing) as port,
        closing(GrpcWire(port, GRPC_PATH, b"m", 60)) as wire,
        pytest.raises(BrokenRun, match="an error"),
    ):
        drive(wire, [0.0], time.perf_counter())


def test_headers_are_literals_that_any_peer_decodes() -> None:
    """Indexed method and scheme, then literals without indexing, each with its length."""
    block = header_block(80, "/s/M")
    assert block.startswith(b"\x83\x86\x04\x04/s/M\x01\x0c127.0.0.1:80")
    assert block.endswith(b"\x00\x02te\x08trailers")
