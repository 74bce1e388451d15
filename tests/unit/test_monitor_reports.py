"""Evidently reports: drawn by a child, kept within bounds, harmless to open."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vedette.core.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    Unavailable,
    VedetteError,
)
from vedette.core.metrics import NoMetrics
from vedette.monitor.results.reports import Reports, ReportSettings, Samples


def samples(rows: int = 200) -> Samples:
    """A numeric column that moved, one that did not, and a category with a new value and a missing one."""
    generator = np.random.default_rng(0)
    still = generator.normal(size=rows)
    baseline = {
        "radius": generator.normal(size=rows),
        "still": still,
        "kind": np.array(["a", "b"] * (rows // 2), object),
    }
    window = {
        "radius": generator.normal(2, 1, rows),
        "still": generator.normal(size=rows),
        "kind": np.array(["a", "<script>alert(1)</script>", None, "b"] * (rows // 4), object),
        "unknown": still,
    }
    return Samples(window, baseline, ("radius",), True, ("Monitor <night>", "radius: moved"))


def reports(folder: Path, **settings) -> Reports:
    """Reports over the same samples, whatever execution is asked for."""

    async def given(execution: str) -> Samples:
        if execution == "gone":
            raise NotFound("no such execution")
        return samples()

    return Reports(ReportSettings(folder, **settings), given, metrics=NoMetrics())


async def test_a_report_is_drawn_once_and_found_by_its_execution(tmp_path: Path) -> None:
    """Real Evidently in a child; the second time it is there; nothing else is left in the folder."""
    made = reports(tmp_path)
    assert await made.draw("e1") == "/reports/e1.html"
    content = made.content("e1.html")
    assert b"radius" in content
    assert b"alert(1)" in content
    assert b"<script>alert" not in content
    assert b"\\u003cscript>alert" not in content
    assert b"<div>Monitor &lt;night&gt;</div><div>radius: moved</div>" in content
    assert len(content) > 100_000
    stamp = (tmp_path / "e1.html").stat().st_mtime_ns
    await made.draw("e1")
    assert (tmp_path / "e1.html").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["e1.html"]  # noqa: ASYNC240


async def test_a_page_that_is_not_there_is_drawn(tmp_path: Path, monkeypatch) -> None:
    """The link of an alert works before its report was drawn in its turn, and after it was let go."""
    made = reports(tmp_path, max_reports=1)
    drawn = []

    async def child(folder: Path) -> None:
        drawn.append(folder)
        (folder / "report.html").write_text("drawn")

    monkeypatch.setattr(made, "_child", child)
    assert await made.page("e1.html") == b"drawn"
    assert await made.page("e1.html") == b"drawn"
    assert len(drawn) == 1
    os.utime(tmp_path / "e1.html", (1, 1))
    await made.page("e2.html")
    assert await made.page("e1.html") == b"drawn"
    assert len(drawn) == 3
    for name in ("gone.html", "e1.txt", "e1"):
        with pytest.raises(NotFound):
            await made.page(name)
    with pytest.raises(NotFound):
        await reports(tmp_path / "none", max_reports=0).page("e1.html")


async def test_few_callers_wait_for_reports(tmp_path: Path, monkeypatch) -> None:
    """One child at a time, a bounded number of callers behind it; whoever comes later is told so."""
    made = reports(tmp_path)
    go_on = asyncio.Event()

    async def child(folder: Path) -> None:
        await go_on.wait()
        (folder / "report.html").write_text("drawn")

    monkeypatch.setattr(made, "_child", child)
    asking = [asyncio.create_task(made.page(f"e{n}.html")) for n in range(16)]
    async with asyncio.timeout(30):
        while made._asking < 16:  # noqa: ASYNC110
            await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await made.page("e99.html")
    go_on.set()
    assert await asyncio.gather(*asking) == [b"drawn"] * 16
    assert await made.page("e99.html") == b"drawn"


async def test_who_asks_comes_before_what_was_offered(tmp_path: Path, monkeypatch) -> None:
    """However many wait by themselves; the one under way is ended first."""
    made = reports(tmp_path)
    drawn: list[str] = []
    go_on = asyncio.Event()

    async def given(execution: str) -> Samples:
        drawn.append(execution)
        return samples()

    async def child(folder: Path) -> None:
        await go_on.wait()
        (folder / "report.html").write_text("drawn")

    monkeypatch.setattr(made, "_samples", given)
    monkeypatch.setattr(made, "_child", child)
    while made.offer(f"e{len(drawn)}{made._waiting.qsize()}"):
        pass
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        while not drawn:  # noqa: ASYNC110
            await asyncio.sleep(0)
        asked = [asyncio.create_task(made.draw(f"asked{n}")) for n in range(3)]
        while made._asking < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        go_on.set()
        assert await asyncio.gather(*asked) == [f"/reports/asked{n}.html" for n in range(3)]
        while len(drawn) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert set(drawn[1:4]) == {"asked0", "asked1", "asked2"}
    task.cancel()


async def test_an_unknown_execution_is_not_found_however_busy(tmp_path: Path) -> None:
    """Nobody is told to ask again for what does not exist."""

    async def known(execution: str) -> None:
        raise NotFound(f"no execution {execution!r}")

    made = reports(tmp_path)
    made._known, made._asking = known, 16
    with pytest.raises(NotFound, match="zzzz"):
        await made.draw("zzzz")


@pytest.mark.parametrize("drift", [None, False, True])
async def test_a_report_says_of_drift_what_the_monitor_says(tmp_path: Path, drift: bool | None) -> None:
    """Evidently's headline follows the checks; where none is of drift the page has no word on it."""

    async def given(_: str) -> Samples:
        return replace(samples(), drift=drift, drifted=("radius",) if drift else ())

    made = Reports(ReportSettings(tmp_path), given, metrics=NoMetrics())
    await made.draw("e1")
    page = made.content("e1.html").decode()
    assert ("Dataset Drift" in page) is (drift is not None)
    assert ("Dataset Drift is detected by the checks of this monitor, which name 1 of 3 columns" in page) is bool(drift)
    assert ("Dataset Drift is NOT detected by the checks of this monitor" in page) is (drift is False)
    assert ('"title": "Violated"' in page) is (drift is not None)
    for gone in ("detection threshold", "Drift is detected for", "Drifted Columns", "Data Drift Summary", "DATA DRIFT"):
        assert gone not in page
    assert "How each column of the window compares with the baseline" in page


async def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """Evidently's import alone takes longer than this; nothing is left behind."""
    with pytest.raises(DeadlineExceeded, match="took over"):
        await reports(tmp_path, timeout_s=0.2).draw("e1")
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_child_that_fails_is_an_error_with_no_inner_text(tmp_path: Path, monkeypatch) -> None:
    """The log has the reason; the caller does not."""
    monkeypatch.setattr("vedette.monitor.results.reports._write_samples", lambda *_: None)
    with pytest.raises(Internal) as failure:
        await reports(tmp_path).draw("e1")
    assert "Traceback" not in failure.value.message
    assert str(tmp_path) not in failure.value.message


async def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch) -> None:
    """To whoever asks for a report; what is offered later is drawn all the same, and nothing is left behind."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("vedette.monitor.results.reports._write_samples", full)
    with pytest.raises(Unavailable, match=r"drawn: No space left on device$"):
        await reports(tmp_path).draw("e1")
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


@pytest.mark.parametrize("name", ["e2.html", "../e1.html", "e1.txt", "e1", ".html", "a/b.html", "%2e%2e.html"])
def test_only_reports_are_read(tmp_path: Path, name: str) -> None:
    """No name leads out of the folder."""
    (tmp_path / "e1.txt").write_text("secret")
    with pytest.raises((NotFound, InvalidArgument)):
        reports(tmp_path / "reports").content(name)


async def test_an_execution_without_a_sample_is_not_found(tmp_path: Path) -> None:
    """What the provider says reaches the caller."""
    with pytest.raises(NotFound):
        await reports(tmp_path).draw("gone")


async def test_what_is_offered_is_drawn_in_turn_and_no_more_than_fits(tmp_path: Path) -> None:
    """The queue is bounded; a failure does not end the work."""
    made = reports(tmp_path)
    drawn: list[str] = []
    all_drawn = asyncio.Event()

    async def note(execution: str) -> str:
        drawn.append(execution)
        if len(drawn) == 32:
            all_drawn.set()
        raise VedetteError("cannot")

    made._place = note
    accepted = [made.offer(f"e{number}") for number in range(40)]
    assert accepted == [True] * 32 + [False] * 8
    task = asyncio.create_task(made.run())
    await all_drawn.wait()
    task.cancel()
    assert drawn == [f"e{number}" for number in range(32)]


def test_the_newest_reports_are_kept(tmp_path: Path) -> None:
    """One more than fits takes the place of the oldest."""
    import os

    for number in range(5):
        (tmp_path / f"e{number}.html").write_text("x")
        os.utime(tmp_path / f"e{number}.html", (number, number))
    reports(tmp_path, max_reports=2)._let_go()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e3.html", "e4.html"]


def test_evidently_is_imported_in_one_file_and_only_in_the_child() -> None:
    """Importing the module loads neither Evidently nor pandas."""
    program = (
        "import sys, vedette.monitor.results.reports; print(*{'evidently', 'pandas', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    services = Path(__file__).parents[2] / "services"
    users = [path.name for path in services.rglob("*.py") if "evidently" in path.read_text().split('"""', 2)[-1]]
    assert users == ["reports.py"]
