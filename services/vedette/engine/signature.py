"""The signature of a loaded graph: names, protocol datatypes, shapes.

Rule: a graph whose inputs or outputs the protocol cannot carry has no signature, and the error says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vedette.core.errors import InvalidArgument
from vedette.core.models import TensorSpec
from vedette.engine.datatypes import DATATYPE_OF_ONNX, unsupported

MOST_TENSORS = 1024
"""Inputs, and outputs, that a graph may have."""
LONGEST_NAME = 256
_MOST_DIMS = 32  # numpy before 2.0 allowed no more, and nobody needs them


class NodeArg(Protocol):
    """An input or output as ONNX Runtime describes it."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> Sequence[object] | None: ...


def tensor_specs(role: str, args: Sequence[NodeArg]) -> tuple[TensorSpec, ...]:
    """The `inputs` or `outputs` (that is `role`'s singular) of a graph; symbolic dimensions become -1.

    Raises:
        InvalidArgument: none at all, too many, a missing, repeated or unprintable name, a type or shape
            that cannot be served.
    """
    if not args:
        raise InvalidArgument(f"the graph has no {role}s, so there is nothing to serve")
    if len(args) > MOST_TENSORS:
        raise InvalidArgument(f"the graph has {len(args)} {role}s; at most {MOST_TENSORS} can be served")
    names = [arg.name for arg in args]
    for name in names:
        check_tensor_name(role, name)
    if len(set(names)) != len(names):
        raise InvalidArgument(f"two {role}s of the graph have the same name")
    return tuple(_spec(role, arg) for arg in args)


def check_tensor_name(role: str, name: str) -> None:
    """Raise `InvalidArgument` for a name that cannot stand in a request: empty, too long, unprintable."""
    if not name:
        raise InvalidArgument(f"an {role} of the graph has no name")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidArgument(
            f"{role} {name[:40]!r} has a name that is longer than {LONGEST_NAME} or not printable text"
        )


def _spec(role: str, arg: NodeArg) -> TensorSpec:
    datatype = DATATYPE_OF_ONNX.get(arg.type)
    if datatype is None:
        raise InvalidArgument(unsupported(role, arg.name, arg.type))
    dims = list(arg.shape or ())
    if len(dims) > _MOST_DIMS:
        raise InvalidArgument(f"{role} {arg.name!r} has {len(dims)} dimensions; at most {_MOST_DIMS} can be served")
    return TensorSpec(arg.name, datatype, tuple(_dim(dim) for dim in dims))


def _dim(dim: object) -> int:
    """A fixed size, or -1 for a symbol, a missing size or the negative ones that some exporters write."""
    return dim if isinstance(dim, int) and dim >= 0 else -1
