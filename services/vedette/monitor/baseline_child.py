"""`python -m vedette.monitor.baseline_child FOLDER`: builds a baseline from a stranger's file, with limits.

The folder holds `data` and `job.json` (format and signature); the child leaves the baseline's files in `files` and
`result.json`: rows and columns, or the error that the caller reads.

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
from vedette.monitor.baseline import BuiltBaseline, build
from vedette.monitor.datasets import open_dataset


class Job(msgspec.Struct):
    """What to build."""

    format: str
    signature: Signature
    target: str
    names: tuple[str, ...]
    """The features in order, for data that does not name them."""
    memory_bytes: int


class Result(msgspec.Struct):
    """How it ended; `code` empty: well."""

    rows: int = 0
    columns: int = 0
    code: str = ""
    message: str = ""


def main(folder: Path) -> int:
    """Build and tell. Returns the exit status, which is 0 for errors of the caller too."""
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
    resource.setrlimit(resource.RLIMIT_AS, (job.memory_bytes, job.memory_bytes))
    os.nice(10)
    try:
        data = open_dataset(folder / "data", job.format, names=job.names)
        result = _kept(build(data, job.signature, target=job.target), folder / "files")
    except VedetteError as error:
        result = Result(code=error.code, message=error.message)
    except MemoryError:
        result = Result(code=TooLarge.code, message="the data takes more memory than a baseline may use")
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    return 0


def _kept(built: BuiltBaseline, folder: Path) -> Result:
    folder.mkdir()
    for name, content in built.files.items():
        (folder / name).write_bytes(content)
    return Result(built.rows, built.columns)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
