"""Baselines as the monitor reaches them: kept by the registry, bound to model versions.

Rule: the docstrings are the contract; the registry's client and the twin in `vedette.testing` keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vedette.core.models import ModelVersion
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE, Baseline

QUALITY_STATISTICS_FILE = "model_quality_statistics.json"
QUALITY_CONSTRAINTS_FILE = "model_quality_constraints.json"
ANALYSIS_FILE = "analysis.json"
"""Clarify's document: bias metrics and attributions."""

FILES = (CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE)
"""Every baseline has these."""
MEASURED_FILES = (ANALYSIS_FILE, QUALITY_CONSTRAINTS_FILE, QUALITY_STATISTICS_FILE)
"""Some have these: what the model achieved on labelled reference data. JSON objects of at most `MAX_MEASURED_BYTES`."""
EDITABLE_FILES = (ANALYSIS_FILE, CONSTRAINTS_FILE, QUALITY_CONSTRAINTS_FILE)
"""What people may replace by documents of their own."""
MAX_MEASURED_BYTES = 4 << 20


class Baselines(Protocol):
    """Baselines of model versions. Every method raises `Unavailable` when the registry is down.

    What a name, a number or a file does not find is `NotFound`.
    """

    async def version(self, model: str, version: int) -> ModelVersion:
        """The model version, whose signature says which columns a baseline may have."""

    async def put_baseline(
        self, model: str, version: int, name: str, files: Mapping[str, bytes], *, rows: int, columns: int
    ) -> Baseline:
        """Keep these files as the version's baseline of this name, in place of one that was there.

        `files` are `FILES` and some of `MEASURED_FILES`. When it returns they are durable. `InvalidArgument` when
        the files are not those or no documents, `TooLarge` when they are over the registry's limits.
        """

    async def baseline(self, model: str, version: int, name: str) -> Baseline:
        """The baseline as it stands; its `digest` changes when its files do."""

    async def baseline_file(self, baseline: Baseline, file: str) -> bytes:
        """One file of the baseline, whole.

        Raises:
            Conflict: the baseline was replaced meanwhile; ask for it again.
            DataLoss: the file does not match its digest.
        """
