"""Several graphs as one: the outputs of a step feed the next.

Rule: how steps are joined is decided once from their signatures, by `_wires`; running only follows it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Tensor
from vedette.engine.runtime import Runtime

Wires = dict[str, str]
"""Output of a step -> the input of the next that it feeds."""


class Chain:
    """A `Runtime` of several in a row; it owns them and closes them, once it exists.

    Raises:
        InvalidArgument: no steps, or two neighbours do not fit together.
    """

    def __init__(self, sessions: Sequence[Runtime]) -> None:
        if not sessions:
            raise InvalidArgument("a pipeline must have at least one step")
        self._steps = tuple(sessions)
        wires = [_wires(step, a.outputs, b.inputs) for step, (a, b) in enumerate(itertools.pairwise(self._steps), 1)]
        self._links = [(step, tuple(wiring), wiring) for step, wiring in zip(self._steps, wires)]
        self.inputs: tuple[TensorSpec, ...] = self._steps[0].inputs
        self.outputs: tuple[TensorSpec, ...] = self._steps[-1].outputs
        self.output_names: tuple[str, ...] = self._steps[-1].output_names

    @property
    def memory_bytes(self) -> int:
        """The sum over the steps."""
        return sum(step.memory_bytes for step in self._steps)

    @property
    def load_time_ms(self) -> float:
        """The sum over the steps."""
        return sum(step.load_time_ms for step in self._steps)

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See `Runtime.run`. A step computes only what the next one takes."""
        for step, names, wiring in self._links:
            given = step.run(feeds, names)
            feeds = {wiring[tensor.name]: replace(tensor, name=wiring[tensor.name]) for tensor in given}
        return self._steps[-1].run(feeds, outputs)

    def close(self) -> None:
        """Close every step."""
        for step in self._steps:
            step.close()


def check_chain(signatures: Sequence[Signature]) -> Signature:
    """The signature of graphs run in a row; nothing is loaded.

    Inputs, feature names, categories and kind are the first step's; outputs, labels and target the last's.

    Raises:
        InvalidArgument: no steps, or two neighbours do not fit together; it says which and why.
    """
    if not signatures:
        raise InvalidArgument("a pipeline must have at least one step")
    for step, (a, b) in enumerate(itertools.pairwise(signatures), 1):
        _wires(step, a.outputs, b.inputs)
    last = signatures[-1]
    return replace(signatures[0], outputs=last.outputs, label_names=last.label_names, target=last.target)


def _wires(step: int, outputs: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> Wires:
    """Join by name if every input is among the outputs, else by position if there are as many of both."""
    by_name = {spec.name: spec for spec in outputs}
    if all(spec.name in by_name for spec in inputs):
        pairs = [(by_name[spec.name], spec) for spec in inputs]
    elif len(outputs) == len(inputs):
        pairs = list(zip(outputs, inputs))
    else:
        missing = ", ".join(repr(spec.name) for spec in inputs if spec.name not in by_name)
        raise InvalidArgument(
            f"pipeline step {step + 1} takes {missing}, which step {step} does not give, "
            f"and {len(outputs)} outputs cannot be matched with {len(inputs)} inputs by position"
        )
    for output, taken in pairs:
        _check_join(step, output, taken)
    return {output.name: taken.name for output, taken in pairs}


def _check_join(step: int, output: TensorSpec, taken: TensorSpec) -> None:
    joined = f"output {output.name!r} of pipeline step {step} does not fit input {taken.name!r} of step {step + 1}"
    if output.datatype != taken.datatype:
        raise InvalidArgument(f"{joined}: {output.datatype} is not {taken.datatype}")
    if len(output.shape) != len(taken.shape):
        raise InvalidArgument(f"{joined}: {len(output.shape)} dimensions are not {len(taken.shape)}")
    for given, wanted in zip(output.shape, taken.shape):
        if given != wanted and given >= 0 and wanted >= 0:
            raise InvalidArgument(f"{joined}: shape {list(output.shape)} is not {list(taken.shape)}")
