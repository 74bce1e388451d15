"""Small valid records for tests: each takes what a test cares about and fills in the rest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from vedette.core.models import (
    Admission,
    ArtifactFile,
    Endpoint,
    EndpointConfig,
    EndpointStatus,
    ModelRef,
    ModelVersion,
    Signature,
    TensorSpec,
    Variant,
    manifest_digest,
)
from vedette.core.ports import Deployment
from vedette.entities.monitors import Baseline


def artifact_file(content: bytes = b"graph", *, path: str = "model.onnx") -> ArtifactFile:
    """The description of a file with this content."""
    return ArtifactFile(path, len(content), hashlib.sha256(content).hexdigest())


def model_version(model: str, version: int, *, content: bytes = b"graph", **fields: Any) -> ModelVersion:
    """A version of one file with this content and a signature with every part filled in."""
    files = (artifact_file(content),)
    signature = Signature(
        inputs=(TensorSpec("x", "FP32", (-1, 2)),),
        outputs=(TensorSpec("y", "FP32", (-1, 1)),),
        feature_names=("age", "colour"),
        categories={"colour": ("red", "grün")},
        label_names=("no", "yes"),
        kind="tabular",
        target="sold",
    )
    admission = Admission(run_time_us=12.5, load_time_ms=3.25, memory_bytes=1 << 20)
    given = ModelVersion(
        model, version, manifest_digest(files), files, signature, admission, created_at=1_700_000_000.5
    )
    return replace(given, **fields)


def baseline(model: str, version: int, name: str, *, content: bytes = b"{}", **fields: Any) -> Baseline:
    """A baseline whose three files all have this content."""
    files = tuple(artifact_file(content, path=path) for path in ("constraints.json", "profile.bin", "statistics.json"))
    given = Baseline(
        model, version, name, manifest_digest(files), files, rows=400, columns=30, created_at=1_700_000_000.25
    )
    return replace(given, **fields)


def endpoint_config(model: str, *versions: int, pipeline: tuple[ModelRef, ...] = ()) -> EndpointConfig:
    """A configuration with a variant for each version, the first of which may be a pipeline."""
    variants = tuple(
        Variant(f"v{version}", version, pipeline=pipeline if index == 0 else ())
        for index, version in enumerate(versions)
    )
    return EndpointConfig(model, variants)


def endpoint(name: str, config: EndpointConfig, **fields: Any) -> Endpoint:
    """An endpoint of generation 1 that is being created."""
    given = Endpoint(name, 1, config, EndpointStatus.CREATING, created_at=1_700_000_000.0, updated_at=1_700_000_000.0)
    return replace(given, **fields)


def deployment(name: str, generation: int = 1, *, version: int = 1) -> Deployment:
    """What a replica needs to serve one version of the model of the endpoint's name."""
    return Deployment(name, generation, endpoint_config(name, version), (model_version(name, version),))
