"""The tree of commands and what holds for all of them: errors in one line, and exit codes.

Rule: a command raises `VedetteError`; only `Commands` turns it into text and a status.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from vedette.cli import alerts, baselines, endpoints, models, monitor_changes, predictions, services, webhooks
from vedette.cli.demo import commands as demo
from vedette.core.errors import VedetteError


class Commands(TyperGroup):
    """Shows a `VedetteError` as one line on standard error and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VedetteError as error:
            typer.echo(f"vedette: {' '.join(error.message.split())}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve ONNX models over HTTP and gRPC, and keep watch over them.",
)
services.add_to(app)
app.add_typer(models.app, name="model", help="Register models and look after their versions.")
app.add_typer(endpoints.app, name="endpoint", help="Deploy models behind endpoints, change and remove them.")
app.add_typer(baselines.app, name="baseline", help="Compute and look at statistics and constraints of reference data.")
app.add_typer(
    monitor_changes.app, name="monitor", help="Watch endpoints for drift and quality, and look at what was found."
)
app.add_typer(alerts.app, name="alert", help="See what is wrong, acknowledge it, or silence it.")
app.add_typer(webhooks.app, name="webhook", help="Say who is told about alerts, and see what was sent.")
app.add_typer(demo.app, name="demo", help="See it happen, on real data and the running suite.")
predictions.add_to(app)


@app.callback(invoke_without_command=True)
def _whole(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:  # noqa: FBT001
    if version:
        from vedette import __version__

        typer.echo(f"vedette {__version__}")
        raise typer.Exit
