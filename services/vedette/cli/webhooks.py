"""`vedette webhook ...`: receivers of alerts and what was sent to them."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, MonitorUrl, connect
from vedette.cli.ids import ID_HELP, shortened, whole_delivery
from vedette.cli.output import JsonFlag, Table, pairs_of, print_json, said, when
from vedette.entities.alerts import WebhookFormat

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the webhook.")]
FORMATS = get_args(WebhookFormat)


@app.command()
def create(
    name: Name,
    url: Annotated[str, typer.Argument(help="Where alerts are sent; the monitor refuses private addresses.")],
    *,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "cloudevents",
    header: Annotated[list[str] | None, typer.Option(help="key=value sent along; may be repeated.")] = None,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Add a receiver and print its signing secret, which is shown this once.

    [bold]Examples[/]

      vedette webhook create ops https://ops.example.com/hooks/vedette

      vedette webhook create chat https://hooks.slack.com/services/T0/B0/x --format slack
    """
    if format not in FORMATS:
        raise typer.BadParameter(f"one of {', '.join(FORMATS)}, not {format!r}", param_hint="--format")
    with connect(monitor=monitor, data_dir=data_dir) as client:
        made = client.webhooks.create(name, url, format=format, headers=pairs_of(header or [], "--header"))  # type: ignore[arg-type]
    if as_json:
        print_json(made)
        return
    typer.echo(f"{made.webhook.name} gets alerts at {made.webhook.url} as {made.webhook.format}")
    typer.echo(f"signing secret, shown this once: {made.secret}")


@app.command("list")
def list_(*, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """List the receivers.

    [bold]Examples[/]

      vedette webhook list
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        webhooks = list(client.webhooks.list())
    if as_json:
        print_json(webhooks)
        return
    table = Table("name", "url", "format", "enabled", "secrets", "made")
    for webhook in webhooks:
        enabled = "yes" if webhook.enabled else "no"
        secrets = len(webhook.secret_ids)
        table.row(webhook.name, webhook.url, webhook.format, enabled, secrets, when(webhook.created_at))
    table.show(empty="no webhooks yet: vedette webhook create NAME URL")


@app.command()
def rotate(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Make a new signing secret; the old one signs as well for a day, or until the next rotation.

    [bold]Examples[/]

      vedette webhook rotate ops
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        made = client.webhooks.rotate(name)
    if as_json:
        print_json(made)
    else:
        typer.echo(f"new signing secret of {name}, shown this once: {made.secret}")


@app.command("test")
def send_test(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Send a test message.

    [bold]Examples[/]

      vedette webhook test ops
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        sent = client.webhooks.test(name)
    line = f"test {sent.id} is in the outbox: vedette webhook deliveries --webhook {name}"
    said(sent, line, as_json=as_json)


@app.command()
def enable(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Send to a receiver again that was switched off, or that answered 410 Gone.

    [bold]Examples[/]

      vedette webhook enable ops
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        changed = client.webhooks.update(name, enabled=True)
    said(changed, f"{name} is enabled", as_json=as_json)


@app.command()
def disable(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Send nothing to a receiver for now.

    [bold]Examples[/]

      vedette webhook disable ops
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        changed = client.webhooks.update(name, enabled=False)
    said(changed, f"{name} is disabled", as_json=as_json)


@app.command()
def delete(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Remove a receiver; what waits for it is not sent.

    [bold]Examples[/]

      vedette webhook delete ops
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        client.webhooks.delete(name)
    said({"deleted": name}, f"{name} is deleted", as_json=as_json)


@app.command()
def deliveries(
    *,
    webhook: Annotated[str, typer.Option(help="Only those to this webhook.")] = "",
    state: Annotated[str, typer.Option(help="waiting, delivered or dead.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1)] = 50,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List what was sent, waits or was given up.

    [bold]Examples[/]

      vedette webhook deliveries --state dead
    """
    from itertools import islice

    from vedette.entities.alerts import DeliveryState

    if state and state not in list(DeliveryState):
        raise typer.BadParameter(f"one of {', '.join(DeliveryState)}, not {state!r}", param_hint="--state")
    with connect(monitor=monitor, data_dir=data_dir) as client:
        wanted = DeliveryState(state) if state else None
        shown = list(islice(client.webhooks.deliveries(webhook=webhook, state=wanted), limit))
    if as_json:
        print_json(shown)
        return
    table = Table("id", "webhook", "state", "attempts", "about", "made", "error")
    for short, sent in zip(shortened([sent.id for sent in shown]), shown):
        made = when(sent.created_at)
        table.row(short, sent.webhook, sent.state.value, sent.attempts, sent.subject, made, sent.last_error)
    table.show(empty="nothing was sent yet")


@app.command()
def redeliver(
    id: Annotated[str, typer.Argument(help=f"Id of a delivery, {ID_HELP}.")],
    *,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Send a delivery again, under the same id.

    [bold]Examples[/]

      vedette webhook redeliver msg_5f1c0a
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        whole = whole_delivery(client, id)
        sent = client.webhooks.redeliver(whole)
    said(sent, f"{whole} is in the outbox again", as_json=as_json)
