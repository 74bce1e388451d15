"""Parameters of requests, inputs and outputs: what is reserved, what is refused.

Rule: a reserved parameter either works or is refused; the rest passes through untouched. `timeout`,
`priority`, `triton_enable_empty_final_response` and sequence parameters that say "no sequence" pass
through for the dataplane; sequences and shared memory are `Unimplemented`; `headers` and other names that
begin with `triton_` are the server's own and `InvalidArgument`.
"""

from __future__ import annotations

from collections.abc import Mapping

from vedette.core.errors import InvalidArgument, Unimplemented
from vedette.core.tensors import Parameter

_SHARED_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_MAX_INTEGER = 2**64 - 1
_MIN_INTEGER = -(2**63)


def check_parameters(parameters: Mapping[str, Parameter]) -> None:
    """Check the parameters of a request as a whole (REST and gRPC alike).

    Raises:
        InvalidArgument: a reserved name, or a reserved parameter with a value of the wrong kind.
        Unimplemented: sequences.
    """
    for name, value in parameters.items():
        if name in _SEQUENCE:
            if value not in (0, "", False):
                raise Unimplemented(f"parameter {name!r}: sequences are not supported")
        elif name in ("timeout", "priority"):
            whole_number(name, value)
        elif name == "triton_enable_empty_final_response":
            flag(name, value)
        elif name == "headers" or name.startswith("triton_"):
            raise InvalidArgument(f"parameter {name[:80]!r} is reserved")
        if type(value) is int and not _MIN_INTEGER <= value <= _MAX_INTEGER:
            raise InvalidArgument(f"parameter {name[:80]!r}: the integer does not fit in 64 bits")


def check_no_shared_memory(name: str, parameters: Mapping[str, Parameter]) -> None:
    """Refuse a tensor whose bytes are said to lie in shared memory.

    Raises:
        Unimplemented: names the tensor.
    """
    for key in _SHARED_MEMORY:
        if key in parameters:
            raise Unimplemented(f"tensor {name!r}: shared memory is not supported")


def flag(name: str, value: Parameter) -> bool:
    """The value of a parameter that must be true or false."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"parameter {name!r} must be true or false")
    return value


def whole_number(name: str, value: Parameter) -> int:
    """The value of a parameter that must be an integer of at least 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidArgument(f"parameter {name!r} must be a non-negative integer")
    return value
