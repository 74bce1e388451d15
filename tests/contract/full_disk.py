"""A program for the disk-full tests: it fills what it is given, tries to write more, makes room and goes on.

    python full_disk.py FOLDER            FOLDER is a small disk of its own
    python full_disk.py FOLDER BYTES      no file may grow over BYTES, which a process can do to itself

It prints one JSON object: what each attempt was told, and what was found afterwards.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from vedette.core.errors import VedetteError
from vedette.core.models import Model
from vedette.storage.files import FileArtifactStore
from vedette.storage.sql import SqlCatalog
from vedette.testing.artifacts import put

SPARE = 32 << 10
LARGE = 1 << 20


def told(attempt: Callable[[], object]) -> str:
    """What the caller of a failing attempt is told: code and message."""
    try:
        attempt()
    except VedetteError as error:
        return f"{error.code}: {error.message}"
    return "nothing"


def fill(folder: Path) -> Callable[[], None]:
    """Use the disk up but for a few pages, or forbid large files; return what undoes it."""
    if len(sys.argv) > 2:
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), old[1]))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, old)
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(b"\0" * 4096)
        except OSError:
            out.truncate(out.tell() - SPARE)
    return filler.unlink


def main() -> None:
    """The whole story: a first success, failures on the full disk, a second success."""
    folder = Path(sys.argv[1])
    catalog, store = SqlCatalog(f"sqlite:///{folder}/catalog.db"), FileArtifactStore(folder / "artifacts")
    catalog.migrate()
    store.prepare()

    def insert(name: str, size: int) -> None:
        with catalog.transaction() as tx:
            tx.insert_model(Model(name, 0, description="d" * size))

    def upload() -> None:
        with store.create("u2", "model.onnx") as staged:
            for _ in range(LARGE >> 16):
                staged.write(b"x" * (1 << 16))
            staged.finish()

    def insist() -> None:
        with store.create("u2", "model.onnx") as staged:
            with contextlib.suppress(VedetteError):
                staged.write(b"x" * LARGE)
            staged.finish()

    insert("first", 10)
    first = put(store, {"model.onnx": b"first"})
    store.stage("u2")
    make_room = fill(folder)
    outcome: dict[str, object] = {"upload": told(upload), "insert": told(lambda: insert("large", LARGE))}
    outcome["insist"] = told(insist)
    outcome["staged"] = [file.path for file in store.staged_files("u2")]
    outcome["parts"] = len(list((folder / "artifacts" / "staging" / "u2" / "parts").iterdir()))
    with catalog.read() as snapshot:
        outcome["while full"] = [model.name for model in snapshot.models(limit=9)[0]]
    store.verify(first)
    make_room()
    upload()
    insert("large", LARGE)
    outcome["room again"] = [file.size for file in store.staged_files("u2")]
    with catalog.read() as snapshot:
        outcome["at last"] = [model.name for model in snapshot.models(limit=9)[0]]
    catalog.close()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
