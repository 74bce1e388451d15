"""The protocol's documents made of the data plane's answers.

Source: kserve/open-inference-protocol and Triton's statistics extension.
"""

from __future__ import annotations

from vedette.core.models import TensorSpec
from vedette.inference.dataplane import EndpointMetadata
from vedette.inference.statistics import BatchStatistics, ModelStatistics


def metadata_document(metadata: EndpointMetadata) -> dict[str, object]:
    """Model metadata; `signature` is vedette's addition: what is known of the meaning of columns and labels."""
    signature = metadata.signature
    return {
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
        "signature": {
            "feature_names": signature.feature_names,
            "categories": signature.categories,
            "label_names": signature.label_names,
            "kind": signature.kind,
            "target": signature.target,
        },
    }


def statistics_document(statistics: ModelStatistics) -> dict[str, object]:
    """One entry of `model_stats`."""
    return {
        "name": statistics.name,
        "version": statistics.version,
        "last_inference": statistics.last_inference,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": {
            "success": statistics.success,
            "fail": statistics.fail,
            "queue": statistics.queue,
            "compute_input": statistics.compute_input,
            "compute_infer": statistics.compute_infer,
            "compute_output": statistics.compute_output,
            "cache_hit": statistics.cache_hit,
            "cache_miss": statistics.cache_miss,
        },
        "response_stats": {},
        "batch_stats": [_batch(batch) for batch in statistics.batch_stats],
        "memory_usage": statistics.memory_usage,
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _batch(batch: BatchStatistics) -> dict[str, object]:
    return {
        "batch_size": batch.batch_size,
        "compute_input": batch.compute_input,
        "compute_infer": batch.compute_infer,
        "compute_output": batch.compute_output,
    }
