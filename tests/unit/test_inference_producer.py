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


def opened(file: Path | None, boot: str = "this") -> Producer:
    """A producer that has its slot, on a machine that runs since `boot`."""
    made = Producer(file, boot=lambda: boot)
    made.open()
    return made


def killed(producer: Producer) -> None:
    """End a life as kill -9 does: the system gives up the lock and nothing is written."""
    module.os.close(producer._lock)
    module.os.close(producer._written)
    producer._lock = producer._written = -1


def test_numbers_count_up_and_a_clean_stop_leaves_no_gap(tmp_path: Path) -> None:
    """Records and messages each have their own numbers; the next life goes on where the last one ended."""
    first = opened(tmp_path / "c" / "0.json")
    first.expect(40)
    assert [first.take(3, 1), first.take(25, 2), first.take(0, 0)] == [(0, 0), (3, 1), (28, 3)]
    first.close()
    second = opened(tmp_path / "c" / "0.json", boot="another")
    assert second.take(1, 1) == (28, 3)
    assert json.loads((tmp_path / "c" / "0.json").read_bytes())["producer"] == second.id
    second.close()


def test_after_a_kill_the_gap_is_what_waited_and_a_moments_traffic(tmp_path: Path) -> None:
    """The same producer, no number twice: 100 between two looks, and 130 wait at the last one."""
    first = opened(tmp_path / "0.json")
    for waiting in (100, 200, 300):
        first.expect(waiting)
    first.take(300, 1)
    first.expect(100)
    first.expect(130)
    killed(first)
    second = opened(tmp_path / "0.json")
    assert second.id == first.id
    number, message = second.take(1, 1)
    assert message == 1
    assert 430 <= number <= 430 + 125
    second.close()


def test_a_kill_without_traffic_shows_no_loss(tmp_path: Path) -> None:
    """Once nothing waits any more the mark is exact."""
    first = opened(tmp_path / "0.json")
    first.expect(1000)
    first.take(1000, 1)
    first.expect(0)
    killed(first)
    second = opened(tmp_path / "0.json")
    assert second.take(1, 1) == (1000, 1)
    second.close()


def test_after_the_machines_end_the_slot_is_another_producer(tmp_path: Path) -> None:
    """The mark may be older than what was published: going on from it could give a number twice."""
    first = opened(tmp_path / "0.json", boot="before")
    first.take(7, 1)
    killed(first)
    second = opened(tmp_path / "0.json", boot="after")
    assert second.id != first.id
    assert second.take(1, 1) == (0, 0)
    killed(second)
    third = opened(tmp_path / "0.json", boot="after")
    assert (third.id, third.take(1, 1)) == (second.id, (1, 1))
    third.close()


def test_where_the_machine_has_no_boot_id_only_a_clean_stop_keeps_the_producer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could tell the two ends apart."""
    monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "absent")
    names = []
    for end in (Producer.close, killed, Producer.close):
        made = Producer(tmp_path / "0.json")
        made.take(1, 1)
        names.append(made.id)
        end(made)
    assert names[0] == names[1] != names[2]


def test_this_machine_says_since_when_it_runs() -> None:
    """The same each time."""
    assert module.boot_id() == module.boot_id() != ""


def test_the_mark_of_the_layout_before_is_gone_on_from(tmp_path: Path) -> None:
    """It had no boot id, and no number beyond it was used."""
    (tmp_path / "0.json").write_bytes(b'{"producer":"p","records":70,"messages":20}')
    made = opened(tmp_path / "0.json")
    assert (made.id, made.take(1, 1)) == ("p", (70, 20))
    made.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from(["go on", "look", "stop", "kill", "reboot"])),
        max_size=20,
    )
)
def test_no_number_is_given_twice_whatever_ends_a_life(
    tmp_path_factory: Any, steps: list[tuple[int, int, str]]
) -> None:
    """Over any sequence of takes, looks, stops, kills and reboots both counts of a producer only grow."""
    file, boots = tmp_path_factory.mktemp("producer") / "0.json", 0
    producer, ended = opened(file), dict[str, tuple[int, int]]()
    for count, parts, end in steps:
        if end == "look":
            producer.expect(count)
        first, number = producer.take(count, parts)
        records, messages = ended.get(producer.id, (0, 0))
        assert first >= records
        assert number >= messages
        ended[producer.id] = first + count, number + parts
        if end in ("stop", "kill", "reboot"):
            producer.close() if end == "stop" else killed(producer)
            boots += end == "reboot"
            producer = opened(file, str(boots))
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


def test_numbers_are_not_used_before_the_mark_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the mark cannot be moved nothing is given; once it can, the numbers go on without a gap."""
    made = opened(tmp_path / "0.json")
    made.take(1, 1)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    for name in ("pwrite", "fsync"):
        with monkeypatch.context() as broken:
            broken.setattr(module.os, name, full)
            if name == "pwrite":
                with pytest.raises(OSError, match="No space"):
                    made.take(100, 1)
                with pytest.raises(OSError, match="No space"):
                    made.expect(100)
            else:
                with pytest.raises(OSError, match="No space"):
                    Producer(tmp_path / "1.json").take(1, 1)
    assert made.take(100, 1) == (1, 1)
    made.close()


def test_the_disk_is_asked_once_a_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync for each message would cost more than the capture: the mark and its folder are synced at the start."""
    synced: list[int] = []
    sync = module.os.fsync
    monkeypatch.setattr(module.os, "fsync", lambda number: (synced.append(number), sync(number)))
    made = opened(tmp_path / "0.json")
    for _ in range(1000):
        made.take(1, 1)
    assert len(synced) == 2
    made.close()
    assert len(synced) == 3
