"""The fold: batches into windows, whatever their order, grouping and contents; stored and gone on with at any point."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.capture_batches import SIGNATURE, batch, rows_of

from vedette.codec.captures import CaptureBatch
from vedette.core.errors import DataLoss, InvalidArgument
from vedette.entities.monitors import Monitor
from vedette.monitor.traffic.folding import NO_REQUESTS, Facts, Fold, FoldLimits, Watch
from vedette.monitor.traffic.lots import Kept
from vedette.monitor.traffic.numbers import MAX_RUNS
from vedette.monitor.traffic.segments import MAX_VALUES, Segments
from vedette.monitor.traffic.tabulation import excluded_columns
from vedette.ports.monitors import WindowState
from vedette.profiles import Layout, Profile

NOW = 10_000.0
FACTS = Facts(SIGNATURE)


def monitor(**fields: Any) -> Monitor:
    """Windows of ten seconds, five more for late events."""
    return Monitor(**{"name": "m", "endpoint": "e", "window_s": 10.0, "lateness_s": 5.0, **fields})


def fold_of(*monitors: Monitor, keeps: bool = False, **limits: Any) -> Fold:
    """A fold that watches for these."""
    fold = Fold(FoldLimits(**limits))
    fold.watch([Watch.of(each, keeps=keeps) for each in monitors or [monitor()]])
    return fold


def sealed(fold: Fold) -> list[WindowState]:
    """The windows that have become due, in order."""
    return [state for state in fold.changes().windows if state.sealed]


def essence(states: Iterable[WindowState]) -> list[str]:
    """What must not depend on how batches came: everything exact."""
    found = []
    for state in states:
        profile = Profile.from_bytes(state.profile) if state.profile else Profile()
        sample = {name: column.tolist() for name, column in profile.sample.columns().items()}
        exact = {
            name: (each.rows, each.missing, each.types, each.moments.sum, each.moments.minimum, each.moments.std,
                   sorted(each.categories.counts.items()), each.bins.counts.tolist())
            for name, each in profile.columns.items()
        }  # fmt: skip
        counts = sorted(state.counts.items())
        found.append(repr((state.key, state.end, state.rows, counts, state.reason, sorted(exact.items()), sample)))
    return sorted(found)


def test_rows_go_to_the_window_of_their_time() -> None:
    """A window is sealed once an event has come that is later than its end by the lateness."""
    fold = fold_of()
    fold.add(batch([100.0, 109.9, 110.0, 114.9]), FACTS, NOW)
    assert sealed(fold) == []
    fold.add(batch([115.0], first=4), FACTS, NOW)
    (window,) = sealed(fold)
    assert (window.key.start, window.end, window.rows, window.counts) == (100.0, 110.0, 2, {"requests": 2})
    assert Profile.from_bytes(window.profile).columns["age"].rows == 2


def test_late_rows_are_counted_in_the_next_window_and_not_folded() -> None:
    """What was sealed stays as it was."""
    fold = fold_of()
    fold.add(batch([100.0, 130.0]), FACTS, NOW)
    tally = fold.add(batch([101.0, 131.0, 109.0], first=2), FACTS, NOW)
    assert dict(+tally.rows) == {"late": 2, "folded": 1}
    fold.add(batch([145.0], first=5), FACTS, NOW)
    found = sealed(fold)
    assert [(each.key.start, each.rows, each.counts) for each in found] == [
        (100.0, 1, {"requests": 1}),
        (110.0, 0, {}),
        (120.0, 0, {"late": 2}),
        (130.0, 2, {"requests": 2}),
    ]


def test_a_message_that_comes_again_counts_and_changes_nothing() -> None:
    """As a whole, or the part that was seen before."""
    fold = fold_of()
    first = batch([100.0, 101.0, 102.0])
    fold.add(first, FACTS, NOW)
    tally = fold.add(first, FACTS, NOW)
    assert dict(+tally.rows) == {"duplicate": 3}
    fold.add(batch([102.0, 103.0], first=2), FACTS, NOW)
    fold.add(batch([130.0], first=4), FACTS, NOW)
    assert next((each.rows, each.counts) for each in sealed(fold)) == (4, {"requests": 4, "duplicate": 4})


def test_empty_windows_say_so_and_a_long_silence_is_one_span() -> None:
    """Three on their own, the rest when traffic returns."""
    fold = fold_of(max_empty=3)
    fold.add(batch([100.0]), FACTS, NOW)
    fold.add(batch([1_000.0], first=1), FACTS, NOW)
    fold.add(batch([1_016.0], first=2), FACTS, NOW)
    found = sealed(fold)
    assert [(each.key.start, each.end, each.reason) for each in found] == [
        (100.0, 110.0, ""),
        (110.0, 120.0, NO_REQUESTS),
        (120.0, 130.0, NO_REQUESTS),
        (130.0, 140.0, NO_REQUESTS),
        (140.0, 1_000.0, NO_REQUESTS),
        (1_000.0, 1_010.0, ""),
    ]
    assert found[4].counts == {"windows": 86}


def test_silence_closes_the_last_window() -> None:
    """Once the clock has passed its end, the lateness and the patience; no other endpoint's."""
    fold = fold_of(monitor(), monitor(name="n", endpoint="f"), idle_s=5)
    fold.add(batch([100.0]), FACTS, 100.0)
    fold.add(batch([100.0], endpoint="f", producer="q"), FACTS, 100.0)
    fold.idle(["e"], 119.9)
    assert sealed(fold) == []
    fold.idle(["e", "unknown"], 120.0)
    assert [each.key.monitor for each in sealed(fold)] == ["m"]


def test_a_clock_that_runs_ahead_closes_nobodys_windows() -> None:
    """Its events count as of now, and are told."""
    fold = fold_of(max_skew_s=60)
    fold.add(batch([100.0]), FACTS, 100.0)
    fold.add(batch([5_000.0, float("nan")], first=1, producer="ahead"), FACTS, 100.0)
    fold.add(batch([101.0], first=3), FACTS, 101.0)
    fold.add(batch([115.0], first=4), FACTS, 115.0)
    (window,) = sealed(fold)
    assert (window.rows, window.counts) == (4, {"requests": 4, "skewed": 2})


def test_failed_requests_are_counted_by_code() -> None:
    """And are no rows; a code that nobody knows is `other`."""
    fold = fold_of()
    codes = ["OK", "overloaded", "overloaded", "x" * 1_000_000]
    fold.add(batch([100.0] * 4, codes=codes), FACTS, NOW)
    fold.add(batch([130.0], first=4), FACTS, NOW)
    window = sealed(fold)[0]
    assert window.rows == 1
    assert window.counts == {"requests": 4, "failed:overloaded": 2, "failed:other": 1}


def test_variants_and_versions_are_told_apart_but_share_event_time() -> None:
    """Traffic on one closes the windows of both."""
    fold = fold_of()
    fold.add(batch([100.0]), FACTS, NOW)
    fold.add(batch([101.0], variant="B", version="2", first=1), FACTS, NOW)
    fold.add(batch([130.0], variant="B", version="2", first=2), FACTS, NOW)
    found = {(each.key.variant, each.key.version): each.rows for each in sealed(fold) if each.rows}
    assert found == {("A", "1"): 1, ("B", "2"): 1}


def test_segments_split_the_window_by_a_features_values() -> None:
    """Beside the whole; a feature that is not there is counted."""
    fold = fold_of(monitor(segments=("sex", "shoe")))
    rows = rows_of(10)
    rows[:, 2] = [0, 1, 1, 1, 1, 1, 1, 1, 1, np.nan]
    fold.add(batch([100.0] * 10, rows=rows), FACTS, NOW)
    fold.add(batch([115.0], first=10), FACTS, NOW)
    found = {each.key.segment: each for each in sealed(fold)}
    assert {name: each.rows for name, each in found.items()} == {
        "": 10, "sex=f": 1, "sex=m": 8, "sex=(missing)": 1,
    }  # fmt: skip
    assert found[""].counts["unknown_segment"] == 10


def test_segments_are_bounded_whatever_values_come() -> None:
    """Twenty have their own, known ones first; the others share one. Every row is in exactly one."""
    segments = Segments()
    column = np.array([f"v{i}\0" for i in range(1_000)] + ["known", None] * 5, object)
    parts = dict(segments.split("f", column, ["known"]))
    assert len(parts) == MAX_VALUES + 1
    assert len(parts["known"]) == 5
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(1_010))
    again = dict(segments.split("f", np.array(["v0\0", "new"], object), ["known"]))
    assert {name: rows.tolist() for name, rows in again.items()} == {"v0�": [0], "other": [1]}
    floats = dict(Segments().split("f", np.array([1.0, 2.5, np.nan, 1.0, np.nan]), []))
    assert {name: len(rows) for name, rows in floats.items()} == {"1": 2, "2.5": 1, "(missing)": 2}


def test_lost_captures_are_told_once_the_stream_was_read_to_its_end() -> None:
    """By the gap in the producer's numbers."""
    fold = fold_of()
    fold.add(batch([100.0] * 3), FACTS, NOW)
    fold.add(batch([100.0] * 3, first=7), FACTS, NOW)
    assert (fold.settle(), fold.settle(), fold.settle()) == ({}, {"e": 4}, {})


def test_losses_of_a_producer_with_several_endpoints_are_not_told_as_one_of_theirs() -> None:
    """Its numbers do not say whose they were; that it has several outlives the monitor's end."""
    fold = fold_of()
    fold.add(batch([100.0]), FACTS, NOW)
    fold.add(batch([100.0], first=1, endpoint="f"), FACTS, NOW)
    notes = fold.changes().notes
    other = fold_of()
    other.restore([], lambda kind: {name: text for (k, name), text in notes.items() if k == kind})
    other.add(batch([100.0], first=7), FACTS, NOW)
    assert [other.settle() for _ in range(3)] == [{}, {"": 5}, {}]


def test_captures_that_are_given_up_to_stay_within_bounds_are_told_at_once() -> None:
    """With the endpoint of their producer."""
    fold, told = fold_of(), Counter[str]()
    for number in range(MAX_RUNS + 5):
        told.update(fold.add(batch([100.0], first=3 * number), FACTS, NOW).lost)
    assert told == {"e": 2 * 5}


def test_a_monitor_that_changes_its_windows_begins_anew() -> None:
    """Another lateness is other windows; other checks are not. A monitor that goes takes its windows along."""
    fold = fold_of()
    fold.add(batch([100.0]), FACTS, NOW)
    fold.changes()
    fold.watch([Watch.of(monitor(min_rows=7), keeps=False)])
    assert fold.changes().dropped_windows == []
    fold.watch([Watch.of(monitor(lateness_s=1.0), keeps=False)])
    changes = fold.changes()
    assert [key.start for key in changes.dropped_windows] == [100.0]
    assert changes.dropped_notes == [("series", "m/A/1")]
    fold.watch([])
    assert dict(fold.add(batch([200.0], first=1), FACTS, NOW).rows) == {}


@pytest.mark.parametrize("fields", [{"variant": "x" * 64}, {"version": "a\0b"}, {"endpoint": ""}, {"variant": "a/b"}])
def test_a_batch_that_is_not_ours_is_refused(fields: dict[str, str]) -> None:
    """Before anything of it counts."""
    fold = fold_of()
    with pytest.raises(InvalidArgument):
        fold.add(replace(batch([100.0]), **fields), FACTS, NOW)
    assert fold.changes().notes == {}


def test_only_windows_that_changed_are_written_again() -> None:
    """One of two, then none."""
    fold = fold_of()
    fold.add(batch([100.0, 110.0]), FACTS, NOW)
    assert len(fold.changes().windows) == 2
    fold.add(batch([111.0], first=2), FACTS, NOW)
    changes = fold.changes()
    assert [state.key.start for state in changes.windows] == [110.0]
    assert set(changes.notes) == {("producer", "p"), ("series", "m/A/1"), ("endpoint", "e")}
    assert fold.changes() == type(changes)()


def test_predictions_are_kept_with_the_ids_that_labels_will_name() -> None:
    """The caller's id, else ours; so many of a window and no more."""
    fold = fold_of(keeps=True, kept_per_window=3)
    fold.add(batch([100.0, 101.0], inference_ids=["mine", ""]), FACTS, NOW)
    blocks = fold.changes().blocks
    kept = Kept.decode(blocks[0].payload)
    assert (kept.ids, kept.places) == (["mine", "p-000001"], [0, 0])
    assert kept.columns["sex"].tolist()[0] in {"f", "m"}
    assert kept.columns["age"].dtype == np.float32
    fold.add(batch([102.0, 103.0], first=2), FACTS, NOW)
    fold.add(batch([130.0], first=4), FACTS, NOW)
    changes = fold.changes()
    assert [(block.window.start, block.block, block.rows) for block in changes.blocks] == [(100.0, 1, 1), (130.0, 0, 1)]
    window = next(state for state in changes.windows if state.sealed)
    assert (window.blocks, window.counts) == (2, {"requests": 4, "predictions": 3, "predictions_not_kept": 1})


def test_a_layout_is_taken_when_the_window_opens() -> None:
    """So that it has the baseline's bins; columns that only the signature has are folded by name and no strangers."""
    reference = Profile()
    reference.fold({"age": rows_of(1_000)[:, 0]})
    fold = fold_of()
    fold.add(batch([100.0] * 5), Facts(SIGNATURE, "m", {"default": ("digest", Layout.of(reference))}), NOW)
    fold.add(batch([130.0], first=5), FACTS, NOW)
    window = sealed(fold)[0]
    profile = Profile.from_bytes(window.profile)
    assert window.baseline == "digest"
    assert list(profile.columns) == ["age"]
    assert set(profile.unknown_columns) == {"height", "sex", "prediction", "probability_no", "probability_yes"}
    assert window.counts == {"requests": 5}


def test_a_column_that_neither_signature_nor_baseline_knows_is_counted() -> None:
    """Once for each of its rows, in the window that they came in."""
    stranger = batch([100.0] * 5)
    stranger.outputs["else"] = replace(stranger.outputs["label"], name="else")
    fold = fold_of()
    fold.add(stranger, Facts(SIGNATURE, "m"), NOW)
    fold.add(batch([130.0], first=5), FACTS, NOW)
    assert sealed(fold)[0].counts == {"requests": 5, "unknown_column": 5}


def test_a_variant_without_requests_says_so() -> None:
    """From when it was known on, three times; the rest of its silence when somebody asks for something."""
    fold = fold_of(max_empty=3)
    fold.expect("e", [("A", "1")], 103.0)
    fold.expect("unwatched", [("A", "1")], 103.0)
    assert fold.endpoints == ["e"]
    for now in (104.0, 119.9, 120.0, 200.0, 300.0):
        fold.expect("e", [("A", "1")], now)
        fold.idle(["e"], now)
    fold.add(batch([310.0]), FACTS, 310.0)
    fold.add(batch([330.0], first=1), FACTS, 330.0)
    found = [(each.key.start, each.end, each.reason) for each in sealed(fold)]
    assert found == [
        (100.0, 110.0, NO_REQUESTS),
        (110.0, 120.0, NO_REQUESTS),
        (120.0, 130.0, NO_REQUESTS),
        (130.0, 310.0, NO_REQUESTS),
        (310.0, 320.0, ""),
    ]


def test_a_variant_that_is_expected_beside_traffic_begins_no_window_that_is_over() -> None:
    """Its first window is one that is still open for the others."""
    fold = fold_of()
    fold.add(batch([100.0, 155.0]), FACTS, NOW)
    sealed(fold)
    fold.expect("e", [("A", "1"), ("B", "2")], 130.0)
    fold.add(batch([171.0], first=2), FACTS, NOW)
    assert [each.key.start for each in sealed(fold) if each.key.variant == "B"] == [150.0]


def messages(seed: int) -> list[CaptureBatch]:
    """A run of three producers, each in order of its own clock; a window is ten seconds."""
    draw = random.Random(seed)
    found, numbers = [], [0, 0, 0]
    for step in range(16):
        who = draw.randrange(3)
        times = [100.0 + step * 3 + draw.random() * 3 for _ in range(draw.randint(1, 8))]
        codes = [draw.choice(["OK", "OK", "OK", "model_failed"]) for _ in times]
        found.append(batch(times, producer=f"p{who}", first=numbers[who], variant="AB"[who % 2], codes=codes))
        numbers[who] += len(times)
    return found


def run(batches: Sequence[CaptureBatch], *, cut: Sequence[int] = ()) -> list[WindowState]:
    """Fold all of them; after each place of `cut` begin again from what was stored."""
    watched = monitor(lateness_s=30.0, segments=("sex",))
    fold = fold_of(watched)
    windows: dict[Any, WindowState] = {}
    notes: dict[Any, bytes] = {}

    def kept(kind: str) -> dict[str, bytes]:
        return {name: text for (its_kind, name), text in notes.items() if its_kind == kind}

    for place, each in enumerate([*batches, batch([500.0], producer="end")]):
        fold.add(each, FACTS, NOW)
        if place in cut:
            changes = fold.changes()
            windows |= {state.key: state for state in changes.windows}
            notes.update(changes.notes)
            fold = fold_of(watched)
            stored = [state for state in windows.values() if not state.sealed]
            fold.restore(stored, kept)
    windows |= {state.key: state for state in fold.changes().windows}
    return [state for state in windows.values() if state.sealed]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), data=st.data())
def test_any_order_within_the_lateness_gives_the_same_windows(seed: int, data: st.DataObject) -> None:
    """Exactly the same counts, moments, bins and samples, also with every message twice."""
    batches = messages(seed)
    places = list(range(len(batches)))
    order = sorted(places, key=lambda place: place + data.draw(st.floats(0, 8), label="delay"))
    assert essence(run([batches[place] for place in order])) == essence(run(batches))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), cut=st.lists(st.integers(0, 16), max_size=4))
def test_going_on_from_what_was_stored_gives_the_same_windows(seed: int, cut: list[int]) -> None:
    """Wherever the fold ended and another went on."""
    assert essence(run(messages(seed), cut=cut)) == essence(run(messages(seed)))


def test_stored_state_that_is_damaged_is_said_to_be() -> None:
    """Each by its name."""
    notes = {"series": {"m/A/1": b"{", "nonsense": b"{}"}, "producer": {"p": b"[]"}}
    damaged = fold_of().restore([], lambda kind: notes.get(kind, {}))
    assert damaged == ["producer p", "series m/A/1", "series nonsense"]
    with pytest.raises(DataLoss):
        Kept.decode(b"nonsense")


def test_numbers_of_any_size_are_stored() -> None:
    """Also the largest that a producer may give out."""
    fold = fold_of()
    last = replace(batch([100.0]), sequences=np.array([2**64 - 1], np.uint64))
    fold.add(last, FACTS, NOW)
    notes = fold.changes().notes
    other = fold_of()
    other.restore([], lambda kind: {name: text for (k, name), text in notes.items() if k == kind})
    assert dict(+other.add(last, FACTS, NOW).rows) == {"duplicate": 1}


def without(captures: CaptureBatch, *excluded: str, **tensors: Any) -> CaptureBatch:
    """The batch as it is captured when these are excluded: `height` is cut out, tensors may be left out."""
    x = replace(captures.inputs["x"], values=captures.inputs["x"].values.reshape(-1, 3)[:, [0, 2]].reshape(-1))
    x = replace(x, shapes=[(1, 2)] * len(captures))
    return replace(captures, excluded=excluded, **({"inputs": {"x": x}} | tensors))


def test_a_window_knows_what_is_excluded_from_capture() -> None:
    """Through storing and going on, in its segments too; names that are no columns of the model are not believed."""
    fold = fold_of(monitor(segments=("sex", "height")))
    fold.add(without(batch([100.0, 101.0]), "height", "x" * 999), FACTS, NOW)
    stored = fold.changes()
    again = fold_of(monitor(segments=("sex", "height")))
    again.restore(stored.windows, lambda kind: {name: note for (of, name), note in stored.notes.items() if of == kind})
    again.add(without(batch([130.0], first=2), "height"), FACTS, NOW)
    found = {each.key.segment: each for each in sealed(again) if each.rows}
    assert {each.excluded for each in found.values()} == {("height",)}
    assert len(found) >= 2
    assert found[""].counts["excluded_segment"] == 2
    assert "unknown_segment" not in found[""].counts


@pytest.mark.parametrize(
    ("captured", "expected"),
    [
        ({"excluded": ("height",)}, {"height"}),
        ({"excluded": ("x",), "inputs": {}}, {"age", "height", "sex"}),
        ({"inputs": {}}, {"age", "height", "sex"}),
        ({"outputs": {}}, {"prediction", "probability_no", "probability_yes"}),
        ({"excluded": ("label",)}, {"prediction"}),
        ({"inputs": {}, "codes": ["internal"]}, set()),
        ({}, set()),
    ],
)
def test_what_is_excluded_has_the_names_of_columns(captured: dict[str, Any], expected: set[str]) -> None:
    """Also where a whole tensor is excluded, or no inputs or outputs are captured; a failed request proves nothing."""
    assert excluded_columns(replace(batch([1.0]), **captured), SIGNATURE) == expected
