"""Baselines of model versions: `client.baselines`.

Rule: the monitor computes them, the registry keeps them; a caller sees one thing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from os import PathLike
from typing import Any
from urllib.parse import quote

from vedette.core.errors import InvalidArgument
from vedette.core.models import check_name
from vedette.entities.monitors import CONSTRAINTS_FILE, STATISTICS_FILE, Baseline, CreatedBaseline
from vedette.sdk.aio.connection import AsyncConnection, Call
from vedette.sdk.aio.exchange import change, fetch
from vedette.sdk.aio.pages import walk
from vedette.sdk.datasets import Dataset, dataset_of
from vedette.sdk.documents import encode, plain, read

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all."""

COMPUTE_TIMEOUT_S = 3600.0
"""The answer comes when all of the data has been read."""


class AsyncBaselines:
    """Statistics and constraints of reference data, one set under each name of a model version."""

    def __init__(self, registry: AsyncConnection, monitor: AsyncConnection) -> None:
        self._registry = registry
        self._monitor = monitor

    async def create(
        self,
        model: str,
        version: int,
        data: str | PathLike[str] | Any,
        *,
        name: str = "default",
        format: str = "",
        progress: Progress | None = None,
        target: str = "",
        problem_type: str = "",
        prediction: str = "",
        probability: str = "",
        positive_class: str = "",
        analysis: Mapping[str, Any] | None = None,
    ) -> CreatedBaseline:
        """Compute statistics, constraints and profile of `data` and keep them as the version's baseline.

        `left_out` of the answer says what the data did not allow, where nothing demanded it.

        Where a column holds labels, what the model achieves on them is kept too. `target`, `prediction` and
        `probability` (of the positive class) name columns that are not called `label` (or as the model says),
        `prediction` and `probability_<class>`; the model predicts what the data does not hold. `problem_type` is
        SageMaker's; `analysis` is Clarify's analysis_config.json: bias of facets, and attributions.

        `data` is a path of a .csv, .parquet or .jsonl file (`format` says what it is where its name does not),
        a pandas DataFrame, or a mapping of columns. One of the same name is replaced.

        Raises:
            InvalidArgument: the data does not fit the version's signature; names the columns.
        """
        source = dataset_of(data, format)
        query = (
            ("model", check_name(model, "model name")),
            ("version", str(_number(version))),
            ("name", check_name(name, "baseline name")),
            ("format", source.format),
            *_said(
                target=target,
                problem_type=problem_type,
                prediction=prediction,
                probability=probability,
                positive_class=positive_class,
                analysis="" if analysis is None else encode(dict(analysis)).decode(),
            ),
        )
        headers = {"content-type": "application/octet-stream", "content-length": str(source.size)}
        stream = _stream(source, progress)
        call = Call("POST", "/v1/baselines", query, headers, stream=stream, again=True, timeout_s=COMPUTE_TIMEOUT_S)
        return read(CreatedBaseline, (await self._monitor.send(call)).body)

    def list(self, model: str, version: int) -> AsyncIterator[Baseline]:
        """The version's baselines by name."""
        return walk(self._registry, _path(model, version), [], Baseline)

    async def get(self, model: str, version: int, name: str = "default") -> Baseline:
        """One baseline; `NotFound` when there is none."""
        return await fetch(self._registry, Baseline, _path(model, version, name))

    async def statistics(self, model: str, version: int, name: str = "default") -> dict[str, Any]:
        """SageMaker's `statistics.json`."""
        return await fetch(self._registry, dict, f"{_path(model, version, name)}/files/{STATISTICS_FILE}")

    async def constraints(self, model: str, version: int, name: str = "default") -> dict[str, Any]:
        """SageMaker's `constraints.json`."""
        return await fetch(self._registry, dict, f"{_path(model, version, name)}/files/{CONSTRAINTS_FILE}")

    async def set_constraints(
        self, model: str, version: int, constraints: Mapping[str, Any], *, name: str = "default"
    ) -> Baseline:
        """Replace the constraints by edited ones; windows evaluated from now on are held to them."""
        path = f"{_path(model, version, name)}/files/{CONSTRAINTS_FILE}"
        return await change(self._registry, Baseline, "PUT", path, plain(dict(constraints)))

    async def document(self, model: str, version: int, file: str, *, name: str = "default") -> dict[str, Any]:
        """One of the JSON files: `model_quality_statistics.json`, `model_quality_constraints.json`, `analysis.json`.

        Raises:
            NotFound: the baseline has no such file.
        """
        return await fetch(self._registry, dict, f"{_path(model, version, name)}/files/{quote(file, safe='')}")

    async def set_document(
        self, model: str, version: int, file: str, document: Mapping[str, Any], *, name: str = "default"
    ) -> Baseline:
        """Replace `constraints.json`, `model_quality_constraints.json` or `analysis.json`, or add it."""
        path = f"{_path(model, version, name)}/files/{quote(file, safe='')}"
        return await change(self._registry, Baseline, "PUT", path, plain(dict(document)))

    async def delete(self, model: str, version: int, name: str = "default") -> None:
        """Delete one baseline; monitors that compare with it report that there is none."""
        await self._registry.send(Call("DELETE", _path(model, version, name)))


def _stream(source: Dataset, progress: Progress | None) -> Callable[[], AsyncIterator[bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        sent = 0
        for chunk in source.chunks():
            yield chunk
            sent += len(chunk)
            if progress is not None:
                progress(sent, source.size)

    return stream


def _said(**parameters: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in parameters.items() if value)


def _number(version: int) -> int:
    if not isinstance(version, int) or version < 1:
        raise InvalidArgument(f"{version!r} is not a version: use a number from 1")
    return version


def _path(model: str, version: int, name: str = "") -> str:
    of_version = f"/v1/models/{quote(check_name(model, 'model name'), safe='')}/versions/{_number(version)}/baselines"
    return f"{of_version}/{quote(check_name(name, 'baseline name'), safe='')}" if name else of_version
