"""How bytes become a version, and what is left when they do not."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.registry_room import ADMISSION, SIGNATURE, Tally, open_room

from vedette.core.clock import ManualClock
from vedette.core.errors import Conflict, InvalidArgument, NotFound, Overloaded, TooLarge, Unavailable, VedetteError
from vedette.core.models import Admission, Signature
from vedette.engine.admission import AdmissionRefused
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.models import Models
from vedette.registry.uploads import UploadLimits, Uploads
from vedette.registry.versions import Completion, Details
from vedette.storage import staging
from vedette.storage.files import FileArtifactStore
from vedette.storage.memory import MemoryCatalog, MemoryEventStream


class Yard:
    """Uploads on real files, with an admission that a test can hold up or make refuse."""

    def __init__(self, folder: Path, **limits: float) -> None:
        self.clock = ManualClock()
        self.catalog = MemoryCatalog()
        self.artifacts = FileArtifactStore(folder)
        self.artifacts.prepare()
        self.metrics = Tally()
        self.folder = folder
        self.refuse: VedetteError | None = None
        self.running = self.most = 0
        lifecycle = Lifecycle(MemoryEventStream(), self.clock)
        self.models = Models(self.catalog, self.artifacts, self.clock, lifecycle=lifecycle)
        given = {"max_artifact_bytes": 1000, "max_uploads": 4, "ttl_s": 60.0, "concurrent_admissions": 2, **limits}
        self.uploads = Uploads(
            self.catalog,
            self.artifacts,
            self.models,
            admit=self.admit,
            limits=UploadLimits(**given),  # type: ignore[arg-type]
            metrics=self.metrics,
            clock=self.clock,
        )

    def admit(self, folder: Path) -> tuple[Signature, Admission]:
        """Count how many run at once."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.refuse is not None:
                raise self.refuse
            assert (folder / "model.onnx").is_file()
            return SIGNATURE, ADMISSION
        finally:
            self.running -= 1

    def left(self) -> list[str]:
        """Files below the store's folder, whatever they are."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """A body in parts."""
    for part in parts:
        yield part


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


async def test_a_graph_in_parts_becomes_a_version(yard: Yard) -> None:
    """Its files are in the store, and nothing is staged any more."""
    version, created = await yard.uploads.upload_graph("m", Details(), chunks(b"gra", b"", b"ph"))
    assert (created, version.version, version.files[0].size) == (True, 1, 5)
    with yard.artifacts.open(version.digest, "model.onnx") as file:
        assert file.read() == b"graph"
    assert yard.artifacts.uploads() == []
    with yard.catalog.read() as view:
        assert view.uploads() == []


@pytest.mark.parametrize("parts", [(b"x" * 1001,), (b"x" * 999, b"x", b"x"), tuple(b"x" for _ in range(1001))])
async def test_a_body_over_the_cap_leaves_nothing(yard: Yard, parts: tuple[bytes, ...]) -> None:
    """Counted while it comes: 413, no file, no model."""
    with pytest.raises(TooLarge):
        await yard.uploads.upload_graph("m", Details(), chunks(*parts))
    assert yard.left() == []
    with pytest.raises(NotFound):
        yard.models.get("m")


async def test_the_cap_is_on_all_files_together(yard: Yard) -> None:
    """And a file that is sent again counts once."""
    upload = await yard.uploads.begin("m")
    await yard.uploads.receive(upload.id, "model.onnx", chunks(b"x" * 600))
    with pytest.raises(TooLarge):
        await yard.uploads.receive(upload.id, "w.data", chunks(b"x" * 401))
    await yard.uploads.receive(upload.id, "w.data", chunks(b"x" * 400))
    await yard.uploads.receive(upload.id, "model.onnx", chunks(b"y" * 600))


async def test_an_empty_body_is_refused(yard: Yard) -> None:
    """Before any child process is started."""
    with pytest.raises(InvalidArgument, match="empty"):
        await yard.uploads.upload_graph("m", Details(), chunks())


async def test_a_client_that_goes_away_leaves_nothing(yard: Yard) -> None:
    """Whatever the body's iterator raises half-way."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise InvalidArgument("the request body is incomplete")

    with pytest.raises(InvalidArgument, match="incomplete"):
        await yard.uploads.upload_graph("m", Details(), broken())
    assert yard.left() == []


async def test_a_refusal_says_the_step_and_is_counted(yard: Yard) -> None:
    """Nothing stays of a one-shot upload."""
    yard.refuse = AdmissionRefused("load", "the graph does not load")
    with pytest.raises(AdmissionRefused, match="does not load"):
        await yard.uploads.upload_graph("m", Details(), chunks(b"graph"))
    assert yard.metrics.value("vedette_admissions_total", outcome="load") == 1
    assert yard.left() == []


async def test_a_refused_commit_can_be_put_right(yard: Yard) -> None:
    """The upload stays: send a better file or better details and commit again."""
    upload = await yard.uploads.begin("m")
    with pytest.raises(InvalidArgument, match=r"no model\.onnx"):
        await yard.uploads.commit(upload.id, Details())
    await yard.uploads.receive(upload.id, "model.onnx", chunks(b"graph"))
    with pytest.raises(InvalidArgument, match="columns"):
        await yard.uploads.commit(upload.id, Details(Completion(feature_names=("a",))))
    version, created = await yard.uploads.commit(upload.id, Details())
    assert (version.version, created) == (1, True)
    with pytest.raises(NotFound):
        await yard.uploads.commit(upload.id, Details())


async def test_admissions_wait_for_their_turn(yard: Yard) -> None:
    """At most as many children at once as the operator allows."""
    await asyncio.gather(*(yard.uploads.upload_graph("m", Details(), chunks(f"g{n}".encode())) for n in range(4)))
    assert 1 <= yard.most <= 2
    assert yard.models.get("m").latest_version == 4


async def test_the_same_bytes_at_once_are_one_version(yard: Yard) -> None:
    """Whoever comes second gets what the first one made."""
    done = await asyncio.gather(*(yard.uploads.upload_graph("m", Details(), chunks(b"graph")) for _ in range(4)))
    assert sorted(created for _, created in done) == [False, False, False, True]
    assert {version.version for version, _ in done} == {1}


async def test_uploads_are_limited_and_expire(yard: Yard) -> None:
    """One more is Overloaded; after its time an upload is gone with its files."""
    uploads = [await yard.uploads.begin("m") for _ in range(4)]
    await yard.uploads.receive(uploads[0].id, "model.onnx", chunks(b"graph"))
    with pytest.raises(Overloaded):
        await yard.uploads.begin("m")
    yard.clock.advance(61.0)
    with pytest.raises(NotFound, match="expired"):
        await yard.uploads.commit(uploads[0].id, Details())
    yard.uploads.sweep()
    assert yard.artifacts.uploads() == []
    await yard.uploads.begin("m")


async def test_a_folder_without_a_row_is_swept(yard: Yard) -> None:
    """Left by a process that was killed between the two."""
    yard.artifacts.stage("lost")
    kept = await yard.uploads.begin("m")
    yard.uploads.sweep()
    assert yard.artifacts.uploads() == [kept.id]


async def test_one_request_at_a_time_works_on_an_upload(yard: Yard) -> None:
    """A second commit, or a file during a commit, is a Conflict; the sweep leaves it alone."""
    upload = await yard.uploads.begin("m")
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"gra"
        started.set()
        await go_on.wait()
        yield b"ph"

    first = asyncio.create_task(yard.uploads.receive(upload.id, "model.onnx", slow()))
    await started.wait()
    for other in (
        yard.uploads.commit(upload.id, Details()),
        yard.uploads.receive(upload.id, "w.data", chunks(b"w")),
        yard.uploads.abandon(upload.id),
    ):
        with pytest.raises(Conflict):
            await other
    yard.clock.advance(61.0)
    yard.uploads.sweep()
    assert yard.artifacts.uploads() == [upload.id]
    go_on.set()
    assert (await first).size == 5


@pytest.mark.parametrize("upload_id", ["nothing", "..", "../../etc", "", "a\0b"])
async def test_ids_that_are_none_reach_no_file(yard: Yard, upload_id: str) -> None:
    """An id is a key of the catalog before it is a folder."""
    for act in (
        yard.uploads.receive(upload_id, "model.onnx", chunks(b"x")),
        yard.uploads.commit(upload_id, Details()),
        yard.uploads.abandon(upload_id),
    ):
        with pytest.raises((NotFound, InvalidArgument)):
            await act
    assert yard.left() == []


async def test_a_full_disk_is_unavailable_and_leaves_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the bytes come, a clear error; when there is room again, it works."""
    real = staging.os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(staging.os, "fsync", full)
    with pytest.raises(Unavailable):
        await yard.uploads.upload_graph("m", Details(), chunks(b"graph"))
    monkeypatch.setattr(staging.os, "fsync", real)
    assert yard.left() == []
    assert (await yard.uploads.upload_graph("m", Details(), chunks(b"graph")))[1]


@pytest.mark.parametrize("name", ["../model.onnx", "a/b.data", "evil.pkl", "other.onnx"])
async def test_file_names_are_checked_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A slash makes another route, anything else is refused by name."""
    async with open_room(tmp_path, monkeypatch) as room:
        upload = (await room.http.post("/v1/models/m/uploads")).json()["id"]
        answer = await room.http.put(f"/v1/uploads/{upload}/files/{name.replace('/', '%2f')}", content=b"x")
        assert answer.status_code in {400, 404}
        assert (await room.http.delete(f"/v1/uploads/{upload}")).status_code == 204
        assert (await room.http.delete(f"/v1/uploads/{upload}")).status_code == 404


async def test_a_refusal_over_http_names_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 with the words of the admission, and 413 for what is too large."""
    async with open_room(tmp_path, monkeypatch, max_artifact_bytes=100) as room:
        refused = await room.http.post("/v1/models/m/versions", content=b"bad")
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
        assert "no graph" in refused.json()["detail"]
        large = await room.http.post("/v1/models/m/versions", content=b"x" * 101)
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
        assert (await room.http.get("/v1/models")).json()["items"] == []


async def test_what_cannot_be_cleared_away_is_not_the_callers_loss(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is registered and said to be; the sweep takes the rest later."""

    def down(upload_id: str) -> None:
        raise Unavailable("the disk has a moment")

    with monkeypatch.context() as moment:
        moment.setattr(yard.artifacts, "discard", down)
        version, created = await yard.uploads.upload_graph("m", Details(), chunks(b"graph"))
    assert (version.version, created) == (1, True)
    yard.clock.advance(3601.0)
    yard.uploads.sweep()
    with yard.catalog.read() as view:
        assert view.uploads() == []
