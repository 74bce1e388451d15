"""The JSON documents that the HTTP routes take; what they give are the dataclasses of `core.models`.

Rule: an unknown key is an error, and numbers are numbers: nothing is guessed from text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from vedette.chassis.control.documents import Document, Flag, Integer, Number, Positive
from vedette.codec.checks import check_json
from vedette.core.errors import InvalidArgument
from vedette.core.models import ApprovalStatus, CaptureSettings, DynamicBatching, Limits, QueuePolicy, SessionOptions
from vedette.registry.endpoints import Choice, ConfigDraft, StepDraft, VariantDraft, parse_choice
from vedette.registry.versions import Completion, Details

Whole = Annotated[int, Field(strict=True, ge=-(2**53), lt=2**53)]
VersionChoice = Annotated[Positive | str, Field(description="A version number, or @alias: the one it names now.")]


class ModelCreate(Document):
    """A model without versions yet."""

    name: str
    description: str = ""
    tags: dict[str, str] = {}


class ModelChange(Document):
    """What to replace; a key that is absent leaves the value."""

    description: str | None = None
    tags: dict[str, str] | None = None


class CompletionDocument(Document):
    """What the user adds to the graph's signature."""

    feature_names: list[str] = []
    categories: dict[str, list[str]] = {}
    label_names: list[str] = []
    kind: Literal["", "tabular", "image"] = ""
    target: str = ""


class DetailsDocument(Document):
    """What the user says about a version beyond its bytes. `tags` are added to the model's."""

    signature: CompletionDocument = CompletionDocument()
    metadata: dict[str, str] = {}
    description: str = ""
    tags: dict[str, str] = {}

    def details(self) -> Details:
        """The same as the domain has it."""
        given = self.signature
        completion = Completion(
            feature_names=tuple(given.feature_names),
            categories={feature: tuple(values) for feature, values in given.categories.items()},
            label_names=tuple(given.label_names),
            kind=given.kind,
            target=given.target,
        )
        return Details(completion, self.metadata, self.description, self.tags)


class UploadOpened(Document):
    """An upload to put files into and commit."""

    id: str
    model: str
    expires_at: float


class UploadCommit(Document):
    """The end of an upload."""

    details: DetailsDocument = DetailsDocument()


class ImportRequest(Document):
    """A version that lies below one of the operator's import roots."""

    source: str
    details: DetailsDocument = DetailsDocument()


class VersionChange(Document):
    """What to replace; a key that is absent leaves the value."""

    status: ApprovalStatus | None = None
    description: str | None = None
    metadata: dict[str, str] | None = None


class AliasTarget(Document):
    """Where an alias points."""

    version: Positive


class StepDocument(Document):
    """One step of a pipeline."""

    model: str
    version: VersionChoice

    def draft(self) -> StepDraft:
        """The same as the domain has it."""
        return StepDraft(self.model, _choice(self.version))


class OptionsDocument(Document):
    """How ONNX Runtime runs a variant."""

    providers: list[str] = ["CPUExecutionProvider"]
    intra_op_threads: Integer = 0
    inter_op_threads: Integer = 1
    graph_optimization: Literal["none", "basic", "extended", "all"] = "all"


class VariantDocument(Document):
    """A model version and its share of the traffic."""

    name: str
    version: VersionChoice
    weight: Number = 1.0
    pipeline: list[StepDocument] = []
    options: OptionsDocument = OptionsDocument()

    def draft(self) -> VariantDraft:
        """The same as the domain has it."""
        options = SessionOptions(**{**self.options.model_dump(), "providers": tuple(self.options.providers)})
        steps = tuple(step.draft() for step in self.pipeline)
        return VariantDraft(self.name, _choice(self.version), self.weight, steps, options)


class LimitsDocument(Document):
    """What one endpoint lets through."""

    max_batch_rows: Integer = 4096
    max_queue: Integer = 1024
    timeout_s: Number = 60.0


class CaptureDocument(Document):
    """What of an endpoint's traffic is recorded."""

    sampling_percent: Number = 0.0
    inputs: Flag = True
    outputs: Flag = True
    mode: Literal["best_effort", "strict"] = "best_effort"
    exclude: list[str] = []


class QueuePolicyDocument(Document):
    """How long and how many may wait to be batched."""

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    default_timeout_microseconds: Whole = 0
    allow_timeout_override: Flag = False
    max_queue_size: Integer = 0

    def policy(self) -> QueuePolicy:
        """The same as the domain has it."""
        return QueuePolicy(**self.model_dump())


class DynamicBatchingDocument(Document):
    """How requests are merged into one run; Triton's names."""

    enabled: Flag = True
    max_batch_size: Integer = 0
    preferred_batch_size: list[Integer] = []
    max_queue_delay_microseconds: Whole = 0
    preserve_ordering: Flag = False
    priority_levels: Integer = 0
    default_priority_level: Integer = 0
    default_queue_policy: QueuePolicyDocument = QueuePolicyDocument()
    priority_queue_policy: dict[int, QueuePolicyDocument] = {}
    bucket_sizes: list[Integer] = []

    def batching(self) -> DynamicBatching:
        """The same as the domain has it."""
        simple = self.model_dump(exclude={"default_queue_policy", "priority_queue_policy"})
        return DynamicBatching(
            **simple
            | {name: tuple(simple[name]) for name in ("preferred_batch_size", "bucket_sizes")}
            | {
                "default_queue_policy": self.default_queue_policy.policy(),
                "priority_queue_policy": {level: each.policy() for level, each in self.priority_queue_policy.items()},
            }
        )


class ConfigDocument(Document):
    """The whole configuration of an endpoint."""

    model: str
    variants: list[VariantDocument]
    shadow_variants: list[VariantDocument] = []
    limits: LimitsDocument = LimitsDocument()
    capture: CaptureDocument = CaptureDocument()
    dynamic_batching: DynamicBatchingDocument = DynamicBatchingDocument()

    def draft(self) -> ConfigDraft:
        """The same as the domain has it."""
        return ConfigDraft(
            model=self.model,
            variants=tuple(variant.draft() for variant in self.variants),
            shadow_variants=tuple(variant.draft() for variant in self.shadow_variants),
            limits=Limits(**self.limits.model_dump()),
            capture=CaptureSettings(**{**self.capture.model_dump(), "exclude": tuple(self.capture.exclude)}),
            dynamic_batching=self.dynamic_batching.batching(),
        )


class EndpointCreate(Document):
    """Short form: one variant `primary` of `model` (default: the endpoint's name) at `version` (default: the
    newest that may serve). Long form: `config`."""

    name: str
    model: str = ""
    version: VersionChoice | None = None
    config: ConfigDocument | None = None

    def choice(self) -> Choice:
        """The version of the short form; empty: the newest.

        Raises:
            InvalidArgument: both forms were given.
        """
        if self.config is not None and (self.model or self.version is not None):
            raise InvalidArgument("give either config, or model and version")
        return "" if self.version is None else _choice(self.version)


class EndpointUpdate(Document):
    """Another configuration."""

    config: ConfigDocument


class Weights(Document):
    """Variant name -> weight; variants that are not named keep theirs."""

    weights: dict[str, Number]


class _BaselineParts(msgspec.Struct, forbid_unknown_fields=True):
    """A baseline and its files; not pydantic's, because this one may be hundreds of megabytes long."""

    rows: int
    columns: int
    files: dict[str, bytes]
    digest: str = ""


def baseline_parts(body: bytes) -> dict[str, Any]:
    """The members of a baseline's document; files come in base64.

    Raises:
        InvalidArgument: the body is no such document.
    """
    check_json(body)
    try:
        return msgspec.structs.asdict(msgspec.json.decode(body, type=_BaselineParts))
    except msgspec.MsgspecError as error:
        raise InvalidArgument(str(error)[:300]) from None


class Rollback(Document):
    """Where to go back to; absent: to what served before."""

    generation: Positive | None = None


def _choice(version: int | str) -> Choice:
    return parse_choice(version) if isinstance(version, str) else version
