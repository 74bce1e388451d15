"""What every test shares: skips that CI refuses, and an environment free of our own settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SKIPPED: list[str] = []

# Shared machines are slow at times, and tests leave nothing behind.
settings.register_profile("vedette", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vedette")


SLOWEST_FIRST = ("system", "docs", "contract", "wire", "unit", "architecture")
"""Folders in the order of their tests' length: what is begun last should be short, or one process works alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of real processes, which mostly wait."""
    items.sort(key=lambda item: SLOWEST_FIRST.index(item.path.relative_to(Path(__file__).parent).parts[0]))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No VEDETTE_* setting of the machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("VEDETTE_") and name != "VEDETTE_NO_SKIPS"]:
        monkeypatch.delenv(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With VEDETTE_NO_SKIPS=1 a skipped test is a failed one: CI has every backend."""
    report = yield
    if report.skipped and os.environ.get("VEDETTE_NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped although VEDETTE_NO_SKIPS=1: {reason}"
    return report
