"""The contest: which server is asked what, in turn, round after round, and the medians of it.

Rule: nobody is skipped in silence. A server that does not start, or answers wrongly once, is told with the reason, and
the others go on.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from loadtests import generators, machine, messages, targets
from loadtests.contestants import BARE_GRPC, FAST, OURS, UNBATCHED, Absence, Contestant
from loadtests.generators import BrokenRun, Figures
from loadtests.limits import Limits, measured
from loadtests.targets import NotStarted, Target

PROTOCOLS = ("json", "binary", "grpc")
IN_FLIGHT = (1, 32)
"""Connections over HTTP, calls in flight on one connection over gRPC."""
FEW = (OURS, UNBATCHED, FAST, BARE_GRPC, "FastAPI", "Triton, python")
"""Beginnings of the names of those that take part in every heat; the others meet at the reference model."""
GENERATOR_CPU, SERVER_CPU = 0, 1


@dataclass(frozen=True, slots=True)
class Heat:
    """What is asked: a model over a protocol with so many requests in flight."""

    model: str
    protocol: str
    in_flight: int


def heats(*, models: Sequence[str], protocols: Sequence[str]) -> list[Heat]:
    """All of the chosen models and protocols, at every number in flight."""
    product = itertools.product(models, protocols, IN_FLIGHT)
    return [Heat(model, protocol, in_flight) for model, protocol, in_flight in product]


def takes_part(contestant: Contestant, heat: Heat, *, full: bool) -> bool:
    """Whether the server is asked this; `full`: whatever it can answer.

    By default the whole field meets at the reference model over JSON and gRPC, and a few at 32 in flight elsewhere.
    """
    if heat.protocol not in contestant.speaks or heat.model not in contestant.models:
        return False
    if full or (heat.model == "reference" and heat.protocol != "binary"):
        return True
    return heat.in_flight > 1 and contestant.name.startswith(FEW)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: medians over the rounds."""

    server: str
    model: str
    protocol: str
    in_flight: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    rounds: list[list[float]]
    """Requests a second and p50 in ms of each round, so that ratios are taken round by round."""

    @property
    def heat(self) -> Heat:
        """What was asked."""
        return Heat(self.model, self.protocol, self.in_flight)


@dataclass(slots=True)
class Outcome:
    """What the contest has found so far."""

    runs: dict[tuple[str, Heat], list[Figures]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    limits: list[Limits] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)

    def rows(self, rounds: int) -> list[Row]:
        """The lines of those that finished every round, heat by heat."""
        done = {key: runs for key, runs in self.runs.items() if len(runs) == rounds}
        order = sorted(done, key=lambda key: (key[1].model != "reference", *_place(key[1])))
        return [_row(server, heat, done[server, heat], self.memory.get(server, 0.0)) for server, heat in order]


def _place(heat: Heat) -> tuple[str, int, int]:
    return heat.model, PROTOCOLS.index(heat.protocol), heat.in_flight


def _row(server: str, heat: Heat, runs: list[Figures], rss_mb: float) -> Row:
    return Row(
        server, heat.model, heat.protocol, heat.in_flight,
        requests_per_s=statistics.median(run.requests_per_s for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        rss_mb=round(rss_mb, 1),
        rounds=[[round(run.requests_per_s, 1), run.p50_ms] for run in runs],
    )  # fmt: skip


def _announce(say: Callable[[str, int], None], number: int, name: str, what: str, over: int) -> None:
    say(f"round {number + 1}: {name} {what}" if what else "", over)


def one_line(error: Exception) -> str:
    """What a table can show of an error."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def run(target: Target, heat: Heat, *, seconds: int) -> Figures:
    """One run between two checks of the answer; errors that the server counted break it, too.

    Raises:
        BrokenRun: something was answered wrongly.
    """
    load, check = _grpc(target, heat) if heat.protocol == "grpc" else _http(target, heat)
    check()
    load(seconds=1)
    figures = load(seconds=seconds)
    check()
    if wrong := targets.errors_counted(target):
        raise BrokenRun(f"{target.name} counted {wrong:.0f} failed requests")
    return figures


Parts = tuple[Callable[..., Figures], Callable[[], object]]


def _http(target: Target, heat: Heat) -> Parts:
    url, message = target.infer_url(heat.model), messages.http_message(heat.model, heat.protocol)
    check = partial(messages.check_http, url, heat.model, heat.protocol)
    load = partial(
        generators.wrk, url, message, connections=heat.in_flight, cpu=machine.pin(GENERATOR_CPU), answer_bytes=check()
    )
    return load, check


def _grpc(target: Target, heat: Heat) -> Parts:
    answer = messages.ask_grpc(target.grpc_port, heat.model)
    load = partial(
        generators.h2load, target.grpc_port, messages.GRPC_PATH, messages.grpc_message(heat.model),
        answer=answer, streams=heat.in_flight, cpu=machine.pin(GENERATOR_CPU),
    )  # fmt: skip
    return load, partial(messages.ask_grpc, target.grpc_port, heat.model)


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is asked what, how long and how often."""

    contestants: Sequence[Contestant]
    heats: Sequence[Heat]
    rounds: int
    seconds: int
    full: bool = False
    threads: int = 1
    """CPUs of the server, and what ONNX Runtime may use inside an operator."""
    run: Callable[..., Figures] = run
    limits: Callable[..., Limits] = measured

    def heats_of(self, contestant: Contestant) -> list[Heat]:
        """What the server is asked."""
        return [heat for heat in self.heats if takes_part(contestant, heat, full=self.full)]

    @property
    def steps(self) -> int:
        """Runs in all, for a progress bar."""
        return self.rounds * sum(len(self.heats_of(contestant)) for contestant in self.contestants)

    def hold(self, say: Callable[[str, int], None]) -> Outcome:
        """Run it: the servers in turn, round after round. `say` gets what happens and how many runs are over."""
        outcome = Outcome()
        names = tuple(dict.fromkeys(heat.model for heat in self.heats))
        for number in range(self.rounds):
            say(f"round {number + 1}: ONNX Runtime in process", 0)
            cpu = machine.pin(SERVER_CPU, self.threads)
            outcome.limits.append(self.limits(names, cpu, seconds=0.5, threads=self.threads))
            for contestant in self.contestants:
                self._turn(contestant, number, outcome, partial(_announce, say, number, contestant.name))
        return outcome

    def _turn(self, contestant: Contestant, number: int, outcome: Outcome, say: Callable[[str, int], None]) -> None:
        """One server's part of a round; what failed in an earlier round is not tried again."""
        mine = self.heats_of(contestant)
        waiting = [heat for heat in mine if len(outcome.runs.get((contestant.name, heat), ())) == number]
        if not waiting:
            say("", len(mine))
            return
        say("starts", len(mine) - len(waiting))
        models = tuple(dict.fromkeys(heat.model for heat in mine))
        try:
            with contestant.start(machine.pin(SERVER_CPU, self.threads), models) as target:
                for heat in waiting:
                    say(f"{heat.model}, {heat.protocol}, {heat.in_flight} in flight", 0)
                    self._heat(target, contestant, heat, outcome)
                    say("", 1)
        except (NotStarted, OSError) as error:
            outcome.absences.append(Absence(contestant.name, one_line(error)))

    def _heat(self, target: Target, contestant: Contestant, heat: Heat, outcome: Outcome) -> None:
        try:
            figures = self.run(target, heat, seconds=self.seconds)
        except BrokenRun as error:
            where = f"{heat.model}, {heat.protocol}, {heat.in_flight} in flight"
            outcome.absences.append(Absence(contestant.name, f"{where}: {one_line(error)}"))
        else:
            outcome.runs.setdefault((contestant.name, heat), []).append(figures)
            used = machine.rss_mb(target.pid)  # while it lives: some end in the middle of their turn
            outcome.memory[contestant.name] = max(used, outcome.memory.get(contestant.name, 0.0))


def ratios(mine: Row, other: Row) -> list[float]:
    """Requests a second of one server to another's, round by round."""
    return [own[0] / theirs[0] for own, theirs in zip(mine.rounds, other.rounds, strict=True)]


def beside(rows: Sequence[Row], server: str) -> Iterator[tuple[Row, float | None]]:
    """Every row with how many times more a server answers in the same heat; nothing where it took no part."""
    own = {row.heat: row for row in rows if row.server == server}
    for row in rows:
        mine = own.get(row.heat)
        yield row, statistics.median(ratios(mine, row)) if mine else None
