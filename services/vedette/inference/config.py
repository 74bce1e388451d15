"""Settings of the inference service: table `[inference]`, variables `VEDETTE_INFERENCE__*`.

Rule: every field is documented and has a usable default.
"""

from __future__ import annotations

from pydantic import Field

from vedette.chassis.config import ServiceSettings


class InferenceSettings(ServiceSettings):
    """What the inference service can be told."""

    port: int = Field(default=8080, ge=0, le=65535)
    """HTTP port; 0 picks a free one."""
    grpc_port: int = Field(default=8081, ge=0, le=65535)
    """gRPC port; 0 picks a free one."""
    registry_address: str = "127.0.0.1:8091"
    """gRPC address of the registry, `host:port`."""
    default_endpoint: str = ""
    """Endpoint that `POST /invocations` serves; empty: the only one there is."""
    account_id: str = Field(default="000000000000", pattern=r"^[0-9]{12}$")
    """Account number that SageMaker's error texts and log ARNs show."""
    region: str = Field(default="local", pattern=r"^[a-z0-9-]{1,32}$")
    """Region that SageMaker's log ARNs show."""
    max_invocation_bytes: int = Field(default=6 * 1024 * 1024, ge=1024)
    """Largest body of a SageMaker invocation (SageMaker's own limit is 6 MiB)."""
    inline_limit_us: float = Field(default=500.0, ge=0)
    """A request whose run is estimated shorter than this runs on the event loop, others in threads (0: all)."""
    model_threads: int = Field(default=0, ge=0, le=1024)
    """Threads of a worker that run models too slow for the event loop; 0: its share of the available CPUs."""
    shared_weights_min_bytes: int = Field(default=16 * 1024 * 1024, ge=0)
    """With several workers: versions at least this large are kept in a form that the workers map together (0: none)."""
    shadow_queue: int = Field(default=64, ge=1)
    """Copies for shadow variants that may wait; one more is dropped and counted."""
    capture_buffer: int = Field(default=16_384, ge=1, le=1_000_000)
    """Captured requests of a worker that may wait to be on the stream; one more is dropped and counted."""
    capture_buffer_bytes: int = Field(default=64 * 1024 * 1024, ge=64 * 1024)
    """Bytes that those may hold, together."""
    capture_interval_s: float = Field(default=0.5, gt=0, le=60)
    """Seconds that captured requests gather before they are published together; strict ones do not wait for it."""
    load_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a call of the repository API's load or unload waits for its effect."""
