"""The memory adapters: real behaviour, nothing durable. For tests, notebooks and trying things out.

Rule: they pass the same contract suites as every other adapter, rollback and isolation included.
"""

from vedette.storage.memory_artifacts import MemoryArtifactStore
from vedette.storage.memory_catalog import MemoryCatalog
from vedette.storage.memory_monitors import MemoryMonitorStore
from vedette.storage.memory_stream import MemoryEventStream

__all__ = ["MemoryArtifactStore", "MemoryCatalog", "MemoryEventStream", "MemoryMonitorStore"]
