"""What an operator can tell the registry.

Rule: every field has a default that works on a laptop.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vedette.chassis.config import ServiceSettings

GIB = 1024 * 1024 * 1024


class RegistrySettings(ServiceSettings):
    """Settings of the registry: table `[registry]`, environment `VEDETTE_REGISTRY__*`."""

    port: int = Field(default=8090, ge=0, le=65535)
    """HTTP port; 0 picks a free one."""
    grpc_port: int = Field(default=8091, ge=0, le=65535)
    """gRPC port; 0 picks a free one."""
    catalog_url: str = ""
    """SQLAlchemy address of the catalog, for example postgresql+psycopg://...; empty: SQLite in `data_dir`."""
    catalog_password_file: Path | None = None
    """File with the catalog's password, used where `catalog_url` has none; None: no password is needed."""
    max_artifact_bytes: int = Field(default=2 * GIB, ge=1)
    """Largest model version: all its files together."""
    max_baseline_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    """Largest baseline: statistics, constraints and profile together."""
    max_json_bytes: int = Field(default=1024 * 1024, ge=1024)
    """Largest JSON document that a control route takes."""
    max_uploads: int = Field(default=64, ge=1)
    """Uploads that may be under way at once."""
    upload_ttl_s: float = Field(default=6 * 3600.0, gt=0)
    """Seconds until an upload that was not committed is thrown away."""
    import_roots: tuple[str, ...] = ()
    """Folders and s3:// prefixes that versions may be imported from; none unless told otherwise."""
    require_approval: bool = False
    """Deploy only versions that somebody has approved."""
    allowed_providers: tuple[str, ...] = ()
    """Execution providers that endpoints may ask for; empty: those of this installation's ONNX Runtime."""
    concurrent_admissions: int = Field(default=2, ge=1, le=64)
    """Uploaded models that are tried out at the same time, each in a child process of its own."""
    admission_memory_bytes: int = Field(default=4 * GIB, ge=64 * 1024 * 1024)
    """Address space that trying out a model may take beyond the model's files."""
    admission_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that trying out a model may take."""
    lease_s: float = Field(default=15.0, gt=0)
    """A replica that has not reported for this long counts as dead."""
    sweep_interval_s: float = Field(default=1.0, gt=0)
    """Seconds between looks at leases and expired uploads."""
