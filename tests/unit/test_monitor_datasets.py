"""Reference data from files: what is read, what is refused, and how much memory a hostile file may take."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.damaged_files import damaged, outcomes

from vedette.core.errors import InvalidArgument, TooLarge
from vedette.monitor.reference_data import columns, parquet_pages
from vedette.monitor.reference_data.columns import Kind
from vedette.monitor.reference_data.datasets import open_dataset, spooled

ROOT = Path(__file__).parents[2]
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(content: str | bytes) -> Path:
        path = tmp_path / "data"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def read(path: Path, format: str, kinds: dict[str, Kind] | None = None, **options: Any) -> dict[str, list[Any]]:
    """The whole table as lists; NaN as None, so that tables compare."""
    data = open_dataset(path, format, **options)
    wanted = kinds or dict.fromkeys(data.columns, "numeric")
    chunks = list(data.chunks(wanted))
    whole = {name: [v for chunk in chunks for v in chunk[name].tolist()] for name in data.columns if name in wanted}
    return {name: [None if v != v else v for v in values] for name, values in whole.items()}


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


MIXED: dict[str, list[Any]] = {"age": [1.5, None, 3.0], "colour": ["red", None, 'a "b"\nc, d']}
MIXED_FILES = {
    "csv": 'age,colour\n1.5,red\n,\n3,"a ""b""\nc, d"\n',
    "jsonl": '{"age":1.5,"colour":"red"}\n{}\n{"age":3,"colour":"a \\"b\\"\\nc, d"}\n',
    "parquet": parquet(pa.table(MIXED)),
}


@pytest.mark.parametrize("format", MIXED_FILES)
def test_every_format_gives_the_same_table(write: Write, format: str) -> None:
    """Numbers, texts with commas, quotes and line breaks, and what is missing."""
    assert read(write(MIXED_FILES[format]), format, {"age": "numeric", "colour": "text"}) == MIXED


@pytest.mark.parametrize("format", MIXED_FILES)
def test_only_the_columns_that_are_asked_for_are_read(write: Write, format: str) -> None:
    """The others are known by name."""
    data = open_dataset(write(MIXED_FILES[format]), format)
    assert set(data.columns) == {"age", "colour"}
    assert [list(chunk) for chunk in data.chunks({"colour": "text"})] == [["colour"]]


@pytest.mark.parametrize("format", MIXED_FILES)
def test_a_table_can_be_read_again(write: Write, format: str) -> None:
    """The two passes of a baseline see the same rows."""
    data = open_dataset(write(MIXED_FILES[format]), format)
    first, second = ([c["age"].tolist() for c in data.chunks({"age": "numeric"})] for _ in range(2))
    assert repr(first) == repr(second)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n1\n 2.5 \n-1e3\n", [1.0, 2.5, -1000.0]),
        ("a\nNA\nnull\n?\nNaN\n7\n", [None, None, None, None, 7.0]),
        ("a\ntrue\nFalse\n", [True, False]),
        ("a\n1\nx\n\n2.50\n", ["1", "x", "2.50"]),
        ('a\n1\nx\n""\n2.50\n', ["1", "x", None, "2.50"]),
        ("a\ninf\n-inf\n", [np.inf, -np.inf]),
        ("a\n1,\n", None),
    ],
)
def test_a_numeric_column_of_csv(write: Write, text: str, expected: list[Any] | None) -> None:
    """Numbers where all are; the original texts where one is not, so that each is counted by its own type."""
    if expected is None:
        with pytest.raises(InvalidArgument, match="Expected 1 columns, got 2"):
            read(write(text), "csv", names=["a"])
    else:
        assert read(write(text), "csv", names=["a"])["a"] == expected


def test_a_text_column_keeps_what_looks_like_a_missing_number(write: Write) -> None:
    """Namibia's code is NA; only an empty cell is missing."""
    assert read(write("country\nNA\n007\nnull\n"), "csv", {"country": "text"})["country"] == ["NA", "007", "null"]


@pytest.mark.parametrize(
    ("text", "names", "header", "columns"),
    [
        ("a,b\n1,2\n", ("a", "b"), None, ("a", "b")),
        ("1,2\n3,4\n", ("a", "b"), None, ("a", "b")),
        ("1,x\n3,y\n", ("a", "b"), None, ("a", "b")),
        ("b,1\n3,4\n", ("a", "b"), None, ("b", "1")),
        ("0,1\n3,4\n", ("a", "b"), None, ("0", "1")),
        ("c,d\n3,4\n", ("a", "b"), None, ("c", "d")),
        ("1,2\n3,4\n", (), False, ("_c0", "_c1")),
        ("1,2\n3,4\n", ("a", "b"), True, ("1", "2")),
        ("\ufeffa,b\n1,2\n", ("a", "b"), None, ("a", "b")),
        ('"a","b, c"\r\n1,2\r\n', ("a",), None, ("a", "b, c")),
    ],
)
def test_the_header_of_csv(
    write: Write, text: str, names: tuple[str, ...], header: bool | None, columns: tuple[str, ...]
) -> None:
    """It is one unless it holds numbers and no expected name; without one the columns are the model's, by place."""
    data = open_dataset(write(text), "csv", names=names, header=header)
    assert data.columns == columns
    rows = sum(len(next(iter(chunk.values()))) for chunk in data.chunks(dict.fromkeys(columns, "text")))
    assert rows == (2 if columns[0] not in text else 1)


@pytest.mark.parametrize(
    ("format", "content", "words"),
    [
        ("csv", b"", "empty"),
        ("csv", b"\n\na\n1\n", "empty"),
        ("csv", b"a,a\n1,2\n", "two columns 'a'"),
        ("csv", b",a\n1,2\n", "column 1 has no name"),
        ("csv", b"a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("csv", b"a\n\xff\xfe\n", "not valid UTF-8"),
        ("csv", b"a\n" + b"xxxxxxxxx\n" * 500_000 + b"\xff\n", "UTF"),
        ("csv", b"1,2,3\n4,5,6\n", "no header and 3 columns"),
        ("csv", b'a,"b\n1,2\n', "first line"),
        ("jsonl", b"1\n", "neither an object"),
        ("jsonl", b'{"a": 1}\n{"a": }\n', "line 2 is not JSON"),
        ("jsonl", b'{"a": [1]}\n', "lists or objects"),
        ("jsonl", b"[1,2,3]\n", "line 1 has 3 values"),
        ("jsonl", b'{"a": "\xff"}\n', "line 1 is not JSON"),
        ("jsonl", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "line 1"),
        ("jsonl", b'{"": 1}\n', "no name"),
        ("jsonl", b'{"captureData": {"endpointInput": {"encoding": "BASE64", "data": "x"}}}\n', "CSV input"),
        ("parquet", b"", "no Parquet file"),
        ("parquet", b"PAR1" * 3, "footer is damaged"),
        ("parquet", MIXED_FILES["parquet"][:-20], "no Parquet file"),
        ("parquet", parquet(pa.table({"a": [[1, 2]]})), "not numbers or text"),
        ("parquet", parquet(pa.table({"a": [{"b": 1}]})), "not numbers or text"),
        ("parquet", parquet(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])), "two columns"),
        ("xlsx", b"PK", "none of csv, parquet, jsonl"),
    ],
)
def test_what_is_no_table_is_refused(write: Write, format: str, content: bytes, words: str) -> None:
    """With words that say what is wrong, and no path in them."""
    path = write(content)
    with pytest.raises(InvalidArgument) as caught:
        read(path, format, names=["a", "b"])
    assert words in caught.value.message
    assert str(path.parent) not in caught.value.message


def test_a_million_columns_are_refused_at_once(write: Write) -> None:
    """In every format, before a row is read."""
    names = [f"c{number}" for number in range(1_000_000)]
    for kind, content in (
        ("csv", ",".join(names) + "\n"),
        ("jsonl", json.dumps(dict.fromkeys(names, 1)) + "\n"),
    ):
        with pytest.raises((TooLarge, InvalidArgument)):
            open_dataset(write(content), kind)
    wide = parquet(pa.table({name: [1] for name in names[: columns.MAX_COLUMNS + 1]}))
    with pytest.raises(TooLarge, match="columns"):
        open_dataset(write(wide), "parquet")


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_cell_of_ten_megabytes_is_read_and_cut(write: Write, format: str) -> None:
    """A line beyond the limit is `TooLarge`, wherever it stands."""
    for size, fits in ((10_000_000, True), (40_000_000, False)):
        rows = ["short", "x" * size, "last"]
        lines = [json.dumps({"a": row}) for row in rows] if format == "jsonl" else ["a", *rows]
        path = write("\n".join(lines) + "\n")
        if fits:
            assert [len(v) for v in read(path, format, {"a": "text"})["a"]] == [5, columns.MAX_TEXT, 4]
        else:
            with pytest.raises(TooLarge):
                read(path, format, {"a": "text"})


def test_a_large_row_among_small_ones_loses_and_repeats_nothing(write: Write) -> None:
    """The rest of the file is read in larger blocks."""
    cells = [f"{number:09}" for number in range(900_000)]
    cells[600_000] = "y" * 5_000_000
    found = read(write("a\n" + "\n".join(cells) + "\n"), "csv", {"a": "text"})["a"]
    cells[600_000] = "y" * columns.MAX_TEXT
    assert found == cells


def test_jsonl_takes_arrays_and_captured_records(write: Write) -> None:
    """By place; a record's CSV rows with the prediction of each."""
    captured = {
        "captureData": {
            "endpointInput": {"encoding": "CSV", "data": "5,red\n6,blue"},
            "endpointOutput": {"encoding": "CSV", "data": "0.5\n0.25"},
        }
    }
    text = f'\ufeff[1, "a"]\n\n{{"age": 2, "colour": "b"}}\n{json.dumps(captured)}'
    kinds: dict[str, Kind] = {"age": "numeric", "colour": "text", "prediction": "numeric"}
    found = read(write(text.encode()), "jsonl", kinds, names=["age", "colour"])
    assert found["colour"] == ["a", "b", "red", "blue"]
    assert [float(value) for value in found["age"]] == [1, 2, 5, 6]
    assert [None if v is None else float(v) for v in found["prediction"]] == [None, None, 0.5, 0.25]


def test_the_number_of_a_bad_line_is_right_far_into_the_file(write: Write) -> None:
    """Over the blocks that the file is read in."""
    good = b'{"a": 123456789}\n'
    with pytest.raises(InvalidArgument, match="line 400001 is not JSON"):
        open_dataset(write(good * 400_000 + b"{\n" + good), "jsonl")


def test_jsonl_columns_by_type(write: Write) -> None:
    """All numbers, all booleans, numbers written as texts, or a mixture as texts that show their types."""
    rows = [{"n": 1, "b": True, "s": "1.5", "m": "x"}, {"n": None, "b": False, "s": "", "m": 2.5}, {"m": True}]
    path = write("\n".join(map(json.dumps, rows[:2])) + "\n")
    assert read(path, "jsonl") == {"n": [1, None], "b": [True, False], "s": [1.5, None], "m": ["x", "2.5"]}
    path = write("\n".join(map(json.dumps, rows)) + "\n")
    assert read(path, "jsonl")["m"] == ["x", "2.5", "true"]
    assert read(path, "jsonl")["b"] == ["true", "false", None]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1, None, 3], pa.int32()), [1, None, 3]),
        (pa.array([True, None], pa.bool_()), [1, None]),
        (pa.array([True, False]), [True, False]),
        (pa.array([1.5, float("nan")], pa.float32()), [1.5, None]),
        (pa.array([None, None], pa.null()), [None, None]),
        (pa.array(["1", None, "2"]).dictionary_encode(), [1, None, 2]),
        (pa.array(["1", "x"], pa.large_string()), ["1", "x"]),
    ],
)
def test_parquet_types(write: Write, array: Any, expected: list[Any]) -> None:
    """Numbers of any width, booleans, texts; missing ones too."""
    assert read(write(parquet(pa.table({"a": array}))), "parquet")["a"] == expected


def test_an_index_that_pandas_saved_is_no_column(write: Write) -> None:
    """It comes along whenever a frame was filtered before."""
    import pandas as pd

    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]}).iloc[[0, 2]]
    assert read(write(parquet(pa.Table.from_pandas(frame))), "parquet") == {"a": [1.0, 3.0]}


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_honest_files_are_walked_to_their_end(write: Write, compression: str, version: str) -> None:
    """Dictionaries, statistics, several row groups and pages, both page versions."""
    rng = np.random.default_rng(3)
    table = pa.table({"n": rng.normal(size=50_000), "t": rng.integers(0, 3000, 50_000).astype(str)})
    content = parquet(
        table, compression=compression, data_page_version=version, row_group_size=20_000, data_page_size=10_000
    )
    found = read(write(content), "parquet", {"n": "numeric", "t": "text"})
    assert found["n"] == table["n"].to_pylist()
    assert found["t"] == table["t"].to_pylist()


def test_a_page_that_unpacks_to_hundreds_of_megabytes_is_refused(write: Write) -> None:
    """Before anything is unpacked: the file itself is small."""
    bomb = pa.table({"a": pa.array([b"\0" * 100_000_000], pa.binary()).cast(pa.string())})
    content = parquet(bomb, compression="zstd", use_dictionary=False)
    assert len(content) < 100_000
    with pytest.raises(TooLarge, match="page of column 'a'"):
        open_dataset(write(content), "parquet")


def test_too_many_rows_and_values_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes can stand for a billion equal rows."""
    content = parquet(pa.table({"a": pa.array(np.zeros(100_000))}), data_page_size=1 << 30)
    monkeypatch.setattr(parquet_pages, "MAX_PAGE_VALUES", 10_000)
    with pytest.raises(TooLarge, match="page"):
        open_dataset(write(content), "parquet")
    monkeypatch.setattr(columns, "MAX_ROWS", 50_000)
    for kind, data in (("parquet", content), ("csv", "a\n" + "1\n" * 60_000), ("jsonl", '{"a":1}\n' * 60_000)):
        with pytest.raises(TooLarge, match="more than 50000 rows"):
            read(write(data), kind)


def test_a_damaged_parquet_file_is_an_error_or_a_table(tmp_path: Path) -> None:
    """Any byte changed, any part cut off: never another exception; a few end the reader, which is a child therefore."""
    files = [tmp_path / str(seed) for seed in range(600)]
    for seed, path in enumerate(files):
        path.write_bytes(damaged(MIXED_FILES["parquet"], seed))
    found = set(outcomes(files))
    assert {"table", "invalid_argument"} <= found <= {"table", "invalid_argument", "too_large", "SIGABRT"}


PROGRAM = """
import resource, sys
from pathlib import Path
from vedette.core.errors import VedetteError
from vedette.monitor.reference_data.datasets import open_dataset
path, format = Path(sys.argv[1]), sys.argv[2]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = 0
try:
    for chunk in (data := open_dataset(path, format)).chunks(dict.fromkeys(data.columns, sys.argv[3])):
        rows += len(next(iter(chunk.values())))
except VedetteError as error:
    rows = error.code
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def measured(path: Path, format: str, kind: Kind) -> tuple[str, int]:
    """Rows read in a fresh process (or the code of the error), and by how many MiB it grew."""
    command = [sys.executable, "-c", PROGRAM, str(path), format, kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows, grown = done.stdout.split()
    return rows, int(grown)


def bombs() -> Iterable[tuple[str, bytes, Kind, str]]:
    """Small files that would be gigabytes as a frame."""
    word = "x" * 3_000_000
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array([word]))
    yield "parquet", parquet(pa.table({"a": same}), compression="zstd"), "text", "200000"
    zeros = pa.table({f"c{n}": np.zeros(300_000) for n in range(40)})
    yield "parquet", parquet(zeros, compression="zstd"), "numeric", "300000"
    yield "csv", b"a\n" + b"1\n" * 20_000_000, "numeric", "20000000"
    yield "csv", b"a,b\n" + b"1.234567890123,some text\n" * 3_000_000, "numeric", "3000000"
    yield "jsonl", b'{"a":1}\n' * 300_000, "numeric", "300000"


@pytest.mark.parametrize("number", range(5))
def test_reading_takes_bounded_memory(tmp_path: Path, number: int) -> None:
    """Whatever a small file unpacks to: measured in a process of its own."""
    form, content, kind, rows = list(bombs())[number]
    path = tmp_path / "data"
    path.write_bytes(content)
    found, grown = measured(path, form, kind)
    assert found == rows
    assert grown < 250, f"{form} grew by {grown} MiB"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_stream_is_spooled_to_a_file_that_goes(tmp_path: Path) -> None:
    """Whole and in order; nothing is left after the block, nor after an error in it."""
    async with spooled(chunks(b"a\n", b"1\n" * 800_000, b"2\n"), tmp_path, max_bytes=2_000_000) as path:
        assert path.read_bytes() == b"a\n" + b"1\n" * 800_000 + b"2\n"
    with pytest.raises(TooLarge):
        async with spooled(chunks(b"123", b"456"), tmp_path, max_bytes=5):
            pass
    with pytest.raises(InvalidArgument, match="empty"):
        async with spooled(chunks(), tmp_path, max_bytes=5):
            pass
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - nothing else waits
