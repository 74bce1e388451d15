"""The monitor over HTTP: every route on real parts, every error in one shape, hostile bodies refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.monitor_rig import START
from tests.monitor_room import WATCHED, MonitorRoom, open_monitor

from vedette.chassis.declarations import check_actions
from vedette.entities.monitors import Execution, Monitor
from vedette.monitor.http import ACTIONS, MAX_LABEL_BYTES, UPLOADS
from vedette.sdk.documents import read, read_page

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/jsonlines"}
HOOK = "http://127.0.0.1:9/alerts"


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[MonitorRoom]:
    async with open_monitor(tmp_path) as opened:
        yield opened


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Assert the shape of an error and return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "code"}
    assert (document["status"], document["code"]) == (status, code)
    return str(document["detail"])


async def items(room: MonitorRoom, path: str, **query: object) -> list[dict[str, Any]]:
    """Every item of a list, asked for one by one."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        answer = await room.http.get(path, params={"limit": "1", "page_token": token, **query})
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert set(document) == {"items", "next_page_token"}
        found += document["items"]
        token = document["next_page_token"]
        if not token:
            return found


async def violated(room: MonitorRoom) -> dict[str, Any]:
    """The execution that has violations."""
    found = await items(room, "/v1/monitors/m/executions", status="CompletedWithViolations")
    assert len(found) == 1
    return found[0]


async def test_every_route_has_an_action(room: MonitorRoom) -> None:
    """The chassis would not start otherwise; and no line names a route that is not there."""
    check_actions(room.service)
    assert set(UPLOADS) <= set(ACTIONS)


async def test_the_documents_are_described(room: MonitorRoom) -> None:
    """openapi.json has every route; nothing is loaded from elsewhere."""
    document = (await room.http.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == set(ACTIONS) - {("GET", "/openapi.json")}
    assert (await room.http.get("/docs")).status_code == 404


async def test_unknown_paths_methods_and_parameters(room: MonitorRoom) -> None:
    """They look like every other error; a misspelt filter never lists everything."""
    problem(await room.http.get("/v1/nothing"), 404, "not_found")
    problem(await room.http.get("/v1/monitors/"), 404, "not_found")
    problem(await room.http.put("/v1/monitors", json={}), 405, "unimplemented")
    for path in ("/v1/monitors", "/v1/violations", "/v1/alerts", "/v1/deliveries", "/v1/webhooks", "/v1/silences"):
        assert "monitr" in problem(await room.http.get(f"{path}?monitr=m"), 400, "invalid_argument")
    problem(await room.http.post("/v1/baselines?model=m&version=1&format=csv&targt=y"), 400, "invalid_argument")


async def test_a_whole_life_of_a_monitor(room: MonitorRoom) -> None:
    """Create, list, show, replace, pause, resume, delete: documents are the values of core."""
    settings = {
        "name": "night",
        "endpoint": "e",
        "checks": [{"check": "psi", "parameters": {"threshold": 0.2}}, {"check": "data_quality"}],
        "window_s": 60,
        "segments": ["sex"],
        "alert": {"datapoints_to_alert": 2, "evaluation_period": 3},
    }
    made = await room.http.post("/v1/monitors", json=settings)
    assert (made.status_code, made.json()["checks"][0]) == (201, settings["checks"][0])
    monitor = read(Monitor, made.content)
    assert (monitor.window_s, monitor.lateness_s, monitor.alert.resolve_after) == (60.0, 6.0, 2)
    assert monitor == room.desk.monitors.get("night")
    problem(await room.http.post("/v1/monitors", json=settings), 409, "already_exists")
    assert [each["name"] for each in await items(room, "/v1/monitors")] == ["m", "night"]
    assert [each["name"] for each in await items(room, "/v1/monitors", endpoint="other")] == []
    changed = await room.http.put("/v1/monitors/night", json={"endpoint": "e", "name": "night", "window_s": 5.0})
    assert (changed.json()["window_s"], changed.json()["segments"]) == (5.0, [])
    problem(await room.http.put("/v1/monitors/night", json={"endpoint": "e", "name": "x"}), 400, "invalid_argument")
    problem(await room.http.put("/v1/monitors/none", json={"endpoint": "e"}), 404, "not_found")
    assert (await room.http.post("/v1/monitors/night/pause")).json()["status"] == "Stopped"
    stopped = await items(room, "/v1/monitors", status="Stopped")
    assert [each["name"] for each in stopped] == ["night"]
    assert (await room.http.post("/v1/monitors/night/resume")).json()["status"] != "Stopped"
    assert (await room.http.delete("/v1/monitors/night")).status_code == 204
    problem(await room.http.get("/v1/monitors/night"), 404, "not_found")
    problem(await room.http.get("/v1/monitors/night/executions"), 404, "not_found")


async def test_executions_and_what_they_hold(room: MonitorRoom) -> None:
    """Newest first, page by page; filters; SageMaker's files; open windows; violations with their windows."""
    found = await items(room, "/v1/monitors/m/executions")
    assert [each["start"] - START for each in found] == [40.0, 30.0, 20.0, 10.0, 0.0]
    assert len(await items(room, "/v1/monitors/m/executions", since=START + 45)) == 1
    shifted = await violated(room)
    one = await room.http.get(f"/v1/executions/{shifted['id']}")
    assert one.json() == shifted
    assert read(Execution, one.content) == room.desk.executions.get(shifted["id"])
    files = f"/v1/executions/{shifted['id']}/files"
    statistics = (await room.http.get(f"{files}/statistics.json")).json()
    assert statistics["dataset"]["item_count"] == 200
    moved = (await room.http.get(f"{files}/constraint_violations.json")).json()["violations"]
    assert "age" in {each["feature_name"] for each in moved}
    assert "features" in (await room.http.get(f"{files}/constraints.json")).json()
    problem(await room.http.get(f"{files}/profile.bin"), 404, "not_found")
    listed = await items(room, "/v1/violations", monitor="m")
    assert {each["feature"] for each in listed} == {each["feature_name"] for each in moved}
    assert {(each["execution"], each["start"]) for each in listed} == {(shifted["id"], shifted["start"])}
    assert [each["feature"] for each in await items(room, "/v1/violations", feature="age", endpoint="e")] == ["age"]
    assert await items(room, "/v1/violations", endpoint="other") == []
    windows = await items(room, "/v1/monitors/m/windows")
    assert [(each["variant"], each["start"] - START, each["rows"]) for each in windows] == [("A", 50.0, 200)]
    problem(await room.http.get("/v1/executions/none"), 404, "not_found")
    problem(await room.http.get("/v1/monitors/none/windows"), 404, "not_found")


async def test_alerts_and_silences(room: MonitorRoom) -> None:
    """List by state, acknowledge, silence, end the silence."""
    firing = await items(room, "/v1/alerts", state="firing", monitor="m")
    assert "age" in {each["feature"] for each in firing}
    assert await items(room, "/v1/alerts", monitor="other") == []
    path = f"/v1/alerts/{firing[0]['id']}/acknowledge"
    assert (await room.http.post(path, json={"by": "ada"})).json()["acknowledged_by"] == "ada"
    problem(await room.http.post(path, json={"by": ""}), 400, "invalid_argument")
    problem(await room.http.post("/v1/alerts/none/acknowledge", json={"by": "ada"}), 404, "not_found")
    made = await room.http.post("/v1/silences", json={"for_s": 60, "endpoint": "e", "comment": "planned"})
    assert (made.status_code, made.json()["until"]) == (201, START + 60)
    assert await items(room, "/v1/silences") == [made.json()]
    assert (await room.http.delete(f"/v1/silences/{made.json()['id']}")).status_code == 204
    assert await items(room, "/v1/silences") == []
    problem(await room.http.delete("/v1/silences/none"), 404, "not_found")


async def test_a_whole_life_of_a_webhook(room: MonitorRoom) -> None:
    """The secret is shown once each time it is made, values of headers never; tests wait in the outbox."""
    document = {"name": "ops", "url": HOOK, "format": "slack", "headers": {"authorization": "Bearer x"}}
    made = await room.http.post("/v1/webhooks", json=document)
    assert (made.status_code, made.json()["secret"][:6]) == (201, "whsec_")
    problem(await room.http.post("/v1/webhooks", json=document), 409, "already_exists")
    shown = (await room.http.get("/v1/webhooks/ops")).json()
    assert shown == made.json()["webhook"]
    assert "Bearer" not in made.text
    assert [each["name"] for each in await items(room, "/v1/webhooks")] == ["ops"]
    rotated = (await room.http.post("/v1/webhooks/ops/secrets")).json()
    assert rotated["secret"] != made.json()["secret"]
    assert len(rotated["webhook"]["secret_ids"]) == 2
    changed = await room.http.patch("/v1/webhooks/ops", json={"enabled": False})
    assert (changed.json()["enabled"], changed.json()["url"]) == (False, HOOK)
    problem(await room.http.post("/v1/webhooks/ops/test"), 409, "conflict")
    await room.http.patch("/v1/webhooks/ops", json={"enabled": True, "headers": {}})
    sent = await room.http.post("/v1/webhooks/ops/test")
    assert (sent.status_code, sent.json()["state"]) == (202, "waiting")
    assert [each["id"] for each in await items(room, "/v1/deliveries", webhook="ops")] == [sent.json()["id"]]
    assert await items(room, "/v1/deliveries", state="delivered") == []
    again = await room.http.post(f"/v1/deliveries/{sent.json()['id']}/redeliver")
    assert (again.status_code, again.json()["id"]) == (202, sent.json()["id"])
    assert (await room.http.delete("/v1/webhooks/ops")).status_code == 204
    for answer in (await room.http.get("/v1/webhooks/ops"), await room.http.post("/v1/deliveries/none/redeliver")):
        problem(answer, 404, "not_found")


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://[fd00::1]/", "ftp://x/", "file:///etc/passwd", "x"])
async def test_webhooks_do_not_point_inside(room: MonitorRoom, url: str) -> None:
    """Neither when they are made nor when they are changed."""
    problem(await room.http.post("/v1/webhooks", json={"name": "w", "url": url}), 400, "invalid_argument")
    await room.http.post("/v1/webhooks", json={"name": "ops", "url": HOOK})
    problem(await room.http.patch("/v1/webhooks/ops", json={"url": url}), 400, "invalid_argument")
    assert (await room.http.get("/v1/webhooks/ops")).json()["url"] == HOOK


async def test_a_report_is_a_page_that_can_reach_nothing(room: MonitorRoom) -> None:
    """Its own scripts run in a sandbox; without a report there is no page."""
    problem(await room.http.get("/reports/none.html"), 404, "not_found")
    problem(await room.http.get("/reports/..%2fx.html"), 404, "not_found")
    problem(await room.http.post("/v1/executions/none/report"), 404, "not_found")
    shifted = await violated(room)
    drawn = await room.http.post(f"/v1/executions/{shifted['id']}/report", timeout=120)
    assert drawn.json() == {"path": f"/reports/{shifted['id']}.html"}
    page = await room.http.get(drawn.json()["path"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    policy = page.headers["content-security-policy"]
    assert "sandbox allow-scripts;" in policy
    assert "default-src 'none'" in policy
    assert "allow-same-origin" not in policy
    assert b"age" in page.content


LABELLED = b"age,height,sex,prediction,came\n" + b"".join(
    b"%d,170,%s,%d,%d\n" % (i, b"fm"[i % 2 :][:1], i % 2, i % 3 % 2) for i in range(60)
)


async def test_a_labelled_body_is_measured(room: MonitorRoom) -> None:
    """As the parameters say; what they cannot mean is the caller's fault, before a byte is read."""
    query = {"model": "m", "version": 1, "format": "csv", "name": "april", "target": "came"}
    config = '{"facet": [{"name_or_index": "sex", "value_or_threshold": ["f"]}]}'
    made = await room.http.post("/v1/baselines", params={**query, "analysis": config}, content=LABELLED, timeout=60)
    assert made.status_code == 201, made.text
    assert {"analysis.json", "model_quality_statistics.json"} < {each["path"] for each in made.json()["files"]}
    for wrong in ({"analysis": "{"}, {"analysis": "x" * 20_000}, {"problem_type": "Ranking"}, {"positive_class": "x"}):
        problem(
            await room.http.post("/v1/baselines", params={**query, **wrong}, content=LABELLED, timeout=60),
            400,
            "invalid_argument",
        )


async def test_what_a_baseline_left_out_is_in_the_answer(room: MonitorRoom) -> None:
    """Labels of no class stop no baseline, and whoever sent them is told."""
    query = {"model": "m", "version": 1, "format": "csv", "name": "may", "target": "came"}
    body = LABELLED.replace(b",0\n", b",maybe\n").replace(b",1\n", b",maybe\n")
    made = await room.http.post("/v1/baselines", params=query, content=body, timeout=60)
    assert made.status_code == 201, made.text
    assert made.json()["left_out"] == [
        "the model's quality was not measured: no 'came' is a class of the model, no, yes"
    ]
    fine = await room.http.post("/v1/baselines", params=query, content=LABELLED, timeout=60)
    assert fine.json()["left_out"] == []


CSV = b"age,height,sex\n" + b"".join(b"%d,%d,%s\n" % (30 + i % 20, 160 + i % 9, b"fm"[i % 2 :][:1]) for i in range(60))


async def test_a_baseline_is_made_of_the_body(room: MonitorRoom) -> None:
    """In place of one of its name; what is wrong with the data or the version is the caller's fault."""
    query = {"model": "m", "version": 1, "format": "csv", "name": "march"}
    made = await room.http.post("/v1/baselines", params=query, content=CSV, timeout=60)
    assert (made.status_code, made.json()["rows"], made.json()["name"]) == (201, 60, "march")
    assert ("m", 1, "march") in room.rig.registry.baselines
    for changes, status, code in (
        ({"version": 9}, 404, "not_found"),
        ({"version": 0}, 400, "invalid_argument"),
        ({"version": "1e3"}, 400, "invalid_argument"),
        ({"format": "xls"}, 400, "invalid_argument"),
        ({"name": "../x"}, 400, "invalid_argument"),
        ({"model": "a/b"}, 400, "invalid_argument"),
        ({"format": "parquet"}, 400, "invalid_argument"),
    ):
        problem(await room.http.post("/v1/baselines", params={**query, **changes}, content=CSV), status, code)
    problem(await room.http.post("/v1/baselines", params=query, content=b"no,such\n1,2\n"), 400, "invalid_argument")


async def test_labels_are_counted_by_what_became_of_them(room: MonitorRoom) -> None:
    """Both forms; a line that is no label is refused for itself."""
    body = b'{"id": "x1", "label": 1}\n{"groundTruthData": {"data": "1", "encoding": "CSV"}, '
    body += b'"eventMetadata": {"eventId": "x2"}, "eventVersion": "0"}\n{"id": 5}\n'
    answer = await room.http.post("/v1/ground-truth/e", content=body, headers=LINES)
    why = 'line 3: neither "groundTruthData" nor "label" is there'
    assert answer.json() == {"joined": 0, "waiting": 2, "unknown": 0, "refused": 1, "refused_lines": [why]}
    other = await room.http.post("/v1/ground-truth/other", content=b'{"id": "x1", "label": 1}', headers=LINES)
    assert "no endpoint 'other'" in problem(other, 404, "not_found")


async def test_labels_that_are_none_are_refused(room: MonitorRoom) -> None:
    """Wrong types, no labels at all, deep and large bodies, names that are paths."""
    line = b'{"id": "x1", "label": 1}\n'
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data; boundary=x"}):
        answer = await room.http.post("/v1/ground-truth/e", content=line, headers=headers)
        assert "application/jsonlines" in problem(answer, 400, "invalid_argument")
    deep = b'{"id": "x", "label": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    for body in (b"no\n", b"[" * 100_000, deep, b'{"id": "x", "label": NaN}\n', b"\xff\x00\n"):
        problem(await room.http.post("/v1/ground-truth/e", content=body, headers=LINES), 400, "invalid_argument")
    problem(await room.http.post("/v1/ground-truth/-x", content=line, headers=LINES), 400, "invalid_argument")
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1 << 20
            yield line * ((1 << 20) // len(line))

    problem(await room.http.post("/v1/ground-truth/e", content=endless(), headers=LINES), 413, "too_large")
    assert taken <= MAX_LABEL_BYTES + (4 << 20)


GOOD = {"name": "night", "endpoint": "e"}
BAD_MONITORS: list[bytes] = [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"name": "night"}',
    *(json.dumps({**GOOD, **changes}).encode() for changes in (
        {"name": "../m"}, {"name": 1}, {"extra": 1}, {"endpoint": "a/b"}, {"endpoint": ""}, {"baseline": "a b"},
        {"window_s": 4.9}, {"window_s": "60"}, {"window_s": 1e300}, {"window_s": True}, {"lateness_s": -1},
        {"min_rows": -1}, {"min_rows": 10**30}, {"min_rows": 1.5}, {"schedule": "cron(* * * * * *)"}, {"schedule": "x"},
        {"checks": []}, {"checks": [{}]}, {"checks": [{"check": "drfit"}]}, {"checks": [{"check": "drift"}] * 2},
        {"checks": [{"check": "psi", "parameters": {"treshold": 1}}]},
        {"checks": [{"check": "psi", "parameters": {"threshold": "much"}}]},
        {"checks": [{"check": "psi", "parameters": {"threshold": 10**400}}]},
        {"checks": [{"check": "psi", "parameters": {"threshold": -(10**400)}}]},
        {"checks": [{"check": "psi", "parameters": {"threshold": {"a": 1}}}]},
        {"segments": ["a"] * 200}, {"segments": ["a", "a"]}, {"segments": ["a=b"]}, {"webhooks": ["a/b"]},
        {"alert": {"datapoints_to_alert": 3, "evaluation_period": 2}}, {"alert": {"resolve_after": 0}},
        {"reports": "always"}, {"status": "Scheduled"},
    )),
    b'{"name": "night", "endpoint": "e", "window_s": NaN}', b'{"name": "night", "endpoint": "e", "window_s": 1e999}',
    b'{"name": "night", "endpoint": "e", "window_s": Infinity}',
    b'{"name": "night", "endpoint": "e\\u0000"}', b'{"name": "night\\n", "endpoint": "e"}',
]  # fmt: skip


async def test_monitors_that_make_no_sense_are_refused(room: MonitorRoom) -> None:
    """400 with a message in one line, and nothing is watched."""
    for body in BAD_MONITORS:
        detail = problem(await room.http.post("/v1/monitors", content=body, headers=JSON), 400, "invalid_argument")
        assert detail, body[:200]
        assert "\n" not in detail
        assert len(detail) < 2_000, body[:200]
    assert [each["name"] for each in await items(room, "/v1/monitors")] == ["m"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/silences", {"for_s": 0}),
        ("/v1/silences", {"for_s": 1e300}),
        ("/v1/silences", {"for_s": 60, "mointor": "m"}),
        ("/v1/silences", {"for_s": 60, "comment": "x" * 2000}),
        ("/v1/webhooks", {"name": "w", "url": HOOK, "format": "mail"}),
        ("/v1/webhooks", {"name": "w\u0000", "url": HOOK}),
        ("/v1/webhooks", {"name": "w", "url": HOOK + "\r\nx: y"}),
        ("/v1/webhooks", {"name": "w", "url": HOOK + "x" * 3000}),
        ("/v1/webhooks", {"name": "w", "url": HOOK, "headers": {"a\nb": "c"}}),
        ("/v1/webhooks", {"name": "w", "url": HOOK, "headers": {"a": "c\r\nd: e"}}),
        ("/v1/webhooks", {"name": "w", "url": HOOK, "headers": {"host": "x"}}),
    ],
)
async def test_other_documents_that_make_no_sense_are_refused(room: MonitorRoom, path: str, body: Any) -> None:
    """400, and nothing is kept."""
    problem(await room.http.post(path, json=body), 400, "invalid_argument")
    assert await items(room, path) == []


async def test_bodies_are_guarded(room: MonitorRoom) -> None:
    """Depth, size and media type, before any parser."""
    deep = b'{"name": ' + b"[" * 250_000 + b"]" * 250_000 + b"}"
    problem(await room.http.post("/v1/monitors", content=deep, headers=JSON), 400, "invalid_argument")
    large = json.dumps({**GOOD, "segments": ["x" * 2_000_000]}).encode()
    problem(await room.http.post("/v1/monitors", content=large, headers=JSON), 413, "too_large")
    plain = await room.http.post("/v1/monitors", content=json.dumps(GOOD), headers={"content-type": "text/plain"})
    assert "application/json" in problem(plain, 400, "invalid_argument")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "page_token=zzz%00", "page_token=" + "x" * 2000, "status=Fine", "status=",
     "since=-1", "since=nan", "since=inf", "since=1e300", "since=x"],
)  # fmt: skip
async def test_lists_refuse_queries_that_make_no_sense(room: MonitorRoom, query: str) -> None:
    """Limits have limits, tokens are ours, times are times."""
    problem(await room.http.get(f"/v1/monitors/m/executions?{query}"), 400, "invalid_argument")


HOSTILE = ["%2e%2e", "a%2fb", "%252e%252e", "a%00b", "-x", "x" * 300, "%F0%9F%A6%86", "a b", "~root", ".hidden"]


@pytest.mark.parametrize(
    ("method", "pattern"),
    [(method, path) for method, path in ACTIONS if "{" in path and method != "PATCH"],
)
async def test_hostile_names_are_refused(room: MonitorRoom, method: str, pattern: str) -> None:
    """Wherever a name stands in a path: a caller's error, never ours."""
    for name in HOSTILE:
        path = "/".join(name if part.startswith("{") else part for part in pattern.split("/"))
        answer = await room.http.request(method, path, json={} if method in {"POST", "PUT"} else None)
        assert answer.status_code in {400, 404, 405}, (path, answer.text)
        if method == "HEAD":
            continue
        problem(answer, answer.status_code, answer.json()["code"])


async def test_a_report_is_asked_for_without_being_drawn(room: MonitorRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEAD says whether there could be one."""
    monkeypatch.setattr(room.desk.reports, "draw", None)
    execution = await violated(room)
    found = await room.http.head(f"/reports/{execution['id']}.html")
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert (await room.http.head("/reports/zzzzzzzz.html")).status_code == 404
    assert (await room.http.head(f"/reports/{execution['id']}")).status_code == 404


async def test_violations_of_no_monitor_are_not_found(room: MonitorRoom) -> None:
    """A typing error is no empty list."""
    problem(await room.http.get("/v1/violations?monitor=nosuch"), 404, "not_found")


async def test_a_silence_of_everything_says_so(room: MonitorRoom) -> None:
    """One that names nothing by mistake would keep everybody in the dark."""
    problem(await room.http.post("/v1/silences", json={"for_s": 60}), 400, "invalid_argument")
    assert (await room.http.post("/v1/silences", json={"for_s": 60, "everything": True})).status_code == 201


async def test_many_may_ask_at_once(room: MonitorRoom) -> None:
    """Each is answered whole."""
    answers = await asyncio.gather(*(room.http.get("/v1/monitors/m/executions") for _ in range(20)))
    assert {len(read_page(Execution, answer.content)[0]) for answer in answers} == {WATCHED}


async def test_an_unknown_failure_shows_an_id_and_nothing_else(
    room: MonitorRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message, no path, no stack."""

    def broken(*args: object, **fields: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(type(room.desk.monitors), "get", broken)
    detail = problem(await room.http.get("/v1/monitors/m"), 500, "internal")
    assert "secret" not in detail
    assert "finds it in the log" in detail


@pytest.mark.parametrize("value", ["NaN", "null", "1e999", '{"a": 1}', "[1]", '"' + "x" * 1001 + '"'])
async def test_a_parameter_that_is_none_is_told_in_one_sentence(room: MonitorRoom, value: str) -> None:
    """Not once for each type that it might have had."""
    body = f'{{"name": "n", "endpoint": "e", "checks": [{{"check": "psi", "parameters": {{"threshold": {value}}}}}]}}'
    answer = await room.http.post("/v1/monitors", content=body, headers=JSON)
    said = problem(answer, 400, "invalid_argument")
    assert said == (
        "checks.0.parameters.threshold: a parameter is true or false, a finite number, a text or a list of texts"
    )
