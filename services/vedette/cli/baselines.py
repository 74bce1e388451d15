"""`vedette baseline ...`: statistics and constraints of reference data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, MonitorUrl, Registry, connect
from vedette.cli.models import Reference, resolved
from vedette.cli.output import JsonFlag, Table, facts, print_json, said, size, upload_progress, when
from vedette.entities.monitors import CONSTRAINTS_FILE

app = typer.Typer(no_args_is_help=True)

MEASURED = "Labelled data"
"""The help's panel for what is said of it."""
File = Annotated[str, typer.Option("--file", help="constraints.json, model_quality_constraints.json or analysis.json.")]
Name = Annotated[str, typer.Option("--name", help="Name of the baseline; a version may have several.")]
Target = Annotated[
    str, typer.Option(rich_help_panel=MEASURED, help="The column of labels; else the model's target, or `label`.")
]
ProblemType = Annotated[
    str, typer.Option(rich_help_panel=MEASURED, help="Regression, BinaryClassification or MulticlassClassification.")
]
Prediction = Annotated[
    str, typer.Option(rich_help_panel=MEASURED, help="The column of predictions; else `prediction`.")
]
Probability = Annotated[
    str, typer.Option(rich_help_panel=MEASURED, help="The column of the positive class's probability.")
]
PositiveClass = Annotated[str, typer.Option(rich_help_panel=MEASURED, help="Its name; else the second.")]
Analysis = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=MEASURED,
        help="Clarify's analysis_config.json: bias and attributions are measured.",
        exists=True,
        dir_okay=False,
    ),
]


@app.command()
def create(
    reference: Reference,
    data: Annotated[Path, typer.Argument(help="Reference data: .csv with a header, .parquet or .jsonl.")],
    *,
    name: Name = "default",
    format: Annotated[str, typer.Option(help="csv, parquet or jsonl, where the file's name does not say.")] = "",
    target: Target = "",
    problem_type: ProblemType = "",
    prediction: Prediction = "",
    probability: Probability = "",
    positive_class: PositiveClass = "",
    analysis: Analysis = None,
    as_json: JsonFlag = False,
    registry: Registry = "",
    monitor: MonitorUrl = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Compute a version's baseline from reference data; windows of its traffic are compared with it.

    The columns are the model's features by name; `prediction` and `probability_<class>` may be there too. With
    labels, the model's quality is measured; the model itself predicts what the data does not hold.

    [bold]Examples[/]

      vedette baseline create breast-cancer:1 train.csv

      vedette baseline create churn@champion march.parquet --name march

      vedette baseline create churn march.parquet --target churned --analysis analysis_config.json
    """
    config = None if analysis is None else _document(analysis, "--analysis")
    with connect(registry=registry, monitor=monitor, data_dir=data_dir) as client:
        version = resolved(client, reference)
        with upload_progress(f"Sending {data.name}", then="the monitor folds it") as progress:
            made = client.baselines.create(
                version.model,
                version.version,
                data,
                name=name,
                format=format,
                progress=progress,
                target=target,
                problem_type=problem_type,
                prediction=prediction,
                probability=probability,
                positive_class=positive_class,
                analysis=config,
            )
    if as_json:
        print_json(made)
    else:
        typer.echo(f"{made.model}:{made.version} has baseline {made.name}: {made.rows} rows of {made.columns} columns")
        for each in made.left_out:
            typer.echo(f"left out: {each}", err=True)


@app.command("list")
def list_(
    reference: Reference,
    *,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List the baselines of a model version.

    [bold]Examples[/]

      vedette baseline list breast-cancer
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        version = resolved(client, reference)
        baselines = list(client.baselines.list(version.model, version.version))
    if as_json:
        print_json(baselines)
        return
    table = Table("name", "model", "version", "rows", "columns", "size", "made")
    for baseline in baselines:
        bytes_ = size(sum(file.size for file in baseline.files))
        made = when(baseline.created_at)
        table.row(baseline.name, baseline.model, baseline.version, baseline.rows, baseline.columns, bytes_, made)
    table.show(empty=f"no baselines yet: vedette baseline create {reference} DATA")


@app.command()
def show(
    reference: Reference,
    *,
    name: Name = "default",
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Show the statistics of a baseline, column by column; --json prints SageMaker's statistics.json.

    [bold]Examples[/]

      vedette baseline show breast-cancer

      vedette baseline show breast-cancer:1 --json > statistics.json
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        version = resolved(client, reference)
        statistics = client.baselines.statistics(version.model, version.version, name)
    if as_json:
        print_json(statistics)
        return
    facts(("model", f"{version.model}:{version.version}"), ("rows", statistics["dataset"]["item_count"]))
    table = Table("column", "type", "missing", "mean", "std", "min", "max", "distinct")
    for feature in statistics["features"]:
        table.row(feature["name"], feature["inferred_type"], *_cells(feature))
    table.show()


@app.command()
def constraints(
    reference: Reference,
    *,
    name: Name = "default",
    file: File = CONSTRAINTS_FILE,
    replace: Annotated[
        Path | None, typer.Option("--set", help="JSON file that takes their place.", exists=True, dir_okay=False)
    ] = None,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Print a baseline's constraints.json, or replace it by an edited one; or another document, named by --file.

    [bold]Examples[/]

      vedette baseline constraints breast-cancer > constraints.json

      vedette baseline constraints breast-cancer --set constraints.json

      vedette baseline constraints breast-cancer --file model_quality_constraints.json
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        version = resolved(client, reference)
        if replace is None:
            print_json(client.baselines.document(version.model, version.version, file, name=name))
            return
        document = _document(replace, "--set")
        made = client.baselines.set_document(version.model, version.version, file, document, name=name)
    typer.echo(f"{made.model}:{made.version} baseline {made.name} has new constraints")


@app.command()
def delete(
    reference: Reference,
    *,
    name: Name = "default",
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Delete a baseline.

    [bold]Examples[/]

      vedette baseline delete breast-cancer:1 --name march
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        version = resolved(client, reference)
        client.baselines.delete(version.model, version.version, name)
    line = f"baseline {name} of {version.model}:{version.version} is deleted"
    said({"deleted": name, "model": version.model, "version": version.version}, line, as_json=as_json)


def _cells(feature: dict[str, Any]) -> list[str]:
    """Missing, mean, standard deviation, smallest, largest, distinct; empty where a column has none."""
    numeric, text = feature.get("numerical_statistics"), feature.get("string_statistics")
    if numeric:
        shown = [_number(numeric.get(key)) for key in ("mean", "std_dev", "min", "max")]
        return [str(numeric["common"]["num_missing"]), *shown, ""]
    if text:
        return [str(text["common"]["num_missing"]), "", "", "", "", _number(text.get("distinct_count"))]
    return [""] * 6


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value or "")


def _document(path: Path, option: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint=option) from error
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{path}: not a JSON object", param_hint=option)
    return document
