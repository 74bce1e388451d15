"""Session options that this build cannot do, and library text that callers may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from vedette.core.errors import InvalidArgument, ModelFailed, NotFound
from vedette.core.models import SessionOptions, TensorSpec
from vedette.engine import failures, session
from vedette.engine.providers import available_providers, check_options, ort_options
from vedette.engine.signature import tensor_specs
from vedette.engine.warmup import measure, zero_feeds


def test_the_defaults_fit_every_build() -> None:
    """The processor is always there."""
    assert "CPUExecutionProvider" in available_providers()
    check_options(SessionOptions())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"providers": ("CUDAExecutionProvider", "CPUExecutionProvider")}, "no CUDAExecutionProvider; it has"),
        ({"providers": ("Nonsense",)}, "no Nonsense"),
        ({"providers": ()}, "at least one"),
        ({"providers": ("CPUExecutionProvider",) * 2}, "twice"),
        ({"intra_op_threads": -1}, "intra_op_threads"),
        ({"inter_op_threads": 5000}, "inter_op_threads"),
        ({"intra_op_threads": True}, "intra_op_threads"),
        ({"graph_optimization": "best"}, "none, basic, extended, all"),
    ],
)
def test_an_option_that_would_not_take_effect_is_refused(changes: dict[str, Any], message: str) -> None:
    """The refusal names what is missing or what may stand there."""
    if "CUDAExecutionProvider" in available_providers() and "CUDA" in message:
        changes, message = {"providers": ("QNNExecutionProvider",)}, "no QNNExecutionProvider"
    with pytest.raises(InvalidArgument, match=message):
        check_options(replace(SessionOptions(), **changes))


def test_a_provider_that_does_not_start_is_refused() -> None:
    """ONNX Runtime would go on without it in silence."""

    class Dropped:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    with pytest.raises(InvalidArgument, match="CUDAExecutionProvider is installed but does not start"):
        session._check_active(Dropped(), ("CUDAExecutionProvider", "CPUExecutionProvider"))


def test_options_reach_the_library() -> None:
    """Threads, optimisation and parallel execution, which several inter-op threads mean."""
    made = ort_options(SessionOptions(inter_op_threads=2, graph_optimization="basic"), threads=3)
    assert (made.intra_op_num_threads, made.inter_op_num_threads) == (3, 2)
    assert made.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert made.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert ort_options(SessionOptions(), threads=3).execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL


RESHAPE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'fold' "
    "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:84 "
    "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
    "size != 0 was false. Input shape:{3}"
)
SHOWN = (
    "Non-zero status code returned while running Reshape node. Name:'fold' Status Message: "
    "size != 0 was false. Input shape:{3}"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            RESHAPE,
            SHOWN,
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /srv/a b/model.onnx failed:Fatal error: Jemm",
            "Fatal error: Jemm",
        ),
        ("cannot open ./weights.bin or ../x or C:/y", "cannot open ... or ... or ..."),
        ("one\n two\x1b[31m\0", "one two[31m"),
        ("n" * 1000, "n" * 397 + "..."),
    ],
)
def test_library_text_is_shown_without_paths(text: str, expected: str) -> None:
    """One line, no source position, no C++ signature, no control character, 400 characters at most."""
    assert failures.plain(text) == expected


def test_errors_of_ours_pass_and_memory_has_words_of_its_own() -> None:
    """However the library says that memory was short, it is said in one way."""
    ours = NotFound("x")
    assert failures.run_failure(ours) is ours
    for error in (
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("Failed to allocate memory for requested buffer"),
    ):
        shown = failures.run_failure(error)
        assert isinstance(shown, ModelFailed)
        assert "more memory than there is" in shown.message
        assert "more memory than there is" in failures.load_failure(error).message


class Arg:
    """An input as the library would describe it."""

    def __init__(self, name: str, kind: str, shape: list[object]) -> None:
        self.name, self.type, self.shape = name, kind, shape


def test_symbols_and_odd_sizes_are_open_dimensions() -> None:
    """A name, None or a negative number is -1; zero and above stay."""
    (spec,) = tensor_specs("input", [Arg("x", "tensor(float16)", ["n", None, -1, 0, 3])])
    assert spec == TensorSpec("x", "FP16", (-1, -1, -1, 0, 3))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no inputs"),
        ([Arg("", "tensor(float)", [1])], "no name"),
        ([Arg("x", "tensor(float)", [1])] * 2, "same name"),
        ([Arg("x", "tensor(float)", [1] * 33)], "33 dimensions"),
        ([Arg(f"x{i}", "tensor(float)", []) for i in range(1025)], "at most 1024"),
        ([Arg("x", "seq(map(int64,tensor(float)))", [])], "zipmap=False"),
        ([Arg("x", "seq(tensor(float))", [])], "plain tensors only"),
        ([Arg("x", "optional(tensor(float))", [])], "plain tensors only"),
        ([Arg("x", "tensor(complex64)", [1])], "add a Cast"),
        ([Arg("x", "tensor(float8e4m3fn)", [1])], "add a Cast"),
    ],
)
def test_what_the_protocol_cannot_carry_has_no_signature(args: list[Arg], message: str) -> None:
    """Each refusal says what to change in the model."""
    with pytest.raises(InvalidArgument, match=message):
        tensor_specs("input", args)


def test_zeros_take_the_rows_asked_for() -> None:
    """Rows in the first open dimension, one in other open ones, empty text for BYTES."""
    feeds = zero_feeds(
        (TensorSpec("a", "FP32", (-1, -1, 3)), TensorSpec("b", "BYTES", (2, -1)), TensorSpec("c", "BF16", ())), rows=5
    )
    assert [feeds[name].array.shape for name in "abc"] == [(5, 1, 3), (2, 1), ()]
    assert feeds["b"].array.tolist() == [[b""], [b""]]
    assert feeds["c"].array.dtype == np.uint16


def test_measuring_a_slow_model_ends_after_about_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The median of the runs asked for, but no run is added once a second has gone."""
    now = [0.0]

    class Slow:
        inputs = (TensorSpec("x", "FP32", (-1, 2)),)
        runs = 0

        def run(self, feeds: object, outputs: object) -> list[object]:
            self.runs += 1
            now[0] += 0.4
            return []

    monkeypatch.setattr("vedette.engine.warmup.time.perf_counter", lambda: now[0])
    slow: Any = Slow()
    assert measure(slow, 3, runs=100) == pytest.approx(0.4)
    assert slow.runs == 3
