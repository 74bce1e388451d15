"""`vedette up`, `serve` and `check-config`: running services."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from vedette.cli.output import JsonFlag, Table, print_json

SUITE = ("registry", "inference", "monitor")
_LAPTOP = {"monitor": (("webhook_allowed_hosts", '["127.0.0.1:1024-65535"]'),)}
"""Where all services run for one person, alerts may go to a program of theirs on the same machine; the demo
is one. Not to the machine's own services: whoever reaches the monitor could have it speak to them."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="VEDETTE_CONFIG", help="Configuration file; without it vedette.toml, if it is here."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the three commands."""
    app.command()(up)
    app.command()(serve)
    app.command("check-config")(check_config)


def up(
    config: ConfigFile = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="Start without the three example models.")] = False,  # noqa: FBT002
) -> None:
    """Start registry, inference and monitor with embedded defaults and three real models; Ctrl-C ends it.

    [bold]Examples[/]

      vedette up

      vedette up --no-models

      VEDETTE_INFERENCE__PORT=9000 vedette up
    """
    from vedette import modules
    from vedette.chassis.supervisor import supervise

    _at_home(config)
    plans = modules.plan(SUITE, config)
    # The guide speaks to the suite from outside and ends by itself; this process becomes the supervisor,
    # so that Ctrl-C and the exit status are the supervisor's own.
    run_dirs = [f"{plan.service}={plan.run_dir}" for plan in plans]
    guide = [sys.executable, "-m", "vedette.cli.quickstart", str(os.getpid()), *run_dirs]
    subprocess.Popen([*guide, *(["--no-models"] if no_models else [])], stdin=subprocess.DEVNULL)
    supervise(plans)


def serve(
    name: Annotated[str, typer.Argument(help="registry, inference or monitor; without it the one installed.")] = "",
    config: ConfigFile = None,
) -> None:
    """Run one service, its workers supervised, until SIGTERM or Ctrl-C.

    [bold]Examples[/]

      vedette serve registry

      docker run -p 8080:8080 -e VEDETTE_INFERENCE__HOST=0.0.0.0 vedette-inference serve

      VEDETTE_INFERENCE__REGISTRY_ADDRESS=registry:8091 vedette serve inference
    """
    from vedette import modules
    from vedette.chassis.supervisor import supervise

    if not name:
        here = modules.installed()
        if len(here) != 1:
            raise typer.BadParameter(f"which one? Installed are {', '.join(here) or 'none'}", param_hint="NAME")
        name = here[0]
    if name not in modules.SERVICES:
        raise typer.BadParameter(f"{name!r}: the services are {', '.join(modules.SERVICES)}", param_hint="NAME")
    supervise(modules.plan([name], config))


def check_config(
    config: ConfigFile = None,
    as_json: JsonFlag = False,  # noqa: FBT002
) -> None:
    """Check configuration file and environment, and show every setting with its value and source.

    [bold]Examples[/]

      vedette check-config

      vedette check-config --config /etc/vedette.toml --json
    """
    from vedette import modules

    lines = [(name, line) for name in modules.SERVICES for line in modules.describe(name, config)]
    if as_json:
        fields = ("name", "value", "source", "documentation")
        print_json([{"service": name} | {field: getattr(line, field) for field in fields} for name, line in lines])
        return
    table = Table("service", "setting", "value", "source", "meaning")
    for name, line in lines:
        table.row(name, line.name, line.value, line.source, " ".join(line.documentation.split()))
    table.show()


def _at_home(config: Path | None) -> None:
    """Settings of a suite on a laptop, unless told otherwise: it speaks only of what is wrong, in lines for people."""
    from vedette.chassis.config import config_file, read_document

    document = read_document(config_file(config, os.environ))
    for name in SUITE:
        table = document.get(name)
        said = table if isinstance(table, dict) else {}
        for key, value in (("log_level", "WARNING"), ("log_format", "text"), *_LAPTOP.get(name, ())):
            if key not in said:
                os.environ.setdefault(f"VEDETTE_{name.upper()}__{key.upper()}", value)
