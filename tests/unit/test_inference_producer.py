"""The numbers of captures: never given twice, exact after a clean stop, with a gap after any other end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.inference import producer as module
from vedette.inference.producer import Producer


def opened(file: Path | None, block: int = 10) -> Producer:
    """A producer that has its slot."""
    made = Producer(file, block=block)
    made.open()
    return made


def killed(producer: Producer) -> None:
    """End a life as kill -9 does: the system gives up the lock and nothing is written."""
    module.os.close(producer._lock)
    producer._lock = -1


def test_numbers_count_up_and_a_clean_stop_leaves_no_gap(tmp_path: Path) -> None:
    """Records and messages each have their own numbers; the next life goes on where the last one ended."""
    first = opened(tmp_path / "c" / "0.json")
    assert [first.take(3, 1), first.take(25, 2), first.take(0, 0)] == [(0, 0), (3, 1), (28, 3)]
    first.close()
    second = opened(tmp_path / "c" / "0.json")
    assert second.take(1, 1) == (28, 3)
    assert json.loads((tmp_path / "c" / "0.json").read_bytes())["producer"] == second.id
    second.close()


def test_after_a_kill_the_numbers_go_on_from_the_mark(tmp_path: Path) -> None:
    """The same producer, no number twice, and a gap of at least one that is at most what was reserved."""
    first = opened(tmp_path / "0.json", block=10)
    first.take(7, 1)
    killed(first)
    second = opened(tmp_path / "0.json", block=10)
    assert second.id == first.id
    assert second.take(1, 1) == (17, 11)
    second.close()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from(["go on", "stop", "kill"])), max_size=20)
)
def test_no_number_is_given_twice_whatever_ends_a_life(
    tmp_path_factory: Any, steps: list[tuple[int, int, str]]
) -> None:
    """Over any sequence of takes, stops and kills both counts only grow."""
    file = tmp_path_factory.mktemp("producer") / "0.json"
    producer, records, messages = opened(file, block=4), 0, 0
    for count, parts, end in steps:
        first, number = producer.take(count, parts)
        assert first >= records
        assert number >= messages
        assert first - records <= 4 + 9
        records, messages = first + count, number + parts
        if end != "go on":
            killed(producer) if end == "kill" else producer.close()
            producer = opened(file, block=4)
    producer.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"producer": 3}', b'{"producer": ""}', b"\xff",
                                     b'{"producer": "p", "records": -1}'])  # fmt: skip
def test_a_damaged_mark_gives_a_new_producer(tmp_path: Path, content: bytes) -> None:
    """Nobody knows which numbers the old one has used."""
    file = tmp_path / "0.json"
    file.write_bytes(content)
    made = opened(file)
    name = made.id
    assert len(name) == 32
    assert made.take(1, 1) == (0, 0)
    made.close()
    again = opened(file)
    assert again.id == name
    again.close()


def test_a_slot_that_another_process_holds_is_not_shared(tmp_path: Path) -> None:
    """Two lives never give the same numbers of one producer: the second one has an id of its own."""
    first, second = opened(tmp_path / "0.json"), opened(tmp_path / "0.json")
    assert first.id != second.id
    second.take(99, 9)
    second.close()
    assert first.take(1, 1) == (0, 0)
    first.close()
    third = opened(tmp_path / "0.json")
    assert third.take(1, 1) == (1, 1)
    third.close()


def test_without_a_folder_a_producer_lives_once() -> None:
    """An id for this life; nothing is written."""
    first, second = opened(None), opened(None)
    assert first.id != second.id
    assert first.take(2, 1) == (0, 0)
    first.close()


def test_numbers_are_not_used_before_the_mark_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the mark cannot be moved nothing is given; once it can, the numbers go on without a gap."""
    made = opened(tmp_path / "0.json", block=5)
    made.take(1, 1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(module.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            made.take(100, 1)
    assert made.take(100, 1) == (1, 1)
    made.close()


def test_the_mark_moves_once_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync for each message would cost more than the capture."""
    synced: list[int] = []
    sync = module.os.fsync
    monkeypatch.setattr(module.os, "fsync", lambda number: (synced.append(number), sync(number)))
    made = opened(tmp_path / "0.json", block=1000)
    for _ in range(1000):
        made.take(1, 1)
    assert len(synced) <= 4
    made.close()
