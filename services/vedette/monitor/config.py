"""What an operator can tell the monitor: table `[monitor]`, variables `VEDETTE_MONITOR__*`.

Rule: every field has a default that works on a laptop.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from vedette.chassis.config import ServiceSettings
from vedette.core.errors import InvalidArgument
from vedette.monitor.alerting.addresses import PORTS, AddressGuard

DAY_S = 86_400.0


class MonitorSettings(ServiceSettings):
    """Settings of the monitor. It has one worker: windows are folded in one place."""

    port: int = Field(default=8093, ge=0, le=65535)
    """HTTP port; 0 picks a free one."""
    grpc_port: int = Field(default=8096, ge=0, le=65535)
    """gRPC port; 0 picks a free one."""
    workers: int = 1
    """Always 1: the windows of a stream are folded by one process."""
    registry_address: str = "127.0.0.1:8091"
    """gRPC address of the registry, `host:port`."""
    store_url: str = ""
    """SQLAlchemy address of the monitor's store, for example postgresql+psycopg://...; empty: SQLite in `data_dir`."""
    store_password_file: Path | None = None
    """File with the store's password, used where `store_url` has none; None: no password is needed."""
    max_json_bytes: int = Field(default=1024 * 1024, ge=1024)
    """Largest JSON document that a control route takes."""
    max_baseline_bytes: int = Field(default=8 * 1024**3, ge=1024)
    """Largest file of reference data that a baseline is computed from."""
    commit_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds between two commits of what was folded, at least."""
    idle_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds without a capture after which windows close by the clock."""
    max_skew_s: float = Field(default=60.0, ge=0)
    """Captures with a time further ahead than this count as captured now."""
    max_empty_windows: int = Field(default=3, ge=0, le=1000)
    """Empty windows in a row that get a result of their own; a longer silence is told as one."""
    evaluation_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds that evaluating one window may take."""
    kept_profiles: int = Field(default=200, ge=0)
    """Profiles of evaluated windows that are kept for each monitor, for reports and files."""
    execution_retention_s: float = Field(default=90 * DAY_S, gt=0)
    """How long executions are kept."""
    label_horizon_s: float = Field(default=14 * DAY_S, gt=0)
    """How long predictions wait for their ground truth, and ground truth for its predictions."""
    kept_predictions: int = Field(default=1_000_000, ge=0)
    """Predictions of one endpoint that wait for ground truth."""
    kept_labels: int = Field(default=1_000_000, ge=1)
    """Labels of one endpoint that are kept."""
    archive: bool = True
    """Keep captures as Parquet files."""
    archive_sagemaker: bool = False
    """Keep captures as SageMaker's JSON Lines too."""
    archive_retention_s: float = Field(default=30 * DAY_S, gt=0)
    """How long archived captures are kept."""
    archive_max_bytes: int = Field(default=10 * 1024**3, ge=1024)
    """Disk that archived captures may take; the oldest hours go first."""
    max_reports: int = Field(default=200, ge=0)
    """Reports that are kept; the oldest go first."""
    webhook_allowed_hosts: tuple[str, ...] = ()
    """Private hosts that webhooks may reach all the same: names, addresses or networks, with or without a port or a
    span of ports."""
    webhook_ports: tuple[int, ...] = PORTS
    """Ports on which webhooks may reach other hosts."""
    public_url: str = ""
    """Address under which people reach this service, for links in notifications; empty: where it listens, with the
    machine's name where that is every address."""
    repeat_s: float = Field(default=0.0, ge=0)
    """Tell what still fires again after this time; 0: never."""

    @field_validator("workers")
    @classmethod
    def _one(cls, value: int) -> int:
        if value != 1:
            raise ValueError("the monitor has exactly one worker, because all windows are folded in one place")
        return value

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            AddressGuard(allowed_hosts=value)
        except InvalidArgument as error:
            raise ValueError(error.message) from None
        return value
