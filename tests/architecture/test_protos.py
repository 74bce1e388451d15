"""Generated code is what the sources say, and loads on the oldest versions that pyproject promises."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "protos").rglob("*.proto"))
GENERATED = sorted(path for path in (ROOT / "services/vedette/proto").rglob("*_pb2*.py"))


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """`make protos` would change nothing."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}"]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *outputs, *map(str, SOURCES)], check=True, cwd=ROOT)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    assert fresh, "nothing was generated"
    kept = {path: (ROOT / "services" / path).read_text() for path in fresh}
    assert {str(path) for path in fresh if fresh[path] != kept[path]} == set()


def test_no_generated_file_without_a_source() -> None:
    """A removed proto takes its generated code with it."""
    stems = {path.relative_to(ROOT / "protos").with_suffix("").as_posix() for path in SOURCES}
    left = {
        path.relative_to(ROOT / "services").as_posix()
        for path in GENERATED
        if re.sub(r"_pb2(_grpc)?\.py$", "", path.relative_to(ROOT / "services").as_posix()) not in stems
    }
    assert left == set()


def floor(package: str) -> tuple[int, ...]:
    """The lowest version of a package that pyproject.toml allows."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["chassis"]
    line = next(line for line in requirements if re.match(rf"{package}\b(?!-)", line))
    return tuple(int(part) for part in re.search(r">=([\d.]+)", line)[1].split("."))  # type: ignore[index]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_code_needs_no_more_than_pyproject_promises(path: Path) -> None:
    """Generated code that asks for a newer protobuf or grpcio than the floor breaks an install at import."""
    text = path.read_text()
    if match := re.search(r"ValidateProtobufRuntimeVersion\(\s*[\w.]+,\s*(\d+),\s*(\d+),\s*(\d+)", text):
        assert tuple(map(int, match.groups())) <= (*floor("protobuf"), 0, 0)[:3]
    elif match := re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", text):
        assert tuple(map(int, match[1].split("."))) <= floor("grpcio")
    else:
        pytest.fail("the file names no version: is it generated?")
