"""What an execution leaves for readers of SageMaker's files: statistics, constraints and violations.

They lie under `<endpoint>/<monitor>/yyyy/mm/dd/hh/`, the hour in which the window ends (an execution at 05:00
analyses the hour before), for windows that are not whole hours in `MM-SS` below it, and where one hour has several
results (variants, versions, segments) in a folder named by the execution's id below that.

Rule: everything here can be made again from the store; a file is in place whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from vedette.core.errors import NotFound
from vedette.core.models import check_name
from vedette.entities.monitors import CONSTRAINTS_FILE, STATISTICS_FILE, CheckResult, Execution
from vedette.monitor.quality import attribution, bias_documents, quality_documents
from vedette.monitor.subjects import check_of

VIOLATIONS_FILE = "constraint_violations.json"
FILES = (STATISTICS_FILE, CONSTRAINTS_FILE, VIOLATIONS_FILE)
_HOUR_S = 3600.0


def violations_document(results: Iterable[CheckResult]) -> dict[str, Any]:
    """The violated results, each in the schema of SageMaker's monitor of its kind.

    Source: SageMaker Model Monitor, "Schema for Violations (constraint_violations.json file)"; Clarify's.
    """
    violated = [result for result in results if result.outcome == "violated"]
    quality = [result for result in violated if check_of(result.check) == "model_quality"]
    bias = [result for result in violated if check_of(result.check) == "bias"]
    attributed = [result for result in violated if check_of(result.check) == "feature_attribution"]
    others = [result for result in violated if result not in (*quality, *bias, *attributed)]
    entries = [
        {
            "feature_name": result.feature,
            "constraint_check_type": result.kind or check_of(result.check),
            "description": result.description,
        }
        for result in others
    ]
    entries += quality_documents.violations_document(quality)["violations"]
    document: dict[str, Any] = {"violations": entries}
    if bias or attributed:
        entries += bias_documents.violations_document(bias)["violations"]
        document = {"version": "1.0", "violations": entries + attribution.violations_document(attributed)["violations"]}
    return document


def execution_files(execution: Execution, statistics: bytes | None, constraints: bytes | None) -> dict[str, bytes]:
    """The files of an execution by name; statistics and constraints only where there are any."""
    files = {VIOLATIONS_FILE: _document(violations_document(execution.results))}
    if statistics is not None:
        files[STATISTICS_FILE] = statistics
    if constraints is not None:
        files[CONSTRAINTS_FILE] = constraints
    return files


def folder_of(execution: Execution, *, alone: bool) -> str:
    """Where its files lie; `alone`: it is the only result of its window."""
    end = datetime.fromtimestamp(execution.end, UTC)
    parts = [check_name(execution.endpoint, "endpoint name"), check_name(execution.monitor, "monitor name")]
    parts.append(f"{end:%Y/%m/%d/%H}")
    if execution.start % _HOUR_S or execution.end % _HOUR_S:
        parts.append(f"{end:%M-%S}")
    if not alone:
        parts.append(check_name(execution.id, "execution id"))
    return "/".join(parts)


class ExecutionFolder:
    """The files of all executions on disk. Every method blocks: call it in a thread."""

    def __init__(self, root: Path, *, retention_s: float) -> None:
        self._root = root
        self._retention_s = retention_s

    def write(self, execution: Execution, files: Mapping[str, bytes], *, alone: bool) -> Path:
        """Put the files in place, in place of those of an earlier revision, and return their folder.

        The violations come last: with them all are there.
        """
        folder = self._root / folder_of(execution, alone=alone)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in sorted(files.items(), key=lambda file: file[0] == VIOLATIONS_FILE):
            partial = folder / f"{name}.partial"
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(folder / name)
        return folder

    def has(self, execution: Execution, *, alone: bool) -> bool:
        """Whether the files of this revision are in place."""
        for place in {folder_of(execution, alone=alone), folder_of(execution, alone=False)}:
            try:
                written = (self._root / place / VIOLATIONS_FILE).stat().st_mtime
            except FileNotFoundError:
                continue
            if written >= execution.evaluated_at:
                return True
        return False

    def sweep(self, now: float) -> int:
        """Remove files over age and the folders they leave empty; returns how many."""
        gone = 0
        for folder, folders, names in os.walk(self._root, topdown=False):
            place = Path(folder)
            for name in names:
                path = place / name
                if now - path.stat().st_mtime > self._retention_s:
                    path.unlink(missing_ok=True)
                    gone += 1
            if place != self._root and not any(place.iterdir()):
                place.rmdir()
            del folders
        return gone


def check_file_name(name: str) -> str:
    """Return the name if an execution has such a file; `NotFound` otherwise."""
    if name not in FILES:
        raise NotFound(f"an execution has the files {', '.join(FILES)}")
    return name


def _document(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
