"""Instances, as JSON values, to the tensors of a signature.

Rule: the form of the first instance is the form of all; memory is bounded by the values that came, so a
sparse row may be at most as wide as the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from vedette.codec.rows import Columns, Row, columns_of, row_width, tensors_of
from vedette.core.errors import InvalidArgument
from vedette.core.models import Signature, TensorSpec
from vedette.core.tensors import Tensor, element_count

MAX_SPARSE_VALUES = 1 << 24
"""Values that the sparse rows of one request may come to; they cost memory that nobody sent."""

_Shape = tuple[int, ...]


def decode_instances(instances: Sequence[object], signature: Signature) -> list[Tensor]:
    """The model's inputs from instances of one form.

    Raises:
        InvalidArgument: names the instance, counted from 1, and what is wrong in it.
    """
    if not instances:
        raise InvalidArgument("there are no instances")
    first = instances[0]
    if not isinstance(first, dict):
        return _from_arrays(instances, signature)
    names = set(first)
    if names == {spec.name for spec in signature.inputs}:
        by_name = _by_key(instances, tuple(spec.name for spec in signature.inputs))
        return [_input(spec, values, signature) for spec, values in zip(signature.inputs, zip(*by_name))]
    if names == set(signature.feature_names):
        return _from_rows(_by_key(instances, signature.feature_names), signature)
    if names == {"features"}:
        return _from_arrays([row for (row,) in _by_key(instances, ("features",))], signature)
    if names == {"data"}:
        return _from_rows(_built_in(instances, signature), signature)
    raise InvalidArgument(_unknown(names, signature))


def _unknown(names: set[str], signature: Signature) -> str:
    inputs = ", ".join(repr(spec.name) for spec in signature.inputs[:16])
    features = ", the feature names" if signature.feature_names else ""
    given = ", ".join(sorted(map(repr, names))[:16])
    return f"instance 1 has the keys {given[:400]}; expected are 'features', 'data'{features} or the inputs {inputs}"


def _by_key(instances: Sequence[object], keys: tuple[str, ...]) -> list[list[object]]:
    """The values of each instance in the order of `keys`, which must be all of its keys."""
    rows: list[list[object]] = []
    for number, instance in enumerate(instances, 1):
        if not isinstance(instance, dict):
            raise InvalidArgument(f"instance {number} is not an object like the first one")
        if len(instance) != len(keys) or not all(key in instance for key in keys):
            wrong = sorted(set(keys) ^ set(instance))[:8]
            raise InvalidArgument(f"instance {number} lacks, or alone has, {', '.join(map(repr, wrong))[:400]}")
        rows.append([instance[key] for key in keys])
    return rows


def _from_arrays(instances: Sequence[object], signature: Signature) -> list[Tensor]:
    """Instances that are arrays or scalars: the only input's values, nested or flat, or rows of columns."""
    first = instances[0]
    if len(signature.inputs) == 1 and isinstance(first, list) and first and isinstance(first[0], list):
        return [_input(signature.inputs[0], instances, signature)]
    scalar = not isinstance(first, list)
    rows: list[Row] = []
    for number, instance in enumerate(instances, 1):
        if isinstance(instance, list) == scalar or isinstance(instance, dict):
            raise InvalidArgument(f"instance {number} has another form than the first one")
        rows.append([instance] if scalar else instance)  # type: ignore[arg-type]
    return _from_rows(rows, signature)


def _from_rows(rows: Sequence[Row], signature: Signature) -> list[Tensor]:
    columns = columns_of(signature, len(rows[0]))
    for number, row in enumerate(rows, 1):
        if len(row) != columns.total:
            raise InvalidArgument(f"instance {number} has {len(row)} values where the first has {columns.total}")
    return tensors_of(columns, rows, numbers=range(1, len(rows) + 1))


def _input(spec: TensorSpec, values: Sequence[object], signature: Signature) -> Tensor:
    """One input from a value for each instance: a scalar, a flat array or one nested as the input's shape."""
    nesting = _nesting(values[0])
    trailing = _trailing(spec, nesting)
    rows = [_flat(value, nesting, f"instance {number}: {spec.name!r}") for number, value in enumerate(values, 1)]
    width = element_count(nesting)
    names = signature.feature_names if len(signature.inputs) == 1 else (spec.name,)
    columns = Columns(
        (TensorSpec(spec.name, spec.datatype, (-1, *trailing)),),
        (width,),
        names if len(names) == width else (),
        signature.categories,
    )
    return tensors_of(columns, rows, numbers=range(1, len(rows) + 1))[0]


def _nesting(value: object) -> _Shape:
    """The lengths of the arrays in a value, going by the first element of each."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _trailing(spec: TensorSpec, nesting: _Shape) -> _Shape:
    """The shape of a row of the input when its values are nested so."""
    wanted = spec.shape[1:]
    if len(nesting) == len(wanted) and all(dim in (-1, given) for dim, given in zip(wanted, nesting)):
        return nesting
    if len(nesting) <= 1 and -1 not in wanted and element_count(wanted) == element_count(nesting):
        return wanted
    raise InvalidArgument(f"input {spec.name!r} of shape {list(spec.shape)} takes no instances shaped {list(nesting)}")


def _flat(value: object, shape: _Shape, place: str) -> list[object]:
    """The elements of nested arrays in order; all must have the lengths of `shape`."""
    if not shape:
        return [value]
    if not isinstance(value, list) or len(value) != shape[0]:
        raise InvalidArgument(f"{place} is not shaped like that of the first instance")
    if len(shape) == 1:
        return value
    return [element for part in value for element in _flat(part, shape[1:], place)]


def _built_in(instances: Sequence[object], signature: Signature) -> list[Row]:
    """Rows of `{"data": {"features": {"values": [...]}}}`, sparse ones (`keys`, `shape`) made dense."""
    rows: list[Row] = []
    budget = MAX_SPARSE_VALUES
    for number, (data,) in enumerate(_by_key(instances, ("data",)), 1):
        features = data.get("features") if isinstance(data, dict) else None
        values = features.get("values") if isinstance(features, dict) else None
        if not isinstance(features, dict) or not isinstance(values, list):
            raise InvalidArgument(f"instance {number} has no array at data.features.values")
        if "keys" not in features:
            rows.append(values)
            continue
        width = _sparse_width(features.get("shape"), number, signature)
        budget -= width
        if budget < 0:
            raise InvalidArgument(f"the sparse instances come to more than {MAX_SPARSE_VALUES} values")
        rows.append(_dense(features["keys"], values, width, number))
    return rows


def _sparse_width(shape: object, number: int, signature: Signature) -> int:
    width = row_width(signature)
    given = shape[0] if isinstance(shape, list) and len(shape) == 1 else None
    if type(given) is not int or given < 0:
        raise InvalidArgument(f"instance {number}: data.features.shape must be an array of one length")
    if width is not None and given != width:
        raise InvalidArgument(f"instance {number}: a sparse row of {given} values where the model takes {width}")
    return given


def _dense(keys: object, values: list[object], width: int, number: int) -> Row:
    if not isinstance(keys, list) or len(keys) != len(values):
        raise InvalidArgument(f"instance {number}: data.features has not as many keys as values")
    row: list[object] = [0] * width
    seen: set[int] = set()
    for key, value in zip(keys, values):
        if type(key) is not int or not 0 <= key < width or key in seen:
            raise InvalidArgument(f"instance {number}: {key!r} is no index of {width} values, or is given twice"[:200])
        seen.add(key)
        row[key] = value
    return row
