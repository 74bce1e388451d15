"""What a worker process gets from its supervisor: sockets, metric regions and a line to report on.

Rule: it travels as one JSON argument and inherited file descriptors; never through the environment,
where every `VEDETTE_` variable is a setting.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import socket
from dataclasses import asdict, dataclass, field

from vedette.chassis.config import ConfigurationError, ServiceSettings
from vedette.chassis.supervisor import port_advice

_PR_SET_PDEATHSIG = 1
_BACKLOG = 4096
_OPEN_FILES = 65_536


@dataclass(slots=True)
class Place:
    """Where one worker stands. `listener` is bound and belongs to the place."""

    listener: socket.socket
    grpc_address: str
    host: str
    index: int = 0
    regions: tuple[int, ...] = ()
    """Descriptors of the metric regions of all workers of the service; empty: a region of its own."""
    report_fd: int = -1
    peers: dict[str, str] = field(default_factory=dict)
    """Service name -> gRPC address of the services under the same supervisor."""
    joins: bool = False
    """Others of the service are ready: the ports need not be opened before this worker is, too."""

    @property
    def supervised(self) -> bool:
        """Whether a supervisor started this process."""
        return self.report_fd >= 0

    @property
    def http_url(self) -> str:
        """The base URL that reaches this worker's service."""
        return f"http://{join_address(self.host, self.listener.getsockname()[1])}"

    @property
    def named_url(self) -> str:
        """The base URL for links that others open: this machine's name stands for every address."""
        everywhere = self.host in {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
        host = socket.gethostname() if everywhere else self.host
        return f"http://{join_address(host, self.listener.getsockname()[1])}"

    def tell(self, state: str, **facts: str) -> None:
        """Report to the supervisor; without one, to nobody."""
        if not self.supervised:
            return
        try:
            os.write(self.report_fd, json.dumps({"state": state, **facts}).encode() + b"\n")
        except OSError:  # the supervisor is gone, and its death signal is on the way
            pass


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """The one argument of a supervised worker's command line."""

    service: str
    index: int
    config_file: str
    parent: int
    http_fd: int
    grpc_address: str
    regions: tuple[int, ...]
    report_fd: int
    peers: dict[str, str]
    host: str
    joins: bool = False

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> WorkerOrder:
        """From JSON."""
        document = json.loads(text)
        return cls(**{**document, "regions": tuple(document["regions"])})


def take_place(order: WorkerOrder) -> Place:
    """Become the worker that the order describes: tie this process's life to the supervisor's."""
    die_with_parent(order.parent)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends these to us as well
        signal.signal(number, signal.SIG_IGN)
    listener = socket.socket(fileno=order.http_fd)
    listener.listen(_BACKLOG)
    return Place(
        listener,
        order.grpc_address,
        order.host,
        index=order.index,
        regions=order.regions,
        report_fd=order.report_fd,
        peers=order.peers,
        joins=order.joins,
    )


def open_place(service: str, settings: ServiceSettings) -> Place:
    """A place for a worker of `service` without a supervisor.

    Raises:
        ConfigurationError: the HTTP port is in use or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        address = join_address(settings.host, settings.port)
        advice = port_advice(service, "port") if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror}{advice}") from error
    return Place(listener, join_address(settings.host, settings.grpc_port), settings.host)


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def take_turns() -> None:
    """Schedule this thread, and those it will start, so that waking one does not interrupt another (SCHED_BATCH).

    The loop's thread wakes the server's I/O thread with every answer. Where both share a core the woken one ran
    at once and then waited for the interpreter's lock that the interrupted one held: two switches a request.
    Measured on one core, 32 connections, JSON on the reference model: 16k requests/s without this, 27k with it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:  # a sandbox may forbid it; then it is only slower
        pass


def allow_many_connections() -> None:
    """Raise the limit of open files, which is 1,024 on most systems, as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, also by kill -9."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)
