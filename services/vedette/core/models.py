"""Models, versions and endpoints: the nouns of the registry, as plain immutable values.

Rule: these classes hold facts and check their own shape; what may change when is the registry's business.
Field names are the names in the HTTP documents, the protos and the tables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from vedette.core.errors import InvalidArgument

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""The one regular expression for every name in vedette: models, aliases, endpoints, variants.
At most 63 characters, never empty, no separator of paths or URLs, never begins with a dot."""


def check_name(name: str, what: str) -> str:
    """Return `name` if it is one; `what` says whose name it is in the error.

    Raises:
        InvalidArgument: it does not match `NAME`.
    """
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        shown = repr(name)[:80]
        raise InvalidArgument(
            f"{shown} is not a valid {what}: use 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return name


class ApprovalStatus(StrEnum):
    """Whether a person has said that a version may serve (SageMaker's ModelApprovalStatus)."""

    PENDING = "PendingManualApproval"
    APPROVED = "Approved"
    REJECTED = "Rejected"


class EndpointStatus(StrEnum):
    """SageMaker's EndpointStatus, as far as vedette has a use for it."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    OUT_OF_SERVICE = "OutOfService"
    FAILED = "Failed"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model; -1 in `shape` is a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives: read from the graph, completed by whoever registered it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feature_names: tuple[str, ...] = ()
    """Names of the columns, in the order the model takes them; empty: unknown."""
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Feature name -> the values it may have, for categorical features."""
    label_names: tuple[str, ...] = ()
    """Class names by class index, for classifiers."""
    kind: Literal["", "tabular", "image"] = ""
    target: str = ""
    """Name of what is predicted; empty: unknown."""


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of a model version."""

    path: str
    """A bare file name; `model.onnx` is the graph, the others are its external data."""
    size: int
    sha256: str


FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""What a file of a model version may be called: a bare name, never hidden, no separator."""
GRAPH_FILE = "model.onnx"
"""What the graph is called; every other file is its external data."""


def manifest(files: Iterable[ArtifactFile]) -> bytes:
    """The canonical text of a set of files, sorted by name: what a version's digest is taken of."""
    ordered = sorted(files, key=lambda file: file.path)
    return "".join(f"{file.sha256} {file.size} {file.path}\n" for file in ordered).encode()


def manifest_digest(files: Iterable[ArtifactFile]) -> str:
    """The digest that names these files together: sha256 of their `manifest`, in hexadecimal."""
    return hashlib.sha256(manifest(files)).hexdigest()


@dataclass(frozen=True, slots=True)
class Upload:
    """A version being uploaded file by file; its files lie in the artifact store's staging area."""

    id: str
    model: str
    created_at: float
    expires_at: float
    """After this moment it may be swept away (seconds since the epoch)."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the canary inference measured when a version was admitted (zeros, batch of one)."""

    run_time_us: float
    load_time_ms: float
    memory_bytes: int
    """Growth of the child's resident memory over loading and running."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """An immutable version of a model. Only `status`, `description` and `metadata` may change."""

    model: str
    version: int
    digest: str
    """sha256 over the manifest (files and their digests): names the artifact in the store."""
    files: tuple[ArtifactFile, ...]
    signature: Signature
    admission: Admission
    status: ApprovalStatus = ApprovalStatus.PENDING
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    """Seconds since the epoch."""
    platform: str = "onnxruntime_onnx"


@dataclass(frozen=True, slots=True)
class Model:
    """A name under which versions are kept."""

    name: str
    latest_version: int
    """The newest version that exists; 0 when there is none."""
    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model version by name and number, written `name:3`."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How ONNX Runtime runs a variant; refused at deploy if the build cannot."""

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    intra_op_threads: int = 0
    """0: from the CPU quota of the container."""
    inter_op_threads: int = 1
    graph_optimization: Literal["none", "basic", "extended", "all"] = "all"


@dataclass(frozen=True, slots=True)
class Variant:
    """A model version behind an endpoint with its share of the traffic.

    `pipeline`, when not empty, is the whole chain of graphs that one request passes through; it holds
    the endpoint's own model at `version` exactly once, and any other models before and after it.
    """

    name: str
    version: int
    weight: float = 1.0
    """Share = weight / sum of weights. 0: only by pinned version or target variant."""
    pipeline: tuple[ModelRef, ...] = ()
    options: SessionOptions = SessionOptions()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one endpoint lets through."""

    max_batch_rows: int = 4096
    """Rows in one request or batch; a larger request is refused."""
    max_queue: int = 1024
    """Requests waiting or running; one more is refused as overloaded."""
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """What of an endpoint's traffic is recorded (data capture); 0 percent: nothing."""

    sampling_percent: float = 0.0
    inputs: bool = True
    outputs: bool = True
    mode: Literal["best_effort", "strict"] = "best_effort"
    exclude: tuple[str, ...] = ()
    """Columns that never leave the inference process."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How long and how many may wait to be batched (Triton's ModelQueuePolicy)."""

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    """What becomes of a request after its timeout: an error, or a place behind all others of its priority."""
    default_timeout_microseconds: int = 0
    """0: none."""
    allow_timeout_override: bool = False
    """Whether a request's own parameter `timeout` shortens this one, instead of being its deadline."""
    max_queue_size: int = 0
    """Requests of one priority that wait; one more is refused. 0: only the endpoint's limit holds."""


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """How requests are merged into one run (Triton's ModelDynamicBatching); sizes count rows.

    The default adds no delay: a request runs at once when nothing runs, else with what came while it waited.
    """

    enabled: bool = True
    """A model whose rows depend on each other is never batched, whatever this says."""
    max_batch_size: int = 0
    """Rows of a merged run; a request with more runs alone. 0: as many as pay by measurement, at most 64."""
    preferred_batch_size: tuple[int, ...] = ()
    """With a delay: sizes that run at once, without waiting for more."""
    max_queue_delay_microseconds: int = 0
    """How long a request may be kept for company; 0: never."""
    preserve_ordering: bool = False
    """Answers leave in the order in which requests came."""
    priority_levels: int = 0
    """1 is first. 0: a request's own parameter `priority` orders, whatever its number; without one it is last."""
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policy: dict[int, QueuePolicy] = field(default_factory=dict)
    """Priority level -> its policy, where it is not the default one."""
    bucket_sizes: tuple[int, ...] = ()
    """Every run is filled up with rows that nobody sees to the next of these sizes; empty: none is."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What a user asked for. The variants of one endpoint serve versions of one model."""

    model: str
    variants: tuple[Variant, ...]
    shadow_variants: tuple[Variant, ...] = ()
    limits: Limits = Limits()
    capture: CaptureSettings = CaptureSettings()
    dynamic_batching: DynamicBatching = field(default_factory=DynamicBatching)

    def references(self) -> tuple[ModelRef, ...]:
        """Every model version that serving this takes, each once, in order of first mention."""
        variants = (*self.variants, *self.shadow_variants)
        refs = [ref for v in variants for ref in (ModelRef(self.model, v.version), *v.pipeline)]
        return tuple(dict.fromkeys(refs))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as the registry knows it: the wanted configuration and how far the world is."""

    name: str
    generation: int
    """Number of the wanted configuration; grows by one with every change a user makes."""
    config: EndpointConfig
    status: EndpointStatus
    reason: str = ""
    """Why the status is what it is, when that is not plain (a failed load, say)."""
    serving: bool = True
    """False: wanted out of service (the repository API's unload)."""
    serving_generation: int = 0
    """The generation that replicas last reported as serving; 0: none yet."""
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Generation:
    """One wanted configuration in an endpoint's history."""

    endpoint: str
    generation: int
    config: EndpointConfig
    cause: str = ""
    """What made it: `create`, `update`, `weights`, `rollback to 3`."""
    replaces: int = 0
    """The generation that had last served when this one was made: where a rollback goes; 0: none."""
    created_at: float = 0.0


_REF = re.compile(rf"(?P<model>{NAME.pattern})(?::(?P<version>[1-9][0-9]{{0,8}})|@(?P<alias>{NAME.pattern}))?")


@dataclass(frozen=True, slots=True)
class VersionQuery:
    """A model version as people write it: `name`, `name:3` or `name@champion`."""

    model: str
    version: int | None = None
    alias: str | None = None


def parse_version_query(text: str) -> VersionQuery:
    """Parse `name`, `name:3` or `name@alias`; neither version nor alias means the newest.

    Raises:
        InvalidArgument: it is none of the three.
    """
    match = _REF.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"{text[:80]!r} is not a model version: write NAME, NAME:3 or NAME@alias")
    version = match["version"]
    return VersionQuery(match["model"], int(version) if version else None, match["alias"])
