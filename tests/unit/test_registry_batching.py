"""What may be asked of batching, and what is refused with its name."""

from __future__ import annotations

import json
import re

import pytest

from vedette.core.errors import InvalidArgument
from vedette.core.models import DynamicBatching, EndpointConfig, Limits, QueuePolicy, Variant
from vedette.registry.batching import check_batching
from vedette.registry.endpoints import check_shape
from vedette.storage.records import document, parse

BAD = {
    "max_batch_size": DynamicBatching(max_batch_size=65),
    "max_batch_size must": DynamicBatching(max_batch_size=-1),
    "max_queue_delay_microseconds must": DynamicBatching(max_queue_delay_microseconds=-1),
    "under limits.timeout_s": DynamicBatching(max_queue_delay_microseconds=5_000_000),
    "preferred_batch_size must": DynamicBatching(preferred_batch_size=(8, 4), max_queue_delay_microseconds=1),
    "preferred_batch_size must be sizes from 1 to 4": DynamicBatching(
        max_batch_size=4, preferred_batch_size=(8,), max_queue_delay_microseconds=1
    ),
    "without a delay": DynamicBatching(preferred_batch_size=(4,)),
    "bucket_sizes must": DynamicBatching(bucket_sizes=(0,)),
    "bucket_sizes: at most": DynamicBatching(bucket_sizes=tuple(range(1, 200))),
    "priority_levels must": DynamicBatching(priority_levels=1000, default_priority_level=1),
    "default_priority_level must be 1 to 2": DynamicBatching(priority_levels=2),
    "default_priority_level needs": DynamicBatching(default_priority_level=1),
    "contradict": DynamicBatching(preserve_ordering=True, priority_levels=2, default_priority_level=1),
    "names level 3": DynamicBatching(
        priority_levels=2, default_priority_level=1, priority_queue_policy={3: QueuePolicy()}
    ),
    "default_queue_policy: timeout_action": DynamicBatching(
        default_queue_policy=QueuePolicy(timeout_action="WAIT")  # type: ignore[arg-type]
    ),
    "priority_queue_policy 1: max_queue_size": DynamicBatching(
        priority_levels=1, default_priority_level=1, priority_queue_policy={1: QueuePolicy(max_queue_size=-1)}
    ),
    "default_timeout_microseconds": DynamicBatching(default_queue_policy=QueuePolicy(default_timeout_microseconds=-1)),
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_kept_is_refused_by_name(text: str) -> None:
    """At deploy, before anything is stored."""
    config = EndpointConfig(
        "m", (Variant("a", 1),), limits=Limits(max_batch_rows=64, timeout_s=5.0), dynamic_batching=BAD[text]
    )
    with pytest.raises(InvalidArgument, match=f"dynamic_batching: .*{re.escape(text)}"):
        check_shape(config)


def test_everything_at_once_is_taken_where_it_fits() -> None:
    """Sizes within the limits, a policy for each level."""
    batching = DynamicBatching(
        max_batch_size=64,
        preferred_batch_size=(8, 64),
        max_queue_delay_microseconds=100,
        priority_levels=2,
        default_priority_level=2,
        priority_queue_policy={1: QueuePolicy("DELAY", 10, True, 5), 2: QueuePolicy()},
        bucket_sizes=(8, 4096),
    )
    check_batching(batching, Limits())


def test_an_endpoint_stored_before_there_was_batching_is_read() -> None:
    """It gets the defaults."""
    stored = json.loads(document(EndpointConfig("m", (Variant("a", 1),))))
    del stored["dynamic_batching"]
    assert parse(json.dumps(stored), EndpointConfig).dynamic_batching == DynamicBatching()
