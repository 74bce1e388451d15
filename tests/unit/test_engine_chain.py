"""Several graphs as one deployable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit import engine_graphs as graphs

from vedette.core.errors import InvalidArgument, Unavailable
from vedette.core.models import SessionOptions, Signature, TensorSpec
from vedette.core.tensors import Tensor
from vedette.engine.chain import Chain, check_chain
from vedette.engine.runtime import Runtime
from vedette.engine.session import Session
from vedette.engine.warmup import measure


def step(folder: Path, factor: float, source: str, target: str) -> Session:
    path = graphs.save(graphs.scale(factor, source=source, target=target), folder)
    return Session.load(path, SessionOptions(intra_op_threads=1))


def spec(name: str, datatype: str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def signature(inputs: list[TensorSpec], outputs: list[TensorSpec], **more: object) -> Signature:
    return Signature(tuple(inputs), tuple(outputs), **more)  # type: ignore[arg-type]


def test_steps_run_in_order_and_show_as_one(tmp_path: Path) -> None:
    """By name where names match, by position where only counts do; inputs of the first, outputs of the last."""
    chain: Runtime = Chain(
        [step(tmp_path / n, f, s, t) for n, f, s, t in (("a", 2, "x", "u"), ("b", 3, "u", "v"), ("c", 5, "w", "y"))]
    )
    assert (chain.inputs, chain.outputs, chain.output_names) == ((spec("x"),), (spec("y"),), ("y",))
    x = Tensor("x", "FP32", np.array([[1, 2]], np.float32))
    for names in ((), ("y",)):
        (given,) = chain.run({"x": x}, names)
        assert (given.name, given.array.tolist()) == ("y", [[30, 60]])
    assert chain.memory_bytes > 0
    assert chain.load_time_ms > 0
    assert measure(chain, 4, runs=3) > 0


def test_closing_a_chain_closes_its_steps(tmp_path: Path) -> None:
    """A chain owns its sessions."""
    sessions = [step(tmp_path / "a", 2, "x", "u"), step(tmp_path / "b", 3, "u", "y")]
    chain = Chain(sessions)
    chain.close()
    x = Tensor("x", "FP32", np.ones((1, 2), np.float32))
    for session, name in zip(sessions, "xu"):
        with pytest.raises(Unavailable):
            session.run({name: x}, ())


def test_a_step_computes_only_what_the_next_takes() -> None:
    """Outputs that nobody takes are not asked for; order does not matter where names match."""

    class Recorder:
        """A runtime that gives a one for every output asked for and remembers the question."""

        memory_bytes, load_time_ms = 0, 0.0

        def __init__(self, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
            self.inputs, self.outputs = tuple(inputs), tuple(outputs)
            self.output_names = tuple(each.name for each in outputs)
            self.asked: tuple[set[str], tuple[str, ...]] = (set(), ())

        def run(self, feeds: dict[str, Tensor], outputs: tuple[str, ...]) -> list[Tensor]:
            self.asked = (set(feeds), tuple(outputs))
            return [Tensor(name, "FP32", np.ones((1, 2), np.float32)) for name in outputs or self.output_names]

        def close(self) -> None:
            pass

    first = Recorder([spec("x")], [spec("a"), spec("unused"), spec("b")])
    second = Recorder([spec("b"), spec("a")], [spec("y"), spec("z")])
    given = Chain([first, second]).run({"x": Tensor("x", "FP32", np.ones((1, 2), np.float32))}, ("z",))
    assert first.asked == ({"x"}, ("b", "a"))
    assert second.asked == ({"a", "b"}, ("z",))
    assert [tensor.name for tensor in given] == ["z"]


def test_the_signature_of_a_chain_is_made_of_its_ends() -> None:
    """What goes in is described by the first step, what comes out by the last."""
    first = signature([spec("x")], [spec("u")], feature_names=("a", "b"), kind="tabular", label_names=("not",))
    last = signature([spec("u")], [spec("y")], label_names=("no", "yes"), target="t", feature_names=("p",))
    whole = check_chain([first, last])
    assert (whole.inputs, whole.outputs) == ((spec("x"),), (spec("y"),))
    assert (whole.feature_names, whole.kind, whole.label_names, whole.target) == (
        ("a", "b"),
        "tabular",
        ("no", "yes"),
        "t",
    )


@pytest.mark.parametrize(
    ("outputs", "inputs", "message"),
    [
        ([spec("u", "INT64")], [spec("u")], "INT64 is not FP32"),
        ([spec("u", shape=(-1,))], [spec("u")], "1 dimensions are not 2"),
        ([spec("u", shape=(-1, 3))], [spec("u")], r"shape \[-1, 3\] is not \[-1, 2\]"),
        ([spec("u"), spec("v")], [spec("w")], "step 2 takes 'w', which step 1 does not give"),
        ([spec("u")], [spec("v"), spec("w")], "cannot be matched"),
    ],
)
def test_steps_that_do_not_fit_are_refused(outputs: list[TensorSpec], inputs: list[TensorSpec], message: str) -> None:
    """Without loading anything, naming step, tensor and difference."""
    with pytest.raises(InvalidArgument, match=message):
        check_chain([signature([spec("x")], outputs), signature(inputs, [spec("y")])])


def test_open_dimensions_fit_any_size() -> None:
    """-1 on either side is left to the run."""
    for shapes in (((-1, 2), (4, -1)), ((4, 2), (-1, 2))):
        joined = [
            signature([spec("x")], [spec("u", shape=shapes[0])]),
            signature([spec("u", shape=shapes[1])], [spec("y")]),
        ]
        assert check_chain(joined).outputs == (spec("y"),)


def test_an_empty_chain_is_refused() -> None:
    """There is nothing to serve in it."""
    with pytest.raises(InvalidArgument):
        check_chain([])
    with pytest.raises(InvalidArgument):
        Chain([])
