"""Where the microseconds of one request go: `python -m loadtests.profile_request [--rounds 7]`.

Each stage is run by itself, thousands of times, with the objects of a real service; the table shows the best of the
rounds, because whatever else runs on the machine only adds. `in process` is the whole request from the bytes of the
socket to the bytes of the answer, `over the wire` the median that a client waits at one connection, and
`socket alone` what it waits for a server that answers without looking. docs/design/performance.md reads the table.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop
from rich.console import Console
from rich.table import Table

from loadtests import machine, messages, models, targets
from loadtests.generators import Message
from loadtests.room import MODEL, Room, open_room
from vedette.chassis.connections import Connection, Outbox
from vedette.chassis.eager import start_eagerly
from vedette.chassis.heads import Heads, parse_head
from vedette.codec.v2json import decode_request, encode_response
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.rpc_messages import decode_request as decode_message
from vedette.proto.inference.v1 import inference_pb2 as pb

CALLS = 2000
TRIPS = 2000
PATH = f"/v2/models/{MODEL}/infer"


def http_bytes(message: Message) -> bytes:
    """The request as it stands on the wire."""
    fields = {"Host": "127.0.0.1", **message.headers, "Content-Length": str(len(message.body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode() + message.body


@dataclass(slots=True)
class Line:
    """One stage and its microseconds."""

    stage: str
    us: float


class Stopwatch:
    """Times a call: the best round's mean."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    def us(self, call: Callable[[], object]) -> float:
        """Microseconds a call."""
        best = float("inf")
        for _ in range(self._rounds):
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            best = min(best, time.perf_counter() - began)
        return best / CALLS * 1e6

    def finished_us(self, work: Callable[[], Coroutine[Any, Any, object]]) -> float:
        """Microseconds of a coroutine that never waits."""
        return self.us(lambda: finish(work()))


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not wait."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("it waited: this model does not run on the event loop")


class _Wire(asyncio.Transport):
    """A client that takes everything and is nowhere."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.last = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.last = bytes(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


class _Server:
    """What a connection asks of its server, without sockets."""

    def __init__(self, app: Any) -> None:
        self.app, self.heads, self.stopping = app, Heads(), False
        self.date = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.loop)
        self.open: set[Connection] = set()

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)


async def _outside_tasks(call: Callable[[], float]) -> float:
    """Run it as the loop runs a callback of a socket: no task is current."""
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(run)
    return await done


async def http_lines(room: Room, watch: Stopwatch, message: Message) -> list[Line]:
    """The stages of one HTTP request."""
    raw = http_bytes(message)
    head = raw[: raw.index(b"\r\n\r\n") + 4]
    server, wire = _Server(room.front().__rsgi__), _Wire()
    connection = Connection(server)
    connection.connection_made(wire)
    server.heads.read(head)
    length = int(message.headers[messages.HEADER_LENGTH]) if messages.HEADER_LENGTH in message.headers else None
    binary = {} if length is None else {"y": True}
    inference = decode_request(message.body, length)
    inference.endpoint = MODEL

    async def nothing() -> None: ...

    def whole() -> None:
        connection.data_received(raw)
        server.outbox.flush()

    lines = [
        Line("head: one that is known", watch.us(lambda: server.heads.read(head))),
        Line("a task that begins at once", await _outside_tasks(
            lambda: watch.us(lambda: start_eagerly(server.loop, nothing())))),
        Line("read the body", watch.us(lambda: decode_request(message.body, length))),
        *_model_lines(room, watch, inference),
    ]  # fmt: skip
    response = _response(room, inference)
    lines += [
        Line("write the answer", watch.us(lambda: encode_response(response, binary))),
        *_record_lines(room, watch),
    ]
    total = await _outside_tasks(lambda: watch.us(whole))
    if b" 200 OK" not in wire.last:
        raise RuntimeError(f"a wrong answer: {wire.last[:300]!r}")
    lines += [
        Line("connection, routing, ids, calls", total - sum(line.us for line in lines)),
        Line("in process", total),
    ]
    lines.append(Line("(a head that has to be read)", watch.us(lambda: parse_head(head))))
    return lines


def _model_lines(room: Room, watch: Stopwatch, inference: InferRequest) -> list[Line]:
    check, runtime = room.variant.check, room.variant.executor.runtime
    session = runtime._ort  # type: ignore[attr-defined] # noqa: SLF001 - what our own part is the rest of
    feeds, names = check.feeds(inference.inputs)[0], check.outputs(inference.outputs)
    arrays = {name: tensor.array for name, tensor in feeds.items()}
    model = watch.us(lambda: session.run(names, arrays))
    return [
        Line("check against the signature", watch.us(lambda: (check.feeds(inference.inputs), check.outputs([])))),
        Line("ONNX Runtime", model),
        Line("our session around it", watch.us(lambda: runtime.run(feeds, names)) - model),
    ]


def _record_lines(room: Room, watch: Stopwatch) -> list[Line]:
    meters, recorder = room.variant.meters, room.variant.recorder

    def metrics() -> None:
        meters.count("http", "OK")
        for observe in (meters.request, meters.queue, meters.compute, meters.rows):
            observe(0.0001)

    def count() -> None:
        recorder.succeeded(1, 1, at=0.0, total_s=0.0, queue_s=0.0, input_s=0.0, infer_s=0.0, output_s=0.0)

    return [Line("metrics", watch.us(metrics)), Line("statistics", watch.us(count))]


def _response(room: Room, inference: InferRequest) -> InferResponse:
    async def kept(_: InferRequest, response: InferResponse) -> InferResponse:
        return response

    response: InferResponse = finish(room.dataplane.infer(inference, kept, protocol="http"))
    return response


async def grpc_lines(room: Room, watch: Stopwatch) -> list[Line]:
    """The stages of one gRPC call, without the transport, which is not ours."""
    raw = messages.grpc_message(MODEL)
    method = next(line for line in room.service.rpc[0].methods if line.name == "ModelInfer")
    read = method.read or method.request.FromString
    inference = decode_message(pb.ModelInferRequest.FromString(raw), deadline=None)

    class _Call:
        def time_remaining(self) -> None: ...

        def invocation_metadata(self) -> tuple[()]:
            return ()

    context = _Call()
    lines = [Line("read the message", watch.us(lambda: read(raw))), *_model_lines(room, watch, inference)]
    lines += _record_lines(room, watch)
    total = watch.finished_us(lambda: method.handler(read(raw), context))
    lines += [
        Line("write the answer, routing, calls", total - sum(line.us for line in lines)),
        Line("in process", total),
    ]
    return lines


def trips_us(port: int, raw: bytes) -> float:
    """The median that a client with one connection waits for an answer."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waits = []
        for _ in range(TRIPS):
            began = time.perf_counter()
            connection.sendall(raw)
            answer = connection.recv(65536)
            waits.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a wrong answer: {answer[:300]!r}")
    return statistics.median(waits[TRIPS // 10 :]) * 1e6


def calls_us(port: int, raw: bytes) -> float:
    """The same over gRPC, by grpcio's blocking client."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(messages.GRPC_PATH, None, None)
        waits = []
        for _ in range(TRIPS):
            began = time.perf_counter()
            call(raw, timeout=10)
            waits.append(time.perf_counter() - began)
    return statistics.median(waits[TRIPS // 10 :]) * 1e6


_SILENT = """
import asyncio, sys, uvloop
class Silent(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", int(sys.argv[1]))
    print("listening", flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


def silent_us(raw: bytes) -> float:
    """The wait for a server that answers without looking: two wake-ups and four system calls."""
    port = targets.free_port()
    command = [*machine.pin(1), sys.executable, "-c", _SILENT, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            return trips_us(port, raw)
        finally:
            server.kill()


def wire_lines() -> dict[str, list[Line]]:
    """What a client waits at one connection, for each protocol."""
    found: dict[str, list[Line]] = {}
    with targets.vedette(machine.pin(1), options=targets.CAPTURED) as target:
        for name in ("json", "binary"):
            raw = http_bytes(messages.http_message(MODEL, name))
            found[name] = [Line("over the wire", trips_us(target.http_port, raw)), Line("socket alone", silent_us(raw))]
        found["grpc"] = [Line("over the wire", calls_us(target.grpc_port, messages.grpc_message(MODEL)))]
    return found


async def in_process(rounds: int) -> dict[str, list[Line]]:
    """The stages of each protocol. Capture is off: its writer takes the interpreter at times of its own."""
    watch = Stopwatch(rounds)
    async with open_room(captured=False) as room:
        return {
            "json": await http_lines(room, watch, messages.http_message(MODEL, "json")),
            "binary": await http_lines(room, watch, messages.http_message(MODEL, "binary")),
            "grpc": await grpc_lines(room, watch),
        }


def table(name: str, lines: list[Line]) -> Table:
    """The stages of one protocol as people read them."""
    drawn = Table("stage", title={"json": "HTTP, V2 JSON", "binary": "HTTP, binary", "grpc": "gRPC, raw"}[name])
    drawn.add_column("us", justify="right")
    for line in lines:
        drawn.add_row(line.stage, f"{line.us:.1f}")
    return drawn


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="of each stage; the best counts")
    parser.add_argument("--without-wire", action="store_true", help="start no servers")
    arguments = parser.parse_args()
    models.build(MODEL)
    stages = uvloop.run(in_process(arguments.rounds))
    wires = {} if arguments.without_wire else wire_lines()
    for name, lines in stages.items():
        Console().print(table(name, lines + wires.get(name, [])))


if __name__ == "__main__":
    main()
