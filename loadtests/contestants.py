"""Who takes part in the contest: ours with its settings, a bare servicer, and the peers that can be installed here.

Rule: `vedette` is what a user gets who changes nothing but capture; each other line of ours differs from it in the one
thing that its name says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests import environments, models, peers, targets
from loadtests.targets import Target

OURS = "vedette"
UNBATCHED = "vedette without batching"
FAST = "vedette (fast)"
BARE_GRPC = "bare grpcio aio"
FAST_ENV = {"VEDETTE_INFERENCE__GRPC_TRANSPORT": "fast"}
NO_BATCHING: dict[str, object] = {"dynamic_batching": {"enabled": False}}
"""Of an endpoint's configuration: every request runs alone."""

Start = Callable[[list[str], tuple[str, ...]], AbstractContextManager[Target]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server, what it can be asked, and how it is started: with the CPUs' prefix and the names of the models."""

    name: str
    speaks: tuple[str, ...]
    models: tuple[str, ...]
    start: Start
    note: str = ""


@dataclass(frozen=True, slots=True)
class Absence:
    """A server that was asked for and did not run, or not all the way."""

    server: str
    reason: str


def ours() -> list[Contestant]:
    """Our lines of the table, and the servicer that gRPC figures are compared with.

    ONNX Runtime's threads follow from the CPUs that the process is given.
    """
    return [
        Contestant(OURS, ("json", "binary", "grpc"), models.NAMES, _vedette({}, {}), "metrics on, 100 % capture"),
        Contestant(UNBATCHED, ("json", "binary", "grpc"), models.NAMES, _vedette(NO_BATCHING, {}),
                   "as above, every request runs alone"),
        Contestant(FAST, ("grpc",), models.NAMES, _vedette({}, FAST_ENV), "as above, the extra `fast` for gRPC"),
        Contestant(BARE_GRPC, ("grpc",), ("reference",), lambda cpu, _: targets.plain_grpc(cpu),
                   "a grpcio aio servicer around ONNX Runtime, nothing else"),
    ]  # fmt: skip


def _vedette(options: dict[str, object], env: dict[str, str]) -> Start:
    def start(cpu: list[str], names: tuple[str, ...]) -> AbstractContextManager[Target]:
        return targets.vedette(cpu, names=names, options={**targets.CAPTURED, **options}, env=env)

    return start


def of_peer(peer: peers.Peer, folder: Path, threads: int) -> Contestant:
    """A peer as a contestant; blocks while its environment is made.

    Raises:
        NotInstalled: its packages cannot be had here.
    """
    python = environments.python_of(peer.home)
    begin = partial(targets.peer, peer, python, folder, threads=threads)
    return Contestant(peer.name, peer.speaks, peer.models, lambda cpu, _: begin(cpu=cpu), peer.note)


def chosen(names: list[str] | None) -> tuple[peers.Peer, ...]:
    """The peers that are asked for by name or folder; all when nobody chose, none for `none`.

    Raises:
        SystemExit: there is no such peer.
    """
    everyone = peers.found()
    if names is None:
        return everyone
    wanted = {name.strip().lower() for name in names} - {"none", ""}
    known = {key for peer in everyone for key in (peer.folder.lower(), peer.name.lower())}
    if unknown := wanted - known:
        raise SystemExit(
            f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(p.folder for p in everyone)}"
        )
    return tuple(peer for peer in everyone if {peer.folder.lower(), peer.name.lower()} & wanted)
