"""What an endpoint may ask of batching.

Rule: pure; a setting that cannot be kept, or would do nothing, is refused with its name.
"""

from __future__ import annotations

from vedette.core.errors import InvalidArgument
from vedette.core.models import DynamicBatching, Limits, QueuePolicy

MAX_LEVELS = 100
MAX_SIZES = 100
MAX_DELAY_US = 60_000_000
MAX_TIMEOUT_US = 3_600_000_000


def check_batching(batching: DynamicBatching, limits: Limits) -> None:
    """Refuse settings that contradict each other, the endpoint's limits, or sense.

    Raises:
        InvalidArgument: names the setting.
    """
    most = limits.max_batch_rows
    if not 0 <= batching.max_batch_size <= most:
        raise _refusal(f"max_batch_size must be 0 to {most} (limits.max_batch_rows)")
    if not 0 <= batching.max_queue_delay_microseconds <= MAX_DELAY_US:
        raise _refusal(f"max_queue_delay_microseconds must be 0 to {MAX_DELAY_US}")
    if batching.max_queue_delay_microseconds >= limits.timeout_s * 1e6:
        raise _refusal("max_queue_delay_microseconds must be under limits.timeout_s, or every request could time out")
    _check_sizes("preferred_batch_size", batching.preferred_batch_size, batching.max_batch_size or most)
    _check_sizes("bucket_sizes", batching.bucket_sizes, most)
    if batching.preferred_batch_size and not batching.max_queue_delay_microseconds:
        raise _refusal(
            "preferred_batch_size needs max_queue_delay_microseconds: without a delay nothing waits for a size"
        )
    _check_levels(batching)
    _check_policy("default_queue_policy", batching.default_queue_policy)
    for level, policy in batching.priority_queue_policy.items():
        _check_policy(f"priority_queue_policy {level}", policy)


def _check_sizes(name: str, sizes: tuple[int, ...], most: int) -> None:
    if len(sizes) > MAX_SIZES:
        raise _refusal(f"{name}: at most {MAX_SIZES} sizes are allowed, {len(sizes)} were given")
    if list(sizes) != sorted(set(sizes)) or not all(1 <= size <= most for size in sizes):
        raise _refusal(f"{name} must be sizes from 1 to {most}, each larger than the one before")


def _check_levels(batching: DynamicBatching) -> None:
    levels = batching.priority_levels
    if not 0 <= levels <= MAX_LEVELS:
        raise _refusal(f"priority_levels must be 0 to {MAX_LEVELS}")
    if levels and not 1 <= batching.default_priority_level <= levels:
        raise _refusal(f"default_priority_level must be 1 to {levels} (priority_levels)")
    if not levels and batching.default_priority_level:
        raise _refusal("default_priority_level needs priority_levels")
    if levels > 1 and batching.preserve_ordering:
        raise _refusal("preserve_ordering and several priority_levels contradict each other")
    beyond = [level for level in batching.priority_queue_policy if not 1 <= level <= levels]
    if beyond:
        raise _refusal(f"priority_queue_policy names level {beyond[0]}; priority_levels is {levels}")


def _check_policy(name: str, policy: QueuePolicy) -> None:
    if policy.timeout_action not in ("REJECT", "DELAY"):
        raise _refusal(f"{name}: timeout_action must be REJECT or DELAY")
    if not 0 <= policy.default_timeout_microseconds <= MAX_TIMEOUT_US:
        raise _refusal(f"{name}: default_timeout_microseconds must be 0 to {MAX_TIMEOUT_US}")
    if not 0 <= policy.max_queue_size <= 1_000_000:
        raise _refusal(f"{name}: max_queue_size must be 0 to 1000000")


def _refusal(text: str) -> InvalidArgument:
    return InvalidArgument(f"dynamic_batching: {text}")
