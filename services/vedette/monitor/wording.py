"""The words of a result: names in them came from strangers, and a person reads them in a terminal.

Rule: whatever goes in, one printable line of bounded length comes out.
"""

from __future__ import annotations

from vedette.entities.monitors import CheckResult

_MOST = 500


def readable(text: str) -> str:
    """The text on one line, with what cannot be printed shown as `?`, cut after 500 characters."""
    shown = "".join(character if character.isprintable() else "?" for character in text[: _MOST + 1])
    return shown if len(shown) <= _MOST else shown[: _MOST - 3] + "..."


def left_out(check: str, why: str, *, feature: str = "", kind: str = "") -> CheckResult:
    """A skipped result with its reason as a sentence."""
    first, _, _ = why.partition(" ")  # names of files and parameters stay as they are
    sentence = why[:1].upper() + why[1:] if first.isalpha() else why
    end = "" if sentence.endswith((".", "?", "!")) else "."
    return CheckResult(check, feature, "skipped", kind=kind or check, description=readable(sentence + end))
