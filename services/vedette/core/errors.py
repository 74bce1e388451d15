"""Every error that vedette shows to a caller, as one closed table.

VedetteError
|-- CallerError        the request is wrong; sending it again changes nothing
|   |-- InvalidArgument, NotFound, AlreadyExists, Conflict, TooLarge,
|   |-- Unauthenticated, PermissionDenied, Cancelled, Unimplemented
|-- ModelFailed        the model failed on this input
|-- Unavailable        a dependency or the thing asked for is not ready; may be sent again
|-- Overloaded         a limit was reached before any work was done; send again later
|-- DeadlineExceeded   the time given by the caller or the operator is over
|-- DataLoss           stored bytes do not match their digest
|-- CaptureFailed      the model answered, but the record that was promised could not be kept
|-- Internal           our fault; the text shows an id and nothing else

Rule: the message of a VedetteError is shown to the caller, so it names no path, host or stack.
Transports read `CODES`; an exception outside this tree is logged and shown as `Internal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Fault = Literal["caller", "model", "dependency", "us"]


@dataclass(frozen=True, slots=True)
class Code:
    """How one kind of error looks on each transport."""

    name: str
    http: int
    grpc: int
    fault: Fault
    meaning: str


CODES: dict[str, Code] = {
    code.name: code
    for code in (
        Code("invalid_argument", 400, 3, "caller", "the request is malformed or contradicts the model's signature"),
        Code("unauthenticated", 401, 16, "caller", "no valid credentials were given"),
        Code("permission_denied", 403, 7, "caller", "the credentials do not allow this action"),
        Code("not_found", 404, 5, "caller", "nothing of that name or version exists here"),
        Code("already_exists", 409, 6, "caller", "the name is taken by something different"),
        Code("conflict", 409, 9, "caller", "the thing is in a state that forbids this"),
        Code("too_large", 413, 8, "caller", "the request is over a size limit"),
        Code("cancelled", 499, 1, "caller", "the caller went away"),
        Code("unimplemented", 501, 12, "caller", "vedette does not do this; see the limits in the README"),
        Code("model_failed", 500, 13, "model", "the model raised an error on this input"),
        Code("unavailable", 503, 14, "dependency", "not ready, or a dependency is down; may be sent again"),
        Code("overloaded", 429, 8, "us", "a queue or limit is full; nothing ran; may be sent again"),
        Code("deadline_exceeded", 504, 4, "us", "the time allowed for the request is over"),
        Code("data_loss", 500, 15, "us", "stored bytes do not match their digest"),
        Code("capture_failed", 500, 13, "dependency", "the answer was made; the capture it promises was not kept"),
        Code("internal", 500, 13, "us", "a defect in vedette; the id finds it in the log"),
    )
}


class VedetteError(Exception):
    """An error with a code of `CODES` and a message that the caller may read."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def http_status(self) -> int:
        """The HTTP status of this error's code."""
        return CODES[self.code].http

    @property
    def grpc_status(self) -> int:
        """The gRPC status number of this error's code."""
        return CODES[self.code].grpc


class CallerError(VedetteError):
    """The request is wrong; sending it again changes nothing."""

    code = "invalid_argument"


class InvalidArgument(CallerError):
    """The request is malformed or contradicts the model's signature."""

    code = "invalid_argument"


class Unauthenticated(CallerError):
    """No valid credentials were given."""

    code = "unauthenticated"


class PermissionDenied(CallerError):
    """The credentials do not allow this action."""

    code = "permission_denied"


class NotFound(CallerError):
    """Nothing of that name or version exists here."""

    code = "not_found"


class AlreadyExists(CallerError):
    """The name is taken by something different."""

    code = "already_exists"


class Conflict(CallerError):
    """The thing is in a state that forbids this."""

    code = "conflict"


class TooLarge(CallerError):
    """The request is over a size limit."""

    code = "too_large"


class Cancelled(CallerError):
    """The caller went away before the answer was ready."""

    code = "cancelled"


class Unimplemented(CallerError):
    """A part of the protocol that vedette does not do, and says so."""

    code = "unimplemented"


class ModelFailed(VedetteError):
    """The model raised an error on this input."""

    code = "model_failed"


class Unavailable(VedetteError):
    """Not ready, or a dependency is down; may be sent again."""

    code = "unavailable"


class Overloaded(VedetteError):
    """A queue or limit is full; nothing ran; may be sent again."""

    code = "overloaded"


class DeadlineExceeded(VedetteError):
    """The time allowed for the request is over."""

    code = "deadline_exceeded"


class DataLoss(VedetteError):
    """Stored bytes do not match their digest."""

    code = "data_loss"


class CaptureFailed(VedetteError):
    """The model answered, but the record that strict capture promises could not be kept."""

    code = "capture_failed"


class Internal(VedetteError):
    """A defect in vedette; the message holds only the id that finds it in the log."""

    code = "internal"


def _concrete(root: type[VedetteError]) -> list[type[VedetteError]]:
    return [kind for child in root.__subclasses__() for kind in (child, *_concrete(child))]


BY_CODE: dict[str, type[VedetteError]] = {
    kind.code: kind for kind in _concrete(VedetteError) if kind is not CallerError
}


def error_from_code(code: str, message: str) -> VedetteError:
    """Rebuild the error that a server named by `code`; an unknown code becomes `Internal`."""
    return BY_CODE.get(code, Internal)(message)
