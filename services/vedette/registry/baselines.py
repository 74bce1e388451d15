"""Baselines of model versions: three to six files each, kept as one artifact and replaced as a whole.

Rule: every method blocks and is called in a thread. The registry knows the outer shape of the files and nothing
of what they mean: that is the monitor's business.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from vedette.codec.checks import check_json
from vedette.core.clock import Clock
from vedette.core.errors import Conflict, InvalidArgument, NotFound, Overloaded, TooLarge, Unavailable, VedetteError
from vedette.core.models import ArtifactFile, Upload, check_name, manifest_digest
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, STATISTICS_FILE, Baseline
from vedette.ports.artifacts import ArtifactStore
from vedette.ports.baselines import (
    ANALYSIS_FILE,
    EDITABLE_FILES,
    FILES,
    MAX_MEASURED_BYTES,
    MEASURED_FILES,
    QUALITY_CONSTRAINTS_FILE,
)
from vedette.ports.catalog import Catalog
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.models import Models
from vedette.registry.versions import check_number

LOG = logging.getLogger(__name__)
MAX_BASELINES = 100
"""Of one version."""
MAX_CONSTRAINTS_BYTES = 32 * 1024 * 1024
STAGED_S = 3600.0
"""What a killed process leaves staged is swept away after this long."""

Files = Mapping[str, bytes]
_PROBLEMS = ("regression", "binary_classification", "multiclass_classification")


@dataclass(frozen=True, slots=True)
class BaselineDraft:
    """A baseline as it comes from the monitor."""

    model: str
    version: int
    name: str
    rows: int
    columns: int
    files: Files
    digest: str = ""
    """What the sender has computed over the files; empty: not said."""


class Baselines:
    """Baselines and their files."""

    def __init__(
        self,
        catalog: Catalog,
        artifacts: ArtifactStore,
        models: Models,
        *,
        lifecycle: Lifecycle,
        clock: Clock,
        max_bytes: int,
        max_uploads: int,
    ) -> None:
        self.max_bytes = max_bytes
        """Largest baseline: all its files together."""
        self._catalog = catalog
        self._artifacts = artifacts
        self._models = models
        self._lifecycle = lifecycle
        self._clock = clock
        self._max_uploads = max_uploads

    def get(self, model: str, version: int, name: str) -> Baseline:
        """The baseline of this name."""
        _check_names(model, version, name)
        with self._catalog.read() as view:
            return view.baseline(model, version, name)

    def page(self, model: str, version: int, *, limit: int, page_token: str = "") -> tuple[list[Baseline], str]:
        """One page of a version's baselines by name, and the token of the next."""
        check_name(model, "model name")
        with self._catalog.read() as view:
            return view.baselines(model, check_number(version), limit=limit, after=page_token)

    def put(self, draft: BaselineDraft) -> Baseline:
        """Keep the files as the version's baseline of this name, in place of one that was there."""
        _check_names(draft.model, draft.version, draft.name)
        if draft.rows < 1 or draft.columns < 1:
            raise InvalidArgument("a baseline has at least one row and one column")
        self._check_files(draft.files)
        self._models.version(draft.model, draft.version)  # before gigabytes are written for nobody
        return self._store(draft, replaces=None, created_at=self._clock.time())

    def edit(self, model: str, version: int, name: str, content: bytes, *, file: str = CONSTRAINTS_FILE) -> Baseline:
        """Replace a document by what a person made of it, or add one; rows, columns and the other files stay.

        Raises:
            NotFound: the file is none that people edit.
            Conflict: the baseline was replaced meanwhile.
        """
        if file not in EDITABLE_FILES:
            raise NotFound(f"of a baseline's files {', '.join(EDITABLE_FILES)} can be replaced")
        check_document(file, content)
        was = self.get(model, version, name)
        try:
            kept = {entry.path: self.read(was, entry.path) for entry in was.files if entry.path != file}
        except NotFound:  # its files went with it
            raise _changed(model, version, name) from None
        files = {**kept, file: content}
        draft = BaselineDraft(model, version, name, was.rows, was.columns, files)
        return self._store(draft, replaces=was, created_at=was.created_at)

    def delete(self, model: str, version: int, name: str) -> None:
        """Delete the baseline; monitors that compare with it say that there is none."""
        _check_names(model, version, name)
        with self._catalog.transaction() as tx:
            gone = tx.baseline(model, version, name)
            tx.delete_baseline(model, version, name)
        self._models.drop_files([gone.digest])
        data = {"model": model, "version": version, "baseline": name}
        self._lifecycle.tell("model.baseline-deleted", model, data)

    def open(
        self, model: str, version: int, name: str, file: str, *, digest: str = ""
    ) -> tuple[ArtifactFile, BinaryIO]:
        """One file of the baseline, open for reading, and what it should be; the caller closes it.

        Raises:
            Conflict: it is not the one of this `digest` any more.
        """
        found = self.get(model, version, name)
        if digest and digest != found.digest:
            raise _changed(model, version, name)
        entry = next((entry for entry in found.files if entry.path == file), None)
        if entry is None:
            there = ", ".join(entry.path for entry in found.files)
            raise NotFound(f"the baseline has no file {file[:80]!r}, only {there}")
        return entry, self._artifacts.open(found.digest, file)

    def read(self, baseline: Baseline, file: str) -> bytes:
        """One file of the baseline, whole."""
        with self._artifacts.open(baseline.digest, file) as source:
            return source.read()

    def _check_files(self, files: Files) -> None:
        if set(files) - {*MEASURED_FILES} != {*FILES}:
            raise InvalidArgument(f"a baseline is made of {', '.join(FILES)}, and may have {', '.join(MEASURED_FILES)}")
        if sum(map(len, files.values())) > self.max_bytes:
            raise TooLarge(f"the files of a baseline may have at most {self.max_bytes} bytes together")
        for file in files:
            if file != PROFILE_FILE:
                check_document(file, files[file])
        if not files[PROFILE_FILE]:
            raise InvalidArgument(f"{PROFILE_FILE} is empty")

    def _store(self, draft: BaselineDraft, *, replaces: Baseline | None, created_at: float) -> Baseline:
        with self._staged(draft.model, draft.files) as (upload_id, files):
            digest = manifest_digest(files)
            if draft.digest not in {"", digest}:
                raise InvalidArgument("the files do not have the digest that was sent with them")
            self._artifacts.put(digest, upload_id)
            made = Baseline(
                draft.model, draft.version, draft.name, digest, files, draft.rows, draft.columns, created_at
            )
            old = self._register(made, replaces)
        if old is not None and old.digest != digest:
            self._models.drop_files([old.digest])
        data = {"model": made.model, "version": made.version, "baseline": made.name, "digest": digest}
        self._lifecycle.tell("model.baseline", made.model, data)
        return made

    def _register(self, made: Baseline, replaces: Baseline | None) -> Baseline | None:
        """Name the artifact in the catalog; returns what had this name before."""
        with self._catalog.transaction() as tx:
            there = tx.baselines(made.model, made.version, limit=MAX_BASELINES)[0]
            old = next((each for each in there if each.name == made.name), None)
            if replaces is not None and old != replaces:
                raise _changed(made.model, made.version, made.name)
            if old is None and len(there) >= MAX_BASELINES:
                raise Conflict(f"{made.model}:{made.version} has {MAX_BASELINES} baselines; delete one")
            if not self._artifacts.holds(made.digest):
                raise Unavailable("the files were cleared away meanwhile; send them again")
            tx.put_baseline(made)
        return old

    @contextmanager
    def _staged(self, model: str, files: Files) -> Iterator[tuple[str, tuple[ArtifactFile, ...]]]:
        """The files as an upload, which is gone at the end of the block whatever happened in it."""
        now = self._clock.time()
        upload = Upload(uuid.uuid4().hex, model, created_at=now, expires_at=now + STAGED_S)
        with self._catalog.transaction() as tx:
            if len(tx.uploads()) >= self._max_uploads:
                raise Overloaded(f"{self._max_uploads} uploads are under way; wait")
            tx.insert_upload(upload)
        try:
            self._artifacts.stage(upload.id)
            for name, data in files.items():
                with self._artifacts.create(upload.id, name) as staged:
                    staged.write(data)
                    staged.finish()
            yield upload.id, self._artifacts.staged_files(upload.id)
        finally:
            self._clear(upload.id)

    def _clear(self, upload_id: str) -> None:
        """Throw away what is staged; what fails here is not the caller's loss, the sweep tries again."""
        try:
            self._artifacts.discard(upload_id)
            with self._catalog.transaction() as tx:
                tx.delete_upload(upload_id)
        except VedetteError as error:
            LOG.warning("a staged baseline is left for the sweep: %s", error.message)


def _changed(model: str, version: int, name: str) -> Conflict:
    return Conflict(f"baseline {name!r} of {model}:{version} was changed meanwhile; read it again")


def check_document(file: str, data: bytes) -> None:
    """Refuse what is not of the outer shape of this document.

    Raises:
        InvalidArgument: says what is missing. TooLarge: it is longer than such a document may be.
    """
    most = MAX_MEASURED_BYTES if file in MEASURED_FILES else MAX_CONSTRAINTS_BYTES
    if len(data) > most and file != STATISTICS_FILE:
        raise TooLarge(f"{file} may have at most {most} bytes")
    if file == STATISTICS_FILE:
        check_statistics(data)
    elif file == CONSTRAINTS_FILE:
        check_constraints(data)
    else:
        _check_measured(file, _document(data, file))


def _check_measured(file: str, document: Mapping[str, Any]) -> None:
    """One of its sections must be there, and each is an object."""
    sections = {
        ANALYSIS_FILE: ("post_training_bias_metrics", "pre_training_bias_metrics", "explanations"),
        QUALITY_CONSTRAINTS_FILE: tuple(f"{problem}_constraints" for problem in _PROBLEMS),
    }.get(file, tuple(f"{problem}_metrics" for problem in _PROBLEMS))
    there = [name for name in sections if name in document]
    if not there or not all(isinstance(document[name], dict) for name in there):
        raise InvalidArgument(f"{file} has none of the objects {', '.join(sections)}")


def check_statistics(data: bytes) -> None:
    """Refuse what is not of the outer shape of SageMaker's statistics.json.

    Raises:
        InvalidArgument: says what is missing.
    """
    document = _document(data, STATISTICS_FILE)
    if not isinstance(document.get("dataset"), dict):
        raise InvalidArgument(f"{STATISTICS_FILE}: the member `dataset` is missing or no object")
    _check_features(document, STATISTICS_FILE)


def check_constraints(data: bytes) -> None:
    """Refuse what is not of the outer shape of SageMaker's constraints.json.

    Raises:
        InvalidArgument: says what is missing.
    """
    document = _document(data, CONSTRAINTS_FILE)
    _check_features(document, CONSTRAINTS_FILE)
    if not isinstance(document.get("monitoring_config", {}), dict):
        raise InvalidArgument(f"{CONSTRAINTS_FILE}: the member `monitoring_config` is no object")


def _document(data: bytes, file: str) -> dict[str, Any]:
    try:
        check_json(data)
        document: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (InvalidArgument, msgspec.MsgspecError) as error:
        raise InvalidArgument(f"{file} is not a JSON object: {str(error)[:200]}") from None
    return document


def _check_features(document: Mapping[str, Any], file: str) -> None:
    features = document.get("features")
    if not isinstance(features, list):
        raise InvalidArgument(f"{file}: the member `features` is missing or no list")
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in features):
        raise InvalidArgument(f"{file}: a feature is an object with a `name`")


def _check_names(model: str, version: int, name: str) -> None:
    check_name(model, "model name")
    check_number(version)
    check_name(name, "baseline name")
