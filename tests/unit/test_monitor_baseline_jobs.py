"""Baselines from sent data: a child with limits reads it, and what is wrong with it reaches the caller in words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from vedette.core.errors import DeadlineExceeded, InvalidArgument, NotFound, TooLarge
from vedette.core.models import Admission, ModelVersion, Signature, TensorSpec
from vedette.core.monitors import Baseline
from vedette.monitor.baseline_jobs import BaselineJobs, BaselineLimits
from vedette.profiles import Profile

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 1)),), feature_names=("age", "income")
)


class Kept:
    """The registry's baselines, for one version."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def version(self, model: str, version: int) -> ModelVersion:
        if (model, version) != ("churn", 3):
            raise NotFound(f"{model} has no version {version}")
        return ModelVersion("churn", 3, "d", (), SIGNATURE, Admission(1, 1, 1))

    async def put_baseline(
        self, model: str, version: int, name: str, files: Mapping[str, bytes], *, rows: int, columns: int
    ) -> Baseline:
        self.files = dict(files)
        return Baseline(model, version, name, "digest", (), rows, columns)

    async def baseline(self, model: str, version: int, name: str) -> Baseline:
        raise NotFound("none")

    async def baseline_file(self, baseline: Baseline, file: str) -> bytes:
        raise NotFound("none")


async def sent(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """The content in pieces."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


def jobs(folder: Path, **limits) -> tuple[BaselineJobs, Kept]:
    """Jobs over a registry that keeps one baseline."""
    kept = Kept()
    return BaselineJobs(kept, BaselineLimits(folder / "spool", **limits)), kept


CSV = b"age,income\n" + b"".join(b"%d,%d.5\n" % (20 + i % 50, 1000 + i) for i in range(500))


async def test_a_file_becomes_the_three_files_of_a_baseline(tmp_path: Path) -> None:
    """Statistics, constraints and a profile that can be read back; nothing stays in the spool."""
    made, kept = jobs(tmp_path)
    baseline = await made.create("churn", 3, "default", format="csv", chunks=sent(CSV))
    assert (baseline.rows, baseline.columns) == (500, 2)
    statistics = json.loads(kept.files["statistics.json"])
    assert statistics["dataset"]["item_count"] == 500
    assert np.isclose(
        statistics["features"][0]["numerical_statistics"]["mean"], np.mean([20 + i % 50 for i in range(500)])
    )
    assert Profile.from_bytes(kept.files["profile.bin"]).rows == 500
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"age,incom\n1,2\n", "'incom'.*'income'"),
        (b"age\n1\n", "income"),
        (b"", "empty"),
        (b"age,income\n", "no rows"),
        (b"\xff\xfe\x00", "."),
    ],
)
async def test_data_that_does_not_fit_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    """The child's error reaches the caller as its own kind; nothing is kept."""
    made, kept = jobs(tmp_path)
    with pytest.raises(InvalidArgument, match=words) as failure:
        await made.create("churn", 3, "default", format="csv", chunks=sent(content))
    assert str(tmp_path) not in failure.value.message
    assert kept.files == {}


async def test_limits_hold(tmp_path: Path) -> None:
    """Bytes, time, names, versions and formats."""
    made, _ = jobs(tmp_path, max_bytes=100)
    with pytest.raises(TooLarge):
        await made.create("churn", 3, "default", format="csv", chunks=sent(CSV))
    made, _ = jobs(tmp_path, timeout_s=0.01)
    with pytest.raises(DeadlineExceeded):
        await made.create("churn", 3, "default", format="csv", chunks=sent(CSV))
    with pytest.raises(NotFound):
        await made.create("churn", 4, "default", format="csv", chunks=sent(CSV))
    with pytest.raises(InvalidArgument, match="format"):
        await made.create("churn", 3, "default", format="xlsx", chunks=sent(CSV))
    with pytest.raises(InvalidArgument, match="baseline name"):
        await made.create("churn", 3, "../x", format="csv", chunks=sent(CSV))
