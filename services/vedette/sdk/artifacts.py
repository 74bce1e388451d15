"""What can be registered as a model version, as named files to send.

Rule: the graph goes as `model.onnx`; external data keeps its bare name, because the graph refers to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from vedette.core.errors import InvalidArgument
from vedette.core.models import FILE_NAME, GRAPH_FILE
from vedette.sdk.documents import Details, SignatureDetails

CHUNK_BYTES = 1024 * 1024


@runtime_checkable
class Convertible(Protocol):
    """What a converter returns: a graph and what it knows of its columns and classes."""

    @property
    def onnx(self) -> bytes:
        """The serialized graph."""

    @property
    def signature(self) -> SignatureDetails:
        """Feature names, categories, label names, kind and target."""


Source = str | PathLike[str] | bytes | Convertible | Sequence[str | PathLike[str]]
"""A path (a folder means all files in it), the graph's bytes, several paths with the graph first, or a conversion."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file to send: from disk or from memory."""

    name: str
    path: Path | None = None
    content: bytes = b""

    @property
    def size(self) -> int:
        """Bytes to send. Raises `InvalidArgument` when the file cannot be read."""
        if self.path is None:
            return len(self.content)
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise InvalidArgument(f"{self.path}: {error.strerror}") from error

    def chunks(self) -> Iterator[bytes]:
        """The content, at most `CHUNK_BYTES` at a time. Blocks on the disk."""
        if self.path is None:
            yield from (self.content[at : at + CHUNK_BYTES] for at in range(0, len(self.content), CHUNK_BYTES))
            return
        with _opened(self.path) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def parts_of(source: Source) -> list[Part]:
    """The files that a source stands for, the graph first.

    Raises:
        InvalidArgument: a file that is not there, not a regular file, or has a name that cannot be kept.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return [Part(GRAPH_FILE, content=bytes(source))]
    if isinstance(source, Convertible):
        return [Part(GRAPH_FILE, content=source.onnx)]
    if isinstance(source, str | PathLike):
        path = Path(source)
        return _folder(path) if path.is_dir() else [_file(path, GRAPH_FILE)]
    paths = [Path(path) for path in source]
    if not paths:
        raise InvalidArgument("no files to register")
    return _distinct([_file(paths[0], GRAPH_FILE), *(_file(path, path.name) for path in paths[1:])])


def complete(details: Details, source: Source) -> Details:
    """The details with what a conversion knows, where the caller said nothing."""
    if isinstance(source, bytes | str) or not isinstance(source, Convertible):
        return details
    said, known = details.signature, source.signature
    signature = SignatureDetails(
        feature_names=said.feature_names or known.feature_names,
        categories=said.categories or known.categories,
        label_names=said.label_names or known.label_names,
        kind=said.kind or known.kind,
        target=said.target or known.target,
    )
    return replace(details, signature=signature)


def _folder(folder: Path) -> list[Part]:
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) != 1:
        raise InvalidArgument(f"{folder}: holds {len(graphs)} .onnx files; register one graph with its external data")
    others = sorted(path for path in folder.iterdir() if path != graphs[0])
    return _distinct([_file(graphs[0], GRAPH_FILE), *(_file(path, path.name) for path in others)])


def _file(path: Path, name: str) -> Part:
    if not path.is_file():
        raise InvalidArgument(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    if FILE_NAME.fullmatch(name) is None:
        raise InvalidArgument(f"{path}: external data needs a plain name of letters, digits, '.', '_' and '-'")
    return Part(name, path)


def _distinct(parts: list[Part]) -> list[Part]:
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f"two files would be called {name}")
    return parts


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error
