"""What every `MonitorStore` must do. Inherit `MonitorStoreContract` and give it a way to open one.

The alerts of a store have a suite of their own: `vedette.testing.alerts`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from vedette.core.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from vedette.entities.monitors import CheckResult, CheckSettings, Execution, ExecutionStatus, Monitor
from vedette.ports.monitors import Label, MonitorStore, MonitorTransaction, PredictionBlock, WindowKey, WindowState


def window_key(start: float = 0.0, *, monitor: str = "m", variant: str = "A", segment: str = "") -> WindowKey:
    """A window of version 1."""
    return WindowKey(monitor, variant, "1", segment, start)


def window_state(start: float = 0.0, *, sealed: bool = False, profile: bytes = b"", monitor: str = "m") -> WindowState:
    """A window of five seconds with one row."""
    key = window_key(start, monitor=monitor)
    return WindowState(key, "e", start + 5, sealed=sealed, rows=1, counts={"late": 2}, profile=profile)


def execution(number: int, *, monitor: str = "m", endpoint: str = "e", violated: bool = False) -> Execution:
    """The result of the window that starts at `number`."""
    status = ExecutionStatus.WITH_VIOLATIONS if violated else ExecutionStatus.COMPLETED
    results = (CheckResult("drift", "age", "violated" if violated else "ok", value=0.5, threshold=0.1),)
    return Execution(
        f"{monitor}-{number}",
        monitor,
        endpoint,
        "A",
        "1",
        "",
        number,
        number + 1,
        7,
        status,
        results,
        counts={"late": 1},
    )


def prediction_block(start: float, *, rows: int = 10, monitor: str = "m", block: int = 0) -> PredictionBlock:
    """A block of a window."""
    return PredictionBlock("e", window_key(start, monitor=monitor), block, rows, b"rows %d" % block)


class MonitorStoreContract:
    """Subclasses say how to open an empty store with `open_store`."""

    def open_store(self) -> MonitorStore:
        """A store on nothing, not migrated."""
        raise NotImplementedError

    @pytest.fixture
    def store(self) -> Iterator[MonitorStore]:
        """An empty store with the monitors `m` and `n` on the endpoints `e` and `f`."""
        store = self.open_store()
        store.migrate()
        with store.transaction() as tx:
            tx.insert_monitor(Monitor("m", "e"))
            tx.insert_monitor(Monitor("n", "f"))
        yield store
        store.close()

    def test_a_monitor_comes_back_as_it_was(self, store: MonitorStore) -> None:
        """With its checks and their parameters, changed as a whole, listed by name and by endpoint."""
        settings = CheckSettings("drift", {"threshold": 0.1, "features": ("a", "b"), "strict": True, "n": 3})
        monitor = Monitor("o", "e", checks=(settings,), segments=("sex",), webhooks=("w",), created_at=5.0)
        with store.transaction() as tx:
            tx.insert_monitor(monitor)
            assert tx.monitor("o") == monitor
            tx.update_monitor(replace(monitor, endpoint="f"))
        with store.read() as snapshot:
            assert snapshot.monitor("o") == replace(monitor, endpoint="f")
            assert [each.name for each in snapshot.monitors(limit=9)[0]] == ["m", "n", "o"]
            assert [each.name for each in snapshot.monitors(limit=9, endpoint="f")[0]] == ["n", "o"]
            first, token = snapshot.monitors(limit=2)
            rest, end = snapshot.monitors(limit=2, after=token)
            assert ([each.name for each in first + rest], end) == (["m", "n", "o"], "")
            with pytest.raises(InvalidArgument):
                snapshot.monitors(limit=2, after=token, endpoint="f")

    def test_monitors_that_are_there_or_not(self, store: MonitorStore) -> None:
        """Twice is `AlreadyExists`, nowhere is `NotFound`, and neither spoils the transaction."""
        with store.transaction() as tx:
            with pytest.raises(AlreadyExists):
                tx.insert_monitor(Monitor("m", "e"))
            for attempt in (lambda: tx.monitor("x"), lambda: tx.delete_monitor("x")):
                with pytest.raises(NotFound):
                    attempt()
            with pytest.raises(NotFound):
                tx.update_monitor(Monitor("x", "e"))
            with pytest.raises(InvalidArgument):
                tx.insert_monitor(Monitor("x", "e", reason="\0"))
            tx.insert_monitor(Monitor("o", "e"))
        with store.read() as snapshot:
            assert len(snapshot.monitors(limit=9)[0]) == 3

    def test_offset_and_state_are_one_transaction(self, store: MonitorStore) -> None:
        """A failure leaves the offset, windows, notes and results as they were."""
        with store.transaction() as tx:
            tx.set_offset("captures", 5)
            tx.put_windows([window_state(0, profile=b"old")])
            tx.put_note("producer", "p", b"1")

        def fail() -> None:
            with store.transaction() as tx:
                tx.set_offset("captures", 9)
                tx.put_windows([window_state(0, profile=b"new"), window_state(5)])
                tx.put_note("producer", "p", b"2")
                tx.drop_note("producer", "p")
                tx.put_execution(execution(1))
                assert (tx.offset("captures"), tx.note("producer", "p")) == (9, None)
                tx.delete_monitor("m")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with store.read() as snapshot:
            assert (snapshot.offset("captures"), snapshot.offset("ground-truth")) == (5, 0)
            assert snapshot.windows() == [window_state(0, profile=b"old")]
            assert snapshot.notes("producer") == {"p": b"1"}
            assert snapshot.executions(limit=9) == ([], "")

    def test_notes_are_kept_by_kind_and_key(self, store: MonitorStore) -> None:
        """Replaced, listed by kind, dropped; any bytes."""
        with store.transaction() as tx:
            tx.put_note("series", "a b/ü", bytes(range(256)))
            tx.put_note("series", "c", b"")
            tx.put_note("endpoint", "c", b"other")
            tx.put_note("series", "c", b"new")
            tx.drop_note("baseline", "c")
        with store.read() as snapshot:
            assert snapshot.notes("series") == {"a b/ü": bytes(range(256)), "c": b"new"}
            assert snapshot.note("endpoint", "c") == b"other"
            assert snapshot.note("baseline", "c") is None

    def test_windows_open_seal_and_go(self, store: MonitorStore) -> None:
        """Open ones are listed by name with or without profiles, sealed ones by their end, each once."""
        with store.transaction() as tx:
            tx.put_windows([window_state(10, profile=b"p" * 100_000), window_state(5), window_state(5, monitor="n")])
            tx.put_windows([replace(window_state(0), sealed=True, reason="no requests")])
            tx.put_windows([replace(window_state(5), sealed=True, rows=0)])
        with store.transaction() as tx:
            assert tx.windows(monitor="m") == [window_state(10, profile=b"p" * 100_000)]
            assert [state.profile for state in tx.windows(profiles=False)] == [b"", b""]
            assert [(state.key.start, state.reason) for state in tx.sealed(9)] == [(0, "no requests"), (5, "")]
            assert [state.key.start for state in tx.sealed(1)] == [0]
            tx.drop_windows([window_key(0), window_key(99)])
            assert tx.sealed_count() == 1

    def test_windows_of_nobody_are_left_out(self, store: MonitorStore) -> None:
        """A monitor that was deleted meanwhile does not stop the fold."""
        with store.transaction() as tx:
            tx.put_windows([window_state(0, monitor="gone"), window_state(0)])
            tx.put_blocks([prediction_block(0, monitor="gone")], keep_rows=100)
            tx.reopen([window_key(0, monitor="gone")], at=1.0)
        with store.read() as snapshot:
            assert [state.key.monitor for state in snapshot.windows()] == ["m"]
            assert snapshot.prediction_windows("e") == []
            assert snapshot.reopened(9) == []

    def test_attempts_are_counted_for_sealed_windows_alone(self, store: MonitorStore) -> None:
        """What is not there or not sealed counts as zero."""
        with store.transaction() as tx:
            tx.put_windows([window_state(0), window_state(5, sealed=True)])
            assert [tx.count_attempt(window_key(5)) for _ in range(2)] == [1, 2]
            assert tx.count_attempt(window_key(0)) == tx.count_attempt(window_key(9)) == 0
        with store.read() as snapshot:
            assert [state.attempts for state in snapshot.sealed(9)] == [2]

    def test_executions_newest_first_page_by_page(self, store: MonitorStore) -> None:
        """By monitor, endpoint, status and end; a token belongs to its filters."""
        with store.transaction() as tx:
            for number in range(7):
                tx.put_execution(execution(number, violated=number % 3 == 0))
            tx.put_execution(execution(3, monitor="n", endpoint="f"))
        with store.read() as snapshot:
            found, token = [], ""
            while True:
                page, token = snapshot.executions(limit=3, after=token)
                found += [each.id for each in page]
                if not token:
                    break
            assert found == ["m-6", "m-5", "m-4", "m-3", "n-3", "m-2", "m-1", "m-0"]
            assert [each.id for each in snapshot.executions(limit=9, endpoint="f")[0]] == ["n-3"]
            violated = snapshot.executions(limit=9, monitor="m", status=ExecutionStatus.WITH_VIOLATIONS)[0]
            assert [each.id for each in violated] == ["m-6", "m-3", "m-0"]
            assert [each.id for each in snapshot.executions(limit=9, since=6.0, monitor="m")[0]] == ["m-6", "m-5"]
            assert snapshot.execution("m-3") == execution(3, violated=True)
            token = snapshot.executions(limit=1)[1]
            with pytest.raises(InvalidArgument):
                snapshot.executions(limit=1, after=token, monitor="m")
            with pytest.raises(NotFound):
                snapshot.execution("m-99")

    def test_an_execution_is_replaced_by_its_id(self, store: MonitorStore) -> None:
        """A revision takes the place of what was there; there is never a second."""
        with store.transaction() as tx:
            tx.put_execution(execution(1))
        with store.transaction() as tx:
            tx.put_execution(replace(execution(1, violated=True), revision=2))
            with pytest.raises(NotFound):
                tx.put_execution(execution(1, monitor="gone"))
        with store.read() as snapshot:
            assert snapshot.executions(limit=9)[0] == [replace(execution(1, violated=True), revision=2)]

    def test_only_the_newest_profiles_are_kept(self, store: MonitorStore) -> None:
        """Of each monitor; the others' executions stay."""
        with store.transaction() as tx:
            for number in (3, 1, 2):
                tx.put_execution(execution(number))
                tx.put_profile(f"m-{number}", b"%d" % number, keep=2)
            tx.put_execution(execution(1, monitor="n"))
            tx.put_profile("n-1", b"n", keep=2)
            tx.put_profile("m-3", b"again", keep=2)
            with pytest.raises(NotFound):
                tx.put_profile("m-9", b"", keep=2)
        with store.read() as snapshot:
            assert [snapshot.profile(each) for each in ("m-3", "m-2", "n-1")] == [b"again", b"2", b"n"]
            with pytest.raises(NotFound):
                snapshot.profile("m-1")
            assert len(snapshot.executions(limit=9)[0]) == 4

    def test_predictions_are_bounded_by_rows(self, store: MonitorStore) -> None:
        """The oldest windows' blocks go first, whole windows at a time."""
        with store.transaction() as tx:
            tx.put_blocks([prediction_block(start, block=block) for start in (0, 5) for block in (1, 0)], keep_rows=45)
            tx.put_blocks([prediction_block(5, block=1, rows=12)], keep_rows=45)
            assert tx.prediction_windows("e") == [(window_key(0), 20), (window_key(5), 22)]
            assert [block.block for block in tx.blocks(window_key(5))] == [0, 1]
            tx.put_blocks([prediction_block(10)], keep_rows=45)
        with store.read() as snapshot:
            assert snapshot.prediction_windows("e") == [(window_key(5), 22), (window_key(10), 10)]
            assert snapshot.blocks(window_key(5))[1] == prediction_block(5, block=1, rows=12)
            assert snapshot.blocks(window_key(0)) == []

    def test_labels_by_id_of_one_endpoint(self, store: MonitorStore) -> None:
        """The last one of an id counts; beyond the bound the first accepted go."""
        with store.transaction() as tx:
            tx.put_labels("e", [Label(f"id-{n}", "0", float(n)) for n in range(1_200)], keep=2_000)
            tx.put_labels("e", [Label("id-1", "1", 5_000.0), Label("id-1", '"x"', 5_000.0)], keep=2_000)
            tx.put_labels("f", [Label("id-1", "7", 1.0)], keep=2_000)
            assert tx.labels("e", {"id-1", "nobody"}) == {"id-1": Label("id-1", '"x"', 5_000.0)}
            assert len(tx.labels("e", [f"id-{n}" for n in range(3_000)])) == tx.label_count("e") == 1_200
            tx.put_labels("e", [Label("new", "1", 6_000.0)], keep=10)
            assert tx.label_count("e") == 10
            assert set(tx.labels("e", ["id-1", "id-0", "id-1199", "new"])) == {"id-1", "id-1199", "new"}
            with pytest.raises(InvalidArgument):
                tx.put_labels("e", [Label("\ud800", "1", 1.0)], keep=10)
            assert tx.label_count("f") == 1

    def test_labels_wait_until_they_are_joined(self, store: MonitorStore) -> None:
        """Of one endpoint; a label that is put again says itself whether it was."""
        with store.transaction() as tx:
            assert tx.labelled_endpoints() == []
            tx.put_labels("f", [Label("a", "1", 1.0)], keep=9)
            tx.put_labels("e", [Label("a", "1", 1.0), Label("b", "1", 2.0), Label("c", "1", 3.0, joined=True)], keep=9)
            assert tx.waiting_labels("e") == {"a": 1.0, "b": 2.0}
            tx.join_labels("e", ["a", "nobody", *map(str, range(1_200))])
            assert tx.labels("e", ["a"])["a"].joined
        with store.transaction() as tx:
            tx.put_labels("e", [Label("c", "0", 4.0)], keep=9)
        with store.read() as snapshot:
            assert snapshot.labelled_endpoints() == ["e", "f"]
            assert snapshot.waiting_labels("e") == {"b": 2.0, "c": 4.0}
            assert snapshot.waiting_labels("f") == {"a": 1.0}
            assert snapshot.waiting_labels("g") == {}

    def test_reopened_windows_wait_in_line(self, store: MonitorStore) -> None:
        """One that waits already keeps its place."""
        with store.transaction() as tx:
            tx.reopen([window_key(5)], at=1.0)
            tx.reopen([window_key(0), window_key(5)], at=2.0)
            assert tx.reopened(9) == [window_key(5), window_key(0)]
            assert tx.reopened(1) == [window_key(5)]
            tx.take_again(window_key(5))
            tx.close_again(window_key(5))
            tx.close_again(window_key(99))
        with store.read() as snapshot:
            assert snapshot.reopened(9) == [window_key(0)]

    def test_a_window_that_is_marked_while_it_is_evaluated_stays_marked(self, store: MonitorStore) -> None:
        """In its place; only a mark that was taken goes, and taking a mark makes none."""
        with store.transaction() as tx:
            tx.reopen([window_key(5)], at=1.0)
            tx.reopen([window_key(0)], at=2.0)
            tx.close_again(window_key(5))
            tx.take_again(window_key(5))
            tx.take_again(window_key(99))
        with store.transaction() as tx:
            assert tx.reopened(9) == [window_key(5), window_key(0)]
            tx.reopen([window_key(5)], at=3.0)
            tx.close_again(window_key(5))
        with store.transaction() as tx:
            assert tx.reopened(9) == [window_key(5), window_key(0)]
            tx.take_again(window_key(5))
            tx.close_again(window_key(5))
            tx.close_again(window_key(5))
            assert tx.reopened(9) == [window_key(0)]

    def test_deleting_a_monitor_takes_everything_of_it(self, store: MonitorStore) -> None:
        """And nothing of others."""
        with store.transaction() as tx:
            for name in ("m", "n"):
                tx.put_windows([window_state(0, monitor=name), window_state(5, sealed=True, monitor=name)])
                tx.put_execution(execution(1, monitor=name))
                tx.put_profile(f"{name}-1", b"p", keep=9)
                tx.put_blocks([prediction_block(0, monitor=name)], keep_rows=99)
                tx.reopen([window_key(0, monitor=name)], at=1.0)
            tx.delete_monitor("m")
        with store.read() as snapshot:
            assert {state.key.monitor for state in (*snapshot.windows(), *snapshot.sealed(9))} == {"n"}
            assert [each.id for each in snapshot.executions(limit=9)[0]] == ["n-1"]
            assert [key.monitor for key, _ in snapshot.prediction_windows("e")] == ["n"]
            assert [key.monitor for key in snapshot.reopened(9)] == ["n"]
            with pytest.raises(NotFound):
                snapshot.profile("m-1")

    def test_what_is_old_is_forgotten(self, store: MonitorStore) -> None:
        """Executions with their profiles, predictions, labels, each by its own limit; told how many."""
        with store.transaction() as tx:
            for number in range(3):
                tx.put_execution(execution(number))
                tx.put_profile(f"m-{number}", b"p", keep=9)
                tx.put_blocks([prediction_block(number)], keep_rows=99)
                tx.put_labels("e", [Label(str(number), "1", number)], keep=99)
            gone = tx.forget(executions_before=2.5, predictions_before=1, labels_before=1)
            assert gone == {"executions": 2, "predictions": 1, "labels": 1}
            assert [each.id for each in tx.executions(limit=9)[0]] == ["m-2"]
            assert tx.profile("m-2") == b"p"
            with pytest.raises(NotFound):
                tx.profile("m-0")

    def test_readers_see_one_state_and_wait_for_nobody(self, store: MonitorStore) -> None:
        """What is not committed is not seen, and a snapshot stays as it was."""
        with ThreadPoolExecutor(1) as pool, store.read() as snapshot:
            assert snapshot.offset("captures") == 0

            def write() -> None:
                with store.transaction() as tx:
                    tx.set_offset("captures", 7)

            pool.submit(write).result(30)
            assert snapshot.offset("captures") == 0

    def test_a_second_writer_waits_for_the_first(self, store: MonitorStore) -> None:
        """And sees what the first did."""
        began = threading.Event()

        def second() -> int:
            began.set()
            with store.transaction() as tx:
                return tx.offset("captures")

        with ThreadPoolExecutor(1) as pool:
            with store.transaction() as tx:
                waiting = pool.submit(second)
                assert began.wait(30)
                tx.set_offset("captures", 3)
            assert waiting.result(30) == 3

    def test_a_closed_store_says_so(self, store: MonitorStore) -> None:
        """Every way in is `Unavailable`; closing twice is nothing."""
        store.close()
        store.close()

        def read() -> None:
            with store.read():
                pass

        def write() -> None:
            with store.transaction() as tx:
                self.touch(tx)

        for attempt in (read, write, store.migrate):
            with pytest.raises(Unavailable):
                attempt()

    @staticmethod
    def touch(tx: MonitorTransaction) -> None:
        """Any write."""
        tx.set_offset("captures", 1)
