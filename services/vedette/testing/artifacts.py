"""What every `ArtifactStore` must do. Inherit `ArtifactStoreContract` and give it its fixture and back doors.

The back doors reach what is stored without going through the store, so that a mistake in writing cannot
hide one in reading.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from vedette.core.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, VedetteError
from vedette.core.models import ArtifactFile, manifest_digest
from vedette.ports.artifacts import ArtifactStore
from vedette.testing.samples import artifact_file

HOSTILE_NAMES = (
    "", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", ".hidden", "-rf", "a\0b", "a\nb", "a b", "%2e%2e", "é",
    "a" * 200, "~root", "C:", "file:///etc/passwd", "\u2024\u2024", "nul\x7f",
)  # fmt: skip
"""Names that a file or an upload must not have."""

NO_DIGEST = "0" * 64

GRAPH = {"model.onnx": b"the graph \x00\xff" * 50, "weights.bin": b"w" * 1_000}


def fill(store: ArtifactStore, upload: str, contents: dict[str, bytes]) -> str:
    """Stage the contents as an upload and return the digest that they have."""
    store.stage(upload)
    for name, content in contents.items():
        with store.create(upload, name) as staged:
            for begin in range(0, len(content), 7):
                staged.write(content[begin : begin + 7])
            staged.finish()
    return manifest_digest(artifact_file(content, path=name) for name, content in contents.items())


def put(store: ArtifactStore, contents: dict[str, bytes], *, upload: str = "u1") -> str:
    """Store the contents as an artifact and return its digest."""
    digest = fill(store, upload, contents)
    store.put(digest, upload)
    return digest


class ArtifactStoreContract(ABC):
    """Subclasses define a fixture `store` that gives an empty, prepared store."""

    @abstractmethod
    def raw(self, store: ArtifactStore, digest: str) -> dict[str, bytes] | None:
        """Back door: the contents held under the digest, or None when there is nothing of it."""

    @abstractmethod
    def damage(self, store: ArtifactStore, digest: str, file: str) -> bool:
        """Back door: change a byte of a stored file; False when this store's bytes cannot change."""

    def test_what_was_put_is_there(self, store: ArtifactStore) -> None:
        """The bytes are those that were written, and nothing is added to them."""
        digest = put(store, GRAPH)
        assert self.raw(store, digest) == GRAPH

    def test_what_was_put_can_be_read(self, store: ArtifactStore) -> None:
        """`files` lists names, sizes and digests by name; `open` gives the bytes; `verify` agrees."""
        digest = put(store, GRAPH)
        assert store.files(digest) == tuple(artifact_file(GRAPH[name], path=name) for name in sorted(GRAPH))
        for name, content in GRAPH.items():
            with store.open(digest, name) as source:
                assert source.read() == content
        store.verify(digest)
        assert store.holds(digest)
        assert list(store.digests()) == [digest]

    def test_an_empty_file_is_a_file(self, store: ArtifactStore) -> None:
        """Nothing written still makes a file of no bytes."""
        digest = put(store, {"model.onnx": b"g", "empty.bin": b""})
        assert self.raw(store, digest) == {"model.onnx": b"g", "empty.bin": b""}

    def test_finishing_a_file_says_what_it_is(self, store: ArtifactStore) -> None:
        """Name, size and sha256 of what was written, however it was cut into chunks."""
        store.stage("u1")
        with store.create("u1", "model.onnx") as staged:
            for chunk in (b"a", b"", bytes(range(256)) * 300, b"z"):
                staged.write(chunk)
            content = b"a" + bytes(range(256)) * 300 + b"z"
            assert staged.finish() == ArtifactFile("model.onnx", len(content), hashlib.sha256(content).hexdigest())
        assert store.staged_files("u1") == (artifact_file(content),)

    def test_an_upload_is_invisible_until_it_is_put(self, store: ArtifactStore) -> None:
        """Staged files are no artifact: not held, not listed."""
        digest = fill(store, "u1", GRAPH)
        assert not store.holds(digest)
        assert list(store.digests()) == []
        assert self.raw(store, digest) is None
        with pytest.raises(NotFound):
            store.files(digest)

    def test_putting_uses_the_upload_up(self, store: ArtifactStore) -> None:
        """The staging area is empty afterwards and the id may be used again."""
        put(store, GRAPH)
        assert store.uploads() == []
        with pytest.raises(NotFound):
            store.staged("u1")
        store.stage("u1")

    def test_putting_the_same_twice_keeps_one(self, store: ArtifactStore) -> None:
        """Equal files are one artifact, whichever upload brought them."""
        first = put(store, GRAPH, upload="u1")
        second = put(store, GRAPH, upload="u2")
        assert first == second
        assert list(store.digests()) == [first]
        assert store.uploads() == []

    def test_putting_again_heals_a_damaged_artifact(self, store: ArtifactStore) -> None:
        """Whoever brings the right bytes again gets them stored, not a repetition of the damage."""
        digest = put(store, GRAPH, upload="u1")
        self.damage(store, digest, "model.onnx")
        put(store, GRAPH, upload="u2")
        store.verify(digest)
        assert self.raw(store, digest) == GRAPH

    def test_damage_is_found(self, store: ArtifactStore) -> None:
        """One changed byte in any file fails the verification."""
        digest = put(store, GRAPH)
        for name in GRAPH:
            if self.damage(store, digest, name):
                with pytest.raises(DataLoss):
                    store.verify(digest)
                self.damage(store, digest, name)
        store.verify(digest)

    def test_files_without_the_digest_are_refused(self, store: ArtifactStore) -> None:
        """The upload stays, nothing is stored, and the right digest still works."""
        digest = fill(store, "u1", GRAPH)
        with pytest.raises(DataLoss):
            store.put(NO_DIGEST, "u1")
        assert self.raw(store, NO_DIGEST) is None
        assert list(store.digests()) == []
        store.put(digest, "u1")
        store.verify(digest)

    def test_a_file_is_not_there_until_it_is_finished(self, store: ArtifactStore) -> None:
        """While it is written, and after it was given up, the upload's folder does not show it."""
        folder = store.stage("u1")
        with store.create("u1", "model.onnx") as staged:
            staged.write(b"half")
            assert list(folder.iterdir()) == []
        assert list(folder.iterdir()) == []
        assert store.staged_files("u1") == ()

    def test_a_failed_writer_leaves_nothing(self, store: ArtifactStore) -> None:
        """An exception in the middle gives the file up."""

        def fail() -> None:
            with store.create("u1", "model.onnx") as staged:
                staged.write(b"half")
                raise ZeroDivisionError

        store.stage("u1")
        with pytest.raises(ZeroDivisionError):
            fail()
        assert store.staged_files("u1") == ()

    def test_a_file_sent_again_replaces_the_first(self, store: ArtifactStore) -> None:
        """The last finished content counts."""
        fill(store, "u1", {"model.onnx": b"old"})
        with store.create("u1", "model.onnx") as staged:
            staged.write(b"new")
            staged.finish()
        assert store.staged_files("u1") == (artifact_file(b"new"),)

    def test_a_discarded_upload_is_gone(self, store: ArtifactStore) -> None:
        """Its files with it; discarding again is fine; a writer that was still at it is told."""
        fill(store, "u1", GRAPH)
        with store.create("u1", "late.bin") as staged:
            staged.write(b"x")
            store.discard("u1")
            store.discard("u1")
            with pytest.raises(NotFound):
                staged.finish()
        assert store.uploads() == []
        with pytest.raises(NotFound):
            store.staged_files("u1")

    def test_uploads_are_listed(self, store: ArtifactStore) -> None:
        """So that a sweep can compare them with the catalog's rows."""
        store.stage("b")
        store.stage("a")
        assert sorted(store.uploads()) == ["a", "b"]

    def test_an_upload_id_is_used_once_at_a_time(self, store: ArtifactStore) -> None:
        """Two uploads never share a folder."""
        store.stage("u1")
        with pytest.raises(AlreadyExists):
            store.stage("u1")

    def test_an_upload_that_was_not_staged_is_not_found(self, store: ArtifactStore) -> None:
        """In every method that takes one."""
        for attempt in (store.staged, store.staged_files):
            with pytest.raises(NotFound):
                attempt("nobody")
        with pytest.raises(NotFound):
            store.create("nobody", "model.onnx")
        with pytest.raises(NotFound):
            store.put(NO_DIGEST, "nobody")

    def test_an_artifact_that_is_not_held_is_not_found(self, store: ArtifactStore) -> None:
        """In every method that reads one; removing it is fine."""
        assert not store.holds(NO_DIGEST)
        for attempt in (store.files, store.verify):
            with pytest.raises(NotFound):
                attempt(NO_DIGEST)
        with pytest.raises(NotFound):
            store.open(NO_DIGEST, "model.onnx")
        store.remove(NO_DIGEST)

    def test_a_file_that_the_artifact_lacks_is_not_found(self, store: ArtifactStore) -> None:
        """A well-formed name that is not in the manifest."""
        digest = put(store, GRAPH)
        with pytest.raises(NotFound):
            store.open(digest, "other.bin")
        with pytest.raises(NotFound):
            store.open(digest, "manifest")

    def test_a_removed_artifact_is_gone(self, store: ArtifactStore) -> None:
        """Others stay, and the same files can be put again."""
        digest = put(store, GRAPH)
        other = put(store, {"model.onnx": b"other"})
        store.remove(digest)
        assert self.raw(store, digest) is None
        assert list(store.digests()) == [other]
        put(store, GRAPH)
        store.verify(digest)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_hostile_names_never_reach_the_disk(self, store: ArtifactStore, name: str) -> None:
        """As upload id, as file name and as digest they are refused before anything is looked up."""
        digest = put(store, GRAPH)
        store.stage("u1")
        attempts = (
            lambda: store.stage(name),
            lambda: store.staged(name),
            lambda: store.discard(name),
            lambda: store.create("u1", name),
            lambda: store.open(digest, name),
            lambda: store.holds(name),
            lambda: store.files(name),
            lambda: store.verify(name),
            lambda: store.remove(name),
            lambda: store.put(name, "u1"),
        )
        for attempt in attempts:
            with pytest.raises(InvalidArgument):
                attempt()

    @pytest.mark.parametrize("kind", ["symlink", "hardlink", "folder", "fifo"])
    def test_only_regular_files_with_one_link_are_taken(
        self, store: ArtifactStore, kind: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Whatever else lies in an upload's folder, nothing outside of it is read through it."""
        secret = tmp_path_factory.mktemp("outside") / "secret"
        secret.write_bytes(b"secret")
        trap = store.stage("u1") / "model.onnx"
        make: dict[str, Callable[[], object]] = {
            "symlink": lambda: trap.symlink_to(secret),
            "hardlink": lambda: trap.hardlink_to(secret),
            "folder": trap.mkdir,
            "fifo": lambda: os.mkfifo(trap),
        }
        make[kind]()
        with pytest.raises(InvalidArgument):
            store.staged_files("u1")
        with pytest.raises(InvalidArgument):
            store.put(manifest_digest([artifact_file(b"secret")]), "u1")
        assert list(store.digests()) == []

    def test_equal_uploads_at_once_become_one_artifact(self, store: ArtifactStore) -> None:
        """Eight threads put the same files at the same moment: all succeed, one artifact, nothing left over."""
        together = threading.Barrier(8)

        def work(number: int) -> str:
            digest = fill(store, f"u{number}", GRAPH)
            together.wait(30)
            store.put(digest, f"u{number}")
            return digest

        with ThreadPoolExecutor(8) as pool:
            digests = set(pool.map(work, range(8)))
        assert set(store.digests()) == digests
        store.verify(digests.pop())
        assert store.uploads() == []

    def test_a_file_finished_while_the_upload_is_put_is_in_it_or_refused(self, store: ArtifactStore) -> None:
        """A late writer never changes an artifact behind its digest."""
        for round_ in range(10):
            upload = f"u{round_}"
            digest = fill(store, upload, {"model.onnx": b"%d" % round_})
            with store.create(upload, "model.onnx") as late, ThreadPoolExecutor(2) as pool:
                late.write(b"late")
                outcomes: list[Future[Any]] = [pool.submit(late.finish), pool.submit(store.put, digest, upload)]
            errors = [error for outcome in outcomes if (error := outcome.exception())]
            assert all(isinstance(error, VedetteError) for error in errors), errors
            if store.holds(digest):
                store.verify(digest)
            store.discard(upload)
