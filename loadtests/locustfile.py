r"""A Locust scenario for a deployment of your own: HTTP and gRPC users, a ramp, think time, and a verdict at the end.

    pip install --group load
    locust -f loadtests/locustfile.py --headless --host http://localhost:8080 --grpc localhost:8081 \
        --model diabetes --peak-users 50 --ramp 30 --hold 60 --slo-p99-ms 50 --slo-error-percent 0.1

Requests are made up from the model's metadata, which the server is asked for. Name `HttpCaller` or `GrpcCaller` at the
end of the line to have only these. The exit status is 1 when a limit is broken. Every option is an environment
variable, too (`VEDETTE_LOAD_MODEL` and so on). Rule: what is decided here stands in `loadtests.scenario`.
"""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

import grpc
import grpc.experimental.gevent
from locust import FastHttpUser, LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests.scenario import DTYPES, Input, Limits, Ramp, Seen, inputs_of, json_requests, verdict
from vedette.proto.inference.v1 import inference_pb2 as pb

grpc.experimental.gevent.init_gevent()  # grpcio waits in its own threads otherwise, and gevent's users stand still

SERVICE = "/inference.GRPCInferenceService"
TIMEOUT_S = 30


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser, **_: Any) -> None:
    """What a run can be told; by argument or by environment."""

    def add(name: str, kind: type, default: Any, says: str) -> None:
        variable = "VEDETTE_LOAD_" + name.upper().replace("-", "_")
        parser.add_argument(f"--{name}", type=kind, default=default, env_var=variable, help=f"{says} ({variable})")

    add("grpc", str, "localhost:8081", "address of the gRPC port")
    add("model", str, "reference", "endpoint to ask")
    add("rows", int, 1, "rows a request")
    add("think", float, 0.1, "mean seconds that a user thinks between two requests")
    add("peak-users", int, 20, "users at the end of the ramp")
    add("ramp", float, 30.0, "seconds until all users are there")
    add("hold", float, 60.0, "seconds that they stay")
    add("slo-p50-ms", float, None, "limit of the median")
    add("slo-p99-ms", float, None, "limit of the 99th percentile")
    add("slo-error-percent", float, 0.0, "failed requests in a hundred that are allowed")


class Steps(LoadTestShape):
    """Users come one after the other, stay, and the run ends."""

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be now."""
        chosen = self.runner.environment.parsed_options
        users = Ramp(chosen.peak_users, chosen.ramp, chosen.hold).users_at(self.get_run_time())
        return None if users is None else (users, max(users, 1))


def thinking(user: User) -> float:
    """Seconds until a user's next request: exponential, as people who do not know of each other."""
    import random

    mean = user.environment.parsed_options.think
    return random.expovariate(1 / mean) if mean > 0 else 0.0


class HttpCaller(FastHttpUser):
    """Asks with V2 JSON over a connection of its own."""

    wait_time = thinking

    def on_start(self) -> None:
        """Learn what the model wants."""
        chosen = self.environment.parsed_options
        self._path = f"/v2/models/{chosen.model}/infer"
        self._bodies: Iterator[bytes] = itertools.cycle(_bodies(self.host, chosen.model, chosen.rows))

    @task
    def infer(self) -> None:
        """One request; anything but 200 with outputs is a failure."""
        headers = {"content-type": "application/json"}
        with self.client.post(
            self._path, data=next(self._bodies), headers=headers, name="HTTP", catch_response=True
        ) as response:
            if response.status_code != 200 or b'"outputs"' not in (response.content or b""):
                response.failure(f"{response.status_code}: {(response.text or '')[:200]}")


@cache
def _bodies(host: str, model: str, rows: int) -> tuple[bytes, ...]:
    """The requests of everyone, made once."""
    with urllib.request.urlopen(f"{host}/v2/models/{model}", timeout=TIMEOUT_S) as response:
        metadata = json.load(response)
    return tuple(json.dumps(request).encode() for request in json_requests(inputs_of(metadata), rows))


class GrpcCaller(User):
    """Asks with raw contents over a channel of its own."""

    wait_time = thinking
    _calls: ClassVar[tuple[bytes, ...]] = ()

    def on_start(self) -> None:
        """Open the channel and learn what the model wants."""
        chosen = self.environment.parsed_options
        self._channel = grpc.insecure_channel(chosen.grpc, [("grpc.use_local_subchannel_pool", 1)])
        if not GrpcCaller._calls:
            GrpcCaller._calls = tuple(_grpc_requests(self._channel, chosen.model, chosen.rows))
        self._requests = itertools.cycle(GrpcCaller._calls)
        self._infer = self._channel.unary_unary(f"{SERVICE}/ModelInfer", bytes, pb.ModelInferResponse.FromString)

    def on_stop(self) -> None:
        """Hang up."""
        self._channel.close()

    @task
    def infer(self) -> None:
        """One call, told to Locust."""
        begun, failed, size = time.perf_counter(), None, 0
        try:
            size = self._infer(next(self._requests), timeout=TIMEOUT_S).ByteSize()
        except grpc.RpcError as error:
            failed = error
        self.environment.events.request.fire(
            request_type="gRPC", name="gRPC", response_time=(time.perf_counter() - begun) * 1e3, response_length=size,
            exception=failed, context={},
        )  # fmt: skip


def _grpc_requests(channel: grpc.Channel, model: str, rows: int) -> Iterator[bytes]:
    call = channel.unary_unary(
        f"{SERVICE}/ModelMetadata", pb.ModelMetadataRequest.SerializeToString, pb.ModelMetadataResponse.FromString
    )
    metadata = call(pb.ModelMetadataRequest(name=model), timeout=TIMEOUT_S)
    inputs = [Input(entry.name, entry.datatype, tuple(entry.shape)) for entry in metadata.inputs]
    for request in json_requests(inputs, rows):
        yield _message(model, request["inputs"]).SerializeToString()


def _message(model: str, tensors: list[dict[str, Any]]) -> pb.ModelInferRequest:
    import numpy as np

    message = pb.ModelInferRequest(model_name=model)
    for tensor in tensors:
        message.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        if tensor["datatype"] == "BYTES":
            raw = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in tensor["data"])
        else:
            raw = np.array(tensor["data"], DTYPES[tensor["datatype"]]).tobytes()
        message.raw_input_contents.append(raw)
    return message


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Say what became of the objective, and exit with it."""
    chosen = environment.parsed_options
    limits = Limits(chosen.slo_p50_ms, chosen.slo_p99_ms, chosen.slo_error_percent)
    seen = [
        Seen(entry.name, entry.num_requests, entry.num_failures, entry.get_response_time_percentile(0.5),
             entry.get_response_time_percentile(0.99))
        for entry in environment.stats.entries.values()
    ]  # fmt: skip
    text, met = verdict(seen, limits)
    print(text)
    environment.process_exit_code = 0 if met else 1
