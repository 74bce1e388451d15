"""The clients against a registry and a data plane that behave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from tests.unit.sdk_suite import METADATA, FakeSuite, serving

import vedette
from vedette.core.models import ApprovalStatus, EndpointConfig, EndpointStatus, Variant
from vedette.sdk.convert import Conversion
from vedette.sdk.documents import Details, SignatureDetails
from vedette.sdk.retries import Retries

ROWS = [[1.0, 5.0, 2.0], [7.0, 1.0, 2.0]]


@pytest.fixture
def suite() -> FakeSuite:
    """A fresh suite."""
    return FakeSuite()


@pytest.fixture
def client(suite: FakeSuite):
    """A client whose network is the suite."""
    with vedette.Client(transport=httpx.MockTransport(suite.answer), retries=Retries(backoff_s=0.001)) as client:
        yield client


def test_a_prediction_is_arrays_by_name_and_class_names(client: vedette.Client, suite: FakeSuite) -> None:
    """Binary both ways by default; the metadata is asked for once."""
    for _ in range(2):
        prediction = client.predict("iris", ROWS)
    assert prediction.labels == ["versicolor", "setosa"]
    np.testing.assert_allclose(prediction["probabilities"].sum(axis=1), 1.0)
    assert (prediction.endpoint, prediction.version) == ("iris", "1")
    assert [asked.path for asked in suite.asked] == [
        "/v2/models/iris",
        "/v2/models/iris/infer",
        "/v2/models/iris/infer",
    ]
    assert "inference-header-content-length" in suite.asked[-1].headers


def test_a_prediction_is_a_mapping_of_its_outputs(client: vedette.Client) -> None:
    """in, list, dict, len, get and ** see the outputs; a wrong name still says which there are."""
    prediction = client.predict("iris", [[1.0, 5.0, 2.0]])
    assert isinstance(prediction, Mapping)
    assert "label" in prediction
    assert "nothing" not in prediction
    assert list(prediction) == list(prediction.keys()) == list(prediction.outputs)
    assert len(prediction) == len(prediction.outputs)
    assert dict(prediction)["label"] is dict(**prediction)["label"] is prediction["label"] is prediction.get("label")
    assert prediction.get("nothing", 7) == 7
    with pytest.raises(vedette.InvalidArgument, match="no output 'nothing'; there are"):
        prediction["nothing"]


def test_json_on_request(client: vedette.Client, suite: FakeSuite) -> None:
    """`binary=False` sends and gets JSON alone."""
    assert client.predict("iris", ROWS, binary=False).labels == ["versicolor", "setosa"]
    assert "inference-header-content-length" not in suite.asked[-1].headers


def test_frames_are_put_in_the_models_order(client: vedette.Client) -> None:
    """The signature of the endpoint decides, not the frame."""
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"])[["c", "a", "b"]]
    assert client.predict("iris", frame).labels == ["versicolor", "setosa"]


def test_everything_a_caller_can_say_is_sent(client: vedette.Client, suite: FakeSuite) -> None:
    """Version in the path, variant and inference id as headers, the rest in the request."""
    answer = client.predict(
        "iris", ROWS, version=1, variant="blue", outputs=["label"], parameters={"p": 3}, id="r1", inference_id="i1"
    )
    asked = suite.asked[-1]
    assert asked.path == "/v2/models/iris/versions/1/infer"
    assert asked.headers["x-amzn-sagemaker-target-variant"] == "blue"
    assert asked.headers["x-amzn-sagemaker-inference-id"] == "i1"
    assert (list(answer.outputs), answer.id, answer.parameters) == (["label"], "r1", {"p": 3})


def test_a_model_that_was_swapped_is_looked_at_again(client: vedette.Client, suite: FakeSuite) -> None:
    """After a refusal the metadata is asked for anew, and the request repeated only if it has changed."""
    client.predict("iris", ROWS)
    suite.metadata["iris"] = METADATA | {"inputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 3]}]}
    assert client.predict("iris", ROWS).labels == ["versicolor", "setosa"]
    assert [asked.path.split("/")[-1] for asked in suite.asked] == ["iris", "infer", "infer", "iris", "infer"]
    suite.failures.append((400, {}, b'{"error": "no"}'))
    with pytest.raises(vedette.InvalidArgument, match=r"^no$"):
        client.predict("iris", ROWS)
    assert [asked.path.split("/")[-1] for asked in suite.asked[5:]] == ["infer", "iris"]


def test_a_prediction_is_not_sent_again_when_it_may_have_run(client: vedette.Client, suite: FakeSuite) -> None:
    """503 ends it; 429 does not, because nothing ran."""
    client.metadata("iris")
    suite.failures += [(503, {}, b'{"error": "draining"}')]
    with pytest.raises(vedette.Unavailable, match="draining"):
        client.predict("iris", ROWS)
    suite.failures += [(429, {"retry-after": "0"}, b'{"error": "full"}')]
    assert client.predict("iris", ROWS[0]).label == "versicolor"


def test_unknown_endpoints_and_readiness(client: vedette.Client, suite: FakeSuite) -> None:
    """Not found is a class of its own; `ready` is a question, not an error."""
    with pytest.raises(vedette.NotFound, match="nobody"):
        client.predict("nobody", ROWS)
    assert client.ready()
    assert client.ready("iris")
    assert not client.ready("nobody")
    suite.failures.append((503, {}, b""))
    assert not client.ready()


def test_an_answer_that_is_not_ours_is_said_so(client: vedette.Client, suite: FakeSuite) -> None:
    """Some other server on the port gives an error with its words, not a stack of a parser."""
    suite.failures.append((200, {}, b"<html>hello</html>"))
    with pytest.raises(vedette.Internal, match="not a EndpointMetadata"):
        client.predict("iris", ROWS)
    suite.failures.append((200, {}, b'{"items": [{"colour": 1}]}'))
    with pytest.raises(vedette.Internal, match="holds no Model"):
        list(client.models.list())


def test_registering_bytes_a_path_and_a_conversion(client: vedette.Client, suite: FakeSuite, tmp_path: Path) -> None:
    """All three arrive as the same bytes, with what is known of the columns."""
    path = tmp_path / "any.name"
    path.write_bytes(b"graph")
    signature = SignatureDetails(feature_names=("a", "b"), label_names=("no", "yes"), kind="tabular")
    conversion = Conversion(b"graph", signature, 10, 0.0)
    for source in (b"graph", path, str(path), conversion):
        version = client.models.register("iris", source, details=Details(metadata={"git": "1"}))
        assert version.files[0].path == "model.onnx"
        assert version.files[0].size == 5
        assert version.metadata == {"git": "1"}
    assert version.version == 2  # the conversion says more of the same bytes
    assert version.signature.label_names == ("no", "yes")
    assert version.admission.memory_bytes == 2048


def test_what_the_caller_says_wins_over_the_conversion(client: vedette.Client) -> None:
    """A conversion fills gaps only."""
    conversion = Conversion(b"graph", SignatureDetails(label_names=("0", "1"), target="y"), 10, 0.0)
    details = Details(SignatureDetails(label_names=("no", "yes")))
    signature = client.models.register("m", conversion, details=details).signature
    assert (signature.label_names, signature.target) == (("no", "yes"), "y")


def test_external_data_goes_through_an_upload(client: vedette.Client, suite: FakeSuite, tmp_path: Path) -> None:
    """The graph goes as model.onnx, the others under their names, and progress counts over all of them."""
    graph, weights, more = tmp_path / "g.onnx", tmp_path / "weights.bin", tmp_path / "more.bin"
    graph.write_bytes(b"graph"), weights.write_bytes(b"w" * 2_500_000), more.write_bytes(b"")
    steps: list[tuple[int, int]] = []
    version = client.models.register(
        "big", [graph, weights, more], progress=lambda sent, total: steps.append((sent, total))
    )
    assert [(file.path, file.size) for file in version.files] == [
        ("model.onnx", 5),
        ("weights.bin", 2_500_000),
        ("more.bin", 0),
    ]
    assert steps[0] == (5, 2_500_005)
    assert steps[-1] == (2_500_005, 2_500_005)
    assert [sent for sent, _ in steps] == sorted(sent for sent, _ in steps)
    assert suite.uploads == {}
    assert client.models.register("big", tmp_path).files[2].path == "weights.bin"


def test_a_failed_upload_is_thrown_away(client: vedette.Client, suite: FakeSuite, tmp_path: Path) -> None:
    """Nothing half-done stays behind, and the first error is the one shown."""
    for name in ("a.onnx", "b.bin"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(vedette.InvalidArgument, match="the graph is empty"):
        client.models.register("big", [tmp_path / "a.onnx", tmp_path / "b.bin"])
    assert suite.models == {}
    (tmp_path / "a.onnx").write_bytes(b"x")
    suite.failures = [(201, {}, b'{"id": "u9"}'), (507, {}, b"{}"), (404, {}, b"{}")]
    with pytest.raises(vedette.Unavailable, match="507"):
        client.models.register("big", tmp_path)
    assert suite.asked[-1].method == "DELETE"


@pytest.mark.parametrize(
    "names", [[], ["missing.onnx"], ["a.onnx", "dir/a b.bin"], ["a.onnx", "a.onnx", "x/a.onnx"], ["."]]
)
def test_files_that_cannot_be_registered_are_refused_before_anything_is_sent(
    client: vedette.Client, suite: FakeSuite, tmp_path: Path, names: list[str]
) -> None:
    """No such file, a name that cannot be kept, two of one name, a folder without one graph."""
    for name in ("a.onnx", "dir/a b.bin", "x/a.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.onnx").write_bytes(b"x")
    with pytest.raises(vedette.InvalidArgument):
        client.models.register("m", tmp_path if names == ["."] else [tmp_path / name for name in names])
    assert suite.asked == []


def test_the_life_of_a_model(client: vedette.Client, suite: FakeSuite) -> None:
    """Create, register, alias, approve, reject, list over pages, delete."""
    suite.page_items = 2
    client.models.create("zoo", description="animals", tags={"team": "a"})
    with pytest.raises(vedette.AlreadyExists):
        client.models.create("zoo")
    for text in (b"1", b"2", b"3"):
        client.models.register("zoo", text)
    client.models.create("other")
    client.models.create("third")
    assert [model.name for model in client.models.list()] == ["zoo", "other", "third"]
    assert [model.name for model in client.models.list(tags={"team": "a"})] == ["zoo"]
    assert [model.name for model in client.models.list(name_contains="thi")] == ["third"]
    client.models.set_alias("zoo", "champion", 2)
    assert client.models.get("zoo").aliases == {"champion": 2}
    client.models.delete_alias("zoo", "champion")
    assert client.models.update("zoo", tags={}).tags == {}
    assert client.models.approve("zoo", 2).status is ApprovalStatus.APPROVED
    assert client.models.reject("zoo", 3).status is ApprovalStatus.REJECTED
    assert [version.version for version in client.models.versions("zoo")] == [3, 2, 1]
    assert [version.version for version in client.models.versions("zoo", status=ApprovalStatus.REJECTED)] == [3]
    assert client.models.update_version("zoo", 1, metadata={"k": "v"}, description="first").metadata == {"k": "v"}
    assert client.models.version("zoo", 1).description == "first"
    assert b"model.onnx" in client.models.download("zoo", 1)
    client.models.delete_version("zoo", 1)
    with pytest.raises(vedette.NotFound):
        client.models.version("zoo", 1)
    client.models.delete("zoo")
    assert [model.name for model in client.models.list()] == ["other", "third"]


def test_imports_name_a_source(client: vedette.Client) -> None:
    """The registry decides what it may read."""
    assert client.models.import_from("m", "s3://allowed/m.onnx", details=Details(metadata={"a": "b"})).metadata == {
        "a": "b"
    }
    with pytest.raises(vedette.InvalidArgument, match="not allowed"):
        client.models.import_from("m", "/etc/passwd")


def test_the_life_of_an_endpoint(client: vedette.Client, suite: FakeSuite) -> None:
    """Deploy short and long, change, roll back, stop, start, delete; waiting sees each change through."""
    client.models.register("iris", b"graph")
    assert client.endpoints.deploy("iris").status is EndpointStatus.CREATING
    assert client.endpoints.wait_in_service("iris").config.variants[0].version == 1
    with pytest.raises(vedette.AlreadyExists):
        client.endpoints.deploy("iris")
    client.models.set_alias("iris", "champion", 1)
    assert client.endpoints.deploy("eu", model="iris", version="@champion").config.model == "iris"
    config = EndpointConfig("iris", (Variant("a", 1, 0.5), Variant("b", 1, 0.5)))
    assert client.endpoints.update("iris", config).config == config
    assert client.endpoints.weights("iris", {"a": 9.0}).config.variants[0].weight == 9.0
    assert client.endpoints.rollback("iris", generation=1).generation == 4
    assert client.endpoints.wait_in_service("iris").generation == 4
    assert client.endpoints.stop("iris").status is EndpointStatus.OUT_OF_SERVICE
    with pytest.raises(vedette.Conflict, match="OutOfService"):
        client.endpoints.wait_in_service("iris")
    client.endpoints.start("iris")
    assert [generation.cause for generation in client.endpoints.generations("iris")] == ["create"]
    assert {endpoint.name for endpoint in client.endpoints.list()} == {"iris", "eu"}
    assert [e.name for e in client.endpoints.list(status=EndpointStatus.CREATING)] == ["eu"]
    client.endpoints.delete("iris")
    client.endpoints.wait_deleted("iris")
    with pytest.raises(vedette.DeadlineExceeded, match="still there"):
        client.endpoints.wait_deleted("eu", timeout_s=0.01)


def test_waiting_ends_with_the_reason(client: vedette.Client, suite: FakeSuite) -> None:
    """A failed load shows why; one that takes too long shows where it stands."""
    client.models.register("iris", b"graph")
    client.endpoints.deploy("iris")
    suite.outcome = "Failed"
    with pytest.raises(vedette.Conflict, match="iris is Failed: out of memory"):
        client.endpoints.wait_in_service("iris")
    suite.settle_after = 10**6
    client.endpoints.deploy("slow", model="iris")
    with pytest.raises(vedette.DeadlineExceeded, match="slow is still Creating"):
        client.endpoints.wait_in_service("slow", timeout_s=0.01)


def test_waiting_for_a_change_that_was_rolled_back_is_no_success(client: vedette.Client, suite: FakeSuite) -> None:
    """What serves then is not what was asked for; the registry's reason says why."""
    client.models.register("iris", b"graph")
    client.endpoints.wait_in_service("iris", generation=client.endpoints.deploy("iris").generation)
    suite.outcome = "RolledBack"
    changed = client.endpoints.weights("iris", {"primary": 2.0})
    suite.settle_after = 0
    for _ in range(2):  # while it happens, and when it has happened
        with pytest.raises(vedette.Conflict, match="iris was rolled back: generation 2 failed: out of memory"):
            client.endpoints.wait_in_service("iris", generation=changed.generation)
    assert client.endpoints.get("iris").generation == 3
    suite.endpoints["iris"]["status"] = "RollingBack"
    suite.settle_after = 10**6
    with pytest.raises(vedette.Conflict, match="rolled back"):
        client.endpoints.wait_in_service("iris")


async def test_the_asynchronous_client_does_the_same(suite: FakeSuite, tmp_path: Path) -> None:
    """The hand-written source of the twin, against the same suite."""
    (tmp_path / "a.onnx").write_bytes(b"graph")
    (tmp_path / "b.bin").write_bytes(b"data")
    async with vedette.AsyncClient(transport=httpx.MockTransport(suite.answer)) as client:
        assert (await client.models.register("iris", b"graph")).version == 1
        assert len((await client.models.register("iris", tmp_path)).files) == 2
        await client.endpoints.deploy("iris")
        assert (await client.endpoints.wait_in_service("iris")).status is EndpointStatus.IN_SERVICE
        assert [model.name async for model in client.models.list()] == ["iris"]
        assert (await client.predict("iris", np.array(ROWS))).labels == ["versicolor", "setosa"]
        assert await client.ready("iris")


def test_over_a_real_socket(suite: FakeSuite, tmp_path: Path) -> None:
    """Streaming uploads carry their length, and a closed client can be used again."""
    (tmp_path / "m.onnx").write_bytes(b"x" * 3_000_000)
    with serving(suite) as address:
        with vedette.Client(address, address.removeprefix("http://")) as client:
            assert client.models.register("big", tmp_path / "m.onnx").files[0].size == 3_000_000
        assert client.predict("iris", ROWS).version == "1"
        client.close()
    assert suite.asked[0].headers["content-length"] == "3000000"
    assert "transfer-encoding" not in suite.asked[0].headers


def test_names_cannot_leave_their_place_in_a_path(client: vedette.Client, suite: FakeSuite) -> None:
    """What is no name, no version or no file is refused, and nothing is sent."""
    wrong: list[Callable[[], object]] = [
        lambda: client.models.get("../endpoints"),
        lambda: client.models.versions("a/b"),
        lambda: client.models.delete("UPPER/versions/1"),
        lambda: client.models.delete_version("iris", "1/../2"),  # type: ignore[arg-type]
        lambda: client.models.download("iris", 1, ".."),
        lambda: client.models.set_alias("iris", "../versions", 1),
        lambda: client.endpoints.get(".."),
        lambda: client.metadata("a/b"),
        lambda: client.ready("iris", version=".."),
        lambda: client.predict("", [[1.0]]),
    ]
    for call in wrong:
        with pytest.raises(vedette.InvalidArgument):
            list(call())  # type: ignore[call-overload]
    assert suite.asked == []
