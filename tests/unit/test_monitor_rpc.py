"""The monitor over gRPC: the same operations and answers as over HTTP, driven with the generated stub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from tests.monitor_rig import START
from tests.monitor_room import MonitorRoom, open_monitor
from tests.unit.test_monitor_http import CSV, HOOK, items, violated

from vedette.core.errors import InvalidArgument
from vedette.entities.monitors import AlertRule, CheckSettings, Monitor
from vedette.monitor import rpc
from vedette.monitor.messages import monitor_from, to_message
from vedette.proto.monitor.v1 import monitor_pb2 as pb
from vedette.proto.monitor.v1.monitor_pb2_grpc import MonitorServiceStub


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[MonitorRoom]:
    async with open_monitor(tmp_path) as opened:
        yield opened


@pytest.fixture
async def stub(room: MonitorRoom) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(room.grpc) as channel:
        yield MonitorServiceStub(channel)


async def refused(call: Any, code: str) -> str:
    """Assert the code in the trailing metadata and return the words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert dict(caught.value.trailing_metadata() or ())["vedette-code"] == code, caught.value.details()
    return caught.value.details() or ""


def shown(message: Message) -> dict[str, Any]:
    """The message as its JSON document, every field there."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def alike(message: Message, document: dict[str, Any]) -> None:
    """The message says what the document says; 64-bit numbers are text in protobuf's JSON."""
    said = {key: value for key, value in document.items() if value is not None}
    assert _plain(shown(message)) == _plain(said)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain({k: v for k, v in item.items() if v is not None} if isinstance(item, dict) else item)
                for item in value]  # fmt: skip
    if isinstance(value, bool) or value is None:
        return value
    return str(float(value)) if isinstance(value, int | float) or str(value).isdigit() else value


def data(start: pb.BaselineStart | None, *chunks: bytes) -> Iterator[pb.CreateBaselineRequest]:
    """The messages of a baseline."""
    if start is not None:
        yield pb.CreateBaselineRequest(start=start)
    for chunk in chunks:
        yield pb.CreateBaselineRequest(chunk=chunk)


async def test_every_method_of_the_proto_is_served(room: MonitorRoom) -> None:
    """And every one has its action and its own message types."""
    declared = {method.name: method for method in pb.DESCRIPTOR.services_by_name["MonitorService"].methods}
    served = {method.name: method for method in rpc.service(room.desk).methods}
    assert set(served) == set(declared) == set(rpc.ACTIONS)
    for name, method in served.items():
        assert declared[name].input_type == method.request.DESCRIPTOR
        assert declared[name].output_type == method.response.DESCRIPTOR
        streams = (declared[name].client_streaming, declared[name].server_streaming)
        assert streams == (method.kind.startswith("stream"), method.kind.endswith("stream"))


async def test_a_whole_life_of_a_monitor(room: MonitorRoom, stub: Any) -> None:
    """The same documents as over HTTP; unset fields have the documents' defaults."""
    wanted = pb.Monitor(name="night", endpoint="e", checks=[pb.CheckSettings(check="psi")], window_s=60.0)
    wanted.checks[0].parameters.update({"threshold": 0.25})
    made = (await stub.CreateMonitor(pb.CreateMonitorRequest(monitor=wanted))).monitor
    assert (made.lateness_s, made.alert.resolve_after, made.baseline) == (6.0, 2, "default")
    alike(made, (await room.http.get("/v1/monitors/night")).json())
    await refused(stub.CreateMonitor(pb.CreateMonitorRequest(monitor=wanted)), "already_exists")
    page = await stub.ListMonitors(pb.ListMonitorsRequest(limit=1))
    rest = await stub.ListMonitors(pb.ListMonitorsRequest(limit=1, page_token=page.next_page_token))
    assert ([each.name for each in (*page.items, *rest.items)], rest.next_page_token) == (["m", "night"], "")
    change = pb.Monitor(name="night", endpoint="e", window_s=5.0)
    assert (await stub.UpdateMonitor(pb.UpdateMonitorRequest(monitor=change))).monitor.window_s == 5.0
    assert (await stub.PauseMonitor(pb.PauseMonitorRequest(name="night"))).monitor.status == "Stopped"
    paused = await stub.ListMonitors(pb.ListMonitorsRequest(status="Stopped"))
    assert [each.name for each in paused.items] == ["night"]
    assert (await stub.ResumeMonitor(pb.ResumeMonitorRequest(name="night"))).monitor.status != "Stopped"
    await stub.DeleteMonitor(pb.DeleteMonitorRequest(name="night"))
    await refused(stub.GetMonitor(pb.GetMonitorRequest(name="night")), "not_found")


async def test_executions_and_what_they_hold(room: MonitorRoom, stub: Any) -> None:
    """Page by page, as over HTTP."""
    over_http = await items(room, "/v1/monitors/m/executions")
    found, token = [], ""
    while not found or token:
        page = await stub.ListExecutions(pb.ListExecutionsRequest(monitor="m", limit=2, page_token=token))
        found, token = [*found, *page.items], page.next_page_token
    for message, document in zip(found, over_http, strict=True):
        alike(message, document)
    shifted = await violated(room)
    one = await stub.GetExecution(pb.GetExecutionRequest(id=shifted["id"]))
    alike(one.execution, shifted)
    some = await stub.ListExecutions(pb.ListExecutionsRequest(monitor="m", status="CompletedWithViolations"))
    assert [each.id for each in some.items] == [shifted["id"]]
    file = pb.GetExecutionFileRequest(id=shifted["id"], file="statistics.json")
    same = await room.http.get(f"/v1/executions/{shifted['id']}/files/statistics.json")
    assert (await stub.GetExecutionFile(file)).content == same.content
    listed = await stub.ListViolations(pb.ListViolationsRequest(monitor="m"))
    for message, document in zip(listed.items, await items(room, "/v1/violations", monitor="m"), strict=True):
        alike(message, document)
    windows = (await stub.ListWindows(pb.ListWindowsRequest(monitor="m"))).items
    document = (await room.http.get("/v1/monitors/m/windows")).json()["items"][0]
    assert MessageToDict(windows[0]) == document
    path = (await stub.CreateReport(pb.CreateReportRequest(execution=shifted["id"]), timeout=120)).path
    assert (await room.http.get(path)).status_code == 200
    await refused(stub.CreateReport(pb.CreateReportRequest(execution="none")), "not_found")
    await refused(stub.GetExecution(pb.GetExecutionRequest(id="none")), "not_found")
    await refused(stub.ListWindows(pb.ListWindowsRequest(monitor="none")), "not_found")


async def test_alerts_silences_webhooks_and_deliveries(room: MonitorRoom, stub: Any) -> None:
    """The same as over HTTP."""
    alerts = (await stub.ListAlerts(pb.ListAlertsRequest(state="firing"))).items
    for message, document in zip(alerts, await items(room, "/v1/alerts", state="firing"), strict=True):
        alike(message, document)
    seen = await stub.AcknowledgeAlert(pb.AcknowledgeAlertRequest(id=alerts[0].id, by="ada"))
    assert seen.alert.acknowledged_by == "ada"
    silence = (await stub.CreateSilence(pb.CreateSilenceRequest(for_s=60, endpoint="e"))).silence
    assert silence.until == START + 60
    alike((await stub.ListSilences(pb.ListSilencesRequest())).items[0], (await items(room, "/v1/silences"))[0])
    await stub.DeleteSilence(pb.DeleteSilenceRequest(id=silence.id))
    await refused(stub.DeleteSilence(pb.DeleteSilenceRequest(id=silence.id)), "not_found")
    made = await stub.CreateWebhook(pb.CreateWebhookRequest(name="ops", url=HOOK, headers={"x-team": "a"}))
    assert (made.webhook.format, made.secret[:6]) == ("cloudevents", "whsec_")
    alike(made.webhook, (await room.http.get("/v1/webhooks/ops")).json())
    assert [each.name for each in (await stub.ListWebhooks(pb.ListWebhooksRequest())).items] == ["ops"]
    off = pb.UpdateWebhookRequest(name="ops", enabled=False)
    assert not (await stub.UpdateWebhook(off)).webhook.enabled
    await refused(stub.TestWebhook(pb.TestWebhookRequest(name="ops")), "conflict")
    on = pb.UpdateWebhookRequest(name="ops", enabled=True, headers=pb.Headers())
    changed = (await stub.UpdateWebhook(on)).webhook
    assert (changed.enabled, dict(changed.headers), changed.url) == (True, {}, HOOK)
    assert (await stub.RotateSecret(pb.RotateSecretRequest(webhook="ops"))).secret != made.secret
    sent = (await stub.TestWebhook(pb.TestWebhookRequest(name="ops"))).delivery
    listed = await stub.ListDeliveries(pb.ListDeliveriesRequest(webhook="ops", limit=1))
    assert [each.id for each in listed.items] == [sent.id]
    assert (await stub.Redeliver(pb.RedeliverRequest(id=sent.id))).delivery.id == sent.id
    assert (await stub.GetWebhook(pb.GetWebhookRequest(name="ops"))).webhook.name == "ops"
    await stub.DeleteWebhook(pb.DeleteWebhookRequest(name="ops"))
    await refused(stub.GetWebhook(pb.GetWebhookRequest(name="ops")), "not_found")


async def test_baselines_in_chunks_and_labels(room: MonitorRoom, stub: Any) -> None:
    """The data follows a first message that says what it is."""
    start = pb.BaselineStart(model="m", version=1, name="march", format="csv")
    chunks = [CSV[at : at + 7] for at in range(0, len(CSV), 7)]
    made = (await stub.CreateBaseline(data(start, *chunks))).baseline
    assert (made.rows, made.name, len(made.files)) == (60, "march", 3)
    assert room.rig.registry.baselines["m", 1, "march"].digest == made.digest
    start = pb.BaselineStart(model="m", version=1, format="csv", problem_type="Ranking")
    await refused(stub.CreateBaseline(data(start, CSV)), "invalid_argument")
    labelled = b"age,height,sex,prediction,came\n" + b"".join(
        b"%d,170,f,%d,%d\n" % (i, i % 2, i % 3 % 2) for i in range(60)
    )
    start = pb.BaselineStart(model="m", version=1, name="april", format="csv", target="came")
    assert len((await stub.CreateBaseline(data(start, labelled))).baseline.files) == 5
    made = await stub.CreateBaseline(data(start, labelled.replace(b",0\n", b",\n").replace(b",1\n", b",\n")))
    assert list(made.left_out) == ["the model's quality was not measured: the column 'came' is empty"]
    lines = b'{"id": "x", "label": 1}\n[]\n'
    taken = await stub.PutGroundTruth(pb.PutGroundTruthRequest(endpoint="e", lines=lines))
    assert dict(taken.counts) == {"joined": 0, "waiting": 1, "unknown": 0, "refused": 1}
    assert list(taken.refused_lines) == ["line 2: not a JSON object"]


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("CreateMonitor", pb.CreateMonitorRequest(), "invalid_argument"),
        ("CreateMonitor", pb.CreateMonitorRequest(monitor=pb.Monitor(name="../m", endpoint="e")), "invalid_argument"),
        ("CreateMonitor", pb.CreateMonitorRequest(monitor=pb.Monitor(name="n", endpoint="e", window_s=float("nan"))),
         "invalid_argument"),
        ("CreateMonitor", pb.CreateMonitorRequest(monitor=pb.Monitor(name="n", endpoint="e", min_rows=2**62)),
         "invalid_argument"),
        ("UpdateMonitor", pb.UpdateMonitorRequest(monitor=pb.Monitor(name="none", endpoint="e")), "not_found"),
        ("ListMonitors", pb.ListMonitorsRequest(limit=101), "invalid_argument"),
        ("ListMonitors", pb.ListMonitorsRequest(limit=-1), "invalid_argument"),
        ("ListMonitors", pb.ListMonitorsRequest(status="Fine"), "invalid_argument"),
        ("ListExecutions", pb.ListExecutionsRequest(monitor="m", page_token="zzz"), "invalid_argument"),
        ("ListExecutions", pb.ListExecutionsRequest(monitor="m", since=float("nan")), "invalid_argument"),
        ("ListExecutions", pb.ListExecutionsRequest(monitor="m", since=-1), "invalid_argument"),
        ("ListViolations", pb.ListViolationsRequest(since=float("inf")), "invalid_argument"),
        ("GetExecutionFile", pb.GetExecutionFileRequest(id="none", file="statistics.json"), "not_found"),
        ("CreateReport", pb.CreateReportRequest(execution="../x"), "invalid_argument"),
        ("PutGroundTruth", pb.PutGroundTruthRequest(endpoint="../e", lines=b'{"id":"x","label":1}'),
         "invalid_argument"),
        ("PutGroundTruth", pb.PutGroundTruthRequest(endpoint="e", lines=b"no"), "invalid_argument"),
        ("AcknowledgeAlert", pb.AcknowledgeAlertRequest(id="x"), "invalid_argument"),
        ("CreateSilence", pb.CreateSilenceRequest(), "invalid_argument"),
        ("CreateSilence", pb.CreateSilenceRequest(for_s=float("nan")), "invalid_argument"),
        ("CreateSilence", pb.CreateSilenceRequest(for_s=60, comment="x" * 5000), "invalid_argument"),
        ("CreateWebhook", pb.CreateWebhookRequest(name="w", url="http://[fd00::1]/"), "invalid_argument"),
        ("CreateWebhook", pb.CreateWebhookRequest(name="w", url=HOOK, format="mail"), "invalid_argument"),
        ("ListAlerts", pb.ListAlertsRequest(state="bad"), "invalid_argument"),
        ("Redeliver", pb.RedeliverRequest(id="none"), "not_found"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(stub: Any, method: str, request_: Any, code: str) -> None:
    """The caller's fault, by its code."""
    assert await refused(getattr(stub, method)(request_), code)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        list(data(None, CSV)),
        list(data(pb.BaselineStart(model="m", version=1, format="xls"), CSV)),
        list(data(pb.BaselineStart(model="m", version=1, format="csv"))),
        list(data(pb.BaselineStart(model="../m", version=1, format="csv"), CSV)),
        [*data(pb.BaselineStart(model="m", version=1, format="csv"), CSV),
         *data(pb.BaselineStart(model="m", version=1, format="csv"))],
    ],
)  # fmt: skip
async def test_baselines_that_make_no_sense_are_refused(room: MonitorRoom, stub: Any, messages: list[Any]) -> None:
    """Nothing of them is kept."""
    await refused(stub.CreateBaseline(iter(messages)), "invalid_argument")
    assert [name for _, _, name in room.rig.registry.baselines] == ["default"]


async def test_labels_too_many_for_a_message_are_refused(stub: Any) -> None:
    """The server's limit on messages holds before anything is read."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.PutGroundTruth(pb.PutGroundTruthRequest(endpoint="e", lines=b"x" * (17 << 20)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer()),
)  # fmt: skip
MONITORS = st.builds(
    Monitor,
    name=NAMES,
    endpoint=NAMES,
    checks=st.lists(
        st.builds(CheckSettings, NAMES, st.dictionaries(NAMES, VALUES, max_size=3)), min_size=1, max_size=3
    ).map(tuple),
    window_s=st.floats(5, 1e6),
    lateness_s=st.floats(0, 1e3),
    min_rows=st.integers(1, 2**31 - 1),
    segments=st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple),
    alert=st.builds(AlertRule, *[st.integers(1, 100)] * 3),
    reports=st.sampled_from(["violations", "on_demand"]),
)


@given(MONITORS)
def test_a_monitor_survives_the_wire(monitor: Monitor) -> None:
    """Settings -> message -> bytes -> settings."""
    message = pb.Monitor.FromString(to_message(monitor, pb.Monitor()).SerializeToString())
    assert monitor_from(message) == monitor


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, None, [1.5], {"a": 1}])
def test_parameters_that_no_check_has_are_refused(value: Any) -> None:
    """Numbers that are none, lists of numbers, nested documents: the caller's fault, without a crash."""
    parameters = Struct()
    parameters.update({"threshold": value})
    message = pb.Monitor(name="n", endpoint="e", checks=[pb.CheckSettings(check="psi", parameters=parameters)])
    try:
        made = monitor_from(message)
    except InvalidArgument:
        return
    assert made.checks[0].parameters == {"threshold": value}
