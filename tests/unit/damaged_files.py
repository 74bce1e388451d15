"""Damaged Parquet files, and what reading each comes to: in a process of its own, because some end the reader.

pyarrow ends the process (`terminate called`) for some damaged footers, which is why the monitor reads reference data
in a child.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vedette.core.errors import VedetteError
from vedette.monitor.reference_data.datasets import open_dataset


def damaged(content: bytes, seed: int) -> bytes:
    """The content with up to six bytes changed and sometimes its end cut off; mostly in its second half, the footer."""
    draw = random.Random(seed)
    changed = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        least = 0 if draw.random() < 0.3 else len(content) // 2
        changed[draw.randrange(least, len(content))] = draw.randrange(256)
    return bytes(changed[: len(content) - (draw.randint(1, 10) if draw.random() < 0.2 else 0)])


def outcomes(files: Sequence[Path]) -> list[str]:
    """For each file: `table`, the code of our error, `SIGABRT`, or the name of an exception that must not be."""
    found: list[str] = []
    while len(found) < len(files):
        command = [sys.executable, "-m", "tests.unit.damaged_files", *map(str, files[len(found) :])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        found += done.stdout.split()
        if done.returncode:
            assert done.returncode == -6, done.stderr
            assert "parquet::ParquetException" in done.stderr
            found.append("SIGABRT")
    return found


def _outcome(path: Path) -> str:
    try:
        data = open_dataset(path, "parquet")
        for _ in data.chunks(dict.fromkeys(data.columns, "text")):
            pass
    except VedetteError as error:
        return error.code
    except Exception as error:
        return type(error).__name__
    return "table"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        os.write(1, f"{_outcome(Path(argument))}\n".encode())
