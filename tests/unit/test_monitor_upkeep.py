"""What the monitor does unasked: statuses that are true, what is old goes, labels that met nothing are told."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.monitor_rig import Rig, Seen, baseline_files, watching
from tests.unit.capture_batches import batch

from vedette.core.errors import Unavailable
from vedette.core.models import EndpointConfig, Variant
from vedette.core.ports import Change, Deployment, Synced
from vedette.entities.alerts import AlertState, Webhook
from vedette.entities.monitors import CheckSettings, MonitorStatus
from vedette.monitor.alerting.alert_upkeep import AlertUpkeep
from vedette.monitor.desk import Monitors
from vedette.monitor.upkeep import Retention, Upkeep
from vedette.ports.monitors import WindowKey

QUALITY = (CheckSettings("model_quality", {"min_labels": 10}),)
HORIZON_S = 1_000.0
LABELS = "vedette_monitor_labels_total"


class House:
    """An upkeep over a rig, which keeps labels for `HORIZON_S` and results twice as long."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.swept = 0
        self.sweeping = threading.Event()
        monitors = Monitors(
            rig.store, rig.references, clock=rig.clock, scores=rig.executions.scores, changed=rig.intake.refresh
        )
        self.upkeep = Upkeep(
            rig.store, rig.stream, rig.references, monitors, rig.index, rig.labels,
            AlertUpkeep(rig.store, clock=rig.clock, metrics=rig.metrics),
            clock=rig.clock, metrics=rig.metrics, retention=Retention(2 * HORIZON_S, HORIZON_S), interval_s=0.0,
            files=(self._sweep,),
        )  # fmt: skip

    def _sweep(self) -> None:
        self.swept += 1
        self.sweeping.set()

    def status(self) -> tuple[str, str]:
        """Of the monitor, as stored."""
        with self.rig.store.read() as snapshot:
            monitor = snapshot.monitor("m")
        return monitor.status.value, monitor.reason

    def told(self) -> dict[str, float]:
        """Labels by what became of them."""
        return {key[2]: value for key, value in self.rig.metrics.values.items() if key[0] == LABELS}


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    """A registry that knows the version and its baseline; what is counted is seen."""
    return await Rig(tmp_path, metrics=Seen()).know()


async def test_statuses_follow_what_is_true(rig: Rig) -> None:
    """Pending while something is missing, with the reason; scheduled when it has come; paused stays paused."""
    await rig.begin(watching(status=MonitorStatus.PENDING, baseline="late"))
    house = House(rig)
    await rig.references._heard(Synced(1, whole=True))
    await house.upkeep.round()
    assert house.status() == ("Pending", "endpoint 'e' does not exist yet")
    await rig.references._heard(Change(2, "e", Deployment("e", 1, EndpointConfig("m", (Variant("A", 1),)), ())))
    await house.upkeep.round()
    assert house.status() == ("Pending", "there is no baseline 'late' of m:1 yet")
    await rig.registry.put_baseline("m", 1, "late", baseline_files(), rows=1, columns=1)
    rig.clock.advance(16)
    await house.upkeep.round()
    assert house.status() == ("Scheduled", "")
    with rig.store.transaction() as tx:
        tx.update_monitor(watching(status=MonitorStatus.STOPPED, reason="by hand"))
    await rig.references._heard(Change(3, "e", None))
    await house.upkeep.round()
    assert house.status() == ("Stopped", "by hand")


async def test_a_silent_registry_changes_no_status(rig: Rig) -> None:
    """Nobody knows better."""
    await rig.begin(watching())
    await rig.references._heard(Change(2, "e", Deployment("e", 1, EndpointConfig("m", (Variant("A", 1),)), ())))
    rig.registry.down = True
    house = House(rig)
    await house.upkeep.round()
    assert house.status() == ("Scheduled", "")


async def test_the_lag_is_what_was_not_handled(rig: Rig) -> None:
    """In messages."""
    await rig.begin(watching())
    await rig.traffic(0)
    house = House(rig)
    await house.upkeep.round()
    lag = ("vedette_stream_lag_messages", "captures", "monitor")
    assert rig.metrics.values[lag] == 2
    await rig.read()
    await house.upkeep.round()
    assert rig.metrics.values[lag] == 0


async def test_what_is_old_goes_by_its_own_limit(rig: Rig) -> None:
    """Predictions and labels after the horizon, results later; files are swept as well, every ten minutes at most."""
    await rig.begin(watching(checks=QUALITY))
    await rig.traffic(0)
    await rig.traffic(20)
    await rig.read()
    await rig.labels.accept("e", b'{"id": "p-000001", "label": 1}')
    await rig.read()
    house = House(rig)
    await house.upkeep.round()
    await house.upkeep.round()
    assert house.swept == 1
    rig.clock.advance(HORIZON_S + 40)
    await house.upkeep.round()
    with rig.store.read() as snapshot:
        assert (snapshot.prediction_windows("e"), snapshot.label_count("e")) == ([], 0)
        assert rig.index.find(snapshot, "e", ["p-000001"])[1] == []
    assert len([each for each in rig.results() if each.rows]) == 1
    rig.clock.advance(HORIZON_S)
    await house.upkeep.round()
    assert [each for each in rig.results() if each.rows] == []
    assert house.swept == 3


async def test_labels_that_meet_nothing_are_unknown_once(rig: Rig) -> None:
    """At the end of the horizon; those that met a prediction, before or after them, are not."""
    await rig.begin(watching(checks=QUALITY))
    await rig.traffic(0, rows=40)
    await rig.read()
    house = House(rig)
    lines = b"\n".join(
        b'{"id": "%s", "label": 1}' % each for each in (b"p-000001", b"early-1", b"early-2", b"nobody", b"none")
    )
    await rig.labels.accept("e", lines)
    assert house.told() == {"joined": 1, "waiting": 4}
    await rig.publish(batch([rig.clock.time()] * 2, first=40, inference_ids=["early-1", "early-2"]))
    await rig.read()
    rig.clock.advance(700)
    await house.upkeep.round()
    assert house.told() == {"joined": 3, "waiting": 4}
    await rig.labels.accept("e", b'{"id": "nobody", "label": 0}')
    rig.clock.advance(700)
    await house.upkeep.round()
    assert house.told() == {"joined": 3, "waiting": 5, "unknown": 1}
    rig.clock.advance(700)
    await house.upkeep.round()
    rig.clock.advance(700)
    await house.upkeep.round()
    assert house.told() == {"joined": 3, "waiting": 5, "unknown": 2}


async def test_a_label_that_joined_and_outlived_its_prediction_is_not_unknown(rig: Rig) -> None:
    """It came late, so the prediction is dropped first; put again it stays joined."""
    await rig.begin(watching(checks=QUALITY))
    await rig.traffic(0, rows=40)
    await rig.traffic(20)
    await rig.read()
    house = House(rig)
    rig.clock.advance(900)
    await rig.labels.accept("e", b'{"id": "p-000001", "label": 1}')
    rig.clock.advance(700)
    await house.upkeep.round()
    with rig.store.read() as snapshot:
        assert snapshot.blocks(WindowKey("m", "A", "1", "", rig.results()[0].start)) == []
    await rig.labels.accept("e", b'{"id": "p-000001", "label": 0}')
    rig.clock.advance(2_000)
    await house.upkeep.round()
    assert "unknown" not in house.told()


async def test_a_round_that_fails_is_made_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store was down for a moment."""
    await rig.begin(watching())
    house = House(rig)
    real, failures = rig.store.read, []

    @contextmanager
    def down() -> Any:
        if not failures:
            failures.append(1)
            raise Unavailable("the store is down")
        with real() as snapshot:
            yield snapshot

    monkeypatch.setattr(rig.store, "read", down)
    task = asyncio.create_task(house.upkeep.run())
    assert await asyncio.to_thread(house.sweeping.wait, 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert failures == [1]


async def firing(rig: Rig, **fields: Any) -> House:
    """A monitor whose third window has moved, with a receiver that was told."""
    await rig.begin(watching(checks=(CheckSettings("drift"),), **fields))
    with rig.store.transaction() as tx:
        tx.alerts.insert_webhook(Webhook("w", "https://w.example/"))
    for start, shift in ((0, 0.0), (10, 15.0), (20, 0.0)):
        await rig.traffic(start, shift=shift, rows=400)
    await rig.read()
    assert "firing" in states(rig)
    return House(rig)


def states(rig: Rig) -> dict[str, list[str]]:
    """Descriptions of the alerts by state."""
    with rig.store.read() as snapshot:
        found: dict[str, list[str]] = {}
        for alert in snapshot.alerts.alerts(limit=99)[0]:
            found.setdefault(alert.state.value, []).append(alert.description)
        return found


def deployed(*variants: str) -> Change:
    """The endpoint with these variants."""
    return Change(2, "e", Deployment("e", 1, EndpointConfig("m", tuple(Variant(name, 1) for name in variants)), ()))


async def test_alerts_of_a_variant_that_has_left_end(rig: Rig) -> None:
    """And those of one that is there do not; the receiver is told."""
    house = await firing(rig)
    await rig.references._heard(deployed("A"))
    await house.upkeep.round()
    assert "firing" in states(rig)
    await rig.references._heard(deployed("B"))
    await house.upkeep.round()
    assert set(states(rig)) == {"resolved"}
    assert set(states(rig)["resolved"]) == {"Ended: variant 'A' is no longer deployed."}
    with rig.store.read() as snapshot:
        posted = snapshot.alerts.deliveries(limit=9, webhook="w")[0]
        told = {alert.state for alert in snapshot.alerts.delivery(posted[0].id).bulletin.alerts}
    assert told == {AlertState.RESOLVED}


async def test_alerts_of_a_paused_monitor_end(rig: Rig) -> None:
    """It evaluates nothing, so nothing else could end them."""
    house = await firing(rig)
    with rig.store.transaction() as tx:
        tx.update_monitor(watching(checks=(CheckSettings("drift"),), status=MonitorStatus.STOPPED))
    await house.upkeep.round()
    assert set(states(rig)["resolved"]) == {"Ended: the monitor is paused."}


async def test_alerts_of_a_series_without_windows_end(rig: Rig) -> None:
    """Not while fewer than three times `resolve_after` windows are missing; then with that reason."""
    house = await firing(rig)
    await rig.references._heard(deployed("A"))
    rig.clock.advance(60)
    await rig.read()
    await house.upkeep.round()
    assert "firing" in states(rig)
    rig.clock.advance(80)
    await rig.read()
    await house.upkeep.round()
    assert set(states(rig)["resolved"]) == {"Ended: there has been no window for 6 windows."}
