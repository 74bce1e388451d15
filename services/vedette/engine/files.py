"""The files of one model version as they lie in a folder.

Rule: a model is made of regular files with bare names that nothing else links to. A symbolic link, a hard
link, a folder or a device in their place is refused before any library opens it (ONNX Runtime itself
follows hard links).
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from vedette.core.errors import InvalidArgument
from vedette.core.models import FILE_NAME, GRAPH_FILE, ArtifactFile

MOST_FILES = 1024


def graph_bytes(path: Path) -> int:
    """Size of the graph and of the files beside it, which may be its external data.

    Raises:
        InvalidArgument: there is no such file, or one of them is not a plain file of its own.
    """
    entries = _entries(path.parent).items()
    sizes = {name: _plain_file(entry).st_size for name, entry in entries if not entry.is_dir(follow_symlinks=False)}
    if path.name not in sizes:
        raise InvalidArgument(f"there is no file {path.name[:80]!r} in the model's folder")
    return sum(sizes.values())


def describe(folder: Path, *, graph: str = GRAPH_FILE) -> tuple[ArtifactFile, ...]:
    """Every file of the folder with its size and sha256, by name; reads them all.

    Raises:
        InvalidArgument: no `graph`, too many files, or one that is not a plain file of its own.
    """
    entries = _entries(folder)
    if graph not in entries:
        raise InvalidArgument(f"there is no {graph} among the files")
    return tuple(_described(name, entries[name]) for name in sorted(entries))


def _entries(folder: Path) -> dict[str, os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = {entry.name: entry for entry, _ in zip(found, range(MOST_FILES + 1))}
    except OSError:
        raise InvalidArgument("the model's folder cannot be read") from None
    if len(entries) > MOST_FILES:
        raise InvalidArgument(f"a model may have at most {MOST_FILES} files")
    return entries


def _plain_file(entry: os.DirEntry[str]) -> os.stat_result:
    shown = repr(entry.name[:80])
    if FILE_NAME.fullmatch(entry.name) is None:
        raise InvalidArgument(f"{shown} is not a valid file name for a model's file")
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgument(f"{shown} is not a regular file")
    if status.st_nlink != 1:
        raise InvalidArgument(f"{shown} is a hard link; a model's files must be its own")
    return status


def _described(name: str, entry: os.DirEntry[str]) -> ArtifactFile:
    size = _plain_file(entry).st_size
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactFile(name, size, digest)
