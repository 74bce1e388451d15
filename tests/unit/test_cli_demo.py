"""The drift demo's rows and verdicts: nothing before the shift and an alert after it, for every split."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from vedette.cli.demo import drift
from vedette.cli.demo.drift import DriftDemo, Verdict, is_own
from vedette.cli.demo.lock import alone
from vedette.cli.demo.receiver import Arrival, Receiver
from vedette.cli.demo.rows import LARGER, load_rows, orders
from vedette.core.errors import Conflict, NotFound, Overloaded
from vedette.core.models import CaptureSettings, Endpoint, EndpointConfig, EndpointStatus, Variant
from vedette.entities.monitors import CheckSettings
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


OWN = {"monitor": drift.NAME, "endpoint": drift.ENDPOINT}


@pytest.mark.parametrize(
    ("alerts", "own"),
    [
        ([OWN, OWN], True),
        ([OWN, {**OWN, "monitor": "night"}], False),
        ([{**OWN, "endpoint": "churn"}], False),
        ([], False),
        (["x"], False),
        (None, False),
    ],
)
def test_only_alerts_of_the_demo_count(alerts: object, *, own: bool) -> None:
    """Other monitors' alerts reach its webhook too: all webhooks are told where a monitor names none."""
    assert is_own({"data": {"alerts": alerts}}) is own
    assert not is_own({"data": alerts})
    with Receiver() as receiver:
        receiver.verify = lambda headers, body: True
        receiver.wanted = is_own
        httpx.post(receiver.url, content=json.dumps({"data": {"alerts": alerts}}).encode())
        assert (receiver.take(0.0) is not None) is own
        assert receiver.refused == 0


class Suite:
    """What the demo asks of a client, with what there is: the registry's and monitor's answers as plain sets."""

    def __init__(self, capture: CaptureSettings, *, drawn: bool = True) -> None:
        config = EndpointConfig("breast-cancer", (Variant("primary", 1),), capture=capture)
        self.endpoint = Endpoint("breast-cancer", 1, config, EndpointStatus.IN_SERVICE)
        self.there: set[str] = set()
        self.captured: list[float] = []
        self.drawn = drawn
        self.endpoints = SimpleNamespace(
            get=lambda name: self.endpoint, update=self._update, wait_in_service=lambda name, generation: None
        )
        made = SimpleNamespace(rows=1, columns=1, secret="x")
        self.baselines = SimpleNamespace(
            create=lambda model, version, columns, name: self._make("baseline", made),
            delete=lambda model, version, name: self._delete("baseline"),
        )
        self.webhooks = SimpleNamespace(
            create=lambda name, url: self._make("webhook", made), delete=lambda name: self._delete("webhook")
        )
        self.monitors = SimpleNamespace(
            create=lambda monitor: self._make("monitor", made),
            delete=lambda name: self._delete("monitor"),
            pause=lambda name: self.there.add("paused"),
            report=self._report,
            report_address="http://monitor/reports/{}.html".format,
        )

    def predict(self, endpoint: str, row: object, *, inference_id: str) -> None:
        self.captured.append(self.endpoint.config.capture.sampling_percent)

    def _update(self, name: str, config: EndpointConfig) -> Endpoint:
        self.endpoint = Endpoint(name, self.endpoint.generation + 1, config, EndpointStatus.IN_SERVICE)
        return self.endpoint

    def _make(self, what: str, made: object) -> object:
        assert what not in self.there
        self.there.add(what)
        return made

    def _delete(self, what: str) -> None:
        if what not in self.there:
            raise NotFound(what)
        self.there.remove(what)

    def _report(self, execution: str) -> str:
        if not self.drawn:
            raise Overloaded("too many")
        return f"http://monitor/reports/{execution}.html"


def demo_of(suite: Suite, monkeypatch: pytest.MonkeyPatch, replay: Any) -> tuple[DriftDemo, io.StringIO]:
    """A demo of this suite whose replay is this, and what it prints."""
    monkeypatch.setattr(DriftDemo, "_replay", replay)
    said = io.StringIO()
    return DriftDemo(suite, Console(file=said, width=200)), said  # type: ignore[arg-type]


def found(demo: DriftDemo, rows: object, receiver: Receiver) -> Verdict:
    """A replay that ends well."""
    demo._client.predict("breast-cancer", [], inference_id="x")
    return Verdict((), Arrival(1.0, {"data": {"alerts": [{**OWN, "feature": "mean area", "execution": "e1"}]}}), 7.0)


def interrupted(demo: DriftDemo, rows: object, receiver: Receiver) -> Verdict:
    """A replay during which somebody presses Ctrl-C."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", [CaptureSettings(), CaptureSettings(20.0, exclude=("mean area",), mode="strict")])
def test_the_demo_leaves_nothing_but_the_report(before: CaptureSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitor, webhook and baseline are gone, also those of a run that was killed; capture is what it was."""
    suite = Suite(before)
    suite.there = {"monitor", "webhook"}
    demo, said = demo_of(suite, monkeypatch, found)
    assert demo.run().passed
    assert (suite.there, suite.captured) == (set(), [100.0])
    assert suite.endpoint.config.capture == before
    assert "report: http://monitor/reports/e1.html" in said.getvalue()


def test_an_interrupted_demo_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what it made nor capture."""
    suite = Suite(CaptureSettings(5.0))
    with pytest.raises(KeyboardInterrupt):
        demo_of(suite, monkeypatch, interrupted)[0].run()
    assert (suite.there, suite.endpoint.config.capture) == (set(), CaptureSettings(5.0))


def test_a_report_that_cannot_be_drawn_now_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is told, and what it is drawn from stays, paused."""
    suite = Suite(CaptureSettings(), drawn=False)
    demo, said = demo_of(suite, monkeypatch, found)
    assert demo.run().passed
    assert suite.there == {"monitor", "baseline", "paused"}
    assert "not drawn yet (too many); it will be at http://monitor/reports/e1.html" in said.getvalue()
    assert "vedette monitor delete demo-drift" in said.getvalue()


@pytest.mark.parametrize("running", [True, False])
def test_two_demos_do_not_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, running: bool) -> None:
    """The second is told; with the suite elsewhere the lock is the user's. It goes with the first."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = tmp_path / "data"
    if running:
        (data / "run").mkdir(parents=True)
    with alone(data), pytest.raises(Conflict, match="another demo runs"), alone(data):
        pass
    with alone(data):
        assert (data / "run/demo.lock").exists() is running
