"""The registry's models and versions: `client.models`.

Rule: one method for each thing that the registry does; lists are walked page by page as they are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from vedette.core.errors import InvalidArgument
from vedette.core.models import FILE_NAME, GRAPH_FILE, ApprovalStatus, Model, ModelVersion, check_name
from vedette.sdk.aio.connection import Answer, AsyncConnection, Call
from vedette.sdk.aio.pages import walk
from vedette.sdk.artifacts import Part, Source, complete, parts_of
from vedette.sdk.documents import Details, encode, read

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all; begins anew when an upload is sent again."""

OnExisting = Callable[[ModelVersion], None]
"""Called with the version that the registry had already of these bytes and this signature."""

ADMISSION_TIMEOUT_S = 600.0
"""Admission runs the model once before the answer comes; a large one takes its time."""


class AsyncModels:
    """Models and their versions in the registry."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self, name: str, *, description: str = "", tags: Mapping[str, str] | None = None) -> Model:
        """Make a model without versions; `AlreadyExists` when there is one."""
        document = {"name": name, "description": description, "tags": dict(tags or {})}
        answer = await self._connection.send(Call("POST", "/v1/models", body=encode(document), headers=_JSON))
        return read(Model, answer.body)

    async def register(
        self,
        name: str,
        source: Source,
        *,
        details: Details | None = None,
        progress: Progress | None = None,
        on_existing: OnExisting | None = None,
    ) -> ModelVersion:
        """Upload a model version, making the model if it is new.

        Identical bytes with the same signature are no new version: the existing one gets the metadata and the
        description given now, is told to `on_existing` and is returned.

        `source` is a path, the graph's bytes, several paths with the graph first (external data), or what
        a converter of `vedette.sdk.convert` returned, whose signature then fills what `details` leaves out.

        Raises:
            InvalidArgument: admission refused the model; the message says which step and why.
        """
        parts = parts_of(source)
        said = complete(details or Details(), source)
        if len(parts) > 1:
            return await self._register_files(name, parts, said, progress, on_existing)
        query = (("details", encode(said.document()).decode()),) if said.document() else ()
        sent = _Sent(sum(part.size for part in parts), progress)
        call = _upload("POST", f"/v1/models/{_path(name)}/versions", parts[0], sent)
        # Identical bytes give the same version, so that sending them twice does no harm.
        answer = await self._connection.send(replace(call, query=query, again=True, timeout_s=ADMISSION_TIMEOUT_S))
        return _version(answer, on_existing)

    async def import_from(
        self, name: str, source: str, *, details: Details | None = None, on_existing: OnExisting | None = None
    ) -> ModelVersion:
        """Register from a path or `s3://` address that the registry's operator allows; else like `register`."""
        document = {"source": source, "details": (details or Details()).document()}
        path = f"/v1/models/{_path(name)}/imports"
        call = Call("POST", path, body=encode(document), headers=_JSON, timeout_s=ADMISSION_TIMEOUT_S)
        return _version(await self._connection.send(call), on_existing)

    def list(self, *, name_contains: str = "", tags: Mapping[str, str] | None = None) -> AsyncIterator[Model]:
        """Every model by name; `name_contains` ignores case, and a model must have all of `tags`."""
        query = [("name_contains", name_contains)] if name_contains else []
        query += [("tag", f"{key}={value}") for key, value in (tags or {}).items()]
        return walk(self._connection, "/v1/models", query, Model)

    async def get(self, name: str) -> Model:
        """The model with its aliases; `NotFound` when there is none."""
        answer = await self._connection.send(Call("GET", f"/v1/models/{_path(name)}"))
        return read(Model, answer.body)

    async def update(
        self, name: str, *, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Model:
        """Replace the description or the tags; None leaves them."""
        document = {"description": description, "tags": None if tags is None else dict(tags)}
        body = encode({key: value for key, value in document.items() if value is not None})
        answer = await self._connection.send(Call("PATCH", f"/v1/models/{_path(name)}", body=body, headers=_JSON))
        return read(Model, answer.body)

    async def delete(self, name: str) -> None:
        """Delete the model with all versions; `Conflict` while an endpoint uses one."""
        await self._connection.send(Call("DELETE", f"/v1/models/{_path(name)}"))

    def versions(self, name: str, *, status: ApprovalStatus | None = None) -> AsyncIterator[ModelVersion]:
        """The model's versions, newest first."""
        query = [("status", status.value)] if status else []
        return walk(self._connection, f"/v1/models/{_path(name)}/versions", query, ModelVersion)

    async def version(self, name: str, version: int) -> ModelVersion:
        """One version; `NotFound` when there is none."""
        answer = await self._connection.send(Call("GET", _version_path(name, version)))
        return read(ModelVersion, answer.body)

    async def approve(self, name: str, version: int) -> ModelVersion:
        """Allow the version to serve."""
        return await self.update_version(name, version, status=ApprovalStatus.APPROVED)

    async def reject(self, name: str, version: int) -> ModelVersion:
        """Forbid the version to serve; `Conflict` where it is deployed."""
        return await self.update_version(name, version, status=ApprovalStatus.REJECTED)

    async def update_version(
        self,
        name: str,
        version: int,
        *,
        status: ApprovalStatus | None = None,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> ModelVersion:
        """Change what of a version may change; None leaves it."""
        document = {
            "status": status.value if status else None,
            "metadata": None if metadata is None else dict(metadata),
            "description": description,
        }
        body = encode({key: value for key, value in document.items() if value is not None})
        answer = await self._connection.send(Call("PATCH", _version_path(name, version), body=body, headers=_JSON))
        return read(ModelVersion, answer.body)

    async def delete_version(self, name: str, version: int) -> None:
        """Delete one version; `Conflict` while an endpoint uses it."""
        await self._connection.send(Call("DELETE", _version_path(name, version)))

    async def download(self, name: str, version: int, file: str = GRAPH_FILE) -> bytes:
        """One file of a version, whole in memory."""
        answer = await self._connection.send(
            Call("GET", f"{_version_path(name, version)}/files/{quote(_bare(file), safe='')}")
        )
        return answer.body

    async def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version, wherever it pointed before."""
        path = f"/v1/models/{_path(name)}/aliases/{_path(alias, 'alias')}"
        await self._connection.send(Call("PUT", path, body=encode({"version": version}), headers=_JSON))

    async def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; `NotFound` when there is none."""
        await self._connection.send(Call("DELETE", f"/v1/models/{_path(name)}/aliases/{_path(alias, 'alias')}"))

    async def _register_files(
        self,
        name: str,
        parts: Sequence[Part],
        details: Details,
        progress: Progress | None,
        on_existing: OnExisting | None,
    ) -> ModelVersion:
        """Several files go one by one into an upload that nobody sees before its commit."""
        answer = await self._connection.send(
            Call("POST", f"/v1/models/{_path(name)}/uploads", headers=_JSON, body=b"{}")
        )
        upload = f"/v1/uploads/{_path(read(dict, answer.body)['id'], 'upload id')}"
        try:
            sent = _Sent(sum(part.size for part in parts), progress)
            for part in parts:
                await self._connection.send(_upload("PUT", f"{upload}/files/{quote(part.name, safe='')}", part, sent))
            body = encode({"details": details.document()})
            commit = Call("POST", f"{upload}/commit", body=body, headers=_JSON, timeout_s=ADMISSION_TIMEOUT_S)
            return _version(await self._connection.send(commit), on_existing)
        except BaseException:
            await self._abandon(upload)
            raise

    async def _abandon(self, upload: str) -> None:
        """Tidy up after a failure; the registry lets unfinished uploads expire anyway."""
        try:
            await self._connection.send(Call("DELETE", upload))
        except Exception:  # noqa: BLE001, S110 - the first error is the one to show
            pass


_JSON = {"content-type": "application/json"}


class _Sent:
    """Counts bytes over several files for the progress callback."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self.before = 0
        self.progress = progress

    def at(self, sent: int) -> None:
        if self.progress is not None:
            self.progress(min(self.before + sent, self.total), self.total)


def _version(answer: Answer, on_existing: OnExisting | None) -> ModelVersion:
    """The version in the answer to a registration: 201 says that it is new, 200 that it was there."""
    version = read(ModelVersion, answer.body)
    if answer.status == 200 and on_existing is not None:
        on_existing(version)
    return version


def _upload(method: str, path: str, part: Part, sent: _Sent) -> Call:
    async def stream() -> AsyncIterator[bytes]:
        done = 0
        for chunk in part.chunks():
            yield chunk
            done += len(chunk)
            sent.at(done)
        sent.before += done

    headers = {"content-type": "application/octet-stream", "content-length": str(part.size)}
    return Call(method, path, headers=headers, stream=stream)


def _path(name: str, what: str = "model name") -> str:
    """A name as one segment: one with a slash or dots in front would be another path to the server."""
    return quote(check_name(name, what), safe="")


def _bare(file: str) -> str:
    if FILE_NAME.fullmatch(file) is None:
        raise InvalidArgument(f"{file[:80]!r} is not the name of a version's file")
    return file


def _version_path(name: str, version: int) -> str:
    if not isinstance(version, int) or version < 1:
        raise InvalidArgument(f"{version!r} is not a version: use a number from 1")
    return f"/v1/models/{_path(name)}/versions/{version}"
