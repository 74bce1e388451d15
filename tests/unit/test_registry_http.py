"""The HTTP surface: every error in one shape, no route without an action, hostile bodies refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.registry_room import Room, open_room

from vedette.chassis.declarations import check_actions
from vedette.registry.http import ACTIONS, UPLOADS


@pytest.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with open_room(tmp_path, monkeypatch) as opened:
        yield opened


JSON = {"content-type": "application/json"}
JSON_TEXT = "Application/JSON; charset=utf-8"


def problem(answer: Any, status: int, code: str) -> str:
    """Assert the shape of an error and return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "code"}
    assert (document["status"], document["code"]) == (status, code)
    return str(document["detail"])


async def test_every_route_has_an_action(room: Room) -> None:
    """The chassis would not start otherwise; and no line names a route that is not there."""
    check_actions(room.service)
    assert set(UPLOADS) <= set(ACTIONS)


async def test_the_documents_are_described(room: Room) -> None:
    """openapi.json has every control route; nothing is loaded from elsewhere."""
    document = (await room.http.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == set(ACTIONS) - {("GET", "/openapi.json")}
    assert (await room.http.get("/docs")).status_code == 404


async def test_unknown_paths_and_methods(room: Room) -> None:
    """404 and 405 look like every other error; no redirects."""
    problem(await room.http.get("/v1/nothing"), 404, "not_found")
    problem(await room.http.get("/v1/models/"), 404, "not_found")
    problem(await room.http.put("/v1/models"), 405, "unimplemented")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"name": 1}', b'{"name": "m", "extra": 1}', b'{"model": "m"}',
        b'{"name": "m", "version": true}', b'{"name": "m", "version": 1.5}', b'{"name": "m", "version": 0}',
        b'{"name": "m", "version": "newest"}', b'{"name": "m", "model": "a/b"}', b'{"name": "../m"}',
        b'{"name": "m", "version": 1, "config": {"model": "m", "variants": [{"name": "a", "version": 1}]}}',
        b'{"name": "m", "config": {"model": "m", "variants": []}}',
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 1, "weight": NaN}]}}',
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 1, "weight": "1"}]}}',
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 1, "wieght": 1}]}}',
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 1}], "limits": {"rows": 1}}}',
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 99999999999999999999}]}}',
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 1, "options": {"providers": []}}]}}',  # noqa: E501
        b'{"name": "m", "config": {"model": "m", "variants": [{"name": "a", "version": 1, "options": {"provider": "x"}}]}}',  # noqa: E501
    ],
)  # fmt: skip
async def test_endpoints_that_make_no_sense_are_refused(room: Room, body: bytes) -> None:
    """400 with a message, and nothing is deployed."""
    await room.upload("m")
    detail = problem(await room.http.post("/v1/endpoints", content=body, headers=JSON), 400, "invalid_argument")
    assert detail
    assert (await room.http.get("/v1/endpoints")).json()["items"] == []


@pytest.mark.parametrize("depth", [65, 250_000])
async def test_deep_json_is_refused(room: Room, depth: int) -> None:
    """Before any parser sees it."""
    body = b'{"name": ' + b"[" * depth + b"]" * depth + b"}"
    answer = await room.http.post("/v1/models", content=body, headers=JSON)
    assert "nested" in problem(answer, 400, "invalid_argument")


async def test_large_json_is_refused(room: Room) -> None:
    """413 at the cap of control documents, which is far below that of uploads."""
    body = json.dumps({"name": "m", "description": "x" * 2_000_000}).encode()
    problem(await room.http.post("/v1/models", content=body, headers=JSON), 413, "too_large")


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_is_not_called_json_is_refused(room: Room, media_type: str | None) -> None:
    """With advice; a page in a browser can send the others without asking anybody."""
    headers = {"content-type": media_type} if media_type else {}
    answer = await room.http.post("/v1/models", content=b'{"name": "m"}', headers=headers)
    assert "application/json" in problem(answer, 400, "invalid_argument")
    called = await room.http.post("/v1/models", content=b'{"name": "m"}', headers={"content-type": JSON_TEXT})
    assert called.status_code == 201


HOSTILE = ["%2e%2e", "a%2fb", "%252e%252e", "a%00b", "-x", "x" * 64, "%F0%9F%A6%86", "a b", "~root", ".hidden"]


@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        ("GET", "/v1/models/{}"),
        ("DELETE", "/v1/models/{}"),
        ("POST", "/v1/models/{}/versions"),
        ("POST", "/v1/models/{}/uploads"),
        ("GET", "/v1/models/{}/versions/1"),
        ("GET", "/v1/models/m/versions/1/files/{}"),
        ("GET", "/v1/models/m/versions/{}"),
        ("PUT", "/v1/uploads/{}/files/model.onnx"),
        ("DELETE", "/v1/uploads/{}"),
        ("GET", "/v1/endpoints/{}"),
        ("POST", "/v1/endpoints/{}/rollback"),
        ("DELETE", "/v1/endpoints/{}"),
    ],
)
async def test_hostile_names_are_refused(room: Room, method: str, pattern: str) -> None:
    """Wherever a name stands in a path: a caller's error, never ours."""
    await room.upload("m")
    for name in HOSTILE:
        answer = await room.http.request(method, pattern.format(name), content=b"graph" if method != "GET" else None)
        assert answer.status_code in {400, 404, 405}, answer.text
        problem(answer, answer.status_code, answer.json()["code"])


async def test_files_come_back_as_they_went(room: Room) -> None:
    """With their length and digest."""
    version = await room.upload("m", b"graph" * 1000)
    answer = await room.http.get("/v1/models/m/versions/1/files/model.onnx")
    assert answer.content == b"graph" * 1000
    assert answer.headers["content-length"] == "5000"
    assert answer.headers["etag"] == f'"{version["files"][0]["sha256"]}"'


async def test_a_whole_life_of_an_endpoint(room: Room) -> None:
    """Create, weights, update, rollback, stop, start, delete over HTTP."""
    await room.upload("m", b"graph 1")
    await room.upload("m", b"graph 2")
    await room.http.put("/v1/models/m/aliases/champion", json={"version": 1})
    made = await room.http.post("/v1/endpoints", json={"name": "m", "version": "@champion"})
    assert (made.status_code, made.json()["status"]) == (201, "Creating")
    assert made.json()["config"]["variants"][0]["version"] == 1
    room.say("m", 1, "ready")
    config = {
        "model": "m",
        "variants": [{"name": "a", "version": 1, "weight": 9}, {"name": "b", "version": 2, "weight": 1}],
        "limits": {"timeout_s": 5},
        "capture": {"sampling_percent": 10, "exclude": ["x"]},
        "dynamic_batching": {
            "max_batch_size": 32,
            "max_queue_delay_microseconds": 500,
            "preferred_batch_size": [8, 16],
            "priority_levels": 2,
            "default_priority_level": 2,
            "priority_queue_policy": {"1": {"timeout_action": "DELAY", "max_queue_size": 9}},
        },
    }
    updated = (await room.http.put("/v1/endpoints/m", json={"config": config})).json()
    assert (updated["status"], updated["config"]["limits"]["max_queue"]) == ("Updating", 1024)
    asked, kept = config["dynamic_batching"], updated["config"]["dynamic_batching"]
    assert kept | asked | {"priority_queue_policy": kept["priority_queue_policy"]} == kept
    assert kept["enabled"]
    assert kept["priority_queue_policy"]["1"]["timeout_action"] == "DELAY"
    room.say("m", 2, "ready")
    weighed = (await room.http.patch("/v1/endpoints/m/weights", json={"weights": {"b": 0}})).json()
    assert [variant["weight"] for variant in weighed["config"]["variants"]] == [9.0, 0.0]
    room.say("m", 3, "ready")
    back = (await room.http.post("/v1/endpoints/m/rollback")).json()
    assert back["config"] == updated["config"]
    first = (await room.http.post("/v1/endpoints/m/rollback", json={"generation": 1})).json()
    assert first["config"] == made.json()["config"]
    history = (await room.http.get("/v1/endpoints/m/generations")).json()["items"]
    assert [line["generation"] for line in history] == [5, 4, 3, 2, 1]
    assert (await room.http.post("/v1/endpoints/m/stop")).json()["status"] == "OutOfService"
    assert (await room.http.post("/v1/endpoints/m/start")).json()["status"] == "Creating"
    gone = await room.http.delete("/v1/endpoints/m")
    assert (gone.status_code, gone.json()["status"]) == (202, "Deleting")
    room.say("m", 6, "removed")
    problem(await room.http.get("/v1/endpoints/m"), 404, "not_found")


@pytest.mark.parametrize(
    "details",
    ["{", "[]", '{"signature": {"featurenames": []}}', '{"metadata": {"a": 1}}', '{"signature": {"kind": "x"}}',
     '{"signature": {"feature_names": ["a"]}}',
     '{"signature": {"label_names": ["a", "b", "c"]}}', "null", "[" * 9_000],
)  # fmt: skip
async def test_details_that_make_no_sense_are_refused(room: Room, details: str) -> None:
    """Unknown keys and contradictions with the graph; no version appears."""
    answer = await room.http.post("/v1/models/m/versions", content=b"graph", params={"details": details})
    problem(answer, 400, "invalid_argument")
    problem(await room.http.get("/v1/models/m"), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "page_token=zzz",
        "tag=novalue",
        "limit=1&lmit=2",
        "page_token=" + "x" * 2000,
        "name_contain=m",
    ],
)
async def test_lists_refuse_queries_that_make_no_sense(room: Room, query: str) -> None:
    """Limits have limits, tokens are ours."""
    problem(await room.http.get(f"/v1/models?{query}"), 400, "invalid_argument")


async def test_an_unknown_failure_shows_an_id_and_nothing_else(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message, no path, no stack."""

    def broken(*args: object, **fields: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(type(room.desk.models), "get", broken)
    detail = problem(await room.http.get("/v1/models/m"), 500, "internal")
    assert "secret" not in detail
    assert "finds it in the log" in detail
