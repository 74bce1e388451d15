"""The monitor as a service: a straight line that reads as its wiring diagram."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from vedette import __version__
from vedette.chassis.chores import kept_alive
from vedette.chassis.service import Service
from vedette.core.clock import Clock
from vedette.core.metrics import Metrics
from vedette.core.ports import EventStream, Registry
from vedette.entities.alerts import Notification
from vedette.entities.monitors import Execution, Monitor
from vedette.monitor import rpc
from vedette.monitor.alerting.addresses import AddressGuard
from vedette.monitor.alerting.alert_list import Alerts
from vedette.monitor.alerting.alert_upkeep import AlertUpkeep
from vedette.monitor.alerting.announcements import AnnouncementReader
from vedette.monitor.alerting.receivers import Webhooks
from vedette.monitor.alerting.webhooks import WebhookSender
from vedette.monitor.config import MonitorSettings
from vedette.monitor.desk import Desk, Monitors, Results
from vedette.monitor.executions import EvaluationLimits, Executions
from vedette.monitor.http import ACTIONS, UPLOADS, build_app
from vedette.monitor.reference_data.baselines import Baselines
from vedette.monitor.references import References
from vedette.monitor.results.execution_files import ExecutionFolder
from vedette.monitor.results.publications import Publications
from vedette.monitor.results.reports import Reports, ReportSettings
from vedette.monitor.traffic.archive import Archive, ArchiveSettings
from vedette.monitor.traffic.folding import FoldLimits
from vedette.monitor.traffic.intake import Intake, IntakeLimits
from vedette.monitor.traffic.labels import LabelLimits, Labels, PredictionIndex
from vedette.monitor.upkeep import Retention, Upkeep
from vedette.ports import baselines
from vedette.ports.monitors import MonitorStore

log = logging.getLogger(__name__)

_LAST_COMMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class MonitorPorts:
    """What the monitor needs from outside. The service closes them."""

    store: MonitorStore
    registry: Registry
    baselines: baselines.Baselines
    stream: EventStream
    metrics: Metrics
    clock: Clock
    address: str = ""
    """Base URL of this service, for links where the settings name none."""


def build(config: MonitorSettings, ports: MonitorPorts) -> Service:
    """Wire the monitor; connects to nothing and starts nothing."""
    store, clock, metrics = ports.store, ports.clock, ports.metrics
    folder = config.data_dir / "monitor"
    references = References(ports.registry, ports.baselines, store, clock=clock, folder=folder / "models")
    index = PredictionIndex()
    guard = AddressGuard(allowed_hosts=config.webhook_allowed_hosts, ports=config.webhook_ports)
    sender = WebhookSender(store, guard, clock=clock, metrics=metrics, public_url=config.public_url or ports.address)
    files = ExecutionFolder(folder / "results", retention_s=config.execution_retention_s)
    publications = Publications(store, references, files)
    reports = Reports(
        ReportSettings(folder / "reports", max_reports=config.max_reports),
        publications.samples,
        metrics=metrics,
        known=publications.known,
    )
    publications.reports = reports
    life = _Life(ports, config, references, sender)
    executions = _executions(config, ports, references, stored=publications.offer, told=life.told)
    intake = _intake(config, ports, references, index, sealed=executions.wake)
    labels = _labels(config, ports, references, index, executions)
    monitors = Monitors(store, references, clock=clock, scores=executions.scores, changed=intake.refresh)
    upkeep = _upkeep(config, ports, references, monitors, index, labels, files)
    desk = Desk(
        monitors,
        Results(store, references, clock=clock),
        labels,
        Alerts(store, clock=clock),
        Webhooks(store, guard, clock=clock),
        Baselines(
            ports.baselines,
            folder=folder / "uploads",
            max_bytes=config.max_baseline_bytes,
            graph=references.graph,
        ),
        reports,
    )
    announcements = AnnouncementReader(ports.stream, store, clock=clock, repeat_s=config.repeat_s)
    life.intake, life.executions, life.archive, life.desk = intake, executions, _archive(config, ports), desk
    life.chores = [
        references.run,
        executions.run,
        lambda: labels.follow(ports.stream),
        announcements.run,
        upkeep.run,
        sender.run,
        reports.run,
        publications.run,
    ]
    return Service(
        name="monitor",
        asgi=build_app(desk, version=__version__, max_json_bytes=config.max_json_bytes),
        asgi_actions=ACTIONS,
        asgi_uploads=UPLOADS,
        rpc=(rpc.service(desk),),
        start=life.start,
        ready=lambda: intake.trouble or executions.trouble,
        drain=intake.stop,
        stop=life.stop,
    )


def _executions(
    config: MonitorSettings,
    ports: MonitorPorts,
    references: References,
    *,
    stored: Callable[[Execution, Monitor], None],
    told: Callable[[list[Notification]], None],
) -> Executions:
    return Executions(
        ports.store,
        references,
        clock=ports.clock,
        metrics=ports.metrics,
        limits=EvaluationLimits(timeout_s=config.evaluation_timeout_s, kept_profiles=config.kept_profiles),
        repeat_s=config.repeat_s,
        stored=stored,
        told=told,
    )


def _intake(
    config: MonitorSettings,
    ports: MonitorPorts,
    references: References,
    index: PredictionIndex,
    *,
    sealed: Callable[[], None],
) -> Intake:
    return Intake(
        ports.stream,
        ports.store,
        references,
        index,
        clock=ports.clock,
        metrics=ports.metrics,
        fold_limits=FoldLimits(config.max_skew_s, config.idle_s, config.max_empty_windows),
        limits=IntakeLimits(commit_s=config.commit_s, kept_predictions=config.kept_predictions),
        sealed=sealed,
    )


def _labels(
    config: MonitorSettings, ports: MonitorPorts, references: References, index: PredictionIndex, executions: Executions
) -> Labels:
    return Labels(
        ports.store,
        index,
        clock=ports.clock,
        metrics=ports.metrics,
        limits=LabelLimits(config.kept_labels),
        served=references,
        reopened=executions.wake,
    )


def _upkeep(
    config: MonitorSettings,
    ports: MonitorPorts,
    references: References,
    monitors: Monitors,
    index: PredictionIndex,
    labels: Labels,
    files: ExecutionFolder,
) -> Upkeep:
    return Upkeep(
        ports.store,
        ports.stream,
        references,
        monitors,
        index,
        labels,
        AlertUpkeep(ports.store, clock=ports.clock, metrics=ports.metrics),
        clock=ports.clock,
        metrics=ports.metrics,
        retention=Retention(config.execution_retention_s, config.label_horizon_s),
        files=(lambda: files.sweep(ports.clock.time()), lambda: references.sweep(ports.clock.time())),
    )


def _archive(config: MonitorSettings, ports: MonitorPorts) -> Archive | None:
    if not config.archive:
        return None
    settings = ArchiveSettings(
        config.data_dir / "monitor" / "archive",
        retention_s=config.archive_retention_s,
        max_bytes=config.archive_max_bytes,
        sagemaker=config.archive_sagemaker,
    )
    return Archive(ports.stream, settings, clock=ports.clock, metrics=ports.metrics)


class _Life:
    """Start and stop of the monitor's tasks."""

    intake: Intake
    executions: Executions
    archive: Archive | None
    desk: Desk

    def __init__(
        self, ports: MonitorPorts, config: MonitorSettings, references: References, sender: WebhookSender
    ) -> None:
        self._ports = ports
        self._config = config
        self._references = references
        self._sender = sender
        self.chores: list[Callable[[], Awaitable[Any]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._consumers: list[asyncio.Task[None]] = []

    def told(self, notifications: list[Notification]) -> None:
        """Notifications are in the outbox. Called from threads."""
        if notifications:
            self._loop.call_soon_threadsafe(self._sender.wake)

    async def start(self) -> None:
        """Bring the store up to date, remember what was known, begin the tasks."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._ports.store.migrate)
        await asyncio.to_thread(self._references.restore)
        await asyncio.to_thread(self.desk.baselines.prepare)
        self._tasks = [asyncio.create_task(kept_alive(chore)) for chore in self.chores]
        self._consumers = [asyncio.create_task(kept_alive(self.intake.run))]
        if self.archive is not None:
            self._consumers.append(asyncio.create_task(kept_alive(self.archive.run)))

    async def stop(self) -> None:
        """Store what was folded, end the tasks, close what was opened."""
        self.intake.stop()
        if self.archive is not None:
            self.archive.stop()
        if self._consumers:
            await asyncio.wait(self._consumers, timeout=_LAST_COMMIT_S)
        for task in (*self._consumers, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._consumers, *self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._ports.store.close)
        await self._ports.stream.close()
        await self._ports.registry.close()
