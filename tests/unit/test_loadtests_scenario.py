"""The Locust scenario's own decisions: what is sent, how many users there are, whether the objective was met."""

from __future__ import annotations

import numpy as np
import pytest
from loadtests.scenario import DTYPES, Input, Limits, Ramp, Seen, inputs_of, json_requests, verdict, violations


def test_requests_fit_the_metadata() -> None:
    """The first free dimension is the rows, any other free one is 1, and all are different."""
    inputs = inputs_of({"inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", -1, 28]},
                                   {"name": "flag", "datatype": "BOOL", "shape": [-1, 1]}]})  # fmt: skip
    first, second, *rest = json_requests(inputs, 4)
    assert [tensor["shape"] for tensor in first["inputs"]] == [[4, 1, 28], [4, 1]]
    assert len(first["inputs"][0]["data"]) == 4 * 28
    assert set(first["inputs"][1]["data"]) <= {True, False}
    assert first != second
    assert len(rest) == 14


@pytest.mark.parametrize("datatype", [*DTYPES, "BYTES"])
def test_every_datatype_can_be_made_up(datatype: str) -> None:
    """A model with such an input can be asked; JSON takes what comes out."""
    (request,) = json_requests([Input("x", datatype, (-1, 3))], 2, count=1)
    assert len(request["inputs"][0]["data"]) == 6
    assert not any(isinstance(value, np.generic) for value in request["inputs"][0]["data"])


@pytest.mark.parametrize("metadata", [{}, {"inputs": []}, {"inputs": [{"name": "x"}]}, {"error": "no such endpoint"}])
def test_what_is_no_metadata_is_refused(metadata: dict[str, object]) -> None:
    """Before a single user starts."""
    with pytest.raises(ValueError, match=r"metadata|no inputs"):
        inputs_of(metadata)


def test_a_datatype_nobody_can_make_up_is_refused() -> None:
    """BF16 has no numpy dtype here."""
    with pytest.raises(ValueError, match="BF16"):
        json_requests([Input("x", "BF16", (1,))], 1)


def test_users_come_stay_and_go() -> None:
    """One from the start, all after the ramp, nobody after the end."""
    ramp = Ramp(users=10, ramp_s=20.0, hold_s=30.0)
    assert [ramp.users_at(at) for at in (0.0, 10.0, 20.0, 50.0, 50.1)] == [1, 5, 10, 10, None]
    assert Ramp(3, 0.0, 1.0).users_at(0.0) == 3


def test_each_limit_is_judged_by_itself() -> None:
    """A limit that is reached is kept; one that is not set allows anything."""
    seen = Seen("HTTP", 1000, 5, p50_ms=10.0, p99_ms=50.0)
    assert violations(seen, Limits(10.0, 50.0, 0.5)) == []
    assert violations(seen, Limits()) == []
    assert violations(seen, Limits(9.0, 49.0, 0.4)) == [
        "HTTP: p50 10 ms is over 9 ms",
        "HTTP: p99 50 ms is over 49 ms",
        "HTTP: errors 0.5 % is over 0.4 %",
    ]


def test_the_objective_holds_for_every_kind_of_request() -> None:
    """Fast HTTP does not make up for slow gRPC."""
    fast, slow = Seen("HTTP", 100, 0, 1.0, 2.0), Seen("gRPC", 100, 0, 1.0, 90.0)
    text, met = verdict([fast, slow], Limits(p99_ms=50.0))
    assert not met
    assert "gRPC: p99 90 ms is over 50 ms" in text
    assert verdict([fast], Limits(p99_ms=50.0))[1]


def test_a_run_in_which_nothing_was_asked_has_met_nothing() -> None:
    """A wrong address must not look like success."""
    assert verdict([], Limits()) == (verdict([], Limits())[0], False)
    assert not verdict([Seen("HTTP", 0, 0, 0.0, 0.0)], Limits(error_percent=0.0))[1]
