"""The table of services: which build function makes each, and which adapters its ports get.

Rule: each service is imported only when its worker starts, so that one service's process never loads
another's libraries; adapters are chosen here and nowhere else.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.core.errors import NotFound, Unavailable, VedetteError

if TYPE_CHECKING:
    from vedette.chassis.config import ServiceSettings, SettingLine
    from vedette.chassis.place import Place
    from vedette.chassis.service import Service
    from vedette.chassis.supervisor import ServicePlan
    from vedette.chassis.telemetry import CellMetrics
    from vedette.core.ports import EventStream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Module:
    """One service: where its settings class is, and how it is built with its adapters."""

    settings: str
    """`module:class`, imported on demand."""
    build: Callable[[Any, CellMetrics, Place], Service]
    needs: tuple[str, ...] = ()
    """Libraries that tell whether the service's extra is installed."""

    def load_class(self, name: str) -> type[ServiceSettings]:
        """The settings class.

        Raises:
            Unavailable: a library of the service is not installed.
        """
        module, _, attribute = self.settings.partition(":")
        with _Installed(name):
            found: type[ServiceSettings] = getattr(importlib.import_module(module), attribute)
        return found


class _Installed:
    """Turns a missing third-party library into the line that installs it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("vedette"):
            advice = f"pip install 'vedette[{self._name}]'"
            raise Unavailable(f"{self._name} needs {error.name}, which is not installed: {advice}") from error


def _stream(settings: ServiceSettings, metrics: CellMetrics) -> EventStream:
    from vedette.chassis.config import ConfigurationError
    from vedette.storage.sqlite_stream import SqliteEventStream

    scheme, _, folder = settings.stream_url.partition(":///")
    if settings.stream_url and (scheme != "sqlite" or not folder):
        raise ConfigurationError(f"stream_url is sqlite:///<folder>, not {settings.stream_url[:200]!r}")
    return SqliteEventStream(
        Path(folder) if folder else settings.data_dir / "stream",
        retention_s=settings.stream_retention_hours * 3600,
        retention_bytes=settings.stream_retention_bytes,
        metrics=metrics,
    )


def _registry(settings: Any, metrics: CellMetrics, place: Place) -> Service:  # noqa: ARG001
    from vedette.chassis.config import read_secret
    from vedette.core.clock import SystemClock
    from vedette.registry.service import RegistryPorts, build
    from vedette.storage.files import FileArtifactStore
    from vedette.storage.sql import SqlCatalog

    folder = settings.data_dir / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    password = read_secret(settings.catalog_password_file) if settings.catalog_password_file else ""
    catalog = SqlCatalog(settings.catalog_url or f"sqlite:///{(folder / 'catalog.db').resolve()}", password=password)
    return build(
        settings,
        RegistryPorts(
            catalog=catalog,
            artifacts=FileArtifactStore(folder / "artifacts"),
            stream=_stream(settings, metrics),
            metrics=metrics,
            clock=SystemClock(),
        ),
    )


def _inference(settings: Any, metrics: CellMetrics, place: Place) -> Service:
    from vedette.core.clock import SystemClock
    from vedette.inference.service import InferencePorts, build
    from vedette.registry.client import GrpcRegistry

    address = settings.registry_address
    if "registry_address" not in settings.model_fields_set:  # nothing was asked for: the one beside us
        address = place.peers.get("registry", address)
    return build(
        settings,
        InferencePorts(
            registry=GrpcRegistry(address),
            stream=_stream(settings, metrics),
            metrics=metrics,
            clock=SystemClock(),
            worker=place.index,
        ),
    )


def _monitor(settings: Any, metrics: CellMetrics, place: Place) -> Service:
    from vedette.chassis.allocator import keep_little

    keep_little()
    from vedette.chassis.config import read_secret
    from vedette.core.clock import SystemClock
    from vedette.monitor.service import MonitorPorts, build
    from vedette.registry.client import GrpcRegistry
    from vedette.storage.sql_monitors import SqlMonitorStore

    address = settings.registry_address
    if "registry_address" not in settings.model_fields_set:  # nothing was asked for: the one beside us
        address = place.peers.get("registry", address)
    password = read_secret(settings.store_password_file) if settings.store_password_file else ""
    file = (settings.data_dir / "monitor" / "monitor.db").resolve()
    registry = GrpcRegistry(address)
    return build(
        settings,
        MonitorPorts(
            store=SqlMonitorStore(settings.store_url or f"sqlite:///{file}", password=password),
            registry=registry,
            baselines=registry,
            stream=_stream(settings, metrics),
            metrics=metrics,
            clock=SystemClock(),
            address=place.named_url,
        ),
    )


SERVICES: dict[str, Module] = {
    "registry": Module("vedette.registry.config:RegistrySettings", _registry, ("fastapi", "sqlalchemy")),
    "inference": Module("vedette.inference.config:InferenceSettings", _inference, ("uvloop", "onnxruntime")),
    "monitor": Module("vedette.monitor.config:MonitorSettings", _monitor, ("fastapi", "sqlalchemy", "datasketches")),
}


def installed() -> list[str]:
    """The services whose libraries are here."""
    return [name for name, module in SERVICES.items() if all(map(importlib.util.find_spec, module.needs))]


def load(name: str, config_file: Path | None = None) -> ServiceSettings:
    """The settings of a service, checked together with the rest of the file and the environment.

    Raises:
        NotFound: no such service. ConfigurationError: as `load_settings` and `check_sections`.
        Unavailable: the service's libraries are not installed.
    """
    with _Installed(name):
        from vedette.chassis.config import check_sections, load_settings
    module = _module(name)
    check_sections(SERVICES, file=config_file)
    return load_settings(module.load_class(name), name, file=config_file)


def describe(name: str, config_file: Path | None = None) -> list[SettingLine]:
    """Every setting of a service with its value, source and meaning. Raises like `load`."""
    with _Installed(name):
        from vedette.chassis.config import check_sections, describe_settings
    module = _module(name)
    check_sections(SERVICES, file=config_file)
    return describe_settings(module.load_class(name), name, file=config_file)


def plan(names: Sequence[str], config_file: Path | None = None) -> list[ServicePlan]:
    """What `chassis.supervisor.supervise` needs to run these services. Raises like `load`."""
    from vedette.chassis.supervisor import ServicePlan

    plans = []
    for name in names:
        settings = load(name, config_file)
        plans.append(
            ServicePlan(
                service=name,
                # -P: a file in the user's folder never stands for a module
                command=(sys.executable, "-P", "-m", "vedette.modules"),
                config_file=str(config_file or ""),
                host=settings.host,
                port=settings.port,
                grpc_port=settings.grpc_port,
                workers=settings.workers,
                run_dir=str(settings.data_dir / "run"),
                drain_s=settings.drain_delay_s + settings.drain_timeout_s,
                hang_s=settings.hang_timeout_s,
            )
        )
    return plans


def run_worker(name: str, index: int, config_file: Path | None = None) -> int:
    """Be worker `index` of a service without a supervisor, until SIGTERM. Returns the exit status."""
    from vedette.chassis.place import open_place

    try:
        settings = load(name, config_file)
        place = open_place(name, settings)
    except VedetteError as error:
        sys.stderr.write(f"vedette: {name}: {error.message}\n")
        return 1
    place.index = index
    return _work(name, settings, place)


def main(arguments: Sequence[str]) -> int:
    """Be the worker that a supervisor's order describes: the one argument, as JSON. Returns the exit status."""
    from vedette.chassis.place import WorkerOrder, take_place

    order = WorkerOrder.decode(arguments[0])
    place = take_place(order)
    try:
        settings = load(order.service, Path(order.config_file) if order.config_file else None)
    except VedetteError as error:
        place.tell("failed", reason=error.message)
        return 1
    return _work(order.service, settings, place)


def _work(name: str, settings: ServiceSettings, place: Place) -> int:
    from vedette.chassis.logs import configure_logging
    from vedette.chassis.place import allow_many_connections, take_turns

    # Children are started with exec at once; gRPC's handlers around fork would only fill the log.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    take_turns()
    allow_many_connections()
    configure_logging(name, level=settings.log_level, form=settings.log_format)
    gc.disable()  # nothing of a thousand modules is garbage: 0.15 s of looking for some while they are imported
    try:
        with _Installed(name):
            import uvloop

            uvloop.run(_live(name, settings, place))
    except Exception as error:
        reason = _reason(error)
        place.tell("failed", reason=reason)
        # The operator can act on these two from the line alone; anything else is ours to find.
        log.critical("cannot run: %s", reason, exc_info=None if isinstance(error, (VedetteError, OSError)) else error)
        if not place.supervised:
            sys.stderr.write(f"vedette: {name}: {reason}\n")
        return 1
    finally:
        gc.enable()
        gc.unfreeze()  # else nanobind, at the end of the process, calls what was never looked at leaked
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, VedetteError):
        return error.message
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


async def _live(name: str, settings: ServiceSettings, place: Place) -> None:
    from vedette.chassis.cells import Region
    from vedette.chassis.lifecycle import Worker
    from vedette.chassis.telemetry import CellMetrics

    regions = [Region(fd) for fd in place.regions]
    metrics = CellMetrics(regions, own=place.index) if regions else CellMetrics.alone()
    service = _module(name).build(settings, metrics, place)
    gc.freeze()  # what stays for good is not looked at again
    gc.enable()
    await Worker(service, settings, metrics, place).run()


def _module(name: str) -> Module:
    if name not in SERVICES:
        raise NotFound(f"there is no service {name!r}; the services are {', '.join(SERVICES)}")
    return SERVICES[name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
