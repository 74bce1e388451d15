"""Outcomes: labels, predictions and probabilities made comparable, whatever they came in as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature
from vedette.monitor.quality.outcomes import (
    MISSING,
    NotComparable,
    Outcomes,
    Roles,
    class_names,
    classes_of,
    column_of,
    encode,
    fitting,
    problem_of,
    value_text,
    values_of,
)

UNKNOWN = Signature(inputs=(), outputs=())
NAMED = Signature(inputs=(), outputs=(), label_names=("malignant", "benign"))


def texts(*values):
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def test_labels_come_out_of_the_columns() -> None:
    """A baseline's label column is no feature."""
    found = Outcomes.of({"x": np.ones(3), "label": np.array([0.0, np.nan, 1.0])}, label="label")
    assert list(found.columns) == ["x"]
    assert (found.rows, found.labelled) == (3, 2)


def test_rows_without_a_label_column_are_unlabelled() -> None:
    """No label column: every label is missing."""
    assert Outcomes.of({"x": np.ones(3)}, label="label").labelled == 0
    assert Outcomes.of({}).rows == 0


@pytest.mark.parametrize("labels", [np.zeros(2), np.zeros((3, 1))])
def test_lengths_must_agree(labels) -> None:
    """Columns and labels of different shapes are refused."""
    with pytest.raises(InvalidArgument):
        Outcomes({"x": np.zeros(3)}, labels)


def test_too_many_rows_are_refused() -> None:
    """Memory is bounded."""
    with pytest.raises(InvalidArgument, match="2,000,000"):
        Outcomes({}, np.zeros(2_000_001))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1.0, "1"), (True, "1"), ("1.0", "1"), ("1", "1"), (" yes ", "yes"), (0.5, "0.5"), (np.float32(2), "2")],
)
def test_one_class_has_one_name(value, text) -> None:
    """Spreadsheets, JSON and models write the same class differently."""
    assert value_text(value) == text


def test_loose_labels_become_a_column() -> None:
    """Numbers stay numbers, and None is missing in either kind."""
    np.testing.assert_array_equal(column_of([1, None, True, 0.5]), [1.0, np.nan, 1.0, 0.5])
    assert column_of(["a", None, 2]).tolist() == ["a", None, "2"]


def test_classes_are_known_by_name_and_by_index() -> None:
    """A model that gives indices and labels that give names meet in the middle."""
    assert encode(texts("benign", "malignant", "other", None, "1"), NAMED.label_names).tolist() == [1, 0, -1, -1, 1]
    assert encode(np.array([0.0, 1.0, np.nan, 7.0]), NAMED.label_names).tolist() == [0, 1, MISSING, MISSING]
    assert encode(np.array([True, False]), ("0", "1")).tolist() == [1, 0]


def test_names_come_before_indices() -> None:
    """Classes called 1, 2 and 3 are not shifted by one."""
    assert encode(np.array([1.0, 2.0, 3.0]), ("1", "2", "3")).tolist() == [0, 1, 2]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5), st.integers(), st.floats(), st.booleans())))
def test_any_labels_are_encoded_without_an_error(values) -> None:
    """Hostile labels are missing at worst."""
    codes = encode(column_of(values), ("0", "1", "a"))
    assert codes.shape == (len(values),)
    assert ((codes >= -1) & (codes < 3)).all()


def test_a_new_text_in_every_row_is_no_class() -> None:
    """Many distinct values cost a pass and nothing else."""
    column = texts(*(f"t{i}" for i in range(50_000)))
    assert (encode(column, ("a", "b")) == MISSING).all()
    with pytest.raises(NotComparable, match="50000 classes"):
        class_names(Roles(), UNKNOWN, Outcomes({"prediction": column}, column))


def test_the_problem_shows_in_names_columns_and_texts() -> None:
    """Class names, probabilities or texts make a classifier; bare numbers are a regression."""
    numbers = Outcomes({"prediction": np.array([0.3, 2.0])}, np.array([1.0, 2.0]))
    assert problem_of(numbers, Roles(), UNKNOWN) == "Regression"
    assert problem_of(numbers, Roles(), NAMED) == "BinaryClassification"
    assert problem_of(numbers, Roles(problem_type="MulticlassClassification"), UNKNOWN) == "MulticlassClassification"
    words = Outcomes({"prediction": texts("a", "b", "c")}, texts("a", "b", None))
    assert problem_of(words, Roles(), UNKNOWN) == "MulticlassClassification"
    told = Outcomes({"probability_no": np.ones(1), "probability_yes": np.zeros(1)}, texts("no"))
    assert problem_of(told, Roles(), UNKNOWN) == "BinaryClassification"


def test_observed_classes_stand_in_order() -> None:
    """Numbers by size, then texts; zero and one are always two classes."""
    source = Outcomes({"prediction": texts("10", "9", "b")}, texts("a", None, "9.0"))
    assert class_names(Roles(), UNKNOWN, source) == ("9", "10", "a", "b")
    assert class_names(Roles(), UNKNOWN, Outcomes({"prediction": np.zeros(2)}, np.zeros(2))) == ("0", "1")


def test_a_binary_problem_has_two_classes() -> None:
    """One that was never seen is filled in; a third is an error that names them."""
    assert len(fitting("BinaryClassification", ("yes",))) == 2
    with pytest.raises(NotComparable, match="a, b, c"):
        fitting("BinaryClassification", ("a", "b", "c"))


def test_probabilities_decide_where_no_label_is_predicted() -> None:
    """Over the threshold the positive class, whichever column it stands in."""
    columns = {"probability_no": np.array([0.3, 0.45, np.nan]), "probability_yes": np.array([0.7, 0.55, np.nan])}
    outcomes = Outcomes(columns, texts("yes", "no", "yes"))
    found = classes_of(outcomes, Roles(probability_threshold_attribute=0.6), ("no", "yes"))
    assert found.predictions.tolist() == [1, 0, MISSING]
    found = classes_of(outcomes, Roles(positive_class="no", probability_threshold_attribute=0.4), ("no", "yes"))
    assert (found.positive, found.predictions.tolist()) == (0, [1, 0, MISSING])


def test_one_probability_column_is_of_the_positive_class() -> None:
    """SageMaker's probability_attribute."""
    outcomes = Outcomes({"p": np.array([0.9, 0.1])}, np.array([1.0, 0.0]))
    found = classes_of(outcomes, Roles(probability_attribute="p"), ("0", "1"))
    assert found.predictions.tolist() == [1, 0]
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, [[0.1, 0.9], [0.9, 0.1]])
    flipped = classes_of(outcomes, Roles(probability_attribute="p", positive_class="0"), ("0", "1"))
    assert flipped.predictions.tolist() == [0, 1]


def test_the_most_probable_of_many_classes_is_predicted() -> None:
    """Without a threshold, which has no meaning there."""
    columns = {f"probability_{name}": np.array(p) for name, p in zip("abc", ([0.2, 0.5], [0.5, 0.3], [0.3, 0.2]))}
    assert classes_of(Outcomes(columns, texts("a", "b")), Roles(), ("a", "b", "c")).predictions.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        (Roles(), "no column 'prediction'"),
        (Roles(probability_attribute="p"), "no column 'p'"),
        (Roles(positive_class="maybe"), "none of no, yes"),
    ],
)
def test_what_is_missing_is_named(roles, reason) -> None:
    """The reason is what a person reads in the skipped result."""
    with pytest.raises(NotComparable, match=reason):
        classes_of(Outcomes({"x": np.ones(1)}, texts("yes")), roles, ("no", "yes"))


def test_values_are_read_from_texts_too() -> None:
    """A label that came as CSV text is a number to a regression; what is none is missing."""
    found = values_of(Outcomes({"prediction": np.array([1.0, 2.0, 3.0])}, texts("1.5", "x", None)), Roles())
    np.testing.assert_array_equal(found.labels, [1.5, np.nan, np.nan])
    assert found.labelled().labels.tolist() == [1.5]
    with pytest.raises(NotComparable):
        values_of(Outcomes({}, np.zeros(0)), Roles())


@pytest.mark.parametrize("wrong", [{"problem_type": "Clustering"}, {"probability_threshold_attribute": 1.5}])
def test_roles_check_themselves(wrong) -> None:
    """A wrong name is refused when the monitor is made."""
    with pytest.raises(InvalidArgument):
        Roles(**wrong)
