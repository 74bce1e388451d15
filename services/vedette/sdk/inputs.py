"""What a caller hands to `predict`, as the tensors that the endpoint takes.

Rule: values are converted only where nothing is lost but precision: a number becomes the model's number
type, text never becomes a number (save a known category), and a column goes where its name says, whatever
its position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vedette.codec.bfloat16 import narrow
from vedette.core.errors import InvalidArgument
from vedette.core.models import TensorSpec
from vedette.core.tensors import DATATYPES, Tensor
from vedette.sdk.documents import SignatureDetails


@dataclass(frozen=True, slots=True)
class EndpointMetadata:
    """What `GET /v2/models/{name}` says about an endpoint."""

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    signature: SignatureDetails = field(default_factory=SignatureDetails)

    @property
    def column_wise(self) -> bool:
        """Whether the model takes one tensor of one column for each feature."""
        return len(self.inputs) > 1 and all(spec.shape[1:] == (1,) for spec in self.inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in the model's order; empty when the model does not know them."""
        return tuple(spec.name for spec in self.inputs) if self.column_wise else self.signature.feature_names


def tensors_from(data: Any, metadata: EndpointMetadata) -> list[Tensor]:
    """The input tensors for an endpoint from what a caller has.

    Takes an array (or nested lists of rows), a mapping of input names to arrays, and tables: a pandas
    DataFrame, a mapping of column names to values, or a list of rows that are mappings. A single row may
    leave out the batch dimension.

    Raises:
        InvalidArgument: names the columns or inputs that are missing, unknown or of the wrong type.
    """
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        return _from_columns({str(name): np.asarray(data[name]) for name in data.columns}, metadata)
    if isinstance(data, Mapping):
        if set(data) & {spec.name for spec in metadata.inputs} or not metadata.columns:
            return _from_inputs(data, metadata)
        return _from_columns({str(name): _array(values, name) for name, values in data.items()}, metadata)
    if isinstance(data, Sequence) and len(data) > 0 and all(isinstance(row, Mapping) for row in data):
        return _from_columns(_columns_of(data), metadata)
    return _from_array(_array(data, "the input"), metadata)


def _from_array(array: Any, metadata: EndpointMetadata) -> list[Tensor]:
    if metadata.column_wise:
        rows = array.reshape(1, -1) if array.ndim == 1 else array
        if rows.ndim != 2 or rows.shape[1] != len(metadata.inputs):
            raise InvalidArgument(
                f"{metadata.name} takes {len(metadata.inputs)} columns ({', '.join(metadata.columns)}); "
                f"the array has shape {list(array.shape)}"
            )
        return [_tensor(rows[:, i], spec, metadata) for i, spec in enumerate(metadata.inputs)]
    if len(metadata.inputs) != 1:
        names = ", ".join(spec.name for spec in metadata.inputs)
        raise InvalidArgument(f"{metadata.name} has several inputs: pass a dict of arrays by name ({names})")
    return [_tensor(array, metadata.inputs[0], metadata)]


def _from_inputs(data: Mapping[Any, Any], metadata: EndpointMetadata) -> list[Tensor]:
    _check_names([str(name) for name in data], [spec.name for spec in metadata.inputs], "inputs", metadata.name)
    return [_tensor(_array(data[spec.name], spec.name), spec, metadata) for spec in metadata.inputs]


def _from_columns(columns: Mapping[str, Any], metadata: EndpointMetadata) -> list[Tensor]:
    if not metadata.columns:
        raise InvalidArgument(
            f"{metadata.name} does not know its column names: pass an array in the model's order, "
            "or register the model with feature_names"
        )
    _check_names(list(columns), list(metadata.columns), "columns", metadata.name)
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InvalidArgument(f"the columns have different lengths: {sorted(lengths)}")
    if metadata.column_wise:
        return [_tensor(columns[spec.name], spec, metadata) for spec in metadata.inputs]
    if len(metadata.inputs) != 1:
        raise InvalidArgument(f"{metadata.name} has several inputs: pass a dict of arrays by name")
    spec = metadata.inputs[0]
    ordered = [convert(columns[name], spec.datatype, name, metadata) for name in metadata.columns]
    return [Tensor(spec.name, spec.datatype, np.stack(ordered, axis=1))]


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(rows[0])
    for number, row in enumerate(rows):
        if set(row) != set(names):
            raise InvalidArgument(f"row {number} has other columns than row 0")
    return {str(name): _array([row[name] for row in rows], name) for name in names}


def _check_names(given: list[str], wanted: list[str], what: str, endpoint: str) -> None:
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if not missing and not unknown:
        return
    parts = [f"missing {what}: {_few(missing)}"] if missing else []
    parts += [f"unknown {what}: {_few(unknown)}"] if unknown else []
    raise InvalidArgument(f"{endpoint}: {'; '.join(parts)}; it takes {_few(wanted)}")


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown


def _array(data: Any, name: object) -> Any:
    try:
        array = np.asarray(data)
        if array.dtype.kind in "SU" and not isinstance(data, np.ndarray):
            return np.asarray(data, dtype=object)  # numpy has made text of the numbers beside text
        return array
    except ValueError as error:
        raise InvalidArgument(f"{name}: the rows have different lengths") from error


def _tensor(array: Any, spec: TensorSpec, metadata: EndpointMetadata) -> Tensor:
    values = convert(array, spec.datatype, spec.name, metadata)
    if values.ndim == 1 and spec.shape[1:] == (1,):
        values = values.reshape(-1, 1)
    elif values.ndim == len(spec.shape) - 1 and spec.shape[0] == -1:
        values = values[np.newaxis]
    return Tensor(spec.name, spec.datatype, np.ascontiguousarray(values))


def convert(array: Any, datatype: str, name: str, metadata: EndpointMetadata) -> Any:
    """The values as the model's datatype.

    Raises:
        InvalidArgument: they are of another kind (text for a number, a fraction for an integer) or too large.
    """
    array = np.asarray(array)
    if datatype == "BYTES":
        return _bytes(array, name)
    if array.dtype.kind in "OUS":
        array = _numbers(array, name, metadata)
    if datatype == "BF16":
        return narrow(_cast(array, np.dtype(np.float32), f"{name} takes BF16"))
    return _cast(array, DATATYPES[datatype].dtype, f"{name} takes {datatype}")


def _bytes(array: Any, name: str) -> Any:
    items = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1).tolist()]
    for item in items:
        if not isinstance(item, bytes):
            raise InvalidArgument(f"{name} takes text; {item!r:.60} is not")
    return np.array(items, dtype=object).reshape(array.shape)


def _numbers(array: Any, name: str, metadata: EndpointMetadata) -> Any:
    """Numbers from Python objects: None is NaN; text is a number only where it is a known category."""
    categories = {text: float(i) for i, text in enumerate(metadata.signature.categories.get(name, ()))}
    values = [categories.get(item, item) if isinstance(item, str) else item for item in array.reshape(-1).tolist()]
    for item in values:
        if isinstance(item, str | bytes):
            known = f"; it knows {_few(list(categories))}" if categories else ""
            raise InvalidArgument(f"{name} takes numbers; {item!r:.60} is not one{known}")
    try:
        plain = [float("nan") if item is None else item for item in values]
        exact = np.array(plain)
        return (exact if exact.dtype.kind != "O" else np.array(plain, dtype=np.float64)).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name}: not all values are numbers, or rows have different lengths") from error


def _cast(array: Any, dtype: np.dtype[Any], what: str) -> Any:
    if array.dtype == dtype:
        return array
    whole = array.dtype.kind in "iu" and dtype.kind in "iu"
    if not whole and not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise InvalidArgument(f"{what}; {array.dtype} values do not fit without loss")
    if whole and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidArgument(f"{what}; a value is out of its range")
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype)
    except FloatingPointError as error:
        raise InvalidArgument(f"{what}; a value is out of its range") from error
