"""The statistics extension as protobuf.

Rule: field by field, nothing computed.
"""

from __future__ import annotations

from vedette.inference.statistics import BatchStatistics, Duration, ModelStatistics
from vedette.proto.inference.v1 import inference_pb2 as pb


def statistics_message(line: ModelStatistics) -> pb.ModelStatistics:
    """One line of the statistics extension."""
    return pb.ModelStatistics(
        name=line.name,
        version=line.version,
        last_inference=line.last_inference,
        inference_count=line.inference_count,
        execution_count=line.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(line.success),
            fail=_duration(line.fail),
            queue=_duration(line.queue),
            compute_input=_duration(line.compute_input),
            compute_infer=_duration(line.compute_infer),
            compute_output=_duration(line.compute_output),
            cache_hit=_duration(line.cache_hit),
            cache_miss=_duration(line.cache_miss),
        ),
        batch_stats=[_batch(batch) for batch in line.batch_stats],
        memory_usage=[
            pb.MemoryUsage(type=used.type, id=used.id, byte_size=used.byte_size) for used in line.memory_usage
        ],
    )


def _batch(batch: BatchStatistics) -> pb.InferBatchStatistics:
    return pb.InferBatchStatistics(
        batch_size=batch.batch_size,
        compute_input=_duration(batch.compute_input),
        compute_infer=_duration(batch.compute_infer),
        compute_output=_duration(batch.compute_output),
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
