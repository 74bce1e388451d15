"""Settings: one class per service, read from a TOML table and over it the environment.

Rule: nothing else in vedette reads the environment; a key that no field has is an error, never ignored.
Secrets come as the path of a file (`read_secret`), so that no dump of settings or environment shows one.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vedette.core.errors import InvalidArgument

PREFIX = "VEDETTE_"
_FILE_VARIABLE = "VEDETTE_CONFIG"
_FOLDER_VARIABLE = "VEDETTE_DATA_DIR"
"""`data_dir` of every service that has no variable of its own: the command line looks there for the suite."""
_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):\S*(?=@)|([?&]password=)[^&\s]*")
"""The password of a URL: before the host, where it may itself hold `@`, or as libpq's query parameter."""


class ConfigurationError(InvalidArgument):
    """The configuration cannot be used; the message names the key and where it stands."""


class ServiceSettings(BaseModel):
    """What every service can be told. Each service's class adds its own fields; all have usable defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=False)

    host: str = "127.0.0.1"
    """Address to bind. Loopback unless told otherwise: there is no authentication yet."""
    port: int = Field(default=0, ge=0, le=65535)
    """HTTP port; 0 picks a free one."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """gRPC port; 0 picks a free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Worker processes that share the ports."""
    data_dir: Path = Path(".vedette")
    """Folder for everything the service keeps; made when absent."""
    stream_url: str = ""
    """The metrics stream, sqlite:///<folder>, the same for all services of a host; empty: `stream` in the data
    folder."""
    stream_retention_hours: float = Field(default=72.0, gt=0)
    """Hours that the metrics stream keeps a message."""
    stream_retention_bytes: int = Field(default=2 * 1024 * 1024 * 1024, ge=1024 * 1024)
    """Bytes on disk that the metrics stream keeps of each topic."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important level that is logged."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or lines for people."""
    max_request_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Largest request body, also after decompression, and largest gRPC message."""
    grpc_transport: Literal["grpcio", "fast"] = "grpcio"
    """What serves gRPC: grpcio, or pygrpc-native, which answers several times as many calls (the extra `fast`)."""
    grpc_max_calls: int = Field(default=1024, ge=1, le=1_000_000)
    """gRPC calls of a worker that may be open at once, streams and health checks too; one more is refused as
    overloaded. With grpc_transport fast twice: once for calls with one answer, once for all others."""
    grpc_max_connections: int = Field(default=0, ge=0, le=1_000_000)
    """gRPC connections of a worker at once; one more is closed. 0: 1024 with grpcio; grpc_transport fast cannot count
    them and refuses any other value."""
    grpc_trusted_clients: bool = False
    """Allow grpc_transport fast on an address beyond loopback: there a message is held and inflated in memory before
    max_request_bytes can refuse it, so every client that reaches the port must be trusted with that."""
    max_buffered_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    """Request bodies of a worker held in memory at once, together; one that does not fit is refused as overloaded."""
    idle_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds for the head of an HTTP request to arrive, and for a client to go on reading its answer."""
    keep_alive_timeout_s: float = Field(default=75.0, gt=0)
    """Seconds that an answered HTTP connection stays open for the next request: longer than a balancer before it
    keeps its own, or some requests meet a connection that is just closing."""
    receive_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds a client has to send a whole request body (for uploads: to send the next part of it)."""
    drain_delay_s: float = Field(default=0.0, ge=0)
    """Seconds between SIGTERM and the end of accepting, in which the service answers but is not ready."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds that requests in flight get to finish at shutdown."""
    hang_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds that a worker's event loop may stand still before the worker is killed and replaced; 0: for ever."""
    otlp_endpoint: str = ""
    """OTLP/HTTP address that traces are sent to, for example http://collector:4318; empty: no traces."""


Settings = TypeVar("Settings", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One field as `check-config` shows it. `source` is `default`, the file or the variable."""

    name: str
    value: str
    source: str
    documentation: str


def load_settings(
    cls: type[Settings], section: str, *, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings of the table `section` of `file`, with the environment's `VEDETTE_<SECTION>__<FIELD>` over it.

    `VEDETTE_DATA_DIR` is `data_dir` of all services, under their own variables.

    `file` None: the file that `VEDETTE_CONFIG` names, else `vedette.toml` here if there is one.

    Raises:
        ConfigurationError: unreadable file, unknown key (the nearest known one is named), unfit value.
    """
    environ = os.environ if environ is None else environ
    path = config_file(file, environ)
    merged, _ = _merge(cls, section, _table(read_document(path), section, path), environ)
    return _validate(cls, section, merged)


def describe_settings(
    cls: type[Settings], section: str, *, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[SettingLine]:
    """Every field with its value, where that came from and what it means; passwords in URLs are masked.

    Raises like `load_settings`.
    """
    environ = os.environ if environ is None else environ
    path = config_file(file, environ)
    merged, sources = _merge(cls, section, _table(read_document(path), section, path), environ)
    settings = _validate(cls, section, merged)
    lines = []
    for name, info in cls.model_fields.items():
        source = _source(sources.get(name, "default"), path)
        lines.append(SettingLine(name, masked(str(getattr(settings, name))), source, info.description or ""))
    return lines


def check_sections(known: Iterable[str], *, file: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Refuse tables of the file and variables that belong to no service: a misspelt one would be ignored.

    Raises:
        ConfigurationError: naming the stranger and the nearest known name.
    """
    environ = os.environ if environ is None else environ
    path = config_file(file, environ)
    names = list(known)
    for table in read_document(path):
        if table not in names:
            raise ConfigurationError(f"{path}: unknown table [{table}]{_nearest(table, names)}")
    for variable in environ:
        section, separator, _ = variable.removeprefix(PREFIX).partition("__")
        if variable.startswith(PREFIX) and separator and section.lower() not in names:
            variables = [PREFIX + name.upper() for name in names]
            raise ConfigurationError(f"{variable}: no such service{_nearest(PREFIX + section, variables)}")


def config_file(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file that holds: the one given, else the variable's, else `./vedette.toml` if it exists."""
    if file is not None:
        return file
    if named := environ.get(_FILE_VARIABLE):
        return Path(named)
    here = Path("vedette.toml")
    return here if here.is_file() else None


def read_document(path: Path | None) -> dict[str, Any]:
    """The whole TOML file; empty when there is none.

    Raises:
        ConfigurationError: it cannot be read, or is not TOML.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


def masked(text: str) -> str:
    """The text with `***` for the password of every URL in it."""
    return _PASSWORD.sub(lambda found: f"{found[2] or f'{found[1]}:'}***", text)


def read_secret(path: Path) -> str:
    """The secret in a file, without the line break at its end.

    Raises:
        ConfigurationError: the file cannot be read or is empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the secret cannot be read") from error
    if not secret:
        raise ConfigurationError(f"{path}: the secret is empty")
    return secret


def _table(document: dict[str, Any], section: str, path: Path | None) -> dict[str, Any]:
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: [{section}] must be a table")
    return table


def _merge(
    cls: type[ServiceSettings], section: str, table: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Values by field and where each came from: the file first, the environment over it, a service's own last."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value in table.items():
        if key not in cls.model_fields:
            raise ConfigurationError(f"[{section}] {key}: no such setting{_nearest(key, cls.model_fields)}")
        values[key], sources[key] = value, "file"
    if folder := environ.get(_FOLDER_VARIABLE):
        values["data_dir"], sources["data_dir"] = folder, _FOLDER_VARIABLE
    prefix = f"{PREFIX}{section.upper()}__"
    for variable in sorted(environ):
        if not variable.startswith(prefix):
            continue
        key = variable.removeprefix(prefix).lower()
        if key not in cls.model_fields:
            known = [prefix + name.upper() for name in cls.model_fields]
            raise ConfigurationError(f"{variable}: no such setting{_nearest(variable, known)}")
        values[key], sources[key] = _decode(cls, key, environ[variable], variable), variable
    return values, sources


def _decode(cls: type[ServiceSettings], key: str, text: str, variable: str) -> Any:
    """A variable's value: lists and tables as JSON, lists also as `a,b`; the rest is pydantic's to convert."""
    kind = get_origin(cls.model_fields[key].annotation)
    if kind not in (list, tuple, set, frozenset, dict):
        return text
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{variable}: not valid JSON: {error}") from error
    return [part.strip() for part in text.split(",") if part.strip()]


def _validate(cls: type[Settings], section: str, values: dict[str, Any]) -> Settings:
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"[{section}] {key}: {first['msg']}") from error


def _source(source: str, path: Path | None) -> str:
    return str(path) if source == "file" else source


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""
