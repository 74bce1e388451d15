"""The registry over HTTP: parse, call, render.

Rule: no rule of the domain here. Handlers that are plain functions run in threads, because the catalog blocks.
Every route stands in `ACTIONS`; one that does not stops the start-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, BinaryIO

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from vedette.chassis.auth import Action
from vedette.chassis.control.application import control_app, control_router
from vedette.chassis.control.documents import Limit, Page, Token
from vedette.chassis.control.guard import read_body
from vedette.chassis.control.problems import first_problem
from vedette.core.errors import InvalidArgument, NotFound
from vedette.core.models import (
    ApprovalStatus,
    ArtifactFile,
    Endpoint,
    EndpointStatus,
    Generation,
    Model,
    ModelVersion,
    check_name,
)
from vedette.entities.monitors import Baseline
from vedette.registry.baselines import MAX_CONSTRAINTS_BYTES, BaselineDraft
from vedette.registry.deployments import Listing
from vedette.registry.desk import Desk
from vedette.registry.documents import (
    AliasTarget,
    DetailsDocument,
    EndpointCreate,
    EndpointUpdate,
    ImportRequest,
    ModelChange,
    ModelCreate,
    Rollback,
    UploadCommit,
    UploadOpened,
    VersionChange,
    Weights,
    baseline_parts,
)
from vedette.registry.imports import read_chunks

ACTIONS: dict[tuple[str, str], Action] = {
    ("GET", "/openapi.json"): "read",
    ("POST", "/v1/models"): "deploy",
    ("GET", "/v1/models"): "read",
    ("GET", "/v1/models/{model}"): "read",
    ("PATCH", "/v1/models/{model}"): "deploy",
    ("DELETE", "/v1/models/{model}"): "admin",
    ("POST", "/v1/models/{model}/versions"): "deploy",
    ("GET", "/v1/models/{model}/versions"): "read",
    ("GET", "/v1/models/{model}/versions/{version}"): "read",
    ("PATCH", "/v1/models/{model}/versions/{version}"): "admin",
    ("DELETE", "/v1/models/{model}/versions/{version}"): "admin",
    ("GET", "/v1/models/{model}/versions/{version}/files/{file}"): "read",
    ("GET", "/v1/models/{model}/versions/{version}/baselines"): "read",
    ("GET", "/v1/models/{model}/versions/{version}/baselines/{name}"): "read",
    ("PUT", "/v1/models/{model}/versions/{version}/baselines/{name}"): "internal",
    ("DELETE", "/v1/models/{model}/versions/{version}/baselines/{name}"): "admin",
    ("GET", "/v1/models/{model}/versions/{version}/baselines/{name}/files/{file}"): "read",
    ("PUT", "/v1/models/{model}/versions/{version}/baselines/{name}/files/{file}"): "deploy",
    ("PUT", "/v1/models/{model}/aliases/{alias}"): "deploy",
    ("DELETE", "/v1/models/{model}/aliases/{alias}"): "deploy",
    ("POST", "/v1/models/{model}/uploads"): "deploy",
    ("PUT", "/v1/uploads/{upload}/files/{file}"): "deploy",
    ("POST", "/v1/uploads/{upload}/commit"): "deploy",
    ("DELETE", "/v1/uploads/{upload}"): "deploy",
    ("POST", "/v1/models/{model}/imports"): "deploy",
    ("GET", "/v1/endpoints"): "read",
    ("POST", "/v1/endpoints"): "deploy",
    ("GET", "/v1/endpoints/{endpoint}"): "read",
    ("PUT", "/v1/endpoints/{endpoint}"): "deploy",
    ("DELETE", "/v1/endpoints/{endpoint}"): "admin",
    ("PATCH", "/v1/endpoints/{endpoint}/weights"): "deploy",
    ("POST", "/v1/endpoints/{endpoint}/rollback"): "deploy",
    ("POST", "/v1/endpoints/{endpoint}/start"): "deploy",
    ("POST", "/v1/endpoints/{endpoint}/stop"): "deploy",
    ("GET", "/v1/endpoints/{endpoint}/generations"): "read",
}
"""What each route does, for authorisation."""

UPLOADS = (
    ("POST", "/v1/models/{model}/versions"),
    ("PUT", "/v1/uploads/{upload}/files/{file}"),
    ("PUT", "/v1/models/{model}/versions/{version}/baselines/{name}"),
    ("PUT", "/v1/models/{model}/versions/{version}/baselines/{name}/files/{file}"),
)
"""Routes that stream a body of any size and count for themselves."""


def build_app(desk: Desk, *, version: str, max_json_bytes: int) -> FastAPI:
    """The ASGI application over these parts of the registry."""
    app = control_app("vedette registry", router, version=version, max_json_bytes=max_json_bytes, uploads=UPLOADS)
    app.state.desk = desk
    return app


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


router = control_router()
Asked = Annotated[Desk, Depends(_desk)]


@router.post("/models", status_code=201)
def create_model(desk: Asked, document: ModelCreate) -> Model:
    """Make a model without versions."""
    return desk.models.create(document.name, description=document.description, tags=document.tags)


@router.get("/models")
def list_models(
    desk: Asked,
    *,
    limit: Limit = 50,
    page_token: Token = "",
    name_contains: str = "",
    tag: Annotated[tuple[str, ...], Query(description="key=value; several must all hold")] = (),
) -> Page[Model]:
    """List models by name."""
    tags = dict(_split_tag(text) for text in tag)
    items, following = desk.models.page(limit=limit, page_token=page_token, name_contains=name_contains, tags=tags)
    return Page(items=items, next_page_token=following)


@router.get("/models/{model}")
def get_model(desk: Asked, model: str) -> Model:
    """Show a model with its aliases."""
    return desk.models.get(model)


@router.patch("/models/{model}")
def change_model(desk: Asked, model: str, document: ModelChange) -> Model:
    """Replace the description or the tags."""
    return desk.models.update(model, description=document.description, tags=document.tags)


@router.delete("/models/{model}", status_code=204)
def delete_model(desk: Asked, model: str) -> None:
    """Delete a model with its versions; refused while one is deployed."""
    desk.models.delete(model)


@router.post("/models/{model}/versions", status_code=201)
async def upload_version(
    desk: Asked, model: str, request: Request, response: Response, *, details: str = ""
) -> ModelVersion:
    """Register the body, the bytes of one ONNX graph, as the next version; 200: it was there already.

    A version that was there gets the metadata (key by key) and the description given now; the rest of it stays.
    `details` is a JSON document: `signature` (feature_names, categories, label_names, kind, target), `metadata`,
    `description`, `tags`.
    """
    told = _details(details).details()
    version, created = await desk.uploads.upload_graph(model, told, request.stream())
    response.status_code = 201 if created else 200
    return version


@router.get("/models/{model}/versions")
def list_versions(
    desk: Asked, model: str, *, limit: Limit = 50, page_token: Token = "", status: ApprovalStatus | None = None
) -> Page[ModelVersion]:
    """List a model's versions, newest first."""
    items, following = desk.models.versions(model, limit=limit, page_token=page_token, status=status)
    return Page(items=items, next_page_token=following)


@router.get("/models/{model}/versions/{version}")
def get_version(desk: Asked, model: str, version: str) -> ModelVersion:
    """Show a version."""
    return desk.models.version(model, _number(version))


@router.patch("/models/{model}/versions/{version}")
def change_version(desk: Asked, model: str, version: str, document: VersionChange) -> ModelVersion:
    """Approve, reject or annotate a version."""
    return desk.models.update_version(
        model,
        _number(version),
        status=document.status,
        description=document.description,
        metadata=document.metadata,
    )


@router.delete("/models/{model}/versions/{version}", status_code=204)
def delete_version(desk: Asked, model: str, version: str) -> None:
    """Delete a version; refused while it is deployed."""
    desk.models.delete_version(model, _number(version))


@router.get("/models/{model}/versions/{version}/files/{file}", response_class=StreamingResponse)
def download_file(desk: Asked, model: str, version: str, file: str) -> StreamingResponse:
    """Download one file of a version."""
    kept = desk.models.version(model, _number(version))
    found = next((entry for entry in kept.files if entry.path == file), None)
    if found is None:
        raise NotFound(f"{model}:{version} has no file {file[:80]!r}")
    return _download(found, desk.artifacts.open(kept.digest, found.path), "application/octet-stream")


@router.get("/models/{model}/versions/{version}/baselines")
def list_baselines(
    desk: Asked, model: str, version: str, *, limit: Limit = 50, page_token: Token = ""
) -> Page[Baseline]:
    """List a version's baselines by name."""
    items, following = desk.baselines.page(model, _number(version), limit=limit, page_token=page_token)
    return Page(items=items, next_page_token=following)


@router.get("/models/{model}/versions/{version}/baselines/{name}")
def get_baseline(desk: Asked, model: str, version: str, name: str) -> Baseline:
    """Show a baseline."""
    return desk.baselines.get(model, _number(version), name)


@router.put("/models/{model}/versions/{version}/baselines/{name}")
async def put_baseline(desk: Asked, model: str, version: str, name: str, request: Request) -> Baseline:
    """Keep a baseline that the monitor has computed: `rows`, `columns`, `digest`, and `files` by name in base64."""
    body = await read_body(request, max_bytes=2 * desk.baselines.max_bytes)
    draft = BaselineDraft(model, _number(version), name, **await asyncio.to_thread(baseline_parts, body))
    return await asyncio.to_thread(desk.baselines.put, draft)


@router.delete("/models/{model}/versions/{version}/baselines/{name}", status_code=204)
def delete_baseline(desk: Asked, model: str, version: str, name: str) -> None:
    """Delete a baseline; monitors that compare with it say that there is none."""
    desk.baselines.delete(model, _number(version), name)


@router.get("/models/{model}/versions/{version}/baselines/{name}/files/{file}", response_class=StreamingResponse)
def download_baseline_file(desk: Asked, model: str, version: str, name: str, file: str) -> StreamingResponse:
    """Download one of its files: `statistics.json`, `constraints.json`, `profile.bin`, or one of those measured."""
    entry, source = desk.baselines.open(model, _number(version), name, file)
    kind = "application/json" if file.endswith(".json") else "application/octet-stream"
    return _download(entry, source, kind)


@router.put("/models/{model}/versions/{version}/baselines/{name}/files/{file}")
async def put_constraints(desk: Asked, model: str, version: str, name: str, file: str, request: Request) -> Baseline:
    """Replace `constraints.json`, `model_quality_constraints.json` or `analysis.json` by an edited one."""
    body = await read_body(request, max_bytes=MAX_CONSTRAINTS_BYTES)
    return await asyncio.to_thread(desk.baselines.edit, model, _number(version), name, body, file=file)


@router.put("/models/{model}/aliases/{alias}")
def set_alias(desk: Asked, model: str, alias: str, document: AliasTarget) -> Model:
    """Point an alias at a version."""
    return desk.models.set_alias(model, alias, document.version)


@router.delete("/models/{model}/aliases/{alias}", status_code=204)
def delete_alias(desk: Asked, model: str, alias: str) -> None:
    """Remove an alias."""
    desk.models.delete_alias(model, alias)


@router.post("/models/{model}/uploads", status_code=201)
async def open_upload(desk: Asked, model: str) -> UploadOpened:
    """Open an upload for a version with external data."""
    upload = await desk.uploads.begin(model)
    return UploadOpened(id=upload.id, model=upload.model, expires_at=upload.expires_at)


@router.put("/uploads/{upload}/files/{file}", status_code=204)
async def upload_file(desk: Asked, upload: str, file: str, request: Request) -> None:
    """Store the body as one file of the upload, in place of one of that name."""
    await desk.uploads.receive(_upload_id(upload), file, request.stream())


@router.post("/uploads/{upload}/commit", status_code=201)
async def commit_upload(desk: Asked, upload: str, document: UploadCommit, response: Response) -> ModelVersion:
    """Register the upload as the next version; 200: it was there already."""
    version, created = await desk.uploads.commit(_upload_id(upload), document.details.details())
    response.status_code = 201 if created else 200
    return version


@router.delete("/uploads/{upload}", status_code=204)
async def abandon_upload(desk: Asked, upload: str) -> None:
    """Throw an upload away."""
    await desk.uploads.abandon(_upload_id(upload))


@router.post("/models/{model}/imports", status_code=201)
async def import_version(desk: Asked, model: str, document: ImportRequest, response: Response) -> ModelVersion:
    """Register a version from below one of the operator's import roots; 200: it was there already."""
    version, created = await desk.imports.run(model, document.source, document.details.details())
    response.status_code = 201 if created else 200
    return version


@router.get("/endpoints")
def list_endpoints(
    desk: Asked,
    *,
    limit: Limit = 50,
    page_token: Token = "",
    model: str = "",
    status: EndpointStatus | None = None,
    name_contains: str = "",
) -> Page[Endpoint]:
    """List endpoints by name."""
    items, following = desk.deployments.page(Listing(limit, page_token, model, status, name_contains))
    return Page(items=items, next_page_token=following)


@router.post("/endpoints", status_code=201)
def create_endpoint(desk: Asked, document: EndpointCreate) -> Endpoint:
    """Deploy: one variant of a model in the short form, anything else with `config`."""
    choice = document.choice()
    if document.config is not None:
        return desk.deployments.create(document.name, document.config.draft())
    return desk.deployments.create_short(document.name, model=document.model, version=choice)


@router.get("/endpoints/{endpoint}")
def get_endpoint(desk: Asked, endpoint: str) -> Endpoint:
    """Show an endpoint."""
    return desk.deployments.get(endpoint)


@router.put("/endpoints/{endpoint}")
def update_endpoint(desk: Asked, endpoint: str, document: EndpointUpdate) -> Endpoint:
    """Deploy another configuration."""
    return desk.deployments.update(endpoint, document.config.draft())


@router.delete("/endpoints/{endpoint}", status_code=202)
def delete_endpoint(desk: Asked, endpoint: str) -> Endpoint:
    """Delete an endpoint; it is gone when no living replica holds it any more."""
    return desk.deployments.delete(endpoint)


@router.patch("/endpoints/{endpoint}/weights")
def change_weights(desk: Asked, endpoint: str, document: Weights) -> Endpoint:
    """Change the shares of the variants."""
    return desk.deployments.update_weights(endpoint, document.weights)


@router.post("/endpoints/{endpoint}/rollback")
def roll_back(desk: Asked, endpoint: str, document: Rollback | None = None) -> Endpoint:
    """Go back to what served before, or to a given generation."""
    generation = document.generation if document is not None else None
    return desk.deployments.rollback(endpoint, generation or 0)


@router.post("/endpoints/{endpoint}/start")
def start_endpoint(desk: Asked, endpoint: str) -> Endpoint:
    """Put an endpoint back into service."""
    return desk.deployments.start(endpoint)


@router.post("/endpoints/{endpoint}/stop")
def stop_endpoint(desk: Asked, endpoint: str) -> Endpoint:
    """Take an endpoint out of service and keep its configuration."""
    return desk.deployments.stop(endpoint)


@router.get("/endpoints/{endpoint}/generations")
def list_generations(desk: Asked, endpoint: str, *, limit: Limit = 50, page_token: Token = "") -> Page[Generation]:
    """List what was ever wanted of an endpoint, newest first."""
    items, following = desk.deployments.generations(endpoint, limit=limit, page_token=page_token)
    return Page(items=items, next_page_token=following)


def _download(entry: ArtifactFile, source: BinaryIO, kind: str) -> StreamingResponse:
    chunks: Iterator[bytes] = read_chunks(source)
    headers = {"content-length": str(entry.size), "etag": f'"{entry.sha256}"'}
    return StreamingResponse(chunks, media_type=kind, headers=headers)


def _details(text: str) -> DetailsDocument:
    try:
        return DetailsDocument.model_validate_json(text) if text else DetailsDocument()
    except ValidationError as error:
        raise InvalidArgument(first_problem(error.errors(include_url=False, include_input=False), "details")) from None


def _split_tag(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InvalidArgument(f"tag: write key=value, not {text[:80]!r}")
    return key, value


def _number(text: str) -> int:
    """A version number in a path; what is none cannot exist."""
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise NotFound(f"{text[:80]!r} is not a version number")
    return int(text)


def _upload_id(text: str) -> str:
    return check_name(text, "upload id")
