"""The files of executions: SageMaker's names, schemas and folders."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vedette.core.errors import InvalidArgument, NotFound
from vedette.entities.monitors import CheckResult, Execution, ExecutionStatus
from vedette.monitor.reference_data.statistics import statistics_file
from vedette.monitor.results.execution_files import (
    ExecutionFolder,
    check_file_name,
    execution_files,
    folder_of,
    violations_document,
)
from vedette.profiles import Profile

FIVE = 1_650_258_000.0  # 2022-04-18 05:00:00 UTC


def execution(**changes) -> Execution:
    """An hour of an endpoint with one violation."""
    drifted = CheckResult("drift", "age", "violated", 0.4, 0.1, 0.001, "baseline_drift_check", "age drifted")
    fine = CheckResult("drift", "income", "ok", 0.01, 0.1, 0.9)
    facts = {
        "id": "e1",
        "monitor": "night",
        "endpoint": "churn",
        "variant": "primary",
        "version": "3",
        "segment": "",
        "start": FIVE - 3600,
        "end": FIVE,
        "rows": 100,
        "status": ExecutionStatus.WITH_VIOLATIONS,
        "results": (drifted, fine),
    }
    return Execution(**{**facts, **changes})


def test_only_violations_are_listed_in_the_schema_of_their_kind() -> None:
    """Features, metrics of model quality, facets of bias and attributions have entries of their own form."""
    quality = CheckResult("model_quality", "f2", "violated", 0.5, 0.8, None, "LessThanThreshold", "f2 fell")
    bias = CheckResult("bias", "Sex=F:DPPL", "violated", 0.5, 0.1, None, "bias_drift_check", "farther from 0")
    moved = CheckResult("feature_attribution", "label0", "violated", 0.7, 0.9, None, "shap_check", "another order")
    document = violations_document([*execution().results, quality, bias, moved])
    assert document == {
        "version": "1.0",
        "violations": [
            {"feature_name": "age", "constraint_check_type": "baseline_drift_check", "description": "age drifted"},
            {"constraint_check_type": "LessThanThreshold", "description": "f2 fell", "metric_name": "f2"},
            {
                "facet": "Sex",
                "facet_value": "F",
                "metric_name": "DPPL",
                "constraint_check_type": "bias_drift_check",
                "description": "farther from 0",
            },
            {
                "label": "label0",
                "metric_name": "shap",
                "constraint_check_type": "shap_check",
                "description": "another order",
            },
        ],
    }
    assert violations_document([]) == {"violations": []}


@pytest.mark.parametrize(
    ("changes", "alone", "folder"),
    [
        ({}, True, "churn/night/2022/04/18/05"),
        ({}, False, "churn/night/2022/04/18/05/e1"),
        ({"start": FIVE - 60}, True, "churn/night/2022/04/18/05/00-00"),
        ({"start": FIVE, "end": FIVE + 65}, False, "churn/night/2022/04/18/05/01-05/e1"),
    ],
)
def test_the_folder_is_sagemakers_prefix(changes: dict, alone: bool, folder: str) -> None:
    """Endpoint, schedule and the hour of the end, more only where SageMaker has no such thing."""
    assert folder_of(execution(**changes), alone=alone) == folder


@pytest.mark.parametrize("field", ["endpoint", "monitor", "id"])
def test_no_name_leads_out_of_the_folder(field: str) -> None:
    """Names become folders."""
    with pytest.raises(InvalidArgument):
        folder_of(replace(execution(), **{field: "../x"}), alone=False)


def test_files_are_written_whole_and_replaced_by_a_later_revision(tmp_path: Path) -> None:
    """Statistics and constraints come only where there are any; nothing partial stays."""
    profile = Profile()
    profile.fold({"age": np.arange(10.0)})
    folder = ExecutionFolder(tmp_path, retention_s=60)
    place = folder.write(
        execution(), execution_files(execution(), statistics_file(profile), b'{"version": 0.0}'), alone=True
    )
    assert sorted(path.name for path in place.iterdir()) == [
        "constraint_violations.json",
        "constraints.json",
        "statistics.json",
    ]
    assert json.loads((place / "statistics.json").read_text())["dataset"]["item_count"] == 10
    folder.write(execution(results=()), execution_files(execution(results=()), None, None), alone=True)
    assert json.loads((place / "constraint_violations.json").read_text()) == {"violations": []}
    assert len(list(place.iterdir())) == 3


def test_old_files_go_with_their_folders(tmp_path: Path) -> None:
    """What is within its time stays."""
    folder = ExecutionFolder(tmp_path, retention_s=60)
    old = folder.write(execution(), execution_files(execution(), None, None), alone=True)
    later = execution(start=FIVE, end=FIVE + 3600)
    new = folder.write(later, execution_files(later, None, None), alone=True)
    os.utime(old / "constraint_violations.json", (1000, 1000))
    os.utime(new / "constraint_violations.json", (1100, 1100))
    assert folder.sweep(now=1120) == 1
    assert not old.exists()
    assert new.exists()


def test_only_the_three_files_can_be_asked_for() -> None:
    """Anything else is not there."""
    assert check_file_name("statistics.json") == "statistics.json"
    with pytest.raises(NotFound):
        check_file_name("../profile.bin")
