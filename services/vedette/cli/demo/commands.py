"""`vedette demo ...` as commands."""

from __future__ import annotations

from typing import Annotated

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, Inference, MonitorUrl, Registry, connect

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `drift` a command of its own while it is the only one."""


@app.command()
def drift(
    *,
    seed: Annotated[int, typer.Option(help="Which real rows make the baseline and which are replayed.", min=0)] = 0,
    inference: Inference = "",
    registry: Registry = "",
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Replay real rows to breast-cancer, then shift them, until the drift alert arrives at a local webhook.

    Needs the suite of `vedette up`. Takes about half a minute; exit 0 only if the alert came, and none before.
    What it made is removed at the end, and capture is what it was; the report stays.

    [bold]Examples[/]

      vedette demo drift
    """
    from vedette.cli.demo.drift import drift as run

    with connect(inference=inference, registry=registry, monitor=monitor, data_dir=data_dir) as client:
        raise typer.Exit(run(client, data_dir, seed=seed))
