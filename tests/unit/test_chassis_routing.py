"""Matching paths to targets."""

from __future__ import annotations

import pytest

from vedette.chassis.routing import Router

LINES = [
    ("GET", "/v2", "server"),
    ("GET", "/v2/models/{model}", "model"),
    ("POST", "/v2/models/{model}/infer", "infer"),
    ("POST", "/v2/models/{name}/versions/{version}/infer", "pinned"),
    ("GET", "/v2/models/stats", "stats"),
    ("GET", "/v2/models/stats/{what}/all", "all"),
    ("POST", "/", "root"),
]


def found(path: str, method: str) -> tuple[str, dict[str, str]] | None:
    match = Router(LINES).match(path)
    return match.targets.get(method) if match else None


@pytest.mark.parametrize(
    ("method", "path", "target", "params"),
    [
        ("GET", "/v2", "server", {}),
        ("GET", "/v2/models/m", "model", {"model": "m"}),
        ("POST", "/v2/models/m/infer", "infer", {"model": "m"}),
        ("POST", "/v2/models/m/versions/3/infer", "pinned", {"name": "m", "version": "3"}),
        ("GET", "/v2/models/stats", "stats", {}),
        ("POST", "/v2/models/stats/infer", "infer", {"model": "stats"}),
        ("GET", "/v2/models/stats/x/all", "all", {"what": "x"}),
        ("POST", "/", "root", {}),
    ],
)
def test_matches(method: str, path: str, target: str, params: dict[str, str]) -> None:
    """Literals win, names catch the rest, and a literal that leads nowhere gives way to a name."""
    assert found(path, method) == (target, params)


@pytest.mark.parametrize(
    "path", ["", "/v2/", "/v2/models", "/v2/models/", "/v2/models//infer", "v2", "/v2/models/a/b/c"]
)
def test_misses(path: str) -> None:
    """Nothing is normalised and no name is empty."""
    assert Router(LINES).match(path) is None


def test_allow_lists_methods() -> None:
    """Allow has HEAD beside GET."""
    match = Router(LINES).match("/v2/models/m")
    assert match is not None
    assert match.allow == "GET, HEAD"


def test_two_targets_for_one_line_are_refused() -> None:
    """The same method and path twice is a mistake of the table, whatever the names are called."""
    with pytest.raises(ValueError, match="two routes"):
        Router([("GET", "/a/{b}", 1), ("GET", "/a/{c}", 2)])


def test_remembered_paths_are_bounded() -> None:
    """A client that makes up paths cannot grow the memory of matches."""
    router = Router(LINES)
    for number in range(10_000):
        router.match(f"/v2/models/m{number}")
        router.match(f"/nope/{number}")
    assert len(router._remembered) <= 2048
