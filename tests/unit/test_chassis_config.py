"""Settings from file and environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from vedette.chassis.config import (
    ConfigurationError,
    ServiceSettings,
    check_sections,
    describe_settings,
    load_settings,
    read_secret,
)


class ToySettings(ServiceSettings):
    """Settings with every shape of value."""

    port: int = Field(default=9, ge=0, le=65535)
    """The port."""
    names: tuple[str, ...] = ()
    """Some names."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Numbers by name."""


def load(text: str = "", folder: Path | None = None, **environ: str) -> ToySettings:
    file = None
    if folder is not None:
        file = folder / "vedette.toml"
        file.write_text(text)
    return load_settings(ToySettings, "toy", file=file, environ=environ)


def test_defaults_are_usable() -> None:
    """Nothing has to be set; services bind loopback."""
    settings = load()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 9, 1)


def test_environment_is_over_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, the file over the default."""
    text = '[toy]\nport = 1\nworkers = 3\nnames = ["a"]\n[other]\nx = 1\n'
    settings = load(text, tmp_path, VEDETTE_TOY__PORT="2", VEDETTE_OTHER__X="1", PORT="7", HOST="x")
    assert (settings.port, settings.workers, settings.names, settings.host) == (2, 3, ("a",), "127.0.0.1")


def test_one_folder_for_all_services(tmp_path: Path) -> None:
    """The variable that tells the command line where the suite lies tells the services too; their own is over it."""
    text = '[toy]\ndata_dir = "/file"\n'
    assert load(text, tmp_path, VEDETTE_DATA_DIR="/all").data_dir == Path("/all")
    assert load(VEDETTE_DATA_DIR="/all", VEDETTE_TOY__DATA_DIR="/own").data_dir == Path("/own")
    assert load(text, tmp_path, VEDETTE_DATA_DIR="").data_dir == Path("/file")
    shown = {line.name: line for line in describe_settings(ToySettings, "toy", environ={"VEDETTE_DATA_DIR": "/all"})}
    assert (shown["data_dir"].value, shown["data_dir"].source) == ("/all", "VEDETTE_DATA_DIR")


def test_lists_and_tables_in_variables() -> None:
    """A list may be written `a,b` or as JSON, a table as JSON."""
    assert load(VEDETTE_TOY__NAMES="a, b").names == ("a", "b")
    assert load(VEDETTE_TOY__NAMES='["a,b"]').names == ("a,b",)
    assert load(VEDETTE_TOY__SHARES='{"a": 0.5}').shares == {"a": 0.5}


def test_unknown_key_in_the_file_names_the_nearest(tmp_path: Path) -> None:
    """A misspelt key in the file is an error."""
    with pytest.raises(ConfigurationError, match=r"\[toy\] wrokers: no such setting; did you mean workers\?"):
        load("[toy]\nwrokers = 3", tmp_path)


def test_unknown_variable_names_the_nearest() -> None:
    """A misspelt variable is an error."""
    with pytest.raises(ConfigurationError, match=r"VEDETTE_TOY__PROT: no such setting; did you mean VEDETTE_TOY__PORT"):
        load(VEDETTE_TOY__PROT="1")


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("[toy]\nport = 70000", {}, r"\[toy\] port: Input should be less than or equal to 65535"),
        ("", {"VEDETTE_TOY__WORKERS": "many"}, r"\[toy\] workers: Input should be a valid integer"),
        ("[toy", {}, "not valid TOML"),
        ("toy = 1", {}, r"\[toy\] must be a table"),
        ("", {"VEDETTE_TOY__SHARES": "{"}, "VEDETTE_TOY__SHARES: not valid JSON"),
        ("", {"VEDETTE_TOY__LOG_LEVEL": "LOUD"}, r"\[toy\] log_level: Input should be 'DEBUG'"),
    ],
)
def test_unfit_values(tmp_path: Path, text: str, environ: dict[str, str], message: str) -> None:
    """A value that does not fit names its key and what would."""
    with pytest.raises(ConfigurationError, match=message):
        load(text, tmp_path, **environ)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    """A file that was named must exist."""
    with pytest.raises(ConfigurationError, match=r"gone\.toml: No such file"):
        load_settings(ToySettings, "toy", environ={"VEDETTE_CONFIG": str(tmp_path / "gone.toml")})


def test_strange_sections_are_refused(tmp_path: Path) -> None:
    """A table or variable of a service that does not exist is an error: it would be ignored."""
    file = tmp_path / "vedette.toml"
    file.write_text("[toi]\nport = 1")
    with pytest.raises(ConfigurationError, match=r"unknown table \[toi\]; did you mean toy\?"):
        check_sections(["toy"], file=file, environ={})
    with pytest.raises(ConfigurationError, match=r"VEDETTE_TYO__PORT: no such service; did you mean VEDETTE_TOY"):
        check_sections(["toy"], environ={"VEDETTE_TYO__PORT": "1"})
    check_sections(["toy"], environ={"VEDETTE_TOY__PORT": "1", "VEDETTE_CONFIG": "", "PATH": "/bin"})


def test_describe_names_every_source(tmp_path: Path) -> None:
    """Every field is shown with its value, where it came from and a sentence."""
    file = tmp_path / "vedette.toml"
    file.write_text("[toy]\nworkers = 2")
    lines = {
        line.name: line for line in describe_settings(ToySettings, "toy", file=file, environ={"VEDETTE_TOY__PORT": "5"})
    }
    assert lines.keys() == ToySettings.model_fields.keys()
    assert (lines["workers"].value, lines["workers"].source) == ("2", str(file))
    assert (lines["port"].value, lines["port"].source) == ("5", "VEDETTE_TOY__PORT")
    assert lines["host"].source == "default"
    assert all(line.documentation for line in lines.values())


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """A secret is a file's text without its line break; an empty or missing one is an error."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    assert read_secret(secret) == "s3cret"
    secret.write_text("\n")
    with pytest.raises(ConfigurationError, match="empty"):
        read_secret(secret)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_secret(tmp_path / "gone")


def test_settings_are_frozen() -> None:
    """Settings do not change after loading."""
    with pytest.raises(ValidationError):
        load().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:s3cret@db:5432/v", "postgresql+psycopg://me:***@db:5432/v"),
        ("postgresql://me:s3c:r@t@db/v", "postgresql://me:***@db/v"),
        ("postgresql://:s3cret@db/v", "postgresql://:***@db/v"),
        ("postgresql://me:s3cret/x@db/v", "postgresql://me:***@db/v"),
        ("postgresql://db/v?user=me&password=s3cret&sslmode=require", "postgresql://db/v?user=me&password=***&sslmode=require"),
        ("postgresql://me@db:5432/v", "postgresql://me@db:5432/v"),
        ("sqlite:////srv/catalog.db", "sqlite:////srv/catalog.db"),
        ("http://collector:4318", "http://collector:4318"),
    ],
)  # fmt: skip
def test_passwords_in_urls_are_not_shown(url: str, shown: str) -> None:
    """`check-config` shows a URL with its host and without its password, wherever that stands."""
    environ = {"VEDETTE_TOY__OTLP_ENDPOINT": url}
    (line,) = (line for line in describe_settings(ToySettings, "toy", environ=environ) if line.name == "otlp_endpoint")
    assert line.value == shown
