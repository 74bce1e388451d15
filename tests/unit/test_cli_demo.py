"""The drift demo's rows and verdicts: nothing before the shift and an alert after it, for every split."""

from __future__ import annotations

import json
import time

import httpx
import numpy as np
import pytest

from vedette.cli.demo.drift import Verdict
from vedette.cli.demo.receiver import Arrival, Receiver
from vedette.cli.demo.rows import LARGER, load_rows, orders
from vedette.core.monitors import CheckSettings
from vedette.monitor.checks import make_check
from vedette.monitor.evidence import Evidence
from vedette.profiles import Layout, Profile


def folded(rows: np.ndarray, names: tuple[str, ...], layout: Layout | None = None) -> Profile:
    """A profile of these rows as they travel: 32 bits."""
    profile = Profile(layout)
    profile.fold(dict(zip(names, rows.astype(np.float32).T, strict=True)), [str(i) for i in range(len(rows))])
    return profile


@pytest.mark.parametrize("seed", range(20))
def test_the_alert_comes_with_the_shift_and_not_before(seed: int) -> None:
    """Twenty splits: held-out rows raise nothing, the wrong scale is found, and in the columns that it is in."""
    rows = load_rows(seed)
    first = folded(rows.reference, rows.features)
    baseline = folded(rows.reference, rows.features, Layout.of(first))
    check = make_check(CheckSettings("drift"))

    def drifted(window: np.ndarray) -> set[str]:
        evidence = Evidence(folded(window, rows.features, Layout.of(first)), baseline)
        return {result.feature for result in check.evaluate(evidence) if result.outcome == "violated"}

    assert drifted(rows.held_out) == set()
    found = drifted(rows.shifted())
    assert found
    assert found <= set(LARGER)


def test_no_row_is_replayed_twice_in_a_window() -> None:
    """Each window has every held-out row once, in an order of its own."""
    windows = orders(142, 0)
    first, second = next(windows), next(windows)
    assert sorted(first) == sorted(second) == list(range(142))
    assert list(first) != list(second)


def test_reference_and_replay_share_no_row() -> None:
    """What the baseline knows is not what is replayed."""
    rows = load_rows(3)
    assert len(rows.reference) + len(rows.held_out) == 569
    assert not {row.tobytes() for row in rows.reference} & {row.tobytes() for row in rows.held_out}


@pytest.mark.parametrize(
    ("verdict", "passed"),
    [
        (Verdict((), Arrival(1.0, {}), 7.0), True),
        (Verdict((), None), False),
        (Verdict((Arrival(0.0, {}),), Arrival(1.0, {}), 7.0), False),
        (Verdict((), Arrival(1.0, {}), 15.5), False),
    ],
)
def test_only_an_alert_in_time_and_none_before_passes(verdict: Verdict, passed: bool) -> None:
    """The exit status follows it."""
    assert verdict.passed is passed


def test_the_receiver_counts_only_what_is_signed() -> None:
    """A message with a wrong signature, or that is no document, is refused in silence."""
    with Receiver() as receiver:
        receiver.verify = lambda headers, body: headers.get("webhook-signature") == "right"
        for signature, body in (("wrong", b"{}"), ("right", b"no json"), ("right", json.dumps({"a": 1}).encode())):
            answer = httpx.post(receiver.url, content=body, headers={"webhook-signature": signature})
            assert answer.status_code == 204
        arrival = receiver.take(5.0)
        assert arrival is not None
        assert arrival.document == {"a": 1}
        assert abs(arrival.at - time.time()) < 60
        assert receiver.take(0.0) is None
        assert receiver.refused == 2
