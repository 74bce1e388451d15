"""Lines of ground truth: both forms, every encoding, and what is no label."""

from __future__ import annotations

import json

import pytest

from vedette.monitor.traffic.label_lines import MAX_ID, MAX_REASONS, MAX_ROWS, read_labels


def sagemaker(data: object, encoding: str) -> bytes:
    """One of SageMaker's lines."""
    truth = {"data": data, "encoding": encoding}
    return json.dumps({"groundTruthData": truth, "eventMetadata": {"eventId": "x"}, "eventVersion": "0"}).encode()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"id": "x", "label": 1}', "1"),
        (b'{"id": "x", "label": true}', "true"),
        (b'{"id": "x", "label": "yes", "more": 1}', '"yes"'),
        (b'{"id": "x", "label": [0, null, 1.5]}', "[0,null,1.5]"),
        (sagemaker("1", "CSV"), "1.0"),
        (sagemaker("yes", "CSV"), '"yes"'),
        (sagemaker("1\n0\n", "CSV"), "[1.0,0.0]"),
        (sagemaker('{"instances": [{"label": 0}, {"label": "b"}]}', "JSON"), '[0,"b"]'),
        (sagemaker({"instances": [{"label": 0}]}, "JSON"), "[0]"),
        (sagemaker("3", "JSON"), "3"),
    ],
)
def test_labels_are_read(line: bytes, value: str) -> None:
    """SageMaker's records and plain lines."""
    read = read_labels(line, at=5.0)
    labels, refused = read.labels, read.refused
    assert [(label.id, label.value, label.at) for label in labels] == [("x", value, 5.0)]
    assert refused == 0


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense", b"[]", b"{}", b'{"id": 1, "label": 1}', b'{"id": "", "label": 1}', b'{"label": 1}',
        b'{"id": "x", "label": {}}', b'{"id": "x", "label": null}', b'{"id": "x", "label": []}',
        b'{"id": "x", "label": [[1]]}', b'{"id": "x", "label": 1e999}', b'{"id": "x", "label": ' + b"9" * 400 + b"}",
        b'{"id": "' + b"i" * (MAX_ID + 1) + b'", "label": 1}', b'{"id": "a\\u0000b", "label": 1}',
        b'{"id": "x", "label": "' + b"l" * 1_001 + b'"}', b"[" * 100_000, b"\xff\xfe",
        b'{"id": "x", "label": [' + b",".join([b"1"] * (MAX_ROWS + 1)) + b"]}",
        sagemaker("a\rb", "CSV"), sagemaker("x" * 200_000, "CSV"),
        sagemaker("", "CSV"), sagemaker("1", "BASE64"), sagemaker(None, "CSV"), sagemaker("{", "JSON"),
        b'{"groundTruthData": 1, "eventMetadata": {"eventId": "x"}}',
        b'{"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata": []}',
    ],
)  # fmt: skip
def test_what_is_no_label_is_counted_and_costs_the_others_nothing(line: bytes) -> None:
    """The first of them is explained."""
    read = read_labels(b'{"id": "a", "label": 1}\n' + line + b'\n\n{"id": "b", "label": 2}', at=0.0)
    labels, refused, why = read.labels, read.refused, read.why
    assert [label.id for label in labels] == ["a", "b"]
    assert refused == 1
    assert [reason.startswith("line 2: ") for reason in why] == [True]
    assert len(why[0]) <= 300


def test_reasons_are_told_of_the_first_lines_only() -> None:
    """However many are refused."""
    read = read_labels(b"\n".join([b"no"] * 1000), at=0.0)
    refused, why = read.refused, read.why
    assert (refused, len(why), why[-1].split(":")[0]) == (1000, MAX_REASONS, "line 5")
