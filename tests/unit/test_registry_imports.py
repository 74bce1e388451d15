"""Imports reach what lies below the operator's roots, and nothing else of the machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer
from tests.registry_room import Room, open_room

from vedette.core.errors import PermissionDenied
from vedette.registry.imports import LocalSource


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A root with a graph and a folder, and a secret beside it."""
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "graph.onnx").write_bytes(b"graph")
    (root / "folder" / "model.onnx").write_bytes(b"graph with data")
    (root / "folder" / "w.data").write_bytes(b"w" * 3_000_000)
    (tmp_path / "secret.onnx").write_bytes(b"secret")
    (tmp_path / "root-two").mkdir()
    (tmp_path / "root-two" / "graph.onnx").write_bytes(b"secret")
    return root


@pytest.fixture
async def room(roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with open_room(tmp_path / "data", monkeypatch, import_roots=(str(roots), "s3://models/allowed")) as opened:
        yield opened


async def ask(room: Room, source: str, **details: Any) -> httpx.Response:
    """Import it as model m."""
    return await room.http.post("/v1/models/m/imports", json={"source": source, "details": details})


async def test_a_file_becomes_the_graph(room: Room, roots: Path) -> None:
    """Whatever it is called there; the same bytes again are the same version."""
    first = await ask(room, str(roots / "graph.onnx"), description="from a path")
    assert (first.status_code, first.json()["description"]) == (201, "from a path")
    assert [file["path"] for file in first.json()["files"]] == ["model.onnx"]
    assert (await ask(room, str(roots / "folder" / ".." / "graph.onnx"))).status_code == 200


async def test_a_folder_brings_its_external_data(room: Room, roots: Path) -> None:
    """Every file of it, in chunks."""
    made = await ask(room, str(roots / "folder"))
    assert made.status_code == 201, made.text
    assert [(file["path"], file["size"]) for file in made.json()["files"]] == [
        ("model.onnx", 15),
        ("w.data", 3_000_000),
    ]


async def test_without_roots_nothing_is_imported(tmp_path: Path, roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default; the refusal says what to set."""
    async with open_room(tmp_path / "data", monkeypatch) as room:
        refused = await ask(room, str(roots / "graph.onnx"))
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        assert "import_roots" in refused.json()["detail"]


async def test_nothing_outside_the_roots_is_reached(room: Room, roots: Path) -> None:
    """Not by dots, links, siblings with the same beginning, devices; all with the same words."""
    outside = roots.parent / "secret.onnx"
    (roots / "link.onnx").symlink_to(outside)
    (roots / "linked").symlink_to(roots.parent / "root-two")
    os.mkfifo(roots / "pipe.onnx")
    words = set()
    for source in (
        str(outside), str(roots / ".." / "secret.onnx"), str(roots / "link.onnx"), str(roots / "linked" / "graph.onnx"),
        str(roots / "linked"), str(roots.parent / "root-two" / "graph.onnx"), str(roots / "nothing.onnx"),
        str(roots / "pipe.onnx"), "/etc/passwd", "/dev/zero", "/proc/self/environ", "graph.onnx", "/", "~",
    ):  # fmt: skip
        refused = await ask(room, source)
        assert refused.status_code == 403, (source, refused.text)
        words.add(refused.json()["detail"])
    assert len(words) == 1
    assert (await room.http.get("/v1/models")).json()["items"] == []


async def test_a_link_inside_a_folder_does_not_lead_out(room: Room, roots: Path) -> None:
    """Also when only one of its files is one."""
    (roots / "folder" / "x.data").symlink_to(roots.parent / "secret.onnx")
    assert (await ask(room, str(roots / "folder"))).status_code == 403


async def test_a_folder_with_other_things_is_refused(room: Room, roots: Path) -> None:
    """Files are not silently left out."""
    (roots / "folder" / "train.py").write_text("import os")
    refused = await ask(room, str(roots / "folder"))
    assert refused.status_code == 400
    assert "train.py" in refused.json()["detail"]


@pytest.mark.parametrize(
    "source", ["", "a\0b", "file:///etc/passwd", "http://127.0.0.1/x", "gs://models/x", "s3://models/allowed/../x",
               "s3://models/allowed/*", "s3://models/allowed//x", "S3://models/allowed/x"]
)  # fmt: skip
async def test_sources_that_are_none_are_refused(room: Room, source: str) -> None:
    """Other schemes, patterns, NUL: before anything is opened."""
    assert (await ask(room, source)).status_code in {400, 403}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 on loopback with a graph in and one beside the allowed prefix."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    for key in ("allowed/graph.onnx", "allowed/folder/model.onnx", "allowed/folder/w.data", "allowed-not/graph.onnx"):
        client.put_object(Bucket="models", Key=key, Body=f"graph {key}".encode())
    yield client
    client.close()
    server.stop()


async def test_objects_below_an_allowed_prefix_are_imported(room: Room, bucket: Any) -> None:
    """One object, or a prefix with its external data; a sibling prefix and an absent key are refused."""
    one = await ask(room, "s3://models/allowed/graph.onnx")
    assert one.status_code == 201, one.text
    several = await ask(room, "s3://models/allowed/folder")
    assert [file["path"] for file in several.json()["files"]] == ["model.onnx", "w.data"]
    for source in ("s3://models/allowed-not/graph.onnx", "s3://models/allowed/nothing.onnx", "s3://other/graph.onnx"):
        assert (await ask(room, source)).status_code == 403


async def test_an_object_store_that_is_down_is_unavailable(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path, host or key in the words."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    failed = await ask(room, "s3://models/allowed/graph.onnx")
    assert failed.status_code == 503
    assert "127.0.0.1" not in failed.text


def test_a_folder_swapped_for_a_link_meanwhile_is_not_followed(roots: Path) -> None:
    """What counts is where the opened file really is, not where it was when somebody looked."""
    (roots.parent / "elsewhere").mkdir()
    (roots.parent / "elsewhere" / "model.onnx").write_bytes(b"secret")
    source = LocalSource(str(roots / "folder"), [str(roots)])
    place = source.files()["model.onnx"]
    (roots / "folder").rename(roots / "before")
    (roots / "folder").symlink_to(roots.parent / "elsewhere")
    with pytest.raises(PermissionDenied):
        source.open(place)
