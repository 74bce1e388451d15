"""Baselines from end to end below the API: the right columns, three files, the same in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from vedette.codec.captures import CaptureBatch, TensorColumn
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE
from vedette.monitor.reference_data.baseline import BuiltBaseline, build, expected_columns
from vedette.monitor.reference_data.constraints import read_constraints
from vedette.monitor.reference_data.datasets import open_dataset
from vedette.monitor.traffic.tabulation import tabulate
from vedette.profiles import Layout, Profile

MIXED = Signature(
    inputs=(TensorSpec("numbers", "FP32", (-1, 2)), TensorSpec("town", "BYTES", (-1, 1))),
    outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
    feature_names=("age", "colour", "town"),
    categories={"colour": ("red", "blue")},
    label_names=("no", "yes"),
    target="sold",
)
ROWS = pd.DataFrame(
    {
        "age": [30.0, 41.5, None, 22.0],
        "colour": ["red", "blue", "blue", None],
        "town": ["Bonn", None, "Köln", "Bonn"],
        "sold": ["yes", "no", "yes", "no"],
    }
)


def saved(folder: Path, frame: pd.DataFrame, format: str) -> Path:
    """The frame as a file of this format."""
    path = folder / f"data.{format}"
    if format == "csv":
        frame.to_csv(path, index=False)
    elif format == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


def built(
    folder: Path, frame: pd.DataFrame, signature: Signature, format: str = "csv", **options: Any
) -> BuiltBaseline:
    names = list(expected_columns(signature, list(frame)).features)
    return build(open_dataset(saved(folder, frame, format), format, names=names), signature, **options)


def comparable(made: BuiltBaseline) -> Any:
    """Both documents; features by name, because columns may stand in any order."""
    return {
        file: {feature["name"]: feature for feature in json.loads(made.files[file])["features"]}
        for file in (STATISTICS_FILE, CONSTRAINTS_FILE)
    }


def test_the_signature_says_which_columns_there_are() -> None:
    """Features with their kinds, outputs, labels: by the names of captured traffic."""
    expected = expected_columns(MIXED)
    assert expected.features == {"age": "numeric", "colour": "text", "town": "text"}
    assert expected.outputs == {"prediction": "numeric", "probability_no": "numeric", "probability_yes": "numeric"}
    assert expected.labels == ("sold", "label")
    assert expected.names == (*expected.features, *expected.outputs, *expected.labels)


def test_models_without_names_have_numbered_columns() -> None:
    """`<input>_<i>`; where the width is open, as many as the data has."""
    fixed = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 1)),))
    assert list(expected_columns(fixed).features) == ["x_0", "x_1", "x_2"]
    assert expected_columns(fixed).outputs == {"prediction": "numeric"}
    opened = Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("probs", "FP32", (-1, -1)),))
    expected = expected_columns(opened, ["x_0", "x_1", "probability_0", "probability_1", "x_y"])
    assert list(expected.features) == ["x_0", "x_1"]
    assert list(expected.outputs) == ["probability_0", "probability_1"]
    with pytest.raises(InvalidArgument):
        expected_columns(Signature((TensorSpec("image", "FP32", (-1, 3, 900, 900)),), ()))


def test_columns_are_called_and_shown_as_in_captured_traffic() -> None:
    """What the model's signature says and what a captured batch becomes have one set of names and kinds."""
    numbers = np.array([[30.0, 0.0], [41.5, 1.0]], np.float32)
    towns = np.array([b"Bonn", b""], object)
    batch = CaptureBatch(
        endpoint="e", variant="v", model="m", version="1", producer="p",
        sequences=np.array([1, 2], np.uint64), event_ids=["a", "b"], inference_ids=["", ""],
        times=np.zeros(2), latencies_us=np.zeros(2, np.int64), codes=["OK", "OK"], rows=np.array([1, 1]),
        request_types=["", ""], response_types=["", ""], custom_attributes=["", ""],
        inputs={
            "numbers": TensorColumn("numbers", "FP32", numbers.ravel(), ((1, 2), (1, 2))),
            "town": TensorColumn("town", "BYTES", towns, ((1, 1), (1, 1))),
        },
        outputs={
            "label": TensorColumn("label", "INT64", np.array([0, 1]), ((1,), (1,))),
            "probabilities": TensorColumn("probabilities", "FP32", np.ones(4, np.float32), ((1, 2), (1, 2))),
        },
    )  # fmt: skip
    columns = tabulate(batch, MIXED).columns
    expected = expected_columns(MIXED)
    kinds = {name: "numeric" if values.dtype.kind in "fiub" else "text" for name, values in columns.items()}
    assert kinds == {**expected.features, **expected.outputs}
    assert columns["colour"].tolist() == ["red", "blue"]


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_every_format_makes_the_same_documents(tmp_path: Path, format: str) -> None:
    """Numbers, categories, texts, labels, missing values."""
    made = built(tmp_path, ROWS, MIXED, format)
    assert (made.rows, made.columns) == (4, 4)
    assert set(made.files) == {STATISTICS_FILE, CONSTRAINTS_FILE, PROFILE_FILE}
    assert comparable(made) == comparable(built(tmp_path, ROWS, MIXED, "parquet"))
    statistics = comparable(made)[STATISTICS_FILE]
    assert statistics["age"]["numerical_statistics"]["common"] == {"num_present": 3, "num_missing": 1}
    town = statistics["town"]["string_statistics"]
    assert town["distribution"]["categorical"]["buckets"] == [
        {"value": "Bonn", "count": 2},
        {"value": "Köln", "count": 1},
    ]
    constraints = read_constraints(made.files[CONSTRAINTS_FILE])
    assert [feature.name for feature in constraints.features] == ["age", "colour", "town"]  # labels: no window has them
    colour = constraints.feature("colour")
    assert colour is not None
    assert (colour.domains, colour.completeness) == (("blue", "red"), 0.75)


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_categories_may_be_given_by_their_numbers(tmp_path: Path, format: str) -> None:
    """As the model takes them: the baseline shows the names all the same."""
    by_name = comparable(built(tmp_path, ROWS, MIXED, format))
    for dtype in ("Int64", "float64"):
        coded = ROWS.assign(colour=pd.array([0, 1, 1, None], dtype="Int64").astype(dtype))
        assert comparable(built(tmp_path, coded, MIXED, format)) == by_name


def test_the_profile_is_folded_over_its_own_ranges(tmp_path: Path) -> None:
    """So that windows folded over the same layout compare bin by bin; the sample keeps labels beside features."""
    made = built(tmp_path, ROWS, MIXED)
    profile = Profile.from_bytes(made.files[PROFILE_FILE])
    assert profile.rows == 4
    assert profile.columns["age"].bins.total == 3
    assert Layout.of(profile).columns["age"].edges == profile.columns["age"].layout.edges
    assert set(profile.sample.columns()) == {"age", "colour", "town", "sold"}
    window = Profile(profile.layout)
    window.fold({"age": np.array([30.0, 1000.0])})
    assert window.columns["age"].bins.above == 1


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_breast_cancer_with_predictions_and_target(tmp_path: Path, format: str) -> None:
    """Real data with all three kinds of columns."""
    frame = load_breast_cancer(as_frame=True).frame
    names = tuple(frame.columns[:-1])
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, 30)),), (TensorSpec("label", "INT64", (-1,)),), feature_names=names
    )
    frame["prediction"] = 1 - frame["target"]
    made = built(tmp_path, frame, signature, format, target="target")
    assert (made.rows, made.columns) == (569, 32)
    profile = Profile.from_bytes(made.files[PROFILE_FILE])
    assert {column.kind for column in profile.columns.values()} == {"numeric"}
    assert profile.columns["target"].moments.sum == frame["target"].sum()
    found = [feature.name for feature in read_constraints(made.files[CONSTRAINTS_FILE]).features]
    assert sorted(found) == sorted([*names, "prediction"])


def test_csv_without_header_is_taken_by_place(tmp_path: Path) -> None:
    """The features in the order of the model."""
    frame = load_breast_cancer(as_frame=True).data
    signature = Signature((TensorSpec("x", "FP32", (-1, 30)),), (), feature_names=tuple(frame))
    path = tmp_path / "plain.csv"
    frame.to_csv(path, index=False, header=False)
    made = build(open_dataset(path, "csv", names=tuple(frame)), signature)
    assert made.rows == 569
    assert comparable(made) == comparable(built(tmp_path, frame, signature))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Age": "age"}, ""),
        ({"age": "Age"}, "the model has no column 'Age' (is it 'age'?)"),
        ({"town": "twon"}, "the model has no column 'twon' (is it 'town'?)"),
        ({"sold": "bought"}, "the model has no column 'bought'"),
        ({"sold": "Sold"}, "the model has no column 'Sold' (is it 'sold'?)"),
    ],
)
@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_unknown_columns_are_named_with_a_near_name(
    tmp_path: Path, format: str, change: dict[str, str], words: str
) -> None:
    """A feature that is spelt differently would be compared with nothing for ever."""
    frame = ROWS.rename(columns=change)
    if not words:
        built(tmp_path, frame, MIXED, format)
        return
    with pytest.raises(InvalidArgument) as caught:
        built(tmp_path, frame, MIXED, format)
    assert words in caught.value.message


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_missing_features_are_named(tmp_path: Path, format: str) -> None:
    """All of them, up to a handful."""
    with pytest.raises(InvalidArgument, match="the data has no column 'age', 'town', which the model takes"):
        built(tmp_path, ROWS[["colour"]], MIXED, format)
    wide = Signature((TensorSpec("x", "FP32", (-1, 30)),), ())
    with pytest.raises(InvalidArgument, match="and 24 more"):
        built(tmp_path, pd.DataFrame({"x_7": [1.0]}), wide, format)


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        (ROWS.assign(age=["x", "y", "z", None]), {}, "column 'age' is a number for the model"),
        (ROWS.assign(age=["x", "y", 3, "z"]), {}, "'age' is a number for the model and holds text in 3 of 4 rows"),
        (ROWS.iloc[:0], {}, "no rows"),
        (ROWS, {"target": "age"}, "target 'age' is a column that the model takes"),
        (ROWS, {"target": "other"}, "no column 'sold'"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    tmp_path: Path, frame: pd.DataFrame, options: dict[str, str], words: str
) -> None:
    """Before anything is made of it."""
    with pytest.raises(InvalidArgument, match=words):
        built(tmp_path, frame, MIXED, **options)


def test_a_few_texts_among_numbers_are_counted_and_allowed_for(tmp_path: Path) -> None:
    """The column stays numeric, and the baseline meets its own constraints."""
    rows = 1_000
    frame = pd.DataFrame(
        {"age": [str(n) for n in range(rows - 10)] + ["unknown"] * 10, "colour": "red", "town": "Bonn"}
    )
    made = built(tmp_path, frame, MIXED)
    assert made.mixed == ("column 'age' is a number for the model and holds text in 10 of 1000 rows",)
    column = Profile.from_bytes(made.files[PROFILE_FILE]).columns["age"]
    assert (column.kind, column.types["String"], column.types["Integral"]) == ("numeric", 10, 990)
    constraints = read_constraints(made.files[CONSTRAINTS_FILE])
    age = constraints.feature("age")
    assert age is not None
    assert (age.inferred_type, constraints.config_of(age).datatype_check_threshold) == ("Integral", 0.99)
    buckets = comparable(made)[STATISTICS_FILE]["age"]["numerical_statistics"]["distribution"]["kll"]["buckets"]
    assert sum(bucket["count"] for bucket in buckets) == 990


def test_numbers_are_rounded_as_they_arrive_at_the_model(tmp_path: Path) -> None:
    """0.1 in a file and 0.1 in a tensor of 32 bits are different numbers; the windows have the second."""
    frame = ROWS.assign(age=[0.1, 0.2, 0.3, 0.7])
    made = built(tmp_path, frame, MIXED)
    profile = Profile.from_bytes(made.files[PROFILE_FILE])
    window = Profile(profile.layout)
    window.fold({"age": frame["age"].to_numpy().astype(np.float32)})
    assert profile.columns["age"].moments == window.columns["age"].moments


def test_progress_is_told_in_both_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows done, chunk by chunk, up to all of them."""
    monkeypatch.setattr("vedette.monitor.reference_data.columns.CHUNK_ROWS", 3)
    told: list[tuple[int, int]] = []
    built(tmp_path, ROWS, MIXED, progress=lambda rows, number: told.append((rows, number)))
    assert told == [(3, 1), (4, 1), (3, 2), (4, 2)]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_how_the_file_is_cut_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    """Every exact figure of both documents is the same to the last bit, whatever the chunks."""
    frame = load_breast_cancer(as_frame=True).data
    signature = Signature((TensorSpec("x", "FP32", (-1, 30)),), (), feature_names=tuple(frame))
    whole = built(tmp_path, frame, signature, format)
    monkeypatch.setattr("vedette.monitor.reference_data.columns.CHUNK_ROWS", 100)
    cut = built(tmp_path, frame, signature, format)
    assert cut.files[STATISTICS_FILE] == whole.files[STATISTICS_FILE]
    assert cut.files[CONSTRAINTS_FILE] == whole.files[CONSTRAINTS_FILE]
