"""`vedette monitor update`: a monitor's settings, changed one by one.

Rule: the service replaces all settings at once, so what is not named here is sent as it was.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, MonitorUrl, connect
from vedette.cli.check_options import checks_of
from vedette.cli.durations import DURATION_HELP, seconds_of
from vedette.cli.monitors import Name, app, n_of_m, named
from vedette.cli.output import JsonFlag, names_of, said

__all__ = ["app"]


@app.command()
def update(
    name: Name,
    *,
    check: Annotated[list[str] | None, typer.Option(help="The checks that take the place of those it has.")] = None,
    baseline: Annotated[str, typer.Option(help="Name of the baseline to compare with.")] = "",
    window: Annotated[str, typer.Option(help=f"Length of a window, {DURATION_HELP}; its lateness follows.")] = "",
    lateness: Annotated[str, typer.Option(help="How late events may arrive.")] = "",
    schedule: Annotated[str, typer.Option(help="continuous, or SageMaker's cron(0 * ? * * *).")] = "",
    min_rows: Annotated[int, typer.Option(help="Windows with fewer rows raise nothing; 0: as it is.", min=0)] = 0,
    segment: Annotated[list[str] | None, typer.Option(help="The features that split windows from now on.")] = None,
    alert_after: Annotated[str, typer.Option(help="N/M: alert when N of M windows are violated.")] = "",
    resolve_after: Annotated[int, typer.Option(help="Windows without a violation that end it.", min=0)] = 0,
    webhooks: Annotated[str, typer.Option(help="Webhooks to tell, comma-separated; `all` for all.")] = "",
    reports: Annotated[bool | None, typer.Option(help="Draw reports of violations by itself.")] = None,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Change settings of a monitor; what is not named stays. Windows not evaluated yet are held to the new ones.

    [bold]Examples[/]

      vedette monitor update breast-cancer --window 5m --alert-after 2/3

      vedette monitor update truth --check model_quality:min_labels=100 --check drift
    """
    changes: dict[str, Any] = {
        "checks": checks_of(check) if check else None,
        "baseline": baseline or None,
        "window_s": seconds_of(window, "--window") if window else None,
        "lateness_s": seconds_of(lateness, "--lateness") if lateness else math.nan if window else None,
        "schedule": schedule or None,
        "min_rows": min_rows or None,
        "segments": tuple(segment) if segment else None,
        "webhooks": (() if webhooks == "all" else names_of(webhooks)) if webhooks else None,
        "reports": None if reports is None else "violations" if reports else "on_demand",
    }
    least, period = n_of_m(alert_after) if alert_after else (0, 0)
    rule = {"datapoints_to_alert": least, "evaluation_period": period, "resolve_after": resolve_after}
    wanted = {key: value for key, value in changes.items() if value is not None}
    rule = {key: value for key, value in rule.items() if value}
    if not wanted and not rule:
        raise typer.BadParameter("say what changes", param_hint="--window")
    with connect(monitor=monitor, data_dir=data_dir) as client:
        before = client.monitors.get(name)
        after = client.monitors.update(replace(before, **wanted, alert=replace(before.alert, **rule)))
    said(after, f"{after.name} watches {after.endpoint}: {named(after.checks)}", as_json=as_json)
