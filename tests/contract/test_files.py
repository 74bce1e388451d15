"""Artifacts in a folder keep the contract, and leave on disk exactly what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.core.errors import DataLoss
from vedette.ports.artifacts import ArtifactStore
from vedette.storage.files import FileArtifactStore
from vedette.testing.artifacts import GRAPH, ArtifactStoreContract, fill, put


def prepared(root: Path) -> FileArtifactStore:
    """A store under this folder, ready."""
    store = FileArtifactStore(root)
    store.prepare()
    return store


class TestFileArtifactStore(ArtifactStoreContract):
    """A local folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> FileArtifactStore:
        self.root = tmp_path / "artifacts"
        return prepared(self.root)

    def raw(self, store: ArtifactStore, digest: str) -> dict[str, bytes] | None:
        folder = self.root / "objects" / digest
        return {path.name: path.read_bytes() for path in (folder / "files").iterdir()} if folder.exists() else None

    def damage(self, store: ArtifactStore, digest: str, file: str) -> bool:
        flip(self.root / "objects" / digest / "files" / file)
        return True


def flip(path: Path, position: int = 0) -> None:
    """Turn every bit of one byte over; doing it twice restores the file."""
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def test_stored_files_are_read_only(tmp_path: Path) -> None:
    """Nobody changes an artifact by accident."""
    store = prepared(tmp_path)
    digest = put(store, GRAPH)
    files = (tmp_path / "objects" / digest / "files").iterdir()
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o444"}


def test_only_the_object_is_left_on_disk(tmp_path: Path) -> None:
    """Staging, graves and temporary names are gone after a put, a replacement and a removal."""
    store = prepared(tmp_path)
    digest = put(store, GRAPH, upload="u1")
    flip(tmp_path / "objects" / digest / "files" / "model.onnx")
    put(store, GRAPH, upload="u2")
    store.remove(put(store, {"model.onnx": b"other"}, upload="u3"))
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    object_ = f"objects/{digest}"
    assert found == [f"{object_}/files/model.onnx", f"{object_}/files/weights.bin", f"{object_}/manifest"]
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize("hurt", ["flip", "truncate", "lose"])
def test_a_damaged_manifest_is_found(tmp_path: Path, hurt: str) -> None:
    """The manifest vouches for the files, and the digest for the manifest."""
    store = prepared(tmp_path)
    digest = put(store, GRAPH)
    manifest = tmp_path / "objects" / digest / "manifest"
    {"flip": lambda: flip(manifest), "truncate": lambda: manifest.write_bytes(b""), "lose": manifest.unlink}[hurt]()
    for attempt in (store.files, store.verify):
        with pytest.raises(DataLoss):
            attempt(digest)


def test_a_file_that_was_added_or_lost_is_found(tmp_path: Path) -> None:
    """An artifact is exactly its manifest."""
    store = prepared(tmp_path)
    digest = put(store, GRAPH)
    stranger = tmp_path / "objects" / digest / "files" / "stranger"
    stranger.write_bytes(b"?")
    with pytest.raises(DataLoss):
        store.verify(digest)
    stranger.unlink()
    store.verify(digest)
    (tmp_path / "objects" / digest / "files" / "weights.bin").unlink()
    with pytest.raises(DataLoss):
        store.verify(digest)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """All positions of a small artifact, one after the other."""
    store = prepared(tmp_path)
    digest = put(store, {"model.onnx": bytes(range(100))})
    for position in range(100):
        flip(tmp_path / "objects" / digest / "files" / "model.onnx", position)
        with pytest.raises(DataLoss):
            store.verify(digest)
        flip(tmp_path / "objects" / digest / "files" / "model.onnx", position)
    store.verify(digest)


def test_what_a_killed_removal_left_is_swept_at_the_start(tmp_path: Path) -> None:
    """Graves are no artifacts and no uploads, and `prepare` takes them away; uploads under way stay."""
    store = prepared(tmp_path)
    digest = fill(store, "u1", GRAPH)
    for folder in ("objects", "staging"):
        grave = tmp_path / folder / ".gone-0123"
        (grave / "files").mkdir(parents=True)
        (grave / "files" / "model.onnx").write_bytes(b"left")
    assert store.uploads() == ["u1"]
    assert list(store.digests()) == []
    again = prepared(tmp_path)
    assert list(tmp_path.glob("*/.gone-*")) == []
    again.put(digest, "u1")
    again.verify(digest)
