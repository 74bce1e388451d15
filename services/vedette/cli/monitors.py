"""`vedette monitor ...`: what is watched, and what was found."""

from __future__ import annotations

import math
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, MonitorUrl, connect
from vedette.cli.check_options import checks_of, written
from vedette.cli.durations import DURATION_HELP, seconds_of
from vedette.cli.ids import ID_HELP, shortened, whole_execution
from vedette.cli.output import JsonFlag, Table, facts, names_of, print_json, said, spinner, when
from vedette.core.errors import Unavailable

if TYPE_CHECKING:
    from vedette.entities.monitors import CheckSettings, Execution, Monitor

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the monitor.")]
ExecutionId = Annotated[str, typer.Argument(metavar="EXECUTION", help=f"Id of an execution, {ID_HELP}.")]
Limit = Annotated[int, typer.Option(help="At most so many, newest first.", min=1)]
Since = Annotated[str, typer.Option(help="Only windows of the last 30m, 2h, 1d.")]


@app.command()
def create(
    name: Name,
    *,
    endpoint: Annotated[str, typer.Option(help="Endpoint to watch; without it the one of the monitor's name.")] = "",
    check: Annotated[
        list[str] | None,
        typer.Option(help="A check, with parameters as `psi:threshold=0.2,...`; may be repeated."),
    ] = None,
    baseline: Annotated[str, typer.Option(help="Name of the baseline to compare with.")] = "default",
    window: Annotated[str, typer.Option(help=f"Length of a window, {DURATION_HELP}; 5s to 31d.")] = "5m",
    lateness: Annotated[str, typer.Option(help="How late events may arrive; without it a tenth of the window.")] = "",
    schedule: Annotated[str, typer.Option(help="continuous, or SageMaker's cron(0 * ? * * *).")] = "continuous",
    min_rows: Annotated[int, typer.Option(help="Windows with fewer rows raise nothing.", min=1)] = 100,
    segment: Annotated[list[str] | None, typer.Option(help="Split windows by this feature; may be repeated.")] = None,
    alert_after: Annotated[str, typer.Option(help="N/M: alert when N of M windows are violated.")] = "1/1",
    resolve_after: Annotated[int, typer.Option(help="Windows without a violation that end it.", min=1)] = 2,
    webhooks: Annotated[str, typer.Option(help="Webhooks to tell, comma-separated; without it all.")] = "",
    no_reports: Annotated[bool, typer.Option("--no-reports", help="Draw reports on demand only.")] = False,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Watch an endpoint's captured traffic: data quality and drift, unless other checks are named.

    [bold]Examples[/]

      vedette monitor create breast-cancer --window 1m

      vedette monitor create night --endpoint churn --check drift --check psi:threshold=0.2 --alert-after 2/3

      vedette monitor create truth --endpoint churn --check model_quality:problem_type=BinaryClassification
    """
    from vedette.entities.monitors import AlertRule, CheckSettings, Monitor

    wanted = Monitor(
        name=name,
        endpoint=endpoint or name,
        checks=checks_of(check) if check else (CheckSettings("data_quality"), CheckSettings("drift")),
        baseline=baseline,
        window_s=seconds_of(window, "--window"),
        lateness_s=seconds_of(lateness, "--lateness") if lateness else math.nan,
        schedule=schedule,
        min_rows=min_rows,
        segments=tuple(segment or ()),
        alert=AlertRule(*n_of_m(alert_after), resolve_after=resolve_after),
        webhooks=names_of(webhooks),
        reports="on_demand" if no_reports else "violations",
    )
    with connect(monitor=monitor, data_dir=data_dir) as client:
        made = client.monitors.create(wanted)
    if as_json:
        print_json(made)
        return
    typer.echo(f"{made.name} watches {made.endpoint} in windows of {_span(made.window_s)}: {named(made.checks)}")
    if made.reason:
        typer.echo(f"{made.status.value}: {made.reason}")


@app.command()
def checks(*, as_json: JsonFlag = False) -> None:
    """List the checks that a monitor can make, with their parameters and defaults.

    [bold]Examples[/]

      vedette monitor checks

      vedette monitor checks --json
    """
    try:
        from vedette.monitor.check_descriptions import describe_checks
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed: pip install 'vedette[monitor]'") from error
    found = describe_checks()
    if as_json:
        print_json(found)
        return
    table = Table("check", "what", "parameters")
    for each in found:
        parameters = ", ".join(f"{one.name}={written(one.default)}" for one in each.parameters)
        table.row(each.check, each.summary, parameters)
    table.show()


@app.command("list")
def list_(
    *,
    endpoint: Annotated[str, typer.Option(help="Only monitors of this endpoint.")] = "",
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List the monitors.

    [bold]Examples[/]

      vedette monitor list --json
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        monitors = list(client.monitors.list(endpoint=endpoint))
    if as_json:
        print_json(monitors)
        return
    table = Table("name", "status", "endpoint", "window", "checks", "baseline", "changed", "reason")
    for each in monitors:
        span, checks, moment = _span(each.window_s), named(each.checks), when(each.updated_at)
        table.row(each.name, each.status.value, each.endpoint, span, checks, each.baseline, moment, each.reason)
    table.show(empty="no monitors yet: vedette monitor create ENDPOINT")


@app.command()
def show(
    name: Name,
    *,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Show a monitor: its settings, the windows that are open and the last executions.

    [bold]Examples[/]

      vedette monitor show breast-cancer
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        each = client.monitors.get(name)
        if as_json:
            print_json(each)
            return
        windows = list(client.monitors.windows(name))
        executions = list(islice(client.monitors.executions(name), 10))
    _show(each, windows)
    _executions(executions)


@app.command()
def pause(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Evaluate nothing until `vedette monitor resume`.

    [bold]Examples[/]

      vedette monitor pause breast-cancer
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        changed = client.monitors.pause(name)
    said(changed, f"{name} is paused", as_json=as_json)


@app.command()
def resume(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Evaluate again.

    [bold]Examples[/]

      vedette monitor resume breast-cancer
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        changed = client.monitors.resume(name)
    said(changed, f"{name} is watching", as_json=as_json)


@app.command()
def delete(name: Name, *, as_json: JsonFlag = False, monitor: MonitorUrl = "", data_dir: DataDir = DATA_DIR) -> None:
    """Delete a monitor with its executions and alerts.

    [bold]Examples[/]

      vedette monitor delete breast-cancer
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        client.monitors.delete(name)
    said({"deleted": name}, f"{name} is deleted", as_json=as_json)


@app.command()
def executions(
    name: Name,
    *,
    status: Annotated[str, typer.Option(help="Completed, CompletedWithViolations or Failed.")] = "",
    since: Since = "",
    limit: Limit = 50,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List what became of a monitor's windows.

    [bold]Examples[/]

      vedette monitor executions breast-cancer --status CompletedWithViolations --since 1d
    """
    from vedette.entities.monitors import ExecutionStatus

    if status and status not in list(ExecutionStatus):
        raise typer.BadParameter(f"one of {', '.join(ExecutionStatus)}, not {status!r}", param_hint="--status")
    with connect(monitor=monitor, data_dir=data_dir) as client:
        wanted = ExecutionStatus(status) if status else None
        found = list(islice(client.monitors.executions(name, status=wanted, since=_moment(since)), limit))
    if as_json:
        print_json(found)
    else:
        _executions(found)


@app.command()
def execution(
    id: ExecutionId,
    *,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Show one execution: every check and feature with its score.

    [bold]Examples[/]

      vedette monitor execution 3f2c1a --json
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        found = client.monitors.execution(whole_execution(client, id))
    if as_json:
        print_json(found)
        return
    facts(
        ("execution", found.id),
        ("monitor", found.monitor),
        ("endpoint", f"{found.endpoint} {found.variant} v{found.version} {found.segment}".strip()),
        ("window", f"{when(found.start)} to {when(found.end)}"),
        ("rows", found.rows),
        ("labels", found.labels),
        ("status", found.status.value),
        ("reason", found.reason),
        ("counted", ", ".join(f"{count} {what}" for what, count in found.counts.items())),
    )
    table = Table("check", "kind", "feature", "outcome", "value", "threshold", "p", "what")
    for result in sorted(found.results, key=lambda each: each.outcome != "violated"):
        scores = [_number(score) for score in (result.value, result.threshold, result.p_value)]
        kind = result.kind if result.kind != result.check else ""
        table.row(result.check, kind, result.feature, result.outcome, *scores, result.description)
    table.show(empty="nothing was compared")


@app.command()
def violations(
    *,
    name: Annotated[str, typer.Option("--of", help="Only of this monitor.")] = "",
    endpoint: Annotated[str, typer.Option(help="Only of this endpoint.")] = "",
    feature: Annotated[str, typer.Option(help="Only of this feature.")] = "",
    since: Since = "",
    limit: Limit = 50,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List violated checks.

    [bold]Examples[/]

      vedette monitor violations --since 1h

      vedette monitor violations --of breast-cancer --feature "mean radius" --json
    """
    with connect(monitor=monitor, data_dir=data_dir) as client:
        walk = client.monitors.violations(monitor=name, endpoint=endpoint, feature=feature, since=_moment(since))
        found = list(islice(walk, limit))
    if as_json:
        print_json(found)
        return
    segmented = any(each.segment for each in found)
    of = ("variant", "segment") if segmented else ("variant",)
    table = Table("window", "monitor", *of, "check", "feature", "value", "threshold", "what", "execution")
    for short, each in zip(shortened([each.execution for each in found]), found):
        where = (each.variant, each.segment) if segmented else (each.variant,)
        moment, value, threshold = when(each.start), _number(each.value), _number(each.threshold)
        table.row(
            moment, each.monitor, *where, each.kind or each.check, each.feature, value, threshold,
            each.description, short,
        )  # fmt: skip
    table.show(empty="no violations")


@app.command()
def report(
    id: ExecutionId,
    *,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Draw the Evidently report of an execution and print its address.

    [bold]Examples[/]

      vedette monitor report 3f2c1a
    """
    with connect(monitor=monitor, data_dir=data_dir) as client, spinner("Evidently draws the report"):
        address = client.monitors.report(whole_execution(client, id))
    said({"address": address}, address, as_json=as_json)


@app.command("ground-truth")
def ground_truth(
    endpoint: Annotated[str, typer.Argument(help="Endpoint that made the predictions.")],
    labels: Annotated[
        Path, typer.Argument(help='JSON Lines: {"id": ..., "label": ...} or SageMaker\'s; - for standard input.')
    ],
    *,
    as_json: JsonFlag = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Send what really happened, by inference id; results of those windows are computed again.

    Joined: the prediction is kept, and its window is computed again. Waiting: the prediction is not here (yet).
    Unknown: no monitor of the endpoint keeps predictions. Refused: no label, or one that does not fit the model or
    the request. A request of several rows takes a list with a label for each.

    Status 1 when a line was refused; the others are taken all the same.

    [bold]Examples[/]

      vedette monitor ground-truth churn labels.jsonl
    """
    lines = sys.stdin.buffer.read() if str(labels) == "-" else _content(labels)
    with connect(monitor=monitor, data_dir=data_dir) as client:
        taken = client.monitors.ground_truth(endpoint, lines)
    refused = taken.get("refused_lines", [])
    if as_json:
        print_json(taken)
    else:
        counts = {what: count for what, count in taken.items() if what != "refused_lines"}
        typer.echo(", ".join(f"{count} {what}" for what, count in counts.items()) or "no labels")
        for line in refused:
            typer.echo(f"refused: {line}", err=True)
        if taken.get("refused", 0) > len(refused):
            typer.echo(f"and {taken['refused'] - len(refused)} lines more", err=True)
        if taken.get("unknown"):
            typer.echo(f"unknown: no monitor of {endpoint} has a check of ground truth, as model_quality is", err=True)
    if taken.get("refused"):
        raise typer.Exit(1)


@app.command()
def watch(
    name: Annotated[str, typer.Argument(help="Name of the monitor; without it all of them.")] = "",
    *,
    once: Annotated[bool, typer.Option("--once", help="Show the table once and end.")] = False,
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """A live table of monitors, their newest windows and alerts, until Ctrl-C.

    A line for each variant and segment. In a pipe it is printed once, and windows are letters: x violated, . fine,
    - nothing compared, ! failed.

    [bold]Examples[/]

      vedette monitor watch

      vedette monitor watch breast-cancer --once
    """
    from vedette.cli.watching import watch as live

    with connect(monitor=monitor, data_dir=data_dir) as client:
        live(client, name, once=once)


def _show(each: Monitor, windows: list[dict[str, Any]]) -> None:
    rule = each.alert
    facts(
        ("monitor", each.name),
        ("status", each.status.value),
        ("reason", each.reason),
        ("endpoint", each.endpoint),
        ("checks", named(each.checks)),
        ("baseline", each.baseline),
        ("window", f"{_span(each.window_s)}, lateness {_span(each.lateness_s)}"),
        ("schedule", each.schedule),
        ("segments", ", ".join(each.segments)),
        ("alert after", f"{rule.datapoints_to_alert} of {rule.evaluation_period} windows"),
        ("webhooks", ", ".join(each.webhooks) or "all"),
        ("open windows", "; ".join(_open(window) for window in windows)),
    )


def _open(window: dict[str, Any]) -> str:
    of = " ".join(str(window[key]) for key in ("variant", "segment") if window.get(key))
    return f"{of} {when(float(window.get('start', 0)))}: {window.get('rows', 0)} rows".strip()


def _executions(found: list[Execution]) -> None:
    table = Table(
        "window", "variant", "version", "segment", "rows", "status", "violations", "reason", "labels", "revision", "id"
    )
    for short, each in zip(shortened([each.id for each in found]), found):
        reason, labels = _reason(each), each.labels or ""
        broken = ", ".join(dict.fromkeys(result.feature or result.check for result in each.violations))
        moment = when(each.start)
        table.row(
            moment, each.variant, each.version, each.segment, each.rows, each.status.value,
            broken if len(broken) <= 60 else f"{broken[:60]}...", reason, labels, each.revision, short,
        )  # fmt: skip
    table.show(empty="no window has been evaluated yet")


def _reason(each: Execution) -> str:
    """Why nothing was compared; one line may stand for a stretch of windows without a request."""
    windows = each.counts.get("windows", 1)
    return f"{each.reason} in {windows} windows" if each.reason and windows > 1 else each.reason


def n_of_m(text: str) -> tuple[int, int]:
    """The two numbers of `2/3`; anything else is a usage error."""
    n, _, m = text.partition("/")
    if not (n.isdecimal() and m.isdecimal() and 1 <= int(n) <= int(m)):
        raise typer.BadParameter(f"write 2/3, not {text!r}", param_hint="--alert-after")
    return int(n), int(m)


def _moment(since: str) -> float:
    return time.time() - seconds_of(since, "--since") if since else 0.0


def named(checks: tuple[CheckSettings, ...]) -> str:
    """The checks by name, in one line."""
    return ", ".join(each.check for each in checks)


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="LABELS") from error
