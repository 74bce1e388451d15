"""What users do to models, versions and aliases, each as one transaction on the catalog.

Rule: every method blocks and is called in a thread. Files are removed only after the catalog has let go of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vedette.core.clock import Clock
from vedette.core.errors import Conflict, NotFound, Unavailable
from vedette.core.models import (
    Admission,
    ApprovalStatus,
    ArtifactFile,
    Model,
    ModelRef,
    ModelVersion,
    Signature,
    check_name,
    manifest_digest,
)
from vedette.ports.artifacts import ArtifactStore
from vedette.ports.catalog import Catalog, CatalogSnapshot, CatalogTransaction
from vedette.registry.generations import still_serving
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.versions import Details, check_description, check_notes, check_number


@dataclass(frozen=True, slots=True)
class Candidate:
    """An admitted version whose files are in the artifact store and that has no number yet."""

    model: str
    files: tuple[ArtifactFile, ...]
    signature: Signature
    admission: Admission
    details: Details


class Models:
    """Models and their versions."""

    def __init__(self, catalog: Catalog, artifacts: ArtifactStore, clock: Clock, *, lifecycle: Lifecycle) -> None:
        self._catalog = catalog
        self._artifacts = artifacts
        self._clock = clock
        self._lifecycle = lifecycle

    def create(self, name: str, *, description: str = "", tags: Mapping[str, str] | None = None) -> Model:
        """Make a model without versions."""
        model = self._new(name, description=description, tags=tags or {})
        with self._catalog.transaction() as tx:
            tx.insert_model(model)
        self._lifecycle.tell("model.created", name, {"model": name})
        return model

    def get(self, name: str) -> Model:
        """The model of this name."""
        check_name(name, "model name")
        with self._catalog.read() as view:
            return view.model(name)

    def page(
        self, *, limit: int, page_token: str = "", name_contains: str = "", tags: Mapping[str, str] | None = None
    ) -> tuple[list[Model], str]:
        """One page of models by name, and the token of the next."""
        with self._catalog.read() as view:
            return view.models(limit=limit, after=page_token, name_contains=name_contains, tags=tags)

    def update(self, name: str, *, description: str | None, tags: Mapping[str, str] | None) -> Model:
        """Replace the description or the tags; None leaves them."""
        check_name(name, "model name")
        _check_model_notes(description or "", tags or {})
        with self._catalog.transaction() as tx:
            model = tx.model(name)
            model = replace(
                model,
                description=model.description if description is None else description,
                tags=model.tags if tags is None else dict(tags),
                updated_at=self._clock.time(),
            )
            tx.update_model(model)
        return model

    def delete(self, name: str) -> None:
        """Delete a model with all its versions; `Conflict` names the endpoint that one is deployed at."""
        check_name(name, "model name")
        with self._catalog.transaction() as tx:
            tx.model(name)
            _check_undeployed(tx, name)
            digests = [digest for version in _every_version(tx, name) for digest in _digests(tx, version)]
            tx.delete_model(name)
        self.drop_files(digests)
        self._lifecycle.tell("model.deleted", name, {"model": name})

    def version(self, model: str, version: int) -> ModelVersion:
        """One version of a model."""
        check_name(model, "model name")
        with self._catalog.read() as view:
            return view.version(model, check_number(version))

    def versions(
        self, model: str, *, limit: int, page_token: str = "", status: ApprovalStatus | None = None
    ) -> tuple[list[ModelVersion], str]:
        """One page of a model's versions, newest first, and the token of the next."""
        check_name(model, "model name")
        with self._catalog.read() as view:
            return view.versions(model, limit=limit, after=page_token, status=status)

    def update_version(
        self,
        model: str,
        version: int,
        *,
        status: ApprovalStatus | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """Approve, reject or annotate a version; None leaves a field. A deployed version cannot be rejected."""
        check_name(model, "model name")
        check_description(description or "")
        check_notes(metadata or {}, what="metadata")
        with self._catalog.transaction() as tx:
            was = tx.version(model, check_number(version))
            now = replace(
                was,
                status=status or was.status,
                description=was.description if description is None else description,
                metadata=was.metadata if metadata is None else dict(metadata),
            )
            if now.status is ApprovalStatus.REJECTED and was.status is not ApprovalStatus.REJECTED:
                _check_undeployed(tx, model, version)
            tx.update_version(now)
        if now.status is not was.status:
            self._lifecycle.tell(
                "model.status", model, {"model": model, "version": version, "status": now.status.value}
            )
        return now

    def delete_version(self, model: str, version: int) -> None:
        """Delete a version, its aliases and baselines; `Conflict` names the endpoint that it is deployed at."""
        check_name(model, "model name")
        with self._catalog.transaction() as tx:
            digests = _digests(tx, tx.version(model, check_number(version)))
            _check_undeployed(tx, model, version)
            tx.delete_version(model, version)
        self.drop_files(digests)
        self._lifecycle.tell("model.version-deleted", model, {"model": model, "version": version})

    def set_alias(self, model: str, alias: str, version: int) -> Model:
        """Point an alias at a version, wherever it pointed before."""
        check_name(model, "model name")
        check_name(alias, "alias")
        with self._catalog.transaction() as tx:
            tx.version(model, check_number(version))
            tx.set_alias(model, alias, version)
            changed = tx.model(model)
        self._lifecycle.tell("model.alias", model, {"model": model, "alias": alias, "version": version})
        return changed

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove an alias; what was deployed through it stays."""
        check_name(model, "model name")
        check_name(alias, "alias")
        with self._catalog.transaction() as tx:
            tx.delete_alias(model, alias)
        self._lifecycle.tell("model.alias", model, {"model": model, "alias": alias, "version": None})

    def register(self, candidate: Candidate) -> tuple[ModelVersion, bool]:
        """Give an admitted version its number; the same bytes and signature again give the old one and False.

        What is said of the old one now is added to it, as the tags are to the model: metadata key by key, and
        the description where one is given. What is not mentioned stays.
        """
        digest, now = manifest_digest(candidate.files), self._clock.time()
        with self._catalog.transaction() as tx:
            self._ensure_model(tx, candidate)
            for version in tx.versions_with(candidate.model, digest):
                if version.signature == candidate.signature:
                    return self._annotated(tx, version, candidate.details), False
            if not self._artifacts.holds(digest):
                raise Unavailable("the uploaded files were cleared away meanwhile; send them again")
            version = ModelVersion(
                model=candidate.model,
                version=tx.next_version(candidate.model),
                digest=digest,
                files=tuple(sorted(candidate.files, key=lambda file: file.path)),
                signature=candidate.signature,
                admission=candidate.admission,
                description=candidate.details.description,
                metadata=dict(candidate.details.metadata),
                created_at=now,
            )
            tx.insert_version(version)
        data = {"model": version.model, "version": version.version, "digest": digest}
        self._lifecycle.tell("model.registered", version.model, data)
        return version, True

    def drop_orphans(self) -> None:
        """Remove files that nothing names: left when a process died between two steps."""
        self.drop_files(list(self._artifacts.digests()))

    def drop_files(self, digests: Sequence[str]) -> None:
        """Remove those of these artifacts that no version and no baseline names any more."""
        if not digests:
            return
        with self._catalog.transaction() as tx:
            used = tx.digests_in_use(digests)
            for digest in set(digests) - used:
                self._artifacts.remove(digest)

    def _annotated(self, tx: CatalogTransaction, version: ModelVersion, details: Details) -> ModelVersion:
        metadata = {**version.metadata, **details.metadata}
        check_notes(metadata, what="metadata")
        changed = replace(version, metadata=metadata, description=details.description or version.description)
        if changed != version:
            tx.update_version(changed)
        return changed

    def _ensure_model(self, tx: CatalogTransaction, candidate: Candidate) -> None:
        """Make the model if it is not there; the version's tags are added to the model's."""
        tags = candidate.details.tags
        try:
            model = tx.model(candidate.model)
        except NotFound:
            tx.insert_model(self._new(candidate.model, description="", tags=tags))
            return
        if tags and not tags.items() <= model.tags.items():
            merged = {**model.tags, **tags}
            check_notes(merged, what="tags")
            tx.update_model(replace(model, tags=merged, updated_at=self._clock.time()))

    def _new(self, name: str, *, description: str, tags: Mapping[str, str]) -> Model:
        check_name(name, "model name")
        _check_model_notes(description, tags)
        now = self._clock.time()
        return Model(name, 0, tags=dict(tags), description=description, created_at=now, updated_at=now)


def _check_model_notes(description: str, tags: Mapping[str, str]) -> None:
    check_description(description)
    check_notes(tags, what="tags")


def _every_version(view: CatalogSnapshot, model: str) -> list[ModelVersion]:
    found, token = view.versions(model, limit=100)
    while token:
        page, token = view.versions(model, limit=100, after=token)
        found += page
    return found


def _digests(view: CatalogSnapshot, version: ModelVersion) -> list[str]:
    """The artifacts that go with a version: its own and those of its baselines, of which it has far fewer."""
    baselines, _ = view.baselines(version.model, version.version, limit=1_000)
    return [version.digest, *(baseline.digest for baseline in baselines)]


def _check_undeployed(view: CatalogSnapshot, model: str, version: int | None = None) -> None:
    held = {endpoint for ref, endpoint in still_serving(view).items() if _covers(ref, model, version)}
    endpoints = sorted({*view.endpoints_naming(model, version), *held})
    if endpoints:
        what = model if version is None else f"{model}:{version}"
        raise Conflict(f"{what} is deployed at endpoint {endpoints[0]!r}")


def _covers(ref: ModelRef, model: str, version: int | None) -> bool:
    return ref.model == model and version in {None, ref.version}
