"""`vedette demo drift`: real rows, then the same rows on a wrong scale, until the alert arrives at a webhook.

Rule: everything goes the way of a user: baseline, capture, monitor and webhook through the client, predictions
over HTTP; the exit status is 0 only if the alert came after the shift, in time, and none before. One demo runs at a
time, because two would shift each other's rows; what it made is gone afterwards, but for the report.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vedette.cli.demo.lock import alone
from vedette.cli.demo.receiver import Arrival, Receiver
from vedette.cli.demo.rows import Rows, load_rows, orders
from vedette.codec.webhook_signatures import verify
from vedette.core.errors import NotFound, Unauthenticated, Unavailable, VedetteError
from vedette.entities.monitors import CheckSettings, Monitor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vedette.sdk.sync.client import Client

NAME = "demo-drift"
ENDPOINT = "breast-cancer"
WINDOW_S = 5.0
LATENESS_S = 1.0
CLEAN_WINDOWS = 3
LIMIT_S = 15.0
"""The alert must arrive this long after the first shifted row."""
_FILL = 0.8
"""Share of a window in which its rows are sent, so that a slow machine does not run into the next one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended."""

    early: tuple[Arrival, ...]
    """Alerts that came before the shift."""
    alert: Arrival | None
    delay_s: float = 0.0

    @property
    def passed(self) -> bool:
        """The alert came in time, and none before."""
        return self.alert is not None and not self.early and self.delay_s <= LIMIT_S


class DriftDemo:
    """One run against the suite behind `client`."""

    def __init__(self, client: Client, console: Console, *, seed: int = 0) -> None:
        self._client = client
        self._console = console
        self._seed = seed

    def run(self) -> Verdict:
        """Everything in order. Leaves the report; the monitor too, paused, where its report is still to be drawn."""
        rows = _rows(self._seed)
        with Receiver() as receiver, self._captured() as version:
            self._remove(version)
            self._baseline(rows, version)
            keep = False
            try:
                self._watch(receiver)
                verdict = self._replay(rows, receiver)
                self._tell(verdict)
                keep = verdict.alert is not None and not self._drawn(verdict.alert)
            finally:
                self._end(version, keep=keep)
        return verdict

    @contextmanager
    def _captured(self) -> Iterator[int]:
        """The endpoint records every request, and afterwards what it did before; yields the model version it serves."""
        try:
            endpoint = self._client.endpoints.get(ENDPOINT)
        except NotFound as error:
            raise NotFound(f"there is no endpoint {ENDPOINT}: start the suite with `vedette up`") from error
        before = endpoint.config.capture
        wanted = replace(before, sampling_percent=100.0, inputs=True)  # what is excluded stays so
        try:
            if before != wanted:
                self._say(f"recording every request to {ENDPOINT}")
                config = replace(endpoint.config, capture=wanted)
                endpoint = self._client.endpoints.update(ENDPOINT, config)
            self._client.endpoints.wait_in_service(ENDPOINT, generation=endpoint.generation)
            yield endpoint.config.variants[0].version
        finally:
            if before != wanted:
                config = replace(self._client.endpoints.get(ENDPOINT).config, capture=before)
                self._client.endpoints.update(ENDPOINT, config)

    def _baseline(self, rows: Rows, version: int) -> None:
        columns = dict(zip(rows.features, rows.reference.T, strict=True))
        made = self._client.baselines.create(ENDPOINT, version, columns, name=NAME)
        self._say(f"baseline of {made.rows} real rows, {made.columns} columns")

    def _watch(self, receiver: Receiver) -> None:
        """A monitor and a webhook of its own."""
        made = self._client.webhooks.create(NAME, receiver.url)
        receiver.verify = lambda headers, body: _signed(made.secret, headers, body)
        receiver.wanted = is_own
        wanted = Monitor(
            NAME,
            ENDPOINT,
            checks=(CheckSettings("drift"),),
            baseline=NAME,
            window_s=WINDOW_S,
            lateness_s=LATENESS_S,
            webhooks=(NAME,),
        )
        self._client.monitors.create(wanted)
        self._say(f"monitor {NAME}: windows of {WINDOW_S:g} s; webhook {receiver.url}, signatures are checked")

    def _end(self, version: int, *, keep: bool) -> None:
        """Let nothing fire on: remove everything, or `keep` what a report is still to be drawn from."""
        if not keep:
            self._remove(version)
            return
        self._client.monitors.pause(NAME)
        self._client.webhooks.delete(NAME)
        self._say(f"until then monitor {NAME} stays, paused; afterwards: vedette monitor delete {NAME}")

    def _remove(self, version: int) -> None:
        """What a run made, this one or one that was cut short."""
        with contextlib.suppress(NotFound):
            self._client.monitors.delete(NAME)
        with contextlib.suppress(NotFound):
            self._client.webhooks.delete(NAME)
        with contextlib.suppress(NotFound):
            self._client.baselines.delete(ENDPOINT, version, NAME)

    def _replay(self, rows: Rows, receiver: Receiver) -> Verdict:
        numbers = orders(len(rows.held_out), self._seed)
        early: list[Arrival] = []
        start = _next_window(time.time())
        for window in range(CLEAN_WINDOWS):
            self._say(f"window {window + 1}: {len(rows.held_out)} held-out rows, as measured")
            self._send(rows.held_out[next(numbers)], start + window * WINDOW_S)
        early += _drained(receiver)
        shift = start + CLEAN_WINDOWS * WINDOW_S
        # the last clean window is evaluated while shifted rows flow already: what it says must be nothing
        while time.time() < shift + LIMIT_S:
            self._say("shifted: the same rows, lengths a quarter larger")
            at = shift + (time.time() - shift) // WINDOW_S * WINDOW_S if time.time() > shift else shift
            self._send(rows.shifted()[next(numbers)], at)
            arrival = receiver.take(at + WINDOW_S - time.time())
            if arrival is None or not _firing(arrival):
                continue
            if _window_end(arrival) <= shift:
                early.append(arrival)
                continue
            return Verdict(tuple(early), arrival, arrival.at - shift)
        arrival = receiver.take(shift + LIMIT_S - time.time())
        return Verdict(tuple(early), arrival, arrival.at - shift if arrival else 0.0)

    def _send(self, rows: NDArray[np.float64], start: float) -> None:
        """One request a row, spread over the window that begins at `start`."""
        for number, row in enumerate(rows):
            wait_s = start + number / len(rows) * WINDOW_S * _FILL - time.time()
            if wait_s > 0:
                time.sleep(wait_s)
            self._client.predict(ENDPOINT, row[None, :], inference_id=uuid.uuid4().hex)

    def _tell(self, verdict: Verdict) -> None:
        for arrival in verdict.early:
            self._say(f"an alert came before the shift: {', '.join(_features(arrival))}", style="red")
        if verdict.alert is None:
            self._say(f"no alert within {LIMIT_S:g} s of the shift", style="red")
            return
        late = verdict.delay_s > LIMIT_S
        self._say(f"alert {verdict.delay_s:.1f} s after the shift", style="red" if late else "bold green")
        self._say(f"features that moved: {', '.join(_features(verdict.alert))}")

    def _drawn(self, alert: Arrival) -> bool:
        """Have the report drawn; that it cannot be now is no failure of what was to be shown."""
        execution = _execution(alert)
        try:
            with self._console.status("Evidently draws the report"):
                report = self._client.monitors.report(execution)
        except VedetteError as error:
            address = self._client.monitors.report_address(execution)
            self._say(f"the report is not drawn yet ({error.message}); it will be at {address}", style="yellow")
            return False
        self._say(f"report: {report}")
        return True

    def _say(self, text: str, *, style: str = "") -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  ", end="")
        self._console.print(text, style=style or None, markup=False, highlight=False)


def is_own(document: dict[str, Any]) -> bool:
    """Whether a message is about alerts of the demo's monitor on its endpoint, and about no others."""
    data = document.get("data")
    alerts = data.get("alerts") if isinstance(data, dict) else None
    if not isinstance(alerts, list) or not alerts:
        return False
    return all(
        isinstance(alert, dict) and (alert.get("monitor"), alert.get("endpoint")) == (NAME, ENDPOINT)
        for alert in alerts
    )


def _signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        verify(secret, headers, body, now=time.time())
    except Unauthenticated:
        return False
    return True


def _rows(seed: int) -> Rows:
    try:
        return load_rows(seed)
    except ImportError as error:
        raise Unavailable("scikit-learn is not installed: pip install 'vedette[convert]'") from error


def _next_window(now: float) -> float:
    """The beginning of the next window, at least a second away."""
    return ((now + 1.0) // WINDOW_S + 1) * WINDOW_S


def _drained(receiver: Receiver) -> list[Arrival]:
    found = []
    while (arrival := receiver.take(0.0)) is not None:
        found.append(arrival)
    return found


def _data(arrival: Arrival) -> dict[str, Any]:
    data = arrival.document.get("data")
    return data if isinstance(data, dict) else {}


def _firing(arrival: Arrival) -> bool:
    return _data(arrival).get("status") == "firing"


def _window_end(arrival: Arrival) -> float:
    """The end of the window that the message is about."""
    return datetime.fromisoformat(_data(arrival)["window"]["end"]).timestamp()


def _features(arrival: Arrival) -> list[str]:
    return [str(alert["feature"]) for alert in _data(arrival).get("alerts", []) if alert.get("feature")]


def _execution(arrival: Arrival) -> str:
    return str(_data(arrival)["alerts"][0]["execution"])


def drift(client: Client, data_dir: Path, *, seed: int) -> int:
    """Run the demo; returns the exit status."""
    console = Console(soft_wrap=True)
    try:
        with alone(data_dir):
            return 0 if DriftDemo(client, console, seed=seed).run().passed else 1
    except VedetteError as error:
        console.print(f"vedette: {error.message}", style="red", markup=False)
        return 1
