"""A program for the crash tests: it registers versions, dies on the way, and checks what is left.

    python crashes.py random FOLDER ROUNDS SEED     kill -9 at random moments, on the same data again and again
    python crashes.py sweep FOLDER STEP             kill -9 before the 1st, 1+STEP-th, ... system-facing call

It prints one JSON object: how often it died, how many registrations were acknowledged, and every promise broken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from vedette.core.models import Model, Upload, manifest_digest
from vedette.storage.files import FileArtifactStore
from vedette.storage.sql import SqlCatalog
from vedette.testing.samples import deployment, model_version

CALLS = {"fsync", "rename", "write", "open", "mkdir", "execute", "commit", "fchmod", "unlink", "rmdir", "flock"}
"""C functions before which a sweep can kill: everything that reaches the file system or the database."""


def open_stores(folder: Path) -> tuple[SqlCatalog, FileArtifactStore]:
    """Both stores under the folder, ready."""
    catalog = SqlCatalog(f"sqlite:///{folder}/catalog.db")
    catalog.migrate()
    store = FileArtifactStore(folder / "artifacts")
    store.prepare()
    return catalog, store


def register(catalog: SqlCatalog, store: FileArtifactStore, upload: str) -> str:
    """Register a version as the registry does and return its digest: acknowledged when this returns."""
    with catalog.transaction() as tx:
        tx.insert_upload(Upload(upload, "m", 0.0, 0.0))
    store.stage(upload)
    for name in ("model.onnx", "weights.bin"):
        with store.create(upload, name) as staged:
            for _ in range(3):
                staged.write(os.urandom(5_000))
            staged.finish()
    files = store.staged_files(upload)
    digest = manifest_digest(files)
    store.put(digest, upload)
    with catalog.transaction() as tx:
        assert store.holds(digest)
        version = tx.next_version("m")
        fields: dict[str, Any] = {"digest": digest, "files": files}
        tx.insert_version(model_version("m", version, **fields))
        tx.append_change("e", deployment("e", version))
        tx.delete_upload(upload)
    return digest


def clean_up(catalog: SqlCatalog, store: FileArtifactStore) -> None:
    """What the registry does when it starts: drop dead uploads and artifacts that no version names."""
    staged = store.uploads()
    with catalog.transaction() as tx:
        for upload in tx.uploads(expired_at=time.time()):
            tx.delete_upload(upload.id)
        for upload_id in staged:
            store.discard(upload_id)
        held = list(store.digests())
        for digest in set(held) - tx.digests_in_use(held):
            store.remove(digest)


def broken_promises(folder: Path, acknowledged: set[str]) -> list[str]:
    """Everything that is not as it was promised, in words."""
    catalog, store = open_stores(folder)
    broken = []
    with catalog.read() as snapshot:
        versions = snapshot.versions("m", limit=1_000)[0]
        log, revisions = snapshot.log(), [change.revision for change in snapshot.changes(0, 10_000)]
    visible = {version.digest for version in versions}
    broken += [f"acknowledged {digest} is not there" for digest in acknowledged - visible]
    for digest in visible | set(store.digests()):
        try:
            store.verify(digest)
        except Exception as error:
            broken.append(f"{digest} is visible but {error!r}")
    if sorted(v.version for v in versions) != list(range(1, len(versions) + 1)):
        broken.append("version numbers have gaps")
    if revisions != list(range(1, log.newest + 1)) or len(revisions) != len(versions):
        broken.append(f"{len(versions)} versions but revisions {revisions}")
    clean_up(catalog, store)
    left = {path.name for path in (folder / "artifacts").glob("*/*")}
    if left != visible:
        broken.append(f"left over: {left ^ visible}")
    catalog.close()
    return broken


def in_child(
    work: Callable[[Callable[[str], None]], None], *, kill_after_s: float | None = None
) -> tuple[set[str], bool]:
    """Fork, let the child work and acknowledge digests; return those, and whether it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(lambda digest: os.write(writing, f"{digest}\n".encode()) and None)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(child, signal.SIGKILL)
        acknowledged = {line.decode().strip() for line in pipe if line.endswith(b"\n")}
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError("the child failed by itself")
    return acknowledged, os.WIFSIGNALED(status)


def random_kills(folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Kill a process that registers without end at a random moment, `rounds` times."""
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    broken: list[str] = []
    for round_ in range(rounds):

        def work(acknowledge: Callable[[str], None], round_: int = round_) -> None:
            stores = open_stores(folder)
            for number in range(10**6):
                acknowledge(register(*stores, f"u{round_}-{number}"))

        acknowledged |= in_child(work, kill_after_s=chance.uniform(0.0, 0.25))[0]
        broken += broken_promises(folder, acknowledged)
    return {"kills": rounds, "acknowledged": len(acknowledged), "broken": broken}


def die_before(number: int) -> None:
    """Kill this process before the `number`-th of `CALLS` from now on."""
    left = number

    def watch(frame: FrameType, event: str, called: Any) -> None:
        nonlocal left
        if event == "c_call" and called.__name__ in CALLS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)


def sweep(folder: Path, step: int) -> dict[str, Any]:
    """Kill one registration before every `step`-th call that it makes, until it gets through unharmed."""
    acknowledged: set[str] = set()
    broken: list[str] = []
    point, kills, died = 1, 0, True
    while died:

        def work(acknowledge: Callable[[str], None], point: int = point) -> None:
            stores = open_stores(folder)
            die_before(point)
            digest = register(*stores, f"u{point}")
            sys.setprofile(None)
            acknowledge(digest)

        newly, died = in_child(work)
        acknowledged |= newly
        broken += [f"killed before call {point}: {problem}" for problem in broken_promises(folder, acknowledged)]
        point += step
        kills += died
    return {"kills": kills, "acknowledged": len(acknowledged), "broken": broken}


def main() -> None:
    """Prepare the folder and run what the command line asks for."""
    mode, folder = sys.argv[1], Path(sys.argv[2])
    catalog, _ = open_stores(folder)
    with catalog.transaction() as tx:
        tx.insert_model(Model("m", 0))
    catalog.close()
    run = {"random": random_kills, "sweep": sweep}[mode]
    print(json.dumps(run(folder, *(int(word) for word in sys.argv[3:]))))  # type: ignore[operator]


if __name__ == "__main__":
    main()
