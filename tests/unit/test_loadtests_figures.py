"""What is asked of us is computed from what was measured, met or not."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from loadtests.contest import Heat
from loadtests.contestants import BARE_GRPC, FAST, OURS, UNBATCHED
from loadtests.figures import Figure, Measured, figures
from loadtests.report import BEGIN, END, in_readme, markdown, told
from tests.unit.loadtest_rows import JSON_1, document, row

NAMES = {"mlserver": "MLServer", "kserve": "KServe", "mosec": "mosec", "triton": "Triton, python backend",
         "triton_cache": "Triton, response cache", "fastapi_uvicorn": "FastAPI + uvicorn"}  # fmt: skip
GRPC_32, MLP_32 = Heat("reference", "grpc", 32), Heat("mlp", "binary", 32)
CNN_HTTP, CNN_GRPC = Heat("cnn", "binary", 32), Heat("cnn", "grpc", 32)
LIMITS = [{"mlp": {1: 100.0, 8: 500.0, 32: 1000.0}, "cnn": {1: 90.0, 8: 100.0, 32: 80.0}}]


def measured() -> Measured:
    """A run in which everything was measured once."""
    return Measured(
        NAMES,
        [
            row(OURS, [900.0]), row("MLServer", [100.0]), row("KServe", [100.0]), row("mosec", [300.0]),
            row("Triton, python backend", [600.0]), row("Triton, response cache", [1000.0]),
            row(OURS, [1.0], heat=JSON_1, p50_ms=0.2), row("FastAPI + uvicorn", [1.0], heat=JSON_1, p50_ms=0.3),
            row(FAST, [500.0], heat=GRPC_32), row(BARE_GRPC, [100.0], heat=GRPC_32),
            row("Triton, python backend", [400.0], heat=GRPC_32), row(OURS, [95.0], heat=GRPC_32),
            row(OURS, [600.0], heat=MLP_32), row(UNBATCHED, [500.0], heat=MLP_32),
            row(OURS, [91.0], heat=CNN_HTTP), row(OURS, [80.0], heat=CNN_GRPC), row(FAST, [93.0], heat=CNN_GRPC),
            row(UNBATCHED, [99.0], heat=CNN_HTTP),
        ],
        LIMITS,
        [{"capture": "on", "ratio": 0.93}, {"capture": "on, monitor", "ratio": 0.7}],
        [{"protocol": "json", "share": 0.8, "p50_ms": 1.0, "p99_ms": 4.0}],
        {"rss_mb": 149.0, "ready_s": 1.6},
    )  # fmt: skip


def test_every_figure_is_asked_measured_and_met_or_not() -> None:
    """The whole table, line by line."""
    found = [(figure.asked, figure.measured, figure.met) for figure in figures(measured())]
    assert found == [
        (8.0, pytest.approx(9.0), True),
        (10.0, pytest.approx(9.0), False),
        (3.0, pytest.approx(3.0), True),
        (1.3, pytest.approx(1.5), True),
        (0.9, pytest.approx(0.9), True),
        (1.0, pytest.approx(1.5), True),
        (4.0, pytest.approx(5.0), True),
        (1.2, pytest.approx(1.25), True),
        (0.9, pytest.approx(0.95), True),
        (0.92, pytest.approx(0.93), True),
        (1.5, pytest.approx(1.2), False),
        (0.6, pytest.approx(0.6), True),
        (0.9, 0.93, True),
        (0.8, 0.7, False),
        (5.0, pytest.approx(4.0), True),
        (150.0, 149.0, True),
        (1.5, 1.6, False),
    ]


def test_a_peer_counts_with_the_better_of_its_settings() -> None:
    """Whoever wins by turning a peer's batching on or off has won nothing."""
    run = measured()
    better = row("mosec, no batching", [450.0])
    found = Measured({**NAMES, "mosec_unbatched": better.server}, [*run.rows, better], run.limits)
    assert figures(found)[2].measured == pytest.approx(2.0)
    assert figures(found)[2].what == figures(run)[2].what


def test_what_was_not_measured_is_shown_and_not_met() -> None:
    """A run of one part has every figure, and none of the others passes."""
    found = figures(Measured({}, [], []))
    assert len(found) == len(figures(measured()))
    assert {figure.measured for figure in found} == {None}
    assert not any(figure.met for figure in found)
    assert told({**asdict(found[0]), "met": found[0].met}) == ("at least 8x", "not measured", "no")


def test_at_most_turns_the_comparison_around() -> None:
    """Less memory than the limit is met, more is not."""
    assert Figure("RSS", 150.0, 150.0, "MB", at_most=True).met
    assert not Figure("RSS", 150.0, 150.1, "MB", at_most=True).met


def test_the_readme_table_says_what_the_document_says() -> None:
    """Rows of the reference model over JSON and gRPC, then every figure."""
    run = measured()
    asked = [{**asdict(figure), "met": figure.met} for figure in figures(run)]
    text = markdown(document(list(run.rows), asked))
    assert "| MLServer, HTTP JSON | 32 | 100 | 1.00 ms | 2.00 ms | 100 MB | 9.00x |" in text
    assert "mlp" not in text.split("| figure |")[0]
    assert text.count("\n| ") == 12 + 1 + 17
    assert "medians of 3 rounds in turn, 5 s a run" in text
    assert "| RSS, one tabular model, one worker | under 150 MB | 149 MB | yes |" in text


def test_the_tables_replace_what_was_between_the_marks_and_nothing_else() -> None:
    """Twice is as good as once, and a page without marks is refused."""
    run = document(list(measured().rows))
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = in_readme(page, run)
    assert once.startswith(f"before\n{BEGIN}\n| 30-64-2 network")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once
    assert in_readme(once, run) == once
    with pytest.raises(ValueError, match="no marks"):
        in_readme("a page", run)
