"""An endpoint in the words of Triton's ModelConfig: facts about what is served, nothing that can be set.

Source: triton-inference-server/common, protobuf/model_config.proto; field names are the proto's.
"""

from __future__ import annotations

from dataclasses import asdict

from vedette.core.models import GRAPH_FILE, Signature, TensorSpec
from vedette.inference.router import Route, ServedVariant

_TYPES = {"BYTES": "TYPE_STRING"}


def model_config(route: Route, variant: ServedVariant) -> dict[str, object]:
    """The configuration that a version of the endpoint runs under.

    As Triton has it, `dims` leave out the batch dimension when `max_batch_size` is over 0.
    """
    signature = variant.check.signature
    batched = is_batched(signature)
    executor = variant.executor
    merging: dict[str, object] = {} if executor.unbatched else {"dynamic_batching": _merging(route)}
    told = {"not_batched": executor.unbatched} if executor.unbatched else {"merged_rows": str(executor.max_rows)}
    return merging | {
        "name": route.endpoint,
        "platform": variant.model_version.platform,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [int(version) for version in route.versions]}},
        "max_batch_size": route.config.limits.max_batch_rows if batched else 0,
        "input": [{**_tensor(spec, batched), "format": "FORMAT_NONE"} for spec in signature.inputs],
        "output": [{**_tensor(spec, batched), "label_filename": ""} for spec in signature.outputs],
        "instance_group": [{"name": f"{route.endpoint}_0", "kind": "KIND_CPU", "count": 1, "gpus": []}],
        "default_model_filename": GRAPH_FILE,
        "parameters": {name: {"string_value": value} for name, value in told.items()},
        "model_warmup": [],
    }


def _merging(route: Route) -> dict[str, object]:
    """The message ModelDynamicBatching; what is ours beyond it is left out."""
    settings = asdict(route.config.dynamic_batching)
    for ours in ("enabled", "max_batch_size", "bucket_sizes"):
        del settings[ours]
    policies = settings["priority_queue_policy"]
    return settings | {
        "preferred_batch_size": list(settings["preferred_batch_size"]),
        "priority_queue_policy": {str(level): policy for level, policy in policies.items()},
    }


def is_batched(signature: Signature) -> bool:
    """Whether every input and output has a variable first dimension: rows that are independent of each other."""
    return all(spec.shape[:1] == (-1,) for spec in (*signature.inputs, *signature.outputs))


def _tensor(spec: TensorSpec, batched: bool) -> dict[str, object]:  # noqa: FBT001 - a fact about the model, not a mode
    dims = list(spec.shape[1:] if batched else spec.shape)
    return {"name": spec.name, "data_type": _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"), "dims": dims}
