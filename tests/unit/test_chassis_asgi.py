"""The bridge to ASGI applications: streaming both ways under the same limits as bare routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, StreamingResponse
from tests.unit.test_chassis_rsgi import LIMIT, Address, ask, chunked, post, request, serving

from vedette.chassis.asgi import AsgiBridge
from vedette.core.errors import Conflict


def app(folder: Path) -> FastAPI:
    """A FastAPI application with what ours will do."""
    made = FastAPI()

    @made.post("/json")
    async def _json(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @made.put("/upload/{name}")
    async def _upload(name: str, request: Request) -> dict[str, Any]:
        sizes = [len(part) async for part in request.stream()]
        return {"name": name, "bytes": sum(sizes), "largest": max(sizes)}

    @made.get("/parts")
    async def _parts() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"part%d " % number

        return StreamingResponse(parts())

    @made.get("/file")
    async def _file() -> FileResponse:
        return FileResponse(folder / "file.bin")

    @made.get("/conflict")
    async def _conflict() -> None:
        raise Conflict("not now")

    @made.get("/broken")
    async def _broken() -> None:
        raise RuntimeError("secret /etc/path")

    return made


@contextlib.asynccontextmanager
async def bridged(folder: Path, **settings: Any) -> AsyncIterator[Address]:
    bridge = AsgiBridge(app(folder), uploads=(("PUT", "/upload/{name}"),), max_request_bytes=LIMIT)
    async with serving((), asgi=bridge, **settings) as (address, _):
        yield address


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[Address]:
    async with bridged(tmp_path) as found:
        yield found


def put(body: bytes) -> bytes:
    return request("PUT /upload/a%20b", f"Content-Length: {len(body)}", body=body)


async def test_json_both_ways(address: Address) -> None:
    """A control route works as under any ASGI server, and gets our request id."""
    answer = await ask(address, post(b'{"a": 1}', "Content-Type: application/json", "X-Request-Id: me", path="/json"))
    assert (answer.status, answer.document, answer.headers["x-request-id"]) == (200, {"a": 1}, "me")


async def test_upload_streams(address: Address) -> None:
    """A body many times the limit passes through an upload route in parts."""
    answer = await ask(address, put(b"x" * LIMIT * 40))
    assert answer.document["bytes"] == LIMIT * 40
    assert answer.document["largest"] < LIMIT * 20
    assert answer.document["name"] == "a b"


async def test_other_routes_have_the_limit(address: Address) -> None:
    """A body over the limit is 413 on a route that takes documents, with and without a length."""
    over = b"x" * (LIMIT + 1)
    assert (await ask(address, post(over, path="/json"))).status == 413
    answer = await ask(address, chunked(over, path="/json"))
    assert (answer.status, answer.document["code"]) == (413, "too_large")


async def test_broken_upload_never_looks_whole(address: Address) -> None:
    """An upload with broken framing ends in 400, not in a shorter file."""
    answer = await ask(address, request("PUT /upload/a", "Transfer-Encoding: chunked", body=b"3\r\nabcZZ"))
    assert (answer.status, answer.document["code"]) == (400, "invalid_argument")


async def test_stalled_upload_is_408(tmp_path: Path) -> None:
    """An upload that stops arriving is given up after the receive deadline."""
    async with bridged(tmp_path, receive_timeout_s=0.3) as address:
        answer = await ask(address, request("PUT /upload/a", "Content-Length: 10", body=b"abc"))
    assert (answer.status, answer.headers["connection"]) == (408, "close")


async def test_streamed_and_file_responses(address: Address, tmp_path: Path) -> None:
    """Answers stream out in parts, and files leave without passing through Python."""
    (tmp_path / "file.bin").write_bytes(b"f" * 300_000)
    assert (await ask(address, request("GET /parts"))).body == b"part0 part1 part2 "
    answer = await ask(address, request("GET /file"))
    assert (answer.headers["content-length"], answer.body) == ("300000", b"f" * 300_000)


async def test_errors(address: Address) -> None:
    """Our errors keep their status; others show only an id."""
    assert (await ask(address, request("GET /conflict"))).status == 409
    answer = await ask(address, request("GET /broken", "X-Request-Id: me"))
    assert (answer.status, answer.document["code"]) == (500, "internal")
    assert "me" in answer.document["detail"]
    assert b"secret" not in answer.body
    assert (await ask(address, request("GET /nope"))).status == 404


async def test_concurrent_uploads_do_not_mix(address: Address) -> None:
    """Twenty uploads at once each get their own count."""
    answers = await asyncio.gather(*(ask(address, put(b"x" * (1000 + number))) for number in range(20)))
    assert [answer.document["bytes"] for answer in answers] == [1000 + number for number in range(20)]


@pytest.mark.parametrize("how", ["returns", "is cut off"])
async def test_an_answer_in_parts_that_was_not_finished_does_not_look_whole(how: str) -> None:
    """Whether the application returned in the middle, or its request's body was late and it was ended."""

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        while how != "returns":
            await receive()

    bridge = AsgiBridge(half, uploads=(), max_request_bytes=LIMIT)
    async with serving((), asgi=bridge, receive_timeout_s=0.1) as (address, _):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12")
        got = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while part := await reader.read(1000):
                    got += part
        assert not got.endswith(b"0\r\n\r\n")
        writer.close()
