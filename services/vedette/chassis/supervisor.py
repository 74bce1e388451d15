"""The parent process: holds the ports, keeps every worker alive, and ends them in order.

Rule: standard library only (a parent costs about 15 MB); it never speaks HTTP or gRPC. Ports are bound here
once, without SO_REUSEPORT, so a second suite on the same port fails at once; one in the same data folder does,
too, before it has touched anything. Workers accept from one shared HTTP socket, so a connection waiting when a
worker dies is answered by the next.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vedette.chassis import cells
from vedette.chassis.runfile import InUse, RunFile

_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_S = 30.0
"""A worker that lived this long starts again without delay."""
_KILL_MARGIN_S = 5.0
_LOOKS = 5
"""Looks in which a worker has not beaten, until it is killed."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What the supervisor needs to know of one service. `command` gets the worker's order appended."""

    service: str
    command: tuple[str, ...]
    config_file: str
    host: str
    port: int
    grpc_port: int
    workers: int
    run_dir: str
    drain_s: float
    """Longest orderly end of a worker, in seconds; it is killed a little after."""
    hang_s: float = 0.0
    """A worker whose event loop stands still for so long is killed; 0: it may."""


def supervise(plans: list[ServicePlan]) -> NoReturn:
    """Become the supervisor of these services: replaces this process, so its memory is not kept.

    The exit status is 0 after a clean drain, 1 when a service cannot start.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    order = json.dumps([asdict(plan) for plan in plans])
    os.execv(sys.executable, [sys.executable, "-P", "-m", __name__, order])  # noqa: S606 - our own interpreter


@dataclass(slots=True)
class _Slot:
    """One worker's seat: it outlives the processes that sit in it."""

    index: int
    region: int
    process: subprocess.Popen[bytes] | None = None
    report: int = -1
    unread: bytes = b""
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    ready: bool = False
    reason: str = ""
    beats: float = 0.0
    missed: int = 0
    """Looks, one after another, that found no new beat."""


@dataclass(slots=True)
class _Charge:
    """A service under supervision."""

    plan: ServicePlan
    listener: socket.socket
    grpc_hold: socket.socket
    guards: tuple[socket.socket, ...]
    run_file: RunFile
    slots: list[_Slot]
    has_listened: bool = False
    announced: bool = False
    look_due: float = 0.0
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        return any(slot.process is not None for slot in self.slots)

    def close(self) -> None:
        """Free the ports."""
        for held in (self.listener, self.grpc_hold, *self.guards):
            held.close()


class StartFailed(Exception):
    """A service cannot start; the message is for the operator."""


class Supervisor:
    """Runs until a signal or a failed start. Not a library: one per process, it owns the signal handlers."""

    def __init__(self, plans: list[ServicePlan]) -> None:
        self._plans = plans
        self._run_files: list[RunFile] = []
        self._charges: list[_Charge] = []
        self._selector = selectors.DefaultSelector()
        self._asked = False
        self._stopping = False
        self._kill_at = float("inf")
        self._status = 0

    def run(self) -> int:
        """Supervise; returns the exit status."""
        wake, notify = socket.socketpair()
        wake.setblocking(False)
        notify.setblocking(False)
        signal.set_wakeup_fd(notify.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: under nohup
                signal.signal(number, lambda *_: setattr(self, "_asked", True))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake, selectors.EVENT_READ)
        try:
            for plan in self._plans:
                self._run_files.append(_claim(plan))
            for plan, run_file in zip(self._plans, self._run_files, strict=True):
                self._charges.append(self._reserve(plan, run_file))
            self._start_due()
            while any(charge.alive for charge in self._charges) or not self._stopping:
                self._turn(wake)
        except StartFailed as failure:
            self._fail(str(failure))
        finally:
            self._release()
        return self._status

    def _turn(self, wake: socket.socket) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.fileobj is wake:
                _empty(wake)
            else:
                self._listen_to(*key.data)
        self._reap()
        if self._asked:
            self._stop()
        if not self._stopping:
            self._start_due()
            self._look_for_hung()
        elif time.monotonic() > self._kill_at:
            self._signal(signal.SIGKILL)
            self._kill_at = float("inf")

    def _patience(self) -> float | None:
        waits = [slot.due for charge in self._charges for slot in charge.slots if slot.process is None]
        waits += [charge.look_due for charge in self._charges if charge.plan.hang_s]
        moment = self._kill_at if self._stopping else min(waits, default=float("inf"))
        return None if moment == float("inf") else max(0.0, moment - time.monotonic())

    def _reserve(self, plan: ServicePlan, run_file: RunFile) -> _Charge:
        listener = _bind(plan, "port", plan.port)
        hold = _bind(plan, "grpc_port", plan.grpc_port)
        guards = (_guard(plan, "port", listener), _guard(plan, "grpc_port", hold))
        # Set after binding: the bind itself was exclusive, and now the workers' gRPC servers may join.
        hold.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        slots = [_Slot(index, cells.create_region(f"{plan.service}-{index}")) for index in range(plan.workers)]
        return _Charge(plan, listener, hold, guards, run_file, slots)

    def _start_due(self) -> None:
        now = time.monotonic()
        for charge in self._charges:
            for slot in charge.slots:
                if slot.process is None and slot.due <= now:
                    self._start(charge, slot)

    def _start(self, charge: _Charge, slot: _Slot) -> None:
        plan = charge.plan
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(writing, True)
        regions = [each.region for each in charge.slots]
        order = {
            "service": plan.service,
            "index": slot.index,
            "config_file": plan.config_file,
            "parent": os.getpid(),
            "http_fd": charge.listener.fileno(),
            "grpc_address": _join(plan.host, charge.grpc_hold.getsockname()[1]),
            "regions": regions,
            "report_fd": writing,
            "peers": {
                each.plan.service: _join(each.plan.host, each.grpc_hold.getsockname()[1]) for each in self._charges
            },
            "host": plan.host,
            "joins": any(each.ready for each in charge.slots),
        }
        passed = (charge.listener.fileno(), writing, *regions)
        slot.process = subprocess.Popen([*plan.command, json.dumps(order)], pass_fds=passed, stdin=subprocess.DEVNULL)
        os.close(writing)
        slot.report, slot.unread, slot.started = reading, b"", time.monotonic()
        slot.ready, slot.reason, slot.missed = False, "", 0
        self._selector.register(reading, selectors.EVENT_READ, (charge, slot))

    def _listen_to(self, charge: _Charge, slot: _Slot) -> None:
        """Take in what a worker reports; a line is whole or waits for its rest."""
        try:
            received = os.read(slot.report, 65536)
        except BlockingIOError:
            return
        if not received:
            self._hang_up(slot)
            return
        *lines, slot.unread = (slot.unread + received).split(b"\n")
        for line in lines:
            self._note(charge, slot, json.loads(line))

    def _note(self, charge: _Charge, slot: _Slot, report: dict[str, Any]) -> None:
        state = report["state"]
        if state == "listening":
            charge.has_listened = True
            charge.addresses = {"http": report["http"], "grpc": report["grpc"]}
        elif state == "failed":
            slot.reason = report["reason"]
        elif state in ("ready", "unready"):
            slot.ready = state == "ready"
            self._write_run_file(charge)

    def _write_run_file(self, charge: _Charge) -> None:
        """The file says where a ready service is and which workers are ready.

        It appears when all are: until then whoever connects may meet one that is not. It stays while the last is
        replaced.
        """
        enough = any if charge.announced else all
        if self._stopping or not enough(slot.ready for slot in charge.slots):
            return
        charge.announced = True
        workers = [slot.process.pid for slot in charge.slots if slot.process is not None and slot.ready]
        try:
            charge.run_file.write(charge.addresses, workers)
        except OSError as error:  # who serves goes on serving; it is only harder to find
            self._say(f"{charge.run_file.path}: {error.strerror}")

    def _look_for_hung(self) -> None:
        """Kill a worker that has not beaten in several looks: it holds connections that nobody answers.

        Looks are counted, not seconds: when the whole machine, or a terminal's job, was stopped and goes on, its
        workers have as long as before.
        """
        now = time.monotonic()
        for charge in self._charges:
            if not charge.plan.hang_s or charge.look_due > now:
                continue
            charge.look_due = now + charge.plan.hang_s / _LOOKS
            for slot in charge.slots:
                beats, before = cells.beats(slot.region), slot.beats
                slot.missed = slot.missed + 1 if beats and beats == before else 0
                slot.beats = beats
                if slot.missed >= _LOOKS and slot.process is not None:
                    self._say(f"{charge.plan.service}: worker {slot.index} stands still; it is killed")
                    slot.ready, slot.missed = False, 0
                    slot.process.kill()
                    self._write_run_file(charge)

    def _reap(self) -> None:
        for charge in self._charges:
            for slot in charge.slots:
                if slot.process is not None and slot.process.poll() is not None:
                    self._bury(charge, slot, slot.process.returncode)

    def _bury(self, charge: _Charge, slot: _Slot, status: int) -> None:
        """A worker is gone: count it out, and plan its successor unless it never could start."""
        if slot.report >= 0:
            self._listen_to(charge, slot)  # its last words
        self._hang_up(slot)
        cells.mark_dead(slot.region)
        slot.process, slot.ready = None, False
        if self._stopping:
            if status not in (0, -signal.SIGTERM):  # SIGTERM kills one that had not begun to handle it
                self._status = 1
                self._say(f"{charge.plan.service}: worker {slot.index} ended with {_describe(status)}")
            if not charge.alive:
                charge.listener.close()  # who still knocks is refused, while other services finish
            return
        if not charge.has_listened:
            raise StartFailed(f"{charge.plan.service}: {slot.reason or 'worker ended with ' + _describe(status)}")
        lived = time.monotonic() - slot.started
        slot.failures = 0 if lived > _STEADY_S else slot.failures + 1
        delay = _BACKOFF_S[min(max(slot.failures - 1, 0), len(_BACKOFF_S) - 1)]
        slot.due = time.monotonic() + delay
        cells.count_restart(slot.region)
        self._write_run_file(charge)
        when = f"in {delay:g} s" if delay else "at once"
        self._say(f"{charge.plan.service}: worker {slot.index} ended with {_describe(status)}; replaced {when}")

    def _hang_up(self, slot: _Slot) -> None:
        if slot.report >= 0:
            self._selector.unregister(slot.report)
            os.close(slot.report)
            slot.report = -1

    def _stop(self) -> None:
        """Pass SIGTERM on, once; a second signal changes nothing."""
        if self._stopping:
            return
        self._stopping = True
        longest = max((plan.drain_s for plan in self._plans), default=0.0)
        self._kill_at = time.monotonic() + longest + _KILL_MARGIN_S
        self._signal(signal.SIGTERM)

    def _fail(self, reason: str) -> None:
        self._say(reason)
        self._stop()
        for charge in self._charges:
            for slot in charge.slots:
                if slot.process is not None:
                    try:
                        slot.process.wait(max(0.0, self._kill_at - time.monotonic()))
                    except subprocess.TimeoutExpired:
                        slot.process.kill()
                        slot.process.wait()
        self._status = 1

    def _signal(self, number: int) -> None:
        for charge in self._charges:
            for slot in charge.slots:
                if slot.process is not None:
                    slot.process.send_signal(number)

    def _release(self) -> None:
        for charge in self._charges:
            charge.close()
        for run_file in self._run_files:  # last: who finds the folder free finds the ports free
            run_file.release()

    def _say(self, text: str) -> None:
        print(f"vedette: {text}", file=sys.stderr, flush=True)  # noqa: T201 - it has no logging of its own


def _claim(plan: ServicePlan) -> RunFile:
    """Take the service's place in its data folder."""
    run_file = RunFile(Path(plan.run_dir), plan.service)
    try:
        run_file.claim()
    except InUse as error:
        raise StartFailed(str(error)) from error
    except OSError as error:
        raise StartFailed(f"data_dir {Path(plan.run_dir).parent}: {error.strerror}") from error
    return run_file


def _bind(plan: ServicePlan, setting: str, port: int) -> socket.socket:
    """Hold a port for ourselves alone: bound, not yet listening."""
    sock = socket.socket(socket.AF_INET6 if ":" in plan.host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((plan.host, port))
    except OSError as error:
        sock.close()
        raise _refused(plan, setting, port, error) from error
    return sock


def _guard(plan: ServicePlan, setting: str, bound: socket.socket) -> socket.socket:
    """Close the moment between binding and listening, in which the kernel lets a second suite bind as well.

    An abstract socket name is taken by one process at a time and free again when that process ends.
    """
    host, port = bound.getsockname()[:2]
    guard = socket.socket(socket.AF_UNIX)
    try:
        guard.bind(f"\0vedette-port-{_join(host, port)}")
    except OSError as error:
        guard.close()
        raise _refused(plan, setting, port, error) from error
    return guard


def _refused(plan: ServicePlan, setting: str, port: int, error: OSError) -> StartFailed:
    advice = port_advice(plan.service, setting) if error.errno == errno.EADDRINUSE else ""
    return StartFailed(f"{plan.service}: cannot listen on {_join(plan.host, port)}: {error.strerror}{advice}")


def port_advice(service: str, setting: str) -> str:
    """What to do about a port in use, as the rest of a line."""
    return f"; set VEDETTE_{service.upper()}__{setting.upper()} to another port, or 0 for a free one"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _describe(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _empty(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return


if __name__ == "__main__":
    sys.exit(
        Supervisor(
            [ServicePlan(**{**plan, "command": tuple(plan["command"])}) for plan in json.loads(sys.argv[1])]
        ).run()
    )
