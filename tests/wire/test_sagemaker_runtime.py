"""boto3's `sagemaker-runtime`, unmodified, against a server that is not AWS."""

from __future__ import annotations

import io
import json

import boto3
import botocore.exceptions
import numpy as np
import pytest
from botocore.config import Config
from tests.wire.target import Target

pytestmark = pytest.mark.ours

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 0.0, -1.0]]
SUMS = [10.0, 0.0]
CALL = {"EndpointName": "row-sum", "ContentType": "text/csv", "Body": b"1,2,3,4"}


@pytest.fixture(scope="module")
def runtime(target: Target):
    """The client as a user makes it, with another endpoint URL."""
    session = boto3.session.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name="eu-west-1")
    config = Config(retries={"max_attempts": 1}, read_timeout=30, proxies={})
    client = session.client("sagemaker-runtime", endpoint_url=target.http, config=config)
    yield client
    client.close()


def refused(runtime, **arguments) -> dict:
    """The response of the error that the call ends with."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        runtime.invoke_endpoint(
            **{"EndpointName": "row-sum", "ContentType": "text/csv", "Body": b"1,2,3,4", **arguments}
        )
    return caught.value.response


def npy(array: np.ndarray) -> bytes:
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


CSV = b"1,2,3,4\n0.5,0.5,0,-1\n"
JSON = json.dumps({"instances": [{"features": row} for row in ROWS]}).encode()
LINES = b"\n".join(json.dumps({"features": row}).encode() for row in ROWS)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", CSV),
        ("text/csv; charset=utf-8", CSV),
        ("application/json", JSON),
        ("application/json", json.dumps({"instances": ROWS}).encode()),
        ("application/json", json.dumps({"instances": [{"data": {"features": {"values": r}}} for r in ROWS]}).encode()),
        ("application/jsonlines", LINES),
        ("application/x-npy", npy(np.array(ROWS, np.float32))),
    ],
    ids=["csv", "csv-charset", "json-features", "json-rows", "json-values", "jsonlines", "npy"],
)
def test_every_content_type_is_understood(runtime, content_type: str, body: bytes) -> None:
    """Two rows in, two sums out, whatever they came as."""
    answer = runtime.invoke_endpoint(EndpointName="row-sum", ContentType=content_type, Body=body, Accept="text/csv")
    assert answer["ContentType"] == "text/csv"
    assert [float(line) for line in answer["Body"].read().split()] == SUMS


def test_json_comes_back_as_predictions(runtime) -> None:
    """application/json: an object with one prediction a row."""
    answer = runtime.invoke_endpoint(
        EndpointName="row-sum", ContentType="text/csv", Body=CSV, Accept="application/json"
    )
    assert answer["ContentType"] == "application/json"
    assert len(json.load(answer["Body"])["predictions"]) == 2


def test_json_lines_and_npy_come_back(runtime) -> None:
    """The two other forms of answers."""
    lines = runtime.invoke_endpoint(
        EndpointName="row-sum", ContentType="text/csv", Body=CSV, Accept="application/jsonlines"
    )["Body"].read()
    assert len([json.loads(line) for line in lines.splitlines()]) == 2
    answer = runtime.invoke_endpoint(
        EndpointName="row-sum", ContentType="text/csv", Body=CSV, Accept="application/x-npy"
    )
    array = np.load(io.BytesIO(answer["Body"].read()), allow_pickle=False)
    assert array.ravel().tolist() == SUMS


def test_without_accept_the_answer_is_of_the_contents_type(runtime) -> None:
    """What the caller speaks is what it hears."""
    answer = runtime.invoke_endpoint(EndpointName="row-sum", ContentType="text/csv", Body=CSV)
    assert answer["ContentType"] == "text/csv"


def test_the_open_inference_protocol_as_json(runtime) -> None:
    """A V2 document is JSON too."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": ROWS}
    answer = runtime.invoke_endpoint(
        EndpointName="row-sum", ContentType="application/json", Body=json.dumps({"inputs": [tensor]}).encode()
    )
    assert json.load(answer["Body"])["outputs"][0]["data"] == SUMS


def test_the_answer_names_its_variant(runtime) -> None:
    """The variant that answered, by weight or as asked for."""
    ask = {"EndpointName": "scale", "ContentType": "text/csv", "Body": b"1,2,3,4"}
    answer = runtime.invoke_endpoint(**ask)
    assert answer["InvokedProductionVariant"] == "one"
    answer = runtime.invoke_endpoint(**ask, TargetVariant="two")
    assert answer["InvokedProductionVariant"] == "two"
    assert [float(value) for value in answer["Body"].read().split(b",")] == [2, 4, 6, 8]


def test_inference_id_and_custom_attributes_are_taken(runtime) -> None:
    """Both headers are accepted; attributes come back only if a model sets them, and none does."""
    answer = runtime.invoke_endpoint(
        EndpointName="row-sum", ContentType="text/csv", Body=CSV, InferenceId="id-7", CustomAttributes="trace=1"
    )
    assert "CustomAttributes" not in answer


def test_an_unknown_endpoint_is_a_validation_error(runtime) -> None:
    """AWS's own words."""
    response = refused(runtime, EndpointName="no-such-endpoint")
    assert response["Error"]["Code"] == "ValidationError"
    assert response["Error"]["Message"] == "Endpoint no-such-endpoint of account 000000000000 not found."
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_unknown_variant_is_an_error(runtime) -> None:
    """Never another variant's answer: the call is wrong, not what it carries to the model."""
    response = refused(runtime, TargetVariant="no-such-variant")
    assert response["Error"]["Code"] == "ValidationError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize("body", [b"1,2,3", b"a,b,c,d", b"", b"\xff\xfe", b"1,2,3,4\n1,2\n"])
def test_a_body_that_does_not_fit_is_a_model_error(runtime, body: bytes) -> None:
    """424 ModelError with the model's status and text as members of the exception."""
    response = refused(runtime, Body=body)
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert response["OriginalMessage"] in response["Error"]["Message"]
    assert response["LogStreamArn"].startswith("arn:aws:logs:")


def test_a_model_that_fails_is_a_model_error_of_a_server(runtime) -> None:
    """The run itself fails: 424 and 500 as the original status, and boto3 does not send it again."""
    tensors = [
        {"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]},
        {"name": "shape", "datatype": "INT64", "shape": [1], "data": [7]},
    ]
    body = json.dumps({"inputs": tensors}).encode()
    response = refused(runtime, EndpointName="reshaped", ContentType="application/json", Body=body)
    assert response["Error"]["Code"] == "ModelError"
    assert response["OriginalStatusCode"] == 500
    assert response["ResponseMetadata"]["RetryAttempts"] == 0


def test_a_type_that_is_not_served_is_refused(runtime) -> None:
    """Content type and Accept."""
    assert refused(runtime, ContentType="image/png")["OriginalStatusCode"] == 415
    assert refused(runtime, Accept="image/png")["OriginalStatusCode"] == 406


def test_the_container_contract_answers(http) -> None:
    """/ping is 200 and empty; /invocations with several endpoints and no default is refused."""
    ping = http.get("/ping")
    assert (ping.status_code, ping.content) == (200, b"")
    refusal = http.post("/invocations", content=b"1,2,3,4", headers={"Content-Type": "text/csv"})
    assert refusal.status_code == 400
    assert refusal.headers["x-amzn-errortype"] == "ValidationError"
