"""The clients against a real registry and monitor on sockets: the same facts, and errors of the same class."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from tests.monitor_rig import START
from tests.monitor_room import WATCHED, Addresses, serving_both

import vedette
from vedette.core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unavailable
from vedette.entities.alerts import AlertState, DeliveryState
from vedette.entities.monitors import AlertRule, CheckSettings, ExecutionStatus, Monitor
from vedette.sdk.datasets import CHUNK_BYTES, dataset_of
from vedette.sdk.retries import Retries

HOOK = "http://127.0.0.1:9/alerts"
COLUMNS = {"a": np.linspace(0, 1, 40), "b": np.arange(40) % 7, "c": [None if i == 3 else i / 2 for i in range(40)]}


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Addresses]:
    """A registry with `m:1` behind the endpoint `e`, and a monitor `m` of it that has seen a shift."""
    with serving_both(tmp_path, monkeypatch) as addresses:
        yield addresses


@pytest.fixture
def client(both: Addresses) -> Iterator[vedette.Client]:
    """A client of both."""
    with vedette.Client("http://127.0.0.1:9", both.registry, both.monitor) as client:
        yield client


def test_a_whole_life_of_a_monitor(client: vedette.Client) -> None:
    """What is created is what was asked for; errors are rebuilt as their class."""
    wanted = Monitor(
        "night",
        "e",
        checks=(CheckSettings("psi", {"threshold": 0.2}), CheckSettings("drift")),
        window_s=60.0,
        segments=("sex",),
        alert=AlertRule(2, 3),
    )
    made = client.monitors.create(wanted)
    assert (made.checks, made.alert, made.segments, made.created_at) == (
        wanted.checks,
        wanted.alert,
        ("sex",),
        START,
    )
    assert client.monitors.get("night") == made
    with pytest.raises(AlreadyExists):
        client.monitors.create(wanted)
    with pytest.raises(InvalidArgument, match="drift"):
        client.monitors.create(Monitor("x", "e", checks=(CheckSettings("drfit"),)))
    assert client.monitors.update(Monitor("night", "e", window_s=5.0)).window_s == 5.0
    assert [each.name for each in client.monitors.list(endpoint="e")] == ["m", "night"]
    assert client.monitors.pause("night").status == "Stopped"
    assert [each.name for each in client.monitors.list(status="Stopped")] == ["night"]
    assert client.monitors.resume("night").status != "Stopped"
    client.monitors.delete("night")
    with pytest.raises(NotFound):
        client.monitors.get("night")
    with pytest.raises(InvalidArgument, match="is not a valid monitor name"):
        client.monitors.get("a/b")


def test_executions_violations_windows_and_files(client: vedette.Client) -> None:
    """Walked as they are read, newest first."""
    found = list(client.monitors.executions("m"))
    assert (len(found), found[0].start) == (WATCHED, START + 40)
    [shifted] = client.monitors.executions("m", status=ExecutionStatus.WITH_VIOLATIONS)
    assert list(client.monitors.executions("m", since=START + 45)) == [shifted]
    assert client.monitors.execution(shifted.id) == shifted
    assert "age" in {result.feature for result in shifted.violations}
    [violation] = client.monitors.violations(monitor="m", feature="age")
    assert (violation.execution, violation.check) == (shifted.id, "drift")
    assert client.monitors.file(shifted.id, "statistics.json")["dataset"]["item_count"] == 200
    with pytest.raises(NotFound):
        client.monitors.file(shifted.id, "../profile.bin")
    [window] = client.monitors.windows("m")
    assert window["rows"] == 200


def test_a_report_is_an_address_that_answers(client: vedette.Client, both: Addresses) -> None:
    """Drawn when it is asked for."""
    [shifted] = client.monitors.executions("m", status=ExecutionStatus.WITH_VIOLATIONS)
    address = client.monitors.report(shifted.id)
    assert address == f"{both.monitor}/reports/{shifted.id}.html"
    assert httpx.get(address, timeout=30).status_code == 200


LINE = {"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata": {"eventId": "q"}, "eventVersion": "0"}


@pytest.mark.parametrize(
    ("labels", "waiting"),
    [
        ({"i1": 1, "i2": np.int64(0), "i3": np.float32(1.0)}, 3),
        ([{"id": "i1", "label": "yes"}, LINE], 2),
        (iter([{"id": "i1", "label": np.bool_(True)}]), 1),
        (b'{"id": "i1", "label": 1}\n', 1),
        ({}, 0),
    ],
)
def test_ground_truth_in_every_form(client: vedette.Client, labels: Any, waiting: int) -> None:
    """A mapping, documents of both kinds, bytes."""
    assert client.monitors.ground_truth("e", labels) == {"joined": 0, "waiting": waiting, "unknown": 0, "refused": 0}


@pytest.mark.parametrize("labels", [{"i1": object()}, [{"id": "i", "label": {1, object()}}], 5, [3], "text"])
def test_ground_truth_that_is_none_is_refused(client: vedette.Client, labels: Any) -> None:
    """With the SDK's error, whatever was given."""
    with pytest.raises(InvalidArgument):
        client.monitors.ground_truth("e", labels)


def test_alerts_and_silences(client: vedette.Client) -> None:
    """Acknowledge, silence, end the silence."""
    alert = next(client.alerts.list(state=AlertState.FIRING, monitor="m"))
    assert client.alerts.acknowledge(alert.id, by="ada").acknowledged_by == "ada"
    silence = client.alerts.silence(for_s=60, feature="age", comment="planned")
    assert list(client.alerts.silences()) == [silence]
    client.alerts.end_silence(silence.id)
    assert list(client.alerts.silences()) == []
    with pytest.raises(NotFound):
        client.alerts.end_silence(silence.id)


def test_a_whole_life_of_a_webhook(client: vedette.Client) -> None:
    """Every format, headers, secrets, tests and deliveries."""
    made = client.webhooks.create("ops", HOOK, format="alertmanager_webhook", headers={"x-team": "a"})
    assert made.secret.startswith("whsec_")
    assert client.webhooks.get("ops") == made.webhook
    rotated = client.webhooks.rotate("ops")
    assert (rotated.secret != made.secret, len(rotated.webhook.secret_ids)) == (True, 2)
    assert not client.webhooks.update("ops", enabled=False).enabled
    with pytest.raises(Conflict):
        client.webhooks.test("ops")
    changed = client.webhooks.update("ops", enabled=True, headers={}, url=f"{HOOK}/2")
    assert (changed.headers, changed.url) == ({}, f"{HOOK}/2")
    with pytest.raises(InvalidArgument):
        client.webhooks.update("ops", url="http://[fd00::1]/")
    sent = client.webhooks.test("ops")
    assert [each.id for each in client.webhooks.deliveries(webhook="ops")] == [sent.id]
    assert list(client.webhooks.deliveries(state=DeliveryState.DELIVERED)) == []
    assert client.webhooks.redeliver(sent.id).id == sent.id
    assert [each.name for each in client.webhooks.list()] == ["ops"]
    client.webhooks.delete("ops")
    assert list(client.webhooks.list()) == []


def data_in(folder: Path, form: str) -> Any:
    """The same reference data in one of its forms."""
    frame = pd.DataFrame(COLUMNS)
    if form == "frame":
        return frame
    if form == "mapping":
        return COLUMNS
    if form == "bytes":
        return frame.to_csv(index=False).encode()
    path = folder / f"data.{form}"
    if form == "csv":
        frame.to_csv(path, index=False)
    elif form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path if form != "csv" else str(path)


@pytest.mark.parametrize("form", ["frame", "mapping", "bytes", "csv", "parquet", "jsonl"])
def test_a_baseline_of_every_kind_of_data(client: vedette.Client, tmp_path: Path, form: str) -> None:
    """All say the same of the same rows; progress ends at the whole."""
    heard: list[tuple[int, int]] = []
    given = {"format": "csv"} if form == "bytes" else {}
    made = client.baselines.create("m", 1, data_in(tmp_path, form), progress=lambda *at: heard.append(at), **given)
    assert (made.rows, made.columns, made.name) == (40, 3, "default")
    assert heard[-1][0] == heard[-1][1] > 0
    assert client.baselines.get("m", 1) == made
    statistics = {
        each["name"]: each["numerical_statistics"] for each in client.baselines.statistics("m", 1)["features"]
    }
    assert statistics["c"]["common"]["num_missing"] == 1
    assert statistics["a"]["mean"] == pytest.approx(0.5)


def test_a_whole_life_of_a_baseline(client: vedette.Client) -> None:
    """Named, listed, edited, deleted."""
    client.baselines.create("m", 1, COLUMNS, name="march")
    assert [each.name for each in client.baselines.list("m", 1)] == ["march"]
    constraints = client.baselines.constraints("m", 1, "march")
    constraints["features"] = constraints["features"][:1]
    edited = client.baselines.set_constraints("m", 1, constraints, name="march")
    assert client.baselines.constraints("m", 1, "march") == constraints
    assert edited.digest == client.baselines.get("m", 1, "march").digest
    client.baselines.delete("m", 1, "march")
    with pytest.raises(NotFound):
        client.baselines.statistics("m", 1, "march")
    with pytest.raises(NotFound):
        client.baselines.create("m", 9, COLUMNS)
    with pytest.raises(InvalidArgument, match="no_such"):
        client.baselines.create("m", 1, {"no_such": [1.0]})


FACET = {"label": "came", "facet": [{"name_or_index": "b", "value_or_threshold": [3]}]}
FACET["label_values_or_threshold"] = [0.5]


def test_a_labelled_baseline_is_measured(client: vedette.Client) -> None:
    """By the columns that are named; the documents are read and edited like constraints."""
    rows = {**COLUMNS, "c": np.arange(40) / 2, "came": np.arange(40) % 3, "y_0": np.ones(40)}
    made = client.baselines.create("m", 1, rows, target="came", problem_type="Regression", prediction="y_0")
    assert len(made.files) == 5
    file = "model_quality_constraints.json"
    constraints = client.baselines.document("m", 1, file)
    assert constraints["regression_constraints"]["mae"]["threshold"] > 0
    constraints["regression_constraints"]["mae"]["threshold"] = 0.5
    edited = client.baselines.set_document("m", 1, file, constraints)
    assert edited.digest == client.baselines.get("m", 1).digest != made.digest
    assert client.baselines.document("m", 1, file) == constraints
    whole = client.baselines.create("m", 1, rows, prediction="y_0", analysis=FACET)
    assert len(whole.files) == 6
    assert client.baselines.document("m", 1, "analysis.json")["pre_training_bias_metrics"]["label"] == "came"
    with pytest.raises(NotFound):
        client.baselines.document("m", 1, "model.onnx")
    for refused in ({"analysis": {}}, {"analysis": {"facets": []}}, {"problem_type": "Ranking"}, {"target": "a"}):
        with pytest.raises(InvalidArgument):
            client.baselines.create("m", 1, rows, **refused)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        ("nothing.csv", ""),
        (".", ""),
        (b"a,b\n", ""),
        (b"a,b\n", "xls"),
        ({}, ""),
        ({"a": [1], "b": [1, 2]}, ""),
        ({"a": 5}, ""),
        ({"a": "text"}, ""),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ""),
        (5, ""),
        ([1, 2], ""),
        (None, ""),
    ],
)
def test_data_that_is_none_is_refused_before_anything_is_sent(data: Any, format: str) -> None:
    """With what it should have been."""
    with pytest.raises(InvalidArgument):
        dataset_of(data, format)


def test_data_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Never a whole file at once; missing cells of a frame are empty."""
    path = tmp_path / "large.csv"
    path.write_bytes(b"x" * (CHUNK_BYTES + 1))
    assert [len(chunk) for chunk in dataset_of(path).chunks()] == [CHUNK_BYTES, 1]
    frame = pd.DataFrame({"a": [1.5, None], "b": ["x, y", None], "t": pd.to_datetime(["2026-01-01", None])})
    frame["n"] = pd.array([1, None], "Int64")
    assert dataset_of(frame).content.splitlines() == [b"a,b,t,n", b'1.5,"x, y",2026-01-01 00:00:00,1', b",,,"]


def test_only_what_may_be_done_twice_is_sent_twice() -> None:
    """503 to a new monitor is told at once; to labels, to a baseline and to questions again."""
    seen: list[tuple[str, str]] = []

    def busy(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        return httpx.Response(503)

    patience = Retries(attempts=2, backoff_s=0.001)
    with vedette.Client(transport=httpx.MockTransport(busy), retries=patience) as client:
        for ask in (
            lambda: client.monitors.create(Monitor("m", "e")),
            lambda: client.webhooks.create("w", HOOK),
            lambda: client.webhooks.rotate("w"),
            lambda: client.alerts.silence(for_s=1),
            lambda: client.monitors.get("m"),
            lambda: client.monitors.ground_truth("e", {"a": 1}),
            lambda: client.baselines.create("m", 1, COLUMNS),
        ):
            with pytest.raises(Unavailable):
                ask()
    assert [path for _, path in seen] == [
        *("/v1/monitors", "/v1/webhooks", "/v1/webhooks/w/secrets", "/v1/silences"),
        *["/v1/monitors/m"] * 2,
        *["/v1/ground-truth/e"] * 2,
        *["/v1/baselines"] * 2,
    ]


async def test_the_asynchronous_client_is_the_same(both: Addresses) -> None:
    """Each method of the monitor's parts once, over the same sockets."""
    async with vedette.AsyncClient("http://127.0.0.1:9", both.registry, both.monitor) as client:
        made = await client.baselines.create("m", 1, pd.DataFrame(COLUMNS))
        assert [each async for each in client.baselines.list("m", 1)] == [made]
        assert await client.baselines.get("m", 1) == made
        constraints = await client.baselines.constraints("m", 1)
        await client.baselines.set_constraints("m", 1, constraints)
        await client.baselines.set_document("m", 1, "constraints.json", constraints)
        assert await client.baselines.document("m", 1, "constraints.json") == constraints
        assert (await client.baselines.statistics("m", 1))["dataset"]["item_count"] == 40
        await client.baselines.delete("m", 1)
        monitor = await client.monitors.create(Monitor("night", "e"))
        assert (await client.monitors.update(monitor)).name == "night"
        assert [each.name async for each in client.monitors.list()] == ["m", "night"]
        assert (await client.monitors.pause("night")).status == "Stopped"
        assert (await client.monitors.resume("night")).name == (await client.monitors.get("night")).name
        await client.monitors.delete("night")
        found = [each async for each in client.monitors.executions("m", status=ExecutionStatus.WITH_VIOLATIONS)]
        assert await client.monitors.execution(found[0].id) == found[0]
        assert "violations" in await client.monitors.file(found[0].id, "constraint_violations.json")
        assert [each.execution async for each in client.monitors.violations(feature="age")] == [found[0].id]
        assert len([each async for each in client.monitors.windows("m")]) == 1
        assert client.monitors.report_address(found[0].id).endswith(f"/reports/{found[0].id}.html")
        assert (await client.monitors.ground_truth("e", {"i1": 1}))["waiting"] == 1
        alerts = [each async for each in client.alerts.list(state=AlertState.FIRING)]
        assert (await client.alerts.acknowledge(alerts[0].id, by="ada")).acknowledged_by == "ada"
        silence = await client.alerts.silence(for_s=60, everything=True)
        assert [each async for each in client.alerts.silences()] == [silence]
        await client.alerts.end_silence(silence.id)
        await client.webhooks.create("ops", HOOK)
        assert (await client.webhooks.rotate("ops")).secret
        sent = await client.webhooks.test("ops")
        assert [each.id async for each in client.webhooks.deliveries()] == [sent.id]
        assert (await client.webhooks.redeliver(sent.id)).id == sent.id
        assert (await client.webhooks.update("ops", enabled=False)) == await client.webhooks.get("ops")
        assert len([each async for each in client.webhooks.list()]) == 1
        await client.webhooks.delete("ops")
        with pytest.raises(NotFound):
            await client.monitors.report("none")


def test_no_method_of_the_parts_is_forgotten() -> None:
    """Every public method of the monitor's parts is called by the test above."""
    source = inspect.getsource(test_the_asynchronous_client_is_the_same)
    client = vedette.AsyncClient()
    for part in ("baselines", "monitors", "alerts", "webhooks"):
        for name, _ in inspect.getmembers(type(getattr(client, part)), inspect.isfunction):
            assert name.startswith("_") or f"client.{part}.{name}(" in source, f"{part}.{name}"
    asyncio.run(client.aclose())


def test_answers_of_a_newer_server_are_read(both: Addresses, client: vedette.Client) -> None:
    """Fields that this client does not know are left aside."""
    document = json.loads(httpx.get(f"{both.monitor}/v1/monitors/m").content) | {"mood": "calm"}
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json=document))
    with vedette.Client(transport=answer) as other:
        assert other.monitors.get("m") == client.monitors.get("m")
