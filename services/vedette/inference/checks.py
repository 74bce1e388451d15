"""Does a request fit the model's signature? Everything here is prepared at load; a request pays comparisons only.

Rule: the text of a refusal says which tensor, what it has and what the model takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Parameter, RequestedOutput, Tensor

RESERVED = frozenset(
    (
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
        "binary_data_size",
    )
)
"""Request parameters with a meaning of their own (Triton, protocol/extension_parameters); not echoed."""


class SignatureCheck:
    """One signature with the endpoint's limit on rows, ready to be compared with requests."""

    def __init__(self, signature: Signature, max_rows: int) -> None:
        self.signature = signature
        self._max_rows = max_rows
        self._inputs = {spec.name: _Expected(spec) for spec in signature.inputs}
        self._outputs = {spec.name for spec in signature.outputs}
        self._all_outputs = tuple(spec.name for spec in signature.outputs)

    def feeds(self, inputs: Sequence[Tensor]) -> tuple[dict[str, Tensor], int]:
        """The inputs by name and the number of rows (1 where the model has no variable first dimension).

        Raises:
            InvalidArgument: names, datatypes, ranks, fixed dimensions or rows do not fit.
        """
        expected_inputs = self._inputs
        feeds: dict[str, Tensor] = {}
        rows = -1
        for tensor in inputs:
            expected = expected_inputs.get(tensor.name)
            if expected is None:
                self._refuse_name(tensor.name)
            shape = tensor.array.shape
            if tensor.datatype != expected.datatype or len(shape) != expected.rank:
                expected.refuse(tensor)
            for axis, size in expected.fixed:
                if shape[axis] != size:
                    expected.refuse(tensor)
            if expected.batched:
                if rows < 0:
                    rows = shape[0]
                elif rows != shape[0]:
                    raise InvalidArgument(
                        f"inputs disagree on rows: {tensor.name!r} has {shape[0]}, another has {rows}"
                    )
            feeds[tensor.name] = tensor
        if len(inputs) != len(expected_inputs) or len(feeds) != len(expected_inputs):
            self._refuse_count(inputs)
        if rows == 0 or rows > self._max_rows:
            self._refuse_rows(rows)
        return feeds, rows if rows > 0 else 1

    def outputs(self, requested: Sequence[RequestedOutput]) -> Sequence[str]:
        """Names of the outputs to compute, in the order asked for; all of them when none is named."""
        if not requested:
            return self._all_outputs
        names = [output.name for output in requested]
        for name in names:
            if name not in self._outputs:
                raise InvalidArgument(f"unknown output {name[:80]!r}; the model gives {_listed(self._all_outputs)}")
        if len(set(names)) != len(names):
            raise InvalidArgument("an output is requested twice")
        return names

    def _refuse_name(self, name: str) -> NoReturn:
        raise InvalidArgument(f"unknown input {name[:80]!r}; the model takes {_listed(self._inputs)}")

    def _refuse_count(self, inputs: Sequence[Tensor]) -> NoReturn:
        given = [tensor.name for tensor in inputs]
        missing = [name for name in self._inputs if name not in given]
        if missing:
            raise InvalidArgument(f"missing input {_listed(missing)}")
        twice = next(name for name in given if given.count(name) > 1)
        raise InvalidArgument(f"input {twice!r} is given twice")

    def _refuse_rows(self, rows: int) -> NoReturn:
        if rows == 0:
            raise InvalidArgument("the request has zero rows")
        raise InvalidArgument(f"the request has {rows} rows; this endpoint takes at most {self._max_rows}")


class _Expected:
    """One input of the signature, taken apart."""

    __slots__ = ("batched", "datatype", "fixed", "rank", "spec")

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.datatype = spec.datatype
        self.rank = len(spec.shape)
        self.fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if size >= 0)
        self.batched = bool(spec.shape) and spec.shape[0] < 0

    def refuse(self, tensor: Tensor) -> NoReturn:
        """Say what is wrong with a tensor that is known not to fit."""
        name = tensor.name
        if tensor.datatype != self.datatype:
            raise InvalidArgument(f"input {name!r} has datatype {tensor.datatype}; the model takes {self.datatype}")
        shape, wanted = list(tensor.array.shape), list(self.spec.shape)
        raise InvalidArgument(f"input {name!r} has shape {shape}; the model takes {wanted}")


def time_limit(parameters: Mapping[str, Parameter]) -> float | None:
    """The parameter `timeout` (microseconds) in seconds; None when it is absent or 0."""
    micros = _count(parameters, "timeout")
    return micros / 1e6 if micros else None


def priority(parameters: Mapping[str, Parameter]) -> int:
    """The parameter `priority`: 1 is first; 0 or absent comes after every request that has one."""
    return _count(parameters, "priority")


def echoed(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The caller's own parameters, which come back with the answer; reserved ones do not."""
    return {
        name: value for name, value in parameters.items() if name not in RESERVED and not name.startswith("triton_")
    }


def _count(parameters: Mapping[str, Parameter], name: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgument(f"parameter {name!r} must be a whole number of 0 or more")
    return value


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = [repr(name) for name in list(names)[:10]]
    return ", ".join(shown) + (", ..." if len(names) > 10 else "")
