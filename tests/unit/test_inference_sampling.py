"""What of a request is kept for the stream: the sample, the columns that are cut out, the memory that is held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.inference_rig import tensor

from vedette.codec.binary import decode_tensor
from vedette.core.errors import InvalidArgument
from vedette.core.models import CaptureSettings, Signature, TensorSpec
from vedette.core.tensors import Tensor
from vedette.inference.sampling import Sampler, lasting, make_sampler


def signature() -> Signature:
    """Three named columns in, one value out."""
    return Signature(
        (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 1)),), feature_names=("age", "pay", "job")
    )


def sampler(signature: Signature, **settings: Any) -> Sampler:
    """The sampler of these settings, at 100 percent unless they say otherwise."""
    made = make_sampler(CaptureSettings(**{"sampling_percent": 100, **settings}), signature)
    assert made is not None
    return made


def kept(signature: Signature, exclude: tuple[str, ...], *tensors: Tensor) -> dict[str, Any]:
    """What a sampler that excludes these names keeps of the inputs."""
    inputs = sampler(signature, exclude=exclude).inputs
    elements, shapes, size = inputs.take(tensors)
    found = zip(inputs.specs, *((elements,), (shapes,)) if inputs.single else (elements, shapes))
    made = {
        spec.name: np.frombuffer(data, np.float32).reshape(shape) for spec, data, shape in found if data is not None
    }
    assert size == sum(array.nbytes for array in made.values())
    return {name: array.tolist() for name, array in made.items()}


def side_by_side(*inputs: TensorSpec, names: tuple[str, ...] = ("age", "pay", "job")) -> Signature:
    """A signature with these inputs and named columns."""
    return Signature(inputs, (TensorSpec("y", "FP32", (-1, 1)),), feature_names=names)


def test_excluded_columns_are_cut_out_before_anything_is_kept() -> None:
    """The column is gone from the tensor, not masked."""
    assert kept(signature(), ("pay",), tensor("x", [[1, 2, 3], [4, 5, 6]])) == {"x": [[1, 3], [4, 6]]}


def test_columns_are_counted_over_inputs_side_by_side() -> None:
    """Feature names run through the inputs in the order of the signature, however many each takes."""
    two = side_by_side(TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, 1)))
    a, b = tensor("a", [[1, 2], [4, 5]]), tensor("b", [[3], [6]])
    assert kept(two, ("pay",), b, a) == {"a": [[1], [4]], "b": [[3], [6]]}
    assert kept(two, ("job",), a, b) == {"a": [[1, 2], [4, 5]]}
    own = side_by_side(*(TensorSpec(f"in_{name}", "FP32", (-1,)) for name in ("age", "pay", "job")))
    each = [tensor(f"in_{name}", [value]) for name, value in (("age", 1), ("pay", 2), ("job", 3))]
    assert kept(own, ("age", "job"), *each) == {"in_pay": [2]}


def test_an_open_width_is_the_number_of_features_and_another_width_is_not_kept() -> None:
    """[-1, -1] with three named columns: a request of three is cut, one of four cannot be and is left out."""
    wide = side_by_side(TensorSpec("x", "FP32", (-1, -1)))
    assert kept(wide, ("pay",), tensor("x", [[1, 2, 3]])) == {"x": [[1, 3]]}
    assert kept(wide, ("pay",), tensor("x", [[1, 2, 3, 4]])) == {}
    assert kept(wide, ("pay",), tensor("x", [1, 2, 3])) == {}
    assert kept(wide, ("pay",), tensor("x", 2)) == {}


def test_deeper_inputs_are_cut_as_rows() -> None:
    """A row of [2, 2] is four columns; what is left of it is a flat row."""
    deep = side_by_side(TensorSpec("x", "FP32", (-1, 2, 2)), names=("a", "b", "c", "d"))
    assert kept(deep, ("c",), tensor("x", [[[1, 2], [3, 4]]])) == {"x": [[1, 2, 4]]}


def test_an_input_that_the_names_do_not_reach_is_not_kept() -> None:
    """When columns cannot be told apart nothing is recorded of them; excluding a tensor needs no columns."""
    odd = side_by_side(TensorSpec("x", "FP32", (-1, 4)), TensorSpec("s", "FP32", ()))
    x, s = tensor("x", [[1, 2, 3, 4]]), tensor("s", 1)
    assert kept(odd, ("pay",), x, s) == {}
    assert kept(odd, ("s",), x, s) == {"x": [[1, 2, 3, 4]]}
    assert kept(signature(), ("pay",), tensor("z", [[1, 2, 3]])) == {}


def test_a_whole_tensor_can_be_excluded_and_directions_can_be_off() -> None:
    """`exclude` takes tensors by name; `inputs` and `outputs` switch a direction."""
    assert kept(signature(), ("x",), tensor("x", [[1, 2, 3]])) == {}
    switched = sampler(signature(), inputs=False, outputs=False)
    assert (switched.inputs.specs, switched.outputs.specs) == ((), ())
    assert switched.inputs.take([tensor("x", [[1, 2, 3]])]) == ((), (), 0)
    assert sampler(signature(), exclude=("y",)).outputs.specs == ()


def test_sampling_follows_the_inference_id() -> None:
    """The same id is in the sample everywhere, and the share is the percentage."""
    quarter, other = (sampler(signature(), sampling_percent=25) for _ in range(2))
    chosen = [quarter.wants(f"id-{n}") for n in range(4000)]
    assert chosen == [other.wants(f"id-{n}") for n in range(4000)]
    assert 850 < sum(chosen) < 1150
    half = sampler(signature(), sampling_percent=50)
    assert all(half.wants(f"id-{n}") for n in range(4000) if chosen[n])
    assert all(sampler(signature()).wants(f"id-{n}") for n in range(1000))
    assert make_sampler(CaptureSettings(), signature()) is None


def test_without_an_inference_id_the_sample_is_chance() -> None:
    """Requests without an id are in it in the same share."""
    quarter = sampler(signature(), sampling_percent=25)
    assert 850 < sum(quarter.wants("") for _ in range(4000)) < 1150


@pytest.mark.parametrize("settings", [{"mode": "maybe"}, {"exclude": ("aeg",)}])
def test_settings_that_cannot_be_kept_are_refused(settings: dict[str, Any]) -> None:
    """A mode nobody knows, a column that is none."""
    with pytest.raises(InvalidArgument, match="capture"):
        make_sampler(CaptureSettings(sampling_percent=1, **settings), signature())


def test_small_tensors_are_bytes_and_large_ones_are_not_copied() -> None:
    """A row is cheaper to copy than to keep; megabytes are not. Texts stay what they are."""
    inputs = sampler(Signature((TensorSpec("x", "FP32", (-1, -1)),), ())).inputs
    small, large = (np.zeros((1, width), np.float32) for width in (3, 5000))
    assert inputs.take([Tensor("x", "FP32", small)]) == (small.tobytes(), (1, 3), 12)
    assert inputs.take([Tensor("x", "FP32", large)])[0] is large
    texts = np.array([[b"abc"]], object)
    kept_texts = sampler(Signature((TensorSpec("t", "BYTES", (-1, 1)),), ())).inputs.take([Tensor("t", "BYTES", texts)])
    assert (kept_texts[0] is texts, kept_texts[2]) == (True, 11)


def test_a_small_view_does_not_keep_a_large_body_alive() -> None:
    """A tensor that is a part of its body is copied; one that is most of it is not; memory of its own never."""
    body = bytes(100_000)
    part = decode_tensor("x", "FP32", [1, 3], memoryview(body)[64:76]).array
    whole = decode_tensor("x", "FP32", [1, 25_000], body).array
    own = np.zeros(12, np.float32).reshape(3, 4)
    assert lasting(part).flags.owndata
    assert lasting(part).tolist() == [[0.0, 0.0, 0.0]]
    assert lasting(whole) is whole
    assert lasting(own) is own
    few = np.zeros((10_000, 4), np.float32)[:1]
    assert lasting(few).base is None
