"""The archive: every capture in exactly one file, whatever is killed, and SageMaker's records to the letter."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vedette.codec.captures import CONTENT_TYPE, CaptureBatch, TensorColumn, encode_captures
from vedette.core.clock import ManualClock
from vedette.core.events import Message
from vedette.core.metrics import NoMetrics
from vedette.monitor.traffic.archive import GROUP, Archive, ArchiveSettings
from vedette.monitor.traffic.capture_records import ContentTypes, record_lines
from vedette.storage.memory_stream import MemoryEventStream

NOON = 1_650_240_000.0  # 2022-04-18 00:00:00 UTC


def batch(first: int = 0, *, at: float = NOON, rows: int = 3, kind: str = "text/csv", **changes) -> CaptureBatch:
    """`rows` requests of two features and one score, one second apart."""
    values = np.arange(2 * rows, dtype=np.float32) + first
    inputs = TensorColumn("x", "FP32", values, [(1, 2)] * rows)
    outputs = TensorColumn("score", "FP32", values[:rows] / 4, [(1, 1)] * rows)
    facts = {
        "endpoint": "churn",
        "variant": "AllTraffic",
        "model": "churn",
        "version": "3",
        "producer": "p",
        "sequences": np.arange(first, first + rows, dtype=np.uint64),
        "event_ids": [str(uuid.UUID(int=first + i, version=4)) for i in range(rows)],
        "inference_ids": [f"id-{first + i}" if i else "" for i in range(rows)],
        "times": at + np.arange(rows, dtype=np.float64),
        "latencies_us": np.full(rows, 120, np.int64),
        "codes": ["OK"] * rows,
        "rows": np.ones(rows, np.int64),
        "request_types": [kind] * rows,
        "response_types": [kind] * rows,
        "custom_attributes": [""] * rows,
        "inputs": {"x": inputs},
        "outputs": {"score": outputs},
    }
    return CaptureBatch(**{**facts, **changes})


def below(folder: Path, pattern: str) -> list[Path]:
    """Everything under a folder that matches."""
    return list(folder.rglob(pattern))


async def published(*batches: CaptureBatch) -> MemoryEventStream:
    """A stream that holds these batches."""
    stream = MemoryEventStream()
    for number, one in enumerate(batches):
        await stream.publish("captures", [Message("churn", encode_captures(one), CONTENT_TYPE, "p", number)])
    return stream


def archive(stream: MemoryEventStream, folder: Path, **settings) -> Archive:
    """An archive that never flushes by itself."""
    return Archive(stream, ArchiveSettings(folder, **settings), clock=ManualClock(NOON + 60), metrics=NoMetrics())


async def read_all(made: Archive, stream: MemoryEventStream) -> None:
    """Gather everything the stream holds and write it, as `run` does when it ends."""
    made.stop()
    made._stopping = False
    offset = await stream.committed("captures", GROUP)
    while offset < await stream.end("captures"):
        offset = await made._step(offset)
    await made.flush()


def ids(folder: Path) -> list[str]:
    """Event ids of all Parquet files."""
    return sorted(event for path in folder.rglob("*.parquet") for event in pq.read_table(path)["event_id"].to_pylist())


async def test_captures_lie_by_endpoint_variant_date_and_hour(tmp_path: Path) -> None:
    """A message over the turn of an hour is cut in two, and nothing of it is lost."""
    stream = await published(batch(at=NOON + 3598.5))
    await read_all(archive(stream, tmp_path), stream)
    found = {path.relative_to(tmp_path).parent.as_posix(): pq.read_table(path) for path in below(tmp_path, "*.parquet")}
    base = "parquet/endpoint=churn/variant=AllTraffic/date=2022-04-18"
    assert {name: len(table) for name, table in found.items()} == {f"{base}/hour=00": 2, f"{base}/hour=01": 1}
    table = found[f"{base}/hour=00"]
    assert table["input:x"].to_pylist() == [[0.0, 1.0], [2.0, 3.0]]
    assert table["version"].to_pylist() == ["3", "3"]
    assert await stream.committed("captures", GROUP) == 1


async def test_versions_with_other_tensors_go_to_files_of_their_own(tmp_path: Path) -> None:
    """Two schemas in one hour are two files."""
    other = TensorColumn("x", "INT64", np.arange(3), [(1, 1)] * 3)
    stream = await published(batch(), batch(10, version="4", inputs={"x": other}), batch(20))
    await read_all(archive(stream, tmp_path), stream)
    assert sorted(len(pq.read_table(path)) for path in below(tmp_path, "*.parquet")) == [3, 6]


async def test_what_a_kill_left_uncommitted_is_written_once(tmp_path: Path) -> None:
    """Files in place whose offset was never committed are removed at the start and written again."""
    stream = await published(batch(), batch(10), batch(20))
    first = archive(stream, tmp_path, sagemaker=True)
    for delivery in await stream.read("captures", 0, 1):
        first._gather(delivery)
    await first.flush()
    for delivery in await stream.read("captures", 1, 10):
        first._gather(delivery)
    first._write(first._gathered)  # killed before the commit
    (tmp_path / "parquet" / "half.parquet.partial").write_bytes(b"half")
    second = archive(stream, tmp_path, sagemaker=True)
    assert await second._begin() == 1
    await read_all(second, stream)
    wanted = sorted(str(uuid.UUID(int=start + i, version=4)) for start in (0, 10, 20) for i in range(3))
    assert ids(tmp_path) == wanted
    lines = [line for path in below(tmp_path, "*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["eventMetadata"]["eventId"] for line in lines) == wanted
    assert below(tmp_path, "*.partial") == []


async def test_what_a_failed_commit_left_is_written_once(tmp_path: Path) -> None:
    """The stream is away after files were placed: they are made again with what came since, and nothing is twice."""
    stream = await published(batch())
    made = archive(stream, tmp_path, sagemaker=True)
    offset = await made._step(await made._begin())
    made._write(made._gathered)  # the commit that follows fails
    await stream.publish("captures", [Message("churn", encode_captures(batch(10)), CONTENT_TYPE, "p", 1)])
    assert offset == 1
    await made._step(await made._begin())
    await made.flush()
    assert len(ids(tmp_path)) == len(set(ids(tmp_path))) == 6
    assert len(below(tmp_path, "*.jsonl")) == 1


async def test_a_lost_offset_costs_no_archive(tmp_path: Path) -> None:
    """The stream forgot the group's offset: nothing is twice, and what it no longer holds stays in the archive."""
    stream = await published()
    for number in range(4):
        await stream.publish("captures", [Message("churn", encode_captures(batch(10 * number)), CONTENT_TYPE, "p")])
        await read_all(archive(stream, tmp_path), stream)
    kept = ids(tmp_path)
    shorter = MemoryEventStream(max_messages=1)
    for number in range(4):
        await shorter.publish("captures", [Message("churn", encode_captures(batch(10 * number)), CONTENT_TYPE, "p")])
    for forgetful in (await published(*(batch(10 * number) for number in range(4))), shorter, await published(batch())):
        made = archive(forgetful, tmp_path)
        offset = await made._begin()
        while offset < await forgetful.end("captures"):
            offset = await made._step(offset)
        if await forgetful.end("captures") == 4:
            await made.flush()
        assert ids(tmp_path) == kept


@pytest.mark.parametrize("time", [1.65e12, -1.0, 1e300, float("nan"), float("inf")])
async def test_a_time_that_is_no_date_stops_no_archive(tmp_path: Path, time: float) -> None:
    """A producer's clock in milliseconds, or none: the record lies in the hour of its arrival, and says its time."""
    stream = await published(batch(times=np.full(3, time)), batch(10))
    await read_all(archive(stream, tmp_path, sagemaker=True), stream)
    assert len(ids(tmp_path)) == 6
    hours = {path.parent.relative_to(tmp_path / "parquet" / "endpoint=churn") for path in below(tmp_path, "*.parquet")}
    assert {str(hour) for hour in hours} == {"variant=AllTraffic/date=2022-04-18/hour=00"}
    assert len(below(tmp_path, "*.jsonl")) == 1


async def test_damaged_messages_and_hostile_names_make_no_file(tmp_path: Path) -> None:
    """They are passed over; the others are kept."""
    stream = await published(batch(endpoint="../../etc"), batch(10))
    await stream.publish("captures", [Message("churn", b"no arrow", CONTENT_TYPE), Message("churn", b"", "text/plain")])
    await read_all(archive(stream, tmp_path / "a"), stream)
    assert len(ids(tmp_path)) == 3
    assert {path.relative_to(tmp_path).parts[0] for path in below(tmp_path, "*")} == {"a"}


async def test_the_oldest_hours_go_when_the_budget_is_spent(tmp_path: Path) -> None:
    """By bytes and by age; empty folders go with them."""
    stream = await published(batch())
    made = archive(stream, tmp_path)
    await read_all(made, stream)
    assert made.sweep() == 0
    spent = archive(stream, tmp_path, max_bytes=0)
    assert spent.sweep() > 0
    assert below(tmp_path, "*") == []


def test_a_record_is_sagemakers_to_the_letter() -> None:
    """Members, order, encodings and times as in recorded files."""
    lines = [line for _, line in record_lines(batch(rows=2, custom_attributes=["", "trace=1"]), ContentTypes())]
    first, second = (json.loads(line) for line in lines)
    assert lines[0].startswith(
        b'{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"0.0,1.0",'
        b'"encoding":"CSV"},"endpointOutput":{"observedContentType":"text/csv","mode":"OUTPUT","data":"0.0",'
        b'"encoding":"CSV"}},"eventMetadata":{"eventId":"'
    )
    assert lines[0].endswith(b'"inferenceTime":"2022-04-18T00:00:00Z"},"eventVersion":"0"}\n')
    assert "inferenceId" not in first["eventMetadata"]
    assert second["eventMetadata"]["inferenceId"] == "id-1"
    assert second["eventMetadata"]["customAttributes"] == ["trace=1"]


@pytest.mark.parametrize(
    ("observed", "encoding", "data"),
    [
        ("text/csv; charset=utf-8", "CSV", "0.0,1.0"),
        ("application/json", "JSON", '{"instances":[[0.0,1.0]]}'),
        ("application/octet-stream", "BASE64", "AAAAAAAAgD8="),
        ("", "BASE64", "AAAAAAAAgD8="),
    ],
)
def test_the_observed_type_decides_the_encoding(observed: str, encoding: str, data: str) -> None:
    """A type in neither list is base64."""
    [(_, line)] = record_lines(batch(rows=1, kind=observed), ContentTypes())
    payload = json.loads(line)["captureData"]["endpointInput"]
    assert (payload["encoding"], payload["data"]) == (encoding, data)
    assert payload["observedContentType"] == (observed or None)


def test_what_json_cannot_carry_is_base64() -> None:
    """NaN would be no JSON."""
    nan = TensorColumn("x", "FP32", np.array([np.nan, 1], np.float32), [(1, 2)])
    [(_, line)] = record_lines(batch(rows=1, kind="application/json", inputs={"x": nan}), ContentTypes())
    assert json.loads(line)["captureData"]["endpointInput"]["encoding"] == "BASE64"


async def test_the_key_is_sagemakers(tmp_path: Path) -> None:
    """endpoint/variant/yyyy/mm/dd/hh/MM-SS-mmm-uuid4.jsonl."""
    stream = await published(batch(at=NOON + 20 * 60 + 48.871))
    await read_all(archive(stream, tmp_path, sagemaker=True), stream)
    [path] = below(tmp_path, "*.jsonl")
    name = path.relative_to(tmp_path / "sagemaker").as_posix()
    match = re.fullmatch(r"churn/AllTraffic/2022/04/18/00/20-48-871-([0-9a-f-]{36})\.jsonl", name)
    assert match is not None
    assert uuid.UUID(match[1]).version == 4


async def test_requests_that_failed_are_in_parquet_only(tmp_path: Path) -> None:
    """SageMaker has no record for them; ours keeps the code."""
    stream = await published(batch(codes=["OK", "model_failed", "OK"]))
    await read_all(archive(stream, tmp_path, sagemaker=True), stream)
    assert len(ids(tmp_path)) == 3
    [path] = below(tmp_path, "*.jsonl")
    assert len(path.read_text().splitlines()) == 2


async def test_the_guide_reads_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of docs/how-to/results.md, as it stands, over two hours, two variants and a request that failed."""
    names = {"endpoint": "breast-cancer", "codes": ["OK", "OK", "invalid_argument"]}
    stream = await published(batch(**names), batch(3, at=NOON + 3600, variant="B", **names))
    await read_all(archive(stream, tmp_path / ".vedette/monitor/archive"), stream)
    guide = (Path(__file__).parents[2] / "docs/how-to/results.md").read_text()
    [program] = [
        text for text in re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL) if "read_parquet" in text
    ]
    monkeypatch.chdir(tmp_path)
    held: dict[str, Any] = {}
    exec(compile(program, "results.md", "exec"), held)
    assert held["rows"].tolist() == [[0, 1], [2, 3], [3, 4], [5, 6]]
    assert set(held["captures"]["variant"]) == {"AllTraffic", "B"}
