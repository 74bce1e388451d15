"""What a caller asks of an endpoint, as path, headers and body of the Open Inference Protocol.

Rule: no input or output here; both clients send what this says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

from vedette.core.models import check_name
from vedette.core.tensors import InferRequest, Parameter, RequestedOutput, Tensor


def model_path(endpoint: str, version: str) -> str:
    """Where an endpoint, or a version of it, is on the data plane.

    Raises:
        InvalidArgument: what would be another path to the server than the one meant.
    """
    pinned = f"/versions/{quote(check_name(version, 'version'), safe='')}" if version else ""
    return f"/v2/models/{quote(check_name(endpoint, 'endpoint name'), safe='')}{pinned}"


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question: everything but the data."""

    endpoint: str
    version: str = ""
    variant: str = ""
    outputs: tuple[str, ...] = ()
    parameters: dict[str, Parameter] = field(default_factory=dict)
    id: str = ""
    inference_id: str = ""
    binary: bool = True

    @property
    def path(self) -> str:
        """Where it goes."""
        return f"{model_path(self.endpoint, self.version)}/infer"

    def headers(self, json_length: int | None) -> dict[str, str]:
        """The headers, with the length of the JSON part where binary tensors follow it."""
        headers = {"content-type": "application/json" if json_length is None else "application/octet-stream"}
        if json_length is not None:
            headers["inference-header-content-length"] = str(json_length)
        if self.variant:
            headers["x-amzn-sagemaker-target-variant"] = self.variant
        if self.inference_id:
            headers["x-amzn-sagemaker-inference-id"] = self.inference_id
        return headers

    def request(self, inputs: list[Tensor]) -> InferRequest:
        """The request as the codec encodes it; outputs come back the way the inputs went."""
        return InferRequest(
            endpoint=self.endpoint,
            inputs=inputs,
            version=self.version,
            id=self.id,
            outputs=[RequestedOutput(name, binary=self.binary) for name in self.outputs],
            parameters=dict(self.parameters),
            target_variant=self.variant,
            inference_id=self.inference_id,
            binary_output=self.binary,
        )
