"""Packages whose earlier versions have known holes are new enough."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.version import Version

FLOORS = {
    "onnx": "1.21.0",  # external data through links: CVE-2026-27489, CVE-2026-34446
    "starlette": "1.3.1",  # limits on forms complete
    "h11": "0.16.0",  # CVE-2025-43859
    "python-multipart": "0.0.31",
    "uvicorn": "0.51.0",
    "orjson": "3.9.15",  # CVE-2024-27454
    "aiohttp": "3.13.3",
    "lightgbm": "4.6.0",  # CVE-2024-43598
    "pyarrow": "14.0.1",  # CVE-2023-47248
    "urllib3": "2.6.0",  # CVE-2025-66418, CVE-2025-66471
    "redis": "4.5.4",
    "pillow": "12.3.0",
    "cryptography": "50.0.0",
    "grpcio": "1.81.1",
    "protobuf": "6.33",
}


@pytest.mark.parametrize("package", FLOORS)
def test_an_installed_package_is_at_least_the_version_without_the_hole(package: str) -> None:
    """Whatever of these is installed, directly or through another package; what is not cannot hurt."""
    try:
        installed = version(package)
    except PackageNotFoundError:
        return
    assert Version(installed) >= Version(FLOORS[package])


def test_what_serving_stands_on_is_really_installed() -> None:
    """The table above is not green because nothing was there to look at."""
    assert {name for name in ("onnx", "starlette", "grpcio", "protobuf") if version(name)}
