"""Errors as AWS's clients read them: the code in `x-amzn-errortype`, the text in `Message`.

boto3 sends a request again on 500, 502, 503 and 504. A request that may have run is therefore answered with
424 ModelError, which it does not send again; only what certainly did not run gets a code that is retried.

Source: botocore's sagemaker-runtime model; the texts are those that AWS's users report.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from vedette.chassis.http import HttpResponse
from vedette.codec.content import NotAcceptable, UnsupportedMediaType
from vedette.core.errors import (
    CaptureFailed,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ModelFailed,
    NotFound,
    Overloaded,
    TooLarge,
    Unavailable,
    Unimplemented,
    VedetteError,
)


@dataclass(frozen=True, slots=True)
class Account:
    """Where the service pretends to be, in the words of an ARN."""

    id: str
    region: str

    def log_stream(self, endpoint: str) -> str:
        """The ARN of an endpoint's log."""
        return f"arn:aws:logs:{self.region}:{self.id}:log-group:/aws/sagemaker/Endpoints/{endpoint}"


class BadCall(InvalidArgument):
    """The call itself is wrong, not what it carries to the model."""


def aws_error(code: str, status: int, message: str, **members: object) -> HttpResponse:
    """An error in AWS's REST-JSON shape."""
    headers = [("content-type", "application/json"), ("x-amzn-errortype", code)]
    return HttpResponse(status, msgspec.json.encode({"Message": message, **members}), headers)


def render_error(error: VedetteError) -> HttpResponse:
    """What the chassis shows for errors outside a handler, and `/invocations` for all: the container's own status."""
    code, status = _CONTAINER.get(type(error), ("ValidationError", error.http_status))
    return aws_error(code, status, error.message)


def render_invocation_error(error: VedetteError, endpoint: str, account: Account) -> HttpResponse:
    """What a caller of `/endpoints/{name}/invocations` gets."""
    if isinstance(error, NotFound):
        return aws_error("ValidationError", 400, f"Endpoint {endpoint} of account {account.id} not found.")
    if isinstance(error, BadCall):
        return aws_error("ValidationError", 400, error.message)
    if isinstance(error, TooLarge):
        return aws_error("ValidationError", 413, error.message)
    if isinstance(error, Unavailable):
        return aws_error("ModelNotReadyException", 429, error.message)
    if isinstance(error, Overloaded):
        return aws_error("ThrottlingException", 429, error.message)
    _, status = _CONTAINER.get(type(error), ("", error.http_status))
    return _model_error(error.message, status, endpoint, account)


def _model_error(text: str, status: int, endpoint: str, account: Account) -> HttpResponse:
    side = "client" if status < 500 else "server"
    message = (
        f'Received {side} error ({status}) from primary with message "{text}". '
        f"See the log of endpoint {endpoint} in account {account.id} for more information."
    )
    members = {"OriginalStatusCode": status, "OriginalMessage": text, "LogStreamArn": account.log_stream(endpoint)}
    return aws_error("ModelError", 424, message, **members)


_CONTAINER: dict[type[VedetteError], tuple[str, int]] = {
    UnsupportedMediaType: ("ValidationError", 415),
    NotAcceptable: ("ValidationError", 406),
    ModelFailed: ("ModelError", 500),
    DeadlineExceeded: ("ModelError", 504),
    DataLoss: ("InternalFailure", 500),
    CaptureFailed: ("InternalFailure", 500),
    Internal: ("InternalFailure", 500),
    Overloaded: ("ThrottlingException", 429),
    Unavailable: ("ServiceUnavailable", 503),
    Unimplemented: ("NotImplemented", 501),
}
"""`/invocations` is the container contract: plain statuses that a platform in front turns into its own."""
