"""An open-loop load generator: requests are due at times that the server cannot move.

`python -m loadtests.arrivals --protocol json --port 8080 --model reference --rate 5000` prints what it found as JSON.

A closed loop sends the next request when the last one is answered, so a server that stalls is asked less, and the stall
is counted once: coordinated omission. Here every request has a due time, and its latency is counted from that time
on, also when no connection was free to send it. The process spins on a CPU of its own, because a timer that wakes it
late would be counted as the server's latency; `late_ms` says how late it sent while it could have.

Rule: nothing here waits for the server, and nothing of the service's code is used.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests import http2, messages
from loadtests.generators import BrokenRun, Message

CONNECTIONS = 128
"""Over HTTP; when all are busy a request waits, and the wait is counted."""
DRAIN_S = 10.0


def schedule(rate: float, seconds: float, *, poisson: bool = False, seed: int = 1) -> NDArray[np.float64]:
    """When requests are due, in seconds from the start: at equal distances, or as independent callers would come."""
    count = round(rate * seconds)
    if not poisson:
        return np.arange(count, dtype=np.float64) / rate
    gaps = np.random.default_rng(seed).exponential(1 / rate, count)
    gaps[:1] = 0.0
    return np.asarray(np.cumsum(gaps))


@dataclass(frozen=True, slots=True)
class Latencies:
    """What one run at a constant rate measured; percentiles count from the due time."""

    rate: float
    answered: int
    answered_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_ms: float
    """p99 of how late the generator itself sent what it could have sent: above p50 the figures mean little."""
    unanswered: int
    """Requests that had no answer DRAIN_S after the last was due: the server was behind. They count as answered then,
    so percentiles among them are lower bounds."""


@dataclass(frozen=True, slots=True)
class Times:
    """When each request was due, could be sent (a connection was free, too), was sent, and was answered: seconds on one
    clock, one element a request."""

    due: NDArray[np.float64]
    possible: NDArray[np.float64]
    sent: NDArray[np.float64]
    done: NDArray[np.float64]
    """NaN: never."""

    def since(self, begun: float) -> Times:
        """The same without what was due before."""
        counted = self.due >= begun
        return Times(self.due[counted], self.possible[counted], self.sent[counted], self.done[counted])

    def summary(self, rate: float) -> Latencies:
        """The percentiles.

        Raises:
            BrokenRun: there is nothing to summarise.
        """
        if not len(self.due):
            raise BrokenRun("no request was due after the warm-up")
        answered = ~np.isnan(self.done)
        count = int(answered.sum())
        if not count:
            raise BrokenRun("nothing was answered")
        done = np.where(answered, self.done, self.due[-1] + DRAIN_S)
        latency_ms = (done - self.due) * 1e3
        p50, p99, p999 = np.percentile(latency_ms, [50, 99, 99.9])
        late = np.percentile((self.sent - self.possible)[answered], 99) * 1e3
        span = max(float(done.max() - self.due.min()), 1e-9)
        return Latencies(
            rate=rate, answered=count, answered_per_s=count / span, p50_ms=float(p50), p99_ms=float(p99),
            p999_ms=float(p999), max_ms=float(latency_ms.max()), late_ms=float(late), unanswered=len(done) - count,
        )  # fmt: skip


class Wire(Protocol):
    """Connections to a server; requests are numbered by whoever sends them."""

    def ready(self) -> bool:
        """Whether a request could be sent now."""

    def send(self, number: int) -> None:
        """Send the next request."""

    def answered(self) -> list[int]:
        """The numbers that were answered since the last call; never waits. BrokenRun on a wrong answer."""

    def close(self) -> None:
        """Hang up."""


class HttpWire:
    """Keep-alive connections with one request in flight on each."""

    def __init__(self, port: int, path: str, message: Message, connections: int) -> None:
        self._request = _http_request(port, path, message)
        self._poll = select.epoll()
        self._idle: list[socket.socket] = []
        self._by_fd: dict[int, socket.socket] = {}
        self._number: dict[int, int] = {}
        self._partial: dict[int, bytes] = {}
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(connection.fileno(), select.EPOLLIN)
            self._by_fd[connection.fileno()] = connection
            self._idle.append(connection)

    def ready(self) -> bool:
        return bool(self._idle)

    def send(self, number: int) -> None:
        connection = self._idle.pop()
        self._number[connection.fileno()] = number
        connection.sendall(self._request)

    def answered(self) -> list[int]:
        done = []
        for fd, _ in self._poll.poll(0):
            connection = self._by_fd[fd]
            content = self._partial.pop(fd, b"") + connection.recv(65536)
            if whole_answer(content):
                done.append(self._number.pop(fd))
                self._idle.append(connection)
            else:
                self._partial[fd] = content
        return done

    def close(self) -> None:
        for connection in self._by_fd.values():
            connection.close()
        self._poll.close()


def _http_request(port: int, path: str, message: Message) -> bytes:
    headers = {"Host": f"127.0.0.1:{port}", **message.headers, "Content-Length": str(len(message.body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + message.body


def whole_answer(content: bytes) -> bool:
    """Whether this is all of a 200 with Content-Length.

    Raises:
        BrokenRun: it is another status, says no length, or the connection was closed.
    """
    if not content:
        raise BrokenRun("the server hung up")
    end = content.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = content[:end].lower()
    if not head.startswith(b"http/1.1 200"):
        raise BrokenRun(content[:200].decode(errors="replace"))
    at = head.find(b"content-length:")
    if at < 0:
        raise BrokenRun("an answer without Content-Length")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return len(content) >= end + 4 + length


def drive(
    wire: Wire, offsets: Sequence[float], begun: float, *, clock: Callable[[], float] = time.perf_counter
) -> Times:
    """Send everything when it is due, or as soon as the wire lets it, and end DRAIN_S after the last at the latest.

    Raises:
        BrokenRun: an answer was wrong.
    """
    count = len(offsets)
    due = [begun + offset for offset in offsets]
    possible, sent, done = ([math.nan] * count for _ in range(3))
    following = open_ = 0
    free_since, held = 0.0, False
    while following < count or open_:
        for number in wire.answered():
            done[number] = clock()
            open_ -= 1
        now = clock()
        while following < count and due[following] <= now:
            if not wire.ready():
                held = True
                break
            free_since, held = (now if held else free_since), False
            possible[following] = max(due[following], free_since)
            sent[following] = clock()
            wire.send(following)
            following, open_ = following + 1, open_ + 1
        if now > due[-1] + DRAIN_S:
            break
    return Times(np.array(due), np.array(possible), np.array(sent), np.array(done))


def _wire(given: argparse.Namespace) -> Wire:
    if given.protocol == "grpc":
        answer = messages.ask_grpc(given.port, given.model)
        return http2.GrpcWire(given.port, messages.GRPC_PATH, messages.grpc_message(given.model), len(answer))
    path = given.path.format(model=given.model)
    messages.check_http(f"http://127.0.0.1:{given.port}{path}", given.model, given.protocol)
    return HttpWire(given.port, path, messages.http_message(given.model, given.protocol), given.connections)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", choices=("json", "binary", "grpc"), default="json")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v2/models/{model}/infer")
    parser.add_argument("--model", default="reference")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before, which are not counted")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--poisson", action="store_true", help="as independent callers would come")
    given = parser.parse_args()
    offsets = schedule(given.rate, given.warmup + given.seconds, poisson=given.poisson)
    wire = _wire(given)
    gc.disable()
    begun = time.perf_counter() + 0.01
    times = drive(wire, offsets.tolist(), begun)
    wire.close()
    print(json.dumps(asdict(times.since(begun + given.warmup).summary(given.rate))))


if __name__ == "__main__":
    main()
