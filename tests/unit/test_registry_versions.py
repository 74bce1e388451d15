"""Details and files of versions: contradictions are refused, never ignored."""

from __future__ import annotations

import pytest

from vedette.core.errors import Conflict, InvalidArgument, NotFound
from vedette.core.models import ApprovalStatus, ArtifactFile, Signature, TensorSpec
from vedette.registry.versions import (
    MAX_FILES,
    Completion,
    Details,
    check_details,
    check_file_name,
    check_files,
    check_number,
    check_servable,
    complete,
)
from vedette.testing.samples import model_version


def graph(
    *inputs: tuple[int, ...], outputs: tuple[tuple[int, ...], ...] = ((-1, 3),), datatype: str = "FP32"
) -> Signature:
    """A signature with these shapes."""
    return Signature(
        tuple(TensorSpec(f"x{index}", datatype, shape) for index, shape in enumerate(inputs)),
        tuple(TensorSpec(f"y{index}", "FP32", shape) for index, shape in enumerate(outputs)),
    )


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "model.onnx_data", "weights.bin", "fc1.weight"])
def test_names_of_exporters_are_taken(name: str) -> None:
    """The graph and external data beside it."""
    assert check_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../model.onnx", "a/model.onnx", "/model.onnx", "a\\b.data", "model.onnx\0", "~.data",
        "other.onnx", "Model.onnx", "weights", "model.pkl", "run.py", "x" * 200 + ".data", "a\nb.data", "%2e%2e.data",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(name: str) -> None:
    """No path, no second graph, nothing that could be run."""
    with pytest.raises(InvalidArgument):
        check_file_name(name)


def test_an_upload_is_one_graph_and_a_few_files() -> None:
    """Without model.onnx there is nothing to serve, and 65 files are no model."""
    graph_file = ArtifactFile("model.onnx", 1, "0" * 64)
    check_files([graph_file])
    with pytest.raises(InvalidArgument, match=r"no model\.onnx"):
        check_files([ArtifactFile("w.data", 1, "0" * 64)])
    with pytest.raises(InvalidArgument, match="at most"):
        check_files([graph_file, *(ArtifactFile(f"w{n}.data", 1, "0" * 64) for n in range(MAX_FILES))])


def test_the_users_words_complete_the_graph() -> None:
    """What is given stands; what is not stays the graph's."""
    completion = Completion(("a", "b"), {"a": ("x",)}, ("no", "maybe", "yes"), "tabular", "sold")
    whole = complete(graph((-1, 2)), completion)
    assert whole.inputs == graph((-1, 2)).inputs
    assert (whole.feature_names, whole.categories, whole.label_names) == (
        ("a", "b"),
        {"a": ("x",)},
        ("no", "maybe", "yes"),
    )
    assert (whole.kind, whole.target) == ("tabular", "sold")
    assert complete(whole, Completion()) == whole


@pytest.mark.parametrize(
    ("inputs", "names"),
    [([(-1, 2)], "ab"), ([(-1,), (-1, 1)], "ab"), ([(-1, 2), (-1,)], "abc"), ([(-1, -1)], "abcdef")],
)
def test_feature_names_count_the_columns(inputs: list[tuple[int, ...]], names: str) -> None:
    """One input of n columns, or several of one each; an open width takes any number."""
    assert complete(graph(*inputs), Completion(tuple(names))).feature_names == tuple(names)


@pytest.mark.parametrize(
    ("inputs", "completion", "message"),
    [
        ([(-1, 2)], Completion(("a",)), "1 names were given, the model takes 2 columns"),
        ([(-1, 2)], Completion(("a", "a")), "more than once"),
        ([(-1, 2)], Completion(("a", "")), "printable"),
        ([(-1, 2)], Completion(("a", "b\x00")), "printable"),
        ([(-1, 1, 8, 8)], Completion(("a",)), "not rows of columns"),
        ([(-1, 2)], Completion(("a", "b"), {"c": ("x",)}), "no feature 'c'"),
        ([(-1, 2)], Completion(("a", "b"), {"a": ()}), "has no values"),
        ([(-1, 2)], Completion(("a", "b"), {"a": ("x", "x")}), "more than once"),
        ([(-1, 2)], Completion(categories={"age": ("x",)}), "no feature 'age'"),
        ([(-1, 2)], Completion(label_names=("a", "b")), "2 names were given, the model's output has 3 classes"),
        ([(-1, 1, 8, 8)], Completion(kind="tabular"), "not rows of columns"),
        ([(-1,)], Completion(kind="image"), "not pixels"),
        ([(-1, 2)], Completion(kind="image", categories={"x0": ("x",)}), "pixels have no categories"),
        ([(-1, 2)], Completion(target="x" * 300), "target"),
    ],
)
def test_contradictions_are_refused(inputs: list[tuple[int, ...]], completion: Completion, message: str) -> None:
    """The message says which of the user's words the graph contradicts."""
    with pytest.raises(InvalidArgument, match=message):
        complete(graph(*inputs), completion)


@pytest.mark.parametrize(
    ("outputs", "labels", "fits"),
    [
        (((-1, 1),), 2, True),
        (((-1, 1),), 3, False),
        (((-1, -1),), 7, True),
        (((-1,),), 7, True),
        (((-1,), (-1, 4)), 4, True),
        (((-1,), (-1, 4)), 5, False),
    ],
)
def test_label_names_count_the_classes_when_they_are_known(
    outputs: tuple[tuple[int, ...], ...], labels: int, *, fits: bool
) -> None:
    """A column per class; one column is a binary score; an open width tells nothing."""
    completion = Completion(label_names=tuple(f"l{n}" for n in range(labels)))
    if fits:
        assert len(complete(graph((-1, 2), outputs=outputs), completion).label_names) == labels
    else:
        with pytest.raises(InvalidArgument):
            complete(graph((-1, 2), outputs=outputs), completion)


@pytest.mark.parametrize(
    "details",
    [
        Details(metadata={"": "x"}),
        Details(metadata={"k": "x" * 2000}),
        Details(metadata={f"k{n}": "" for n in range(100)}),
        Details(tags={"a\nb": "x"}),
        Details(description="x" * 5000),
        Details(description="a\0b"),
    ],
)
def test_notes_have_limits(details: Details) -> None:
    """Metadata and tags are labels, not documents."""
    with pytest.raises(InvalidArgument):
        check_details(details)


def test_approval_decides_what_may_serve() -> None:
    """Rejected never, pending unless approval is required, approved always."""
    pending = model_version("m", 1)
    check_servable(pending, require_approval=False)
    check_servable(model_version("m", 1, status=ApprovalStatus.APPROVED), require_approval=True)
    with pytest.raises(Conflict, match="PendingManualApproval"):
        check_servable(pending, require_approval=True)
    with pytest.raises(Conflict, match="Rejected"):
        check_servable(model_version("m", 1, status=ApprovalStatus.REJECTED), require_approval=False)


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63])
def test_numbers_that_no_version_can_have_are_not_found(number: int) -> None:
    """They never reach a database column that would overflow."""
    with pytest.raises(NotFound):
        check_number(number)
