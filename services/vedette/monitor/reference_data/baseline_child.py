"""Run with `-m` and a folder: builds a baseline from a stranger's file, within limits.

The folder holds `data` and `job.json` (format, signature, what is measured); the child leaves the baseline's files in
`files` and `result.json`: rows and columns, or that it takes the model, or the error that the caller reads.

Rule: started by `baselines` only; it reads nothing but its folder and speaks to nobody.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import msgspec

from vedette.core.errors import TooLarge, VedetteError
from vedette.core.models import Signature
from vedette.monitor.quality.predictor import Predictor, PredictorLimits
from vedette.monitor.reference_data.baseline import build, expected_columns
from vedette.monitor.reference_data.datasets import Dataset, open_dataset
from vedette.monitor.reference_data.drawn_rows import DrawnRows
from vedette.monitor.reference_data.measurement import LabelledRows, Measurement
from vedette.profiles import Columns

LIMITS = PredictorLimits(wall_s=600.0)
"""Of the model while a baseline is measured."""


class Job(msgspec.Struct):
    """What to build."""

    format: str
    signature: Signature
    measurement: Measurement
    names: tuple[str, ...]
    """The features in order, for data that does not name them."""
    memory_bytes: int
    model: str | None = None
    """The folder with the model's files; empty: it cannot be had; None: nobody has asked for it yet."""


class Result(msgspec.Struct):
    """How it ended; `code` empty: well."""

    rows: int = 0
    columns: int = 0
    asks_model: bool = False
    """Nothing was built: it takes the model, for predictions that the data does not hold or for attributions."""
    left_out: list[str] = []
    """What the data did not allow, where nobody demanded it."""
    code: str = ""
    message: str = ""


def main(folder: Path) -> int:
    """Build and tell. Returns the exit status, which is 0 for errors of the caller too."""
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
    resource.setrlimit(resource.RLIMIT_AS, (job.memory_bytes, job.memory_bytes))
    os.nice(10)
    try:
        data = open_dataset(folder / "data", job.format, names=job.names)
        if job.model is None and job.measurement.asks_model(job.signature, data.columns):
            result = Result(asks_model=True)
        else:
            result = _built(data, job, folder / "files")
    except VedetteError as error:
        result = Result(code=error.code, message=error.message)
    except MemoryError:
        result = Result(code=TooLarge.code, message="the data takes more memory than a baseline may use")
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    return 0


def _built(data: Dataset, job: Job, folder: Path) -> Result:
    """Build, measure, and leave the files in the folder."""
    target = job.measurement.label()
    expected = expected_columns(job.signature, data.columns, target=target)
    job.measurement.check(job.signature, data.columns, tuple(expected.outputs))
    features = tuple(expected.features)
    rows = DrawnRows(job.measurement.wants(job.signature, data.columns, features))
    built = build(data, job.signature, target=target, beside=rows)
    files, left_out = _measured(rows.columns(), job, features)
    folder.mkdir()
    for name, content in (built.files | files).items():
        (folder / name).write_bytes(content)
    return Result(built.rows, built.columns, left_out=[*built.mixed, *left_out])


def _measured(columns: Columns, job: Job, features: tuple[str, ...]) -> tuple[dict[str, bytes], list[str]]:
    """The documents of the labelled rows, and what could not be measured on them where nobody demanded it."""
    if not columns and not job.measurement.demanded:
        return {}, []
    model = Predictor(Path(job.model), job.signature, LIMITS) if job.model else None
    try:
        rows = LabelledRows(columns, job.signature, features, model)
        return rows.measured(job.measurement), rows.unusable(job.measurement)
    except VedetteError as error:
        if job.measurement.demanded:
            raise
        return {}, [f"the model's quality was not measured: {error.message}"]
    finally:
        if model is not None:
            model.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
