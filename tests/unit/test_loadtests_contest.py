"""Who meets whom, what becomes of those who fail, and ratios that are taken round by round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from loadtests import contest
from loadtests.contest import Contest, Heat, beside, heats, ratios, takes_part
from loadtests.contestants import OURS, Absence, Contestant
from loadtests.generators import BrokenRun, Figures
from loadtests.targets import NotStarted, Target
from tests.unit.loadtest_rows import JSON_32, row

GRPC_32 = Heat("reference", "grpc", 32)


def contestant(name: str, *, speaks: tuple[str, ...] = ("json", "grpc"), stops_at: int = 99) -> Contestant:
    """A server that is itself; it does not start any more from its `stops_at`-th time on."""
    starts = iter(range(100))

    @contextmanager
    def start(cpu: list[str], models: tuple[str, ...]) -> Iterator[Target]:
        if next(starts) >= stops_at:
            raise NotStarted("it ended with 1:\n  no such option")
        yield Target(name, pid=os.getpid())

    return Contestant(name, speaks, ("reference", "mlp"), start)


def hold(
    contestants: list[Contestant], asked: list[Heat], *, rounds: int = 2, wrong: tuple[str, Heat] | None = None
) -> tuple[contest.Outcome, list[tuple[str, Heat]], int]:
    """A contest whose runs take no time: outcome, runs in their order, and the steps that were announced as over."""
    order: list[tuple[str, Heat]] = []
    over = [0]

    def run(target: Target, heat: Heat, *, seconds: int) -> Figures:
        order.append((target.name, heat))
        if (target.name, heat) == wrong:
            raise BrokenRun("a wrong answer")
        return Figures(1000.0 * len(order), 1.0, 2.0)

    def limits(names: tuple[str, ...], cpu: list[str], **_: Any) -> dict[str, dict[int, float]]:
        return {name: {1: 1.0, 8: 2.0, 32: 3.0} for name in names}

    def say(_: str, steps: int) -> None:
        over[0] += steps

    held = Contest(contestants, asked, rounds, 1, run=run, limits=limits)
    outcome = held.hold(say)
    assert over[0] <= held.steps
    return outcome, order, held.steps - over[0]


def test_servers_run_in_turn_round_after_round() -> None:
    """A B A B, never A A B B: what the machine does to one round it does to both."""
    outcome, order, left = hold([contestant("a"), contestant("b")], [JSON_32])
    assert [name for name, _ in order] == ["a", "b", "a", "b"]
    assert left == 0
    assert [found.server for found in outcome.rows(2)] == ["a", "b"]
    assert outcome.rows(2)[0].rounds == [[1000.0, 1.0], [3000.0, 1.0]]
    assert len(outcome.limits) == 2
    assert outcome.memory["a"] > 1


def test_a_server_that_does_not_start_is_told_and_the_others_go_on() -> None:
    """The reason is one line; nothing of the rounds it finished stands as if it were a result."""
    outcome, _, _ = hold([contestant("a", stops_at=1), contestant("b")], [JSON_32])
    assert [found.server for found in outcome.rows(2)] == ["b"]
    assert outcome.absences == [Absence("a", "it ended with 1: no such option")]


def test_a_server_that_never_starts_is_tried_once() -> None:
    """Minutes of waiting for a server are spent once, not every round."""
    outcome, order, _ = hold([contestant("a", stops_at=0), contestant("b")], [JSON_32], rounds=3)
    assert [name for name, _ in order] == ["b", "b", "b"]
    assert outcome.absences == [Absence("a", "it ended with 1: no such option")]


def test_a_wrong_answer_costs_the_heat_and_no_other() -> None:
    """The heat is told among what is not measured; the server's other heats stand."""
    outcome, order, _ = hold([contestant("a")], [JSON_32, GRPC_32], wrong=("a", JSON_32))
    assert [found.heat for found in outcome.rows(2)] == [GRPC_32]
    assert outcome.absences == [Absence("a", "reference, json, 32 in flight: a wrong answer")]
    assert order.count(("a", JSON_32)) == 1


def test_nobody_is_asked_what_he_does_not_speak() -> None:
    """A peer without gRPC has no gRPC heat, not even in a full run."""
    plain = contestant("plain", speaks=("json",))
    assert not takes_part(plain, GRPC_32, full=True)
    assert not takes_part(plain, Heat("cnn", "json", 32), full=True)
    assert takes_part(plain, JSON_32, full=False)


@pytest.mark.parametrize(("name", "expected"), [(OURS, True), ("Triton, python backend", True), ("Ray Serve", False)])
def test_a_few_meet_beyond_the_reference_model(name: str, expected: bool) -> None:
    """By default the whole field meets at one model; --full brings everyone everywhere."""
    heat = Heat("mlp", "json", 32)
    assert takes_part(contestant(name), heat, full=False) is expected
    assert takes_part(contestant(name), heat, full=True)


def test_heats_are_every_combination() -> None:
    """Models times protocols times numbers in flight, each once."""
    found = heats(models=["reference", "mlp"], protocols=["json", "grpc"])
    assert len(found) == len(set(found)) == 2 * 2 * 2


def test_ratios_are_of_the_same_round() -> None:
    """A round in which the machine was slow for both is worth as much as any other."""
    assert ratios(row("a", [200.0, 20.0, 300.0]), row("b", [100.0, 10.0, 100.0])) == [2.0, 2.0, 3.0]


def test_beside_ours_is_the_median_of_ratios_and_not_the_ratio_of_medians() -> None:
    """With medians 200 and 150 their ratio would be 1.33."""
    mine, other = row(OURS, [100.0, 200.0, 300.0]), row("b", [50.0, 200.0, 150.0])
    lonely = row("c", [1.0], heat=GRPC_32)
    assert [ratio for _, ratio in beside([mine, other, lonely], OURS)] == [1.0, 2.0, None]
