"""Weights, pins and targets, on routes of made-up variants."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import NotFound, Unavailable
from vedette.core.metrics import NoMetrics
from vedette.core.models import EndpointConfig, Variant
from vedette.inference.router import Absence, Route, Router, ServedVariant, Turns
from vedette.inference.workers import Gate

NO_PARTS = dict.fromkeys(("model_version", "check", "executor", "recorder", "meters"))


def served(name: str, version: int, weight: float = 1.0) -> ServedVariant:
    """A variant that is only ever picked, never run."""
    return ServedVariant("e", name, str(version), weight, **NO_PARTS)  # type: ignore[arg-type]


def route(*variants: ServedVariant, endpoint: str = "e", start: float = 0.0) -> Route:
    """A route over these variants."""
    config = EndpointConfig("m", tuple(Variant(v.name, int(v.version), v.weight) for v in variants))
    gate = Gate(10, NoMetrics().gauge("vedette_requests_in_flight"))
    return Route(endpoint, 1, config=config, variants=variants, gate=gate, turns=Turns(start))


@given(
    st.lists(st.floats(0.01, 100), min_size=2, max_size=6),
    st.integers(1, 2000),
    st.floats(0, 0.999),
)
def test_counts_stay_close_to_the_weights_at_every_moment(weights: list[float], requests: int, start: float) -> None:
    """After n requests each variant's count is within a dozen of its share, whatever the weights and the start."""
    variants = [served(f"v{i}", 1, weight) for i, weight in enumerate(weights)]
    made = route(*variants, start=start)
    counts = Counter(made.pick("", "").name for _ in range(requests))
    for variant in variants:
        assert abs(counts[variant.name] - requests * variant.weight / sum(weights)) <= 12


def test_a_small_canary_sees_traffic_soon_and_evenly() -> None:
    """A share of 1 % gets a request in every run of 200; chance would often leave it dry."""
    made = route(served("old", 1, 99), served("canary", 2, 1))
    hits = [i for i in range(10_000) if made.pick("", "").name == "canary"]
    assert 98 <= len(hits) <= 102
    assert max(b - a for a, b in pairwise(hits)) < 200


def test_a_variant_of_weight_zero_is_reached_only_by_name_or_version() -> None:
    """Weight 0 takes no traffic of its own."""
    made = route(served("old", 1), served("new", 2, 0))
    assert {made.pick("", "").name for _ in range(100)} == {"old"}
    assert made.pick("2", "").name == "new"
    assert made.pick("", "new").name == "new"
    assert made.pick("2", "new").name == "new"


def test_a_pinned_version_is_spread_over_its_variants() -> None:
    """Two variants of one version share its pinned traffic by weight."""
    made = route(served("a", 1, 3), served("b", 1, 1), served("c", 2, 4))
    counts = Counter(made.pick("1", "").name for _ in range(400))
    assert counts["c"] == 0
    assert 297 <= counts["a"] <= 303


def test_an_endpoint_whose_weights_are_all_zero_says_so() -> None:
    """Nobody is picked by accident."""
    with pytest.raises(Unavailable, match="every weight is 0"):
        route(served("a", 1, 0)).pick("", "")


def test_the_newest_version_is_by_number_not_by_text() -> None:
    """Version 10 is newer than 9."""
    made = route(served("a", 9), served("b", 10))
    assert made.versions == ["9", "10"]
    assert made.serving("").version == "10"


def test_replacing_a_route_returns_the_old_one() -> None:
    """Whoever swaps drains what it replaced."""
    router = Router()
    first, second = route(served("a", 1)), route(served("a", 2))
    assert router.put(first) is None
    assert router.put(second) is first
    assert router.get("e") is second
    assert router.remove("e") is second
    with pytest.raises(NotFound):
        router.route("e")


def test_an_absent_endpoint_gives_its_reason() -> None:
    """Wanted but not serving is Unavailable, which may be sent again; unknown is NotFound."""
    router = Router()
    router.remove("e", absence=Absence("it is being loaded"))
    with pytest.raises(Unavailable, match="it is being loaded"):
        router.route("e")
    router.put(route(served("a", 1)))
    assert router.absent == {}
    router.remove("e")
    with pytest.raises(NotFound):
        router.route("e")


async def test_who_waits_for_a_change_hears_of_the_next_one() -> None:
    """`changed` ends with the next put or remove, for every waiter, even when one gave up."""
    router = Router()
    waiters = [asyncio.create_task(router.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    router.put(route(replace(served("a", 1))))
    done = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(outcome) for outcome in done] == [asyncio.CancelledError, type(None), type(None)]
