"""What every way to the registry's baselines must do. Inherit `BaselinesContract` and give it the two fixtures.

Rule: the model `m` has versions 1 and 2 and nothing else exists.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vedette.core.errors import Conflict, InvalidArgument, NotFound
from vedette.core.models import manifest_digest
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE
from vedette.ports.baselines import ANALYSIS_FILE, QUALITY_CONSTRAINTS_FILE, QUALITY_STATISTICS_FILE, Baselines


def baseline_files(*, profile: bytes = b"profile", features: int = 1) -> dict[str, bytes]:
    """Three files of the right shape."""
    named = [{"name": f"f{number}"} for number in range(features)]
    statistics = {"version": 0.0, "dataset": {"item_count": 4}, "features": named}
    constraints = {"version": 0.0, "features": named, "monitoring_config": {}}
    return {
        STATISTICS_FILE: json.dumps(statistics).encode(),
        CONSTRAINTS_FILE: json.dumps(constraints).encode(),
        PROFILE_FILE: profile,
    }


def measured_files() -> dict[str, bytes]:
    """The files that only some baselines have, of the right shape."""
    quality = {"mae": {"threshold": 1.5, "comparison_operator": "GreaterThanThreshold"}}
    statistics = {"mae": {"value": 1.5, "standard_deviation": "NaN"}}
    return {
        ANALYSIS_FILE: json.dumps({"version": "1.0", "explanations": {}}).encode(),
        QUALITY_CONSTRAINTS_FILE: json.dumps({"version": 0.0, "regression_constraints": quality}).encode(),
        QUALITY_STATISTICS_FILE: json.dumps({"version": 0.0, "regression_metrics": statistics}).encode(),
    }


class BaselinesContract:
    """Subclasses give the fixture `baselines`."""

    async def test_a_version_is_given_with_its_signature(self, baselines: Baselines) -> None:
        """And what does not exist is `NotFound`."""
        assert (await baselines.version("m", 2)).version == 2
        for model, version in (("m", 3), ("x", 1)):
            with pytest.raises(NotFound):
                await baselines.version(model, version)

    async def test_a_baseline_comes_back_as_it_went_in(self, baselines: Baselines) -> None:
        """Its counts, and every file to the byte, however large."""
        files = baseline_files(profile=bytes(range(256)) * 5_000)
        made = await baselines.put_baseline("m", 1, "default", files, rows=4, columns=1)
        assert (made.model, made.version, made.name, made.rows, made.columns) == ("m", 1, "default", 4, 1)
        assert made.digest == manifest_digest(made.files)
        found = await baselines.baseline("m", 1, "default")
        assert found == made
        assert {file: await baselines.baseline_file(found, file) for file in files} == files

    async def test_what_does_not_exist_is_not_found(self, baselines: Baselines) -> None:
        """Version, baseline or file."""
        made = await baselines.put_baseline("m", 1, "default", baseline_files(), rows=4, columns=1)
        with pytest.raises(NotFound):
            await baselines.put_baseline("m", 3, "default", baseline_files(), rows=4, columns=1)
        for model, version, name in (("m", 2, "default"), ("m", 1, "other"), ("x", 1, "default")):
            with pytest.raises(NotFound):
                await baselines.baseline(model, version, name)
        with pytest.raises(NotFound):
            await baselines.baseline_file(made, "model.onnx")
        with pytest.raises(NotFound):
            await baselines.baseline_file(replace(made, name="other"), PROFILE_FILE)

    async def test_a_baseline_is_replaced_as_a_whole(self, baselines: Baselines) -> None:
        """Who still holds the old one is told, and never gets a file of the new one in its place."""
        old = await baselines.put_baseline("m", 1, "default", baseline_files(), rows=4, columns=1)
        new = await baselines.put_baseline("m", 1, "default", baseline_files(profile=b"other"), rows=5, columns=1)
        assert await baselines.baseline("m", 1, "default") == new
        assert new.digest != old.digest
        assert await baselines.baseline_file(new, PROFILE_FILE) == b"other"
        with pytest.raises(Conflict):
            await baselines.baseline_file(old, PROFILE_FILE)

    async def test_a_baseline_may_have_what_was_measured(self, baselines: Baselines) -> None:
        """Documents of model quality and bias come and go with the others, and are listed among its files."""
        files = {**baseline_files(), **measured_files()}
        made = await baselines.put_baseline("m", 1, "default", files, rows=4, columns=1)
        assert [entry.path for entry in made.files] == sorted(files)
        assert {file: await baselines.baseline_file(made, file) for file in files} == files
        fewer = await baselines.put_baseline("m", 1, "default", baseline_files(), rows=4, columns=1)
        with pytest.raises(NotFound):
            await baselines.baseline_file(fewer, ANALYSIS_FILE)

    async def test_a_baseline_has_its_three_files(self, baselines: Baselines) -> None:
        """Neither fewer nor others."""
        files = baseline_files()
        fewer = {name: data for name, data in files.items() if name != PROFILE_FILE}
        for wrong in ({}, fewer, {**fewer, "model.onnx": b"x"}, {**files, "more.json": b"{}"}):
            with pytest.raises(InvalidArgument):
                await baselines.put_baseline("m", 1, "default", wrong, rows=4, columns=1)
        with pytest.raises(NotFound):
            await baselines.baseline("m", 1, "default")
