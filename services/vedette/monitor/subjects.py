"""What a result is about, by one name: in alerts, gauges and messages it tells apart what a monitor checks.

Rule: pure, and the same name in every window, so that an alert goes on while the same thing goes on.

- A check that stands once in a monitor has its own name; one that stands there several times has its parameters too:
  `psi` and `psi(threshold=0.3)`. That is the `check` of its results.
- A check that says several things of one feature is told apart by their kinds: `data_quality:completeness_check`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import msgspec

from vedette.entities.monitors import CheckParameter, CheckResult, CheckSettings

BY_KIND = frozenset({"data_quality"})
"""Checks that say several things of one feature."""
FAULTS_ONLY = frozenset({"missing_column_check", "extra_column_check"})
"""Kinds that name only the features that something is wrong with: of others nothing is."""
MAX_LABEL = 120


def check_labels(checks: Sequence[CheckSettings]) -> list[str]:
    """A label for each check of a monitor; two that differ in nothing have the same."""
    times = Counter(settings.check for settings in checks)
    return [_label(settings) if times[settings.check] > 1 else settings.check for settings in checks]


def _label(settings: CheckSettings) -> str:
    if not settings.parameters:
        return settings.check
    said = ",".join(f"{name}={_text(value)}" for name, value in sorted(settings.parameters.items()))
    label = f"{settings.check}({said})"
    if len(label) <= MAX_LABEL:
        return label
    return f"{label[: MAX_LABEL - 20]}...{hashlib.sha256(label.encode()).hexdigest()[:16]})"


def _text(value: CheckParameter) -> str:
    text = msgspec.json.encode(value).decode(errors="replace")
    plain = isinstance(value, str) and value.isidentifier() and value not in {"true", "false"}
    return text.strip('"') if plain else text


def check_of(label: str) -> str:
    """The name of the check that a label or a subject is of."""
    return label.partition("(")[0].partition(":")[0]


def subject(result: CheckResult) -> str:
    """What the result is about, beside its feature: the check's label, with the kind where that tells things apart."""
    by_kind = check_of(result.check) in BY_KIND and result.kind not in {"", check_of(result.check)}
    return f"{result.check}:{result.kind}" if by_kind else result.check


def label_of(subject: str) -> str:
    """The check's label in a subject."""
    if check_of(subject) not in BY_KIND:
        return subject
    label, colon, kind = subject.rpartition(":")
    return label if colon and ")" not in kind else subject


def names_faults_only(subject: str) -> bool:
    """Whether nothing is wrong with a feature that results of this subject do not name."""
    return subject.rpartition(":")[2] in FAULTS_ONLY
