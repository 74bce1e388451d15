"""`vedette predict`: one prediction from the shell."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, Inference, connect
from vedette.cli.output import JsonFlag, Table

if TYPE_CHECKING:
    from vedette.sdk.prediction import Prediction


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    data: Annotated[
        str, typer.Argument(help="A file (.csv, .json, .npy), - for standard input, or the data itself as JSON or CSV.")
    ] = "-",
    *,
    version: Annotated[str, typer.Option(help="Pin a model version.")] = "",
    variant: Annotated[str, typer.Option(help="Ask one variant.")] = "",
    output: Annotated[list[str] | None, typer.Option(help="Only this output; may be repeated.")] = None,
    header: Annotated[
        bool | None,
        typer.Option(help="Whether a CSV begins with column names; by default it is seen from the first line."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.", min=0.001)] = 60.0,
    as_json: JsonFlag = False,
    inference: Inference = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Send rows to an endpoint and print what the model says.

    JSON is a row, a list of rows, a list of objects (columns by name) or an object of columns or inputs.
    With --json, NaN is null and the infinities are the strings "Infinity" and "-Infinity".

    [bold]Examples[/]

      vedette predict iris 5.1,3.5,1.4,0.2

      vedette predict iris '[[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]'

      vedette predict iris flowers.csv --json

      cat flowers.csv | vedette predict iris
    """
    from vedette.cli.tabular import read_data

    rows = read_data(data, header=header)
    with connect(inference=inference, data_dir=data_dir) as client:
        prediction = client.predict(
            endpoint, rows, version=version, variant=variant, outputs=output or (), timeout_s=timeout
        )
    if as_json:
        typer.echo(json.dumps(_document(prediction), ensure_ascii=False))
    else:
        _show(prediction)


_INFINITIES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _document(prediction: Prediction) -> dict[str, Any]:
    outputs = {name: _plain(array.tolist()) for name, array in prediction.outputs.items()}
    document: dict[str, Any] = {"endpoint": prediction.endpoint, "version": prediction.version, "outputs": outputs}
    if prediction.label_names:
        document["labels"] = _labels(prediction)
    return document


def _plain(value: Any) -> Any:
    """JSON has no NaN, no infinity and no bytes: NaN is null, infinity a string, bytes are text."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else _INFINITIES[value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _labels(prediction: Prediction) -> list[str]:
    from vedette.core.errors import InvalidArgument

    try:
        return prediction.labels
    except InvalidArgument:
        return []


def _show(prediction: Prediction) -> None:
    """One line for each row; wide outputs are cut."""
    labels = _labels(prediction) if prediction.label_names else []
    table = Table("row", *(["class"] if labels else []), *prediction.outputs)
    rows = max((len(array) for array in prediction.outputs.values() if array.ndim), default=1)
    for row in range(rows):
        cells = [
            _cell(array[row] if array.ndim and row < len(array) else array) for array in prediction.outputs.values()
        ]
        table.row(row, *([labels[row] if row < len(labels) else ""] if labels else []), *cells)
    table.show()


def _cell(value: Any) -> str:
    import numpy as np

    flat = np.asarray(value).reshape(-1)
    shown = [f"{item:.6g}" if isinstance(item, float) else str(item) for item in flat[:8].tolist()]
    return " ".join(shown) + (f" ... ({flat.size} values)" if flat.size > 8 else "")
