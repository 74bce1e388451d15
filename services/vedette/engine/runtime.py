"""What the data plane runs: one graph or a chain of graphs behind one protocol.

Rule: a runtime blocks; whoever calls it decides on which thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vedette.core.models import TensorSpec
from vedette.core.tensors import Tensor


class Runtime(Protocol):
    """A loaded model. Safe to `run` from several threads at once; `close` only after the last run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """In the graph's order; -1 is a dimension of any size."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """In the graph's order."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of `outputs`."""

    @property
    def memory_bytes(self) -> int:
        """What loading it took, as far as it can be told; the arena may grow with larger batches."""

    @property
    def load_time_ms(self) -> float:
        """How long loading took."""

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on inputs that have been checked against `inputs`; give `outputs` in the order asked for.

        No outputs named means all of them. The arrays that come back belong to the caller.

        Raises:
            InvalidArgument: the input's fault: a shape, type or text that the graph does not take.
            ModelFailed: the graph failed on it.
            Unavailable: the runtime has been closed.
        """

    def close(self) -> None:
        """Give the memory back to the system; idempotent."""
