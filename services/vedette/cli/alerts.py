"""`vedette alert ...`: what is wrong, and who has been told to leave it."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, MonitorUrl, connect
from vedette.cli.durations import seconds_of
from vedette.cli.ids import ID_HELP, shortened, whole_alert, whole_silence
from vedette.cli.output import JsonFlag, Table, print_json, said, when

app = typer.Typer(no_args_is_help=True)
_URGENT = ("firing", "pending", "resolved", "ok")


@app.command("list")
def list_(
    *,
    state: Annotated[str, typer.Option(help="ok, pending, firing or resolved; without it all but ok.")] = "",
    monitor_name: Annotated[str, typer.Option("--of", help="Only alerts of this monitor.")] = "",
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List alerts, those that fire first.

    Windows are letters, the newest last: x violated, . not, - nothing compared, o violated before it was resolved.

    [bold]Examples[/]

      vedette alert list

      vedette alert list --state firing --json
    """
    from vedette.entities.alerts import AlertState

    if state and state not in list(AlertState):
        raise typer.BadParameter(f"one of {', '.join(AlertState)}, not {state!r}", param_hint="--state")
    with connect(monitor=monitor, data_dir=data_dir) as client:
        alerts = list(client.alerts.list(state=AlertState(state) if state else None, monitor=monitor_name))
    alerts.sort(key=lambda alert: _URGENT.index(alert.state))
    if as_json:
        print_json(alerts)
        return
    segmented = any(alert.segment for alert in alerts)
    of = ("variant", "segment") if segmented else ("variant",)
    table = Table("id", "state", "monitor", *of, "check", "feature", "windows", "since", "what")
    for short, alert in zip(shortened([alert.id for alert in alerts]), alerts):
        held = f"{alert.state.value} (seen by {alert.acknowledged_by})" if alert.acknowledged_by else alert.state.value
        what, since = alert.description, when(alert.since)
        where = (alert.variant, alert.segment) if segmented else (alert.variant,)
        table.row(short, held, alert.monitor, *where, alert.check, alert.feature, alert.history, since, what)
    table.show(empty="no alerts")


@app.command()
def ack(
    id: Annotated[str, typer.Argument(help=f"Id of the alert, {ID_HELP}.")],
    *,
    by: Annotated[str, typer.Option(help="Who looks after it; without it the user's name.")] = "",
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Say that somebody looks after an alert: nothing more is sent until its state changes.

    [bold]Examples[/]

      vedette alert ack 5f1c0a
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        alert = client.alerts.acknowledge(whole_alert(client, id), by=by or getpass.getuser())
    if as_json:
        print_json(alert)
    else:
        typer.echo(f"{alert.id} is looked after by {alert.acknowledged_by}")


@app.command()
def silence(
    *,
    duration: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")] = "1h",
    monitor_name: Annotated[str, typer.Option("--of", help="Alerts of this monitor.")] = "",
    endpoint: Annotated[str, typer.Option(help="Alerts of this endpoint.")] = "",
    feature: Annotated[str, typer.Option(help="Alerts of this feature.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every alert there is.")] = False,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Send nothing about what matches for a while; alerts go on changing state.

    [bold]Examples[/]

      vedette alert silence --endpoint breast-cancer --for 2h --comment "planned re-training"
    """
    if not (monitor_name or endpoint or feature or everything):
        raise typer.BadParameter("say what: --of, --endpoint, --feature or --all", param_hint="--of")
    for_s = seconds_of(duration, "--for")
    with connect(monitor=monitor, data_dir=data_dir) as client:
        if monitor_name and not any(client.alerts.list(monitor=monitor_name)):  # others raise alerts as well
            client.monitors.get(monitor_name)
        made = client.alerts.silence(
            for_s=for_s,
            monitor=monitor_name,
            endpoint=endpoint,
            feature=feature,
            everything=everything,
            comment=comment,
        )
    if as_json:
        print_json(made)
    else:
        typer.echo(f"silence {made.id} until {when(made.until)}")


@app.command()
def silences(*, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """List silences in force.

    [bold]Examples[/]

      vedette alert silences
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        found = list(client.alerts.silences())
    if as_json:
        print_json(found)
        return
    table = Table("id", "until", "monitor", "endpoint", "feature", "comment")
    for short, made in zip(shortened([made.id for made in found]), found):
        table.row(short, when(made.until), made.monitor, made.endpoint, made.feature, made.comment)
    table.show(empty="no silences")


@app.command()
def unsilence(
    id: Annotated[str, typer.Argument(help=f"Id of the silence, {ID_HELP}.")],
    *,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """End a silence now.

    [bold]Examples[/]

      vedette alert unsilence 7d02ac
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        whole = whole_silence(client, id)
        client.alerts.end_silence(whole)
    said({"ended": whole}, f"silence {whole} is over", as_json=as_json)
