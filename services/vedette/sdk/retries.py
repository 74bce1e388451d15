"""When a request may be sent again, and after how long. Pure: nothing here sleeps or sends.

Rule: what may have run is never sent twice unless doing it twice is the same as doing it once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto


class Outcome(Enum):
    """How one attempt failed, as far as sending again goes."""

    NOT_SENT = auto()
    """No connection came about: certainly nothing ran."""
    REFUSED = auto()
    """429: a limit was reached before anything ran."""
    NOT_READY = auto()
    """503: most likely nothing ran."""
    FINAL = auto()
    """Everything else: sending again is wrong or useless."""


def outcome_of(status: int) -> Outcome:
    """What an HTTP status says about sending again."""
    return {429: Outcome.REFUSED, 503: Outcome.NOT_READY}.get(status, Outcome.FINAL)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently: waits double from `backoff_s`.

    A server that asks for more than `longest_wait_s` is not waited for.
    """

    attempts: int = 4
    backoff_s: float = 0.1
    longest_wait_s: float = 5.0

    def wait_s(
        self, outcome: Outcome, *, attempt: int, idempotent: bool, retry_after: str | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt; None: give up. `attempt` counts from 1."""
        safe = outcome in (Outcome.NOT_SENT, Outcome.REFUSED) or (outcome is Outcome.NOT_READY and idempotent)
        if not safe or attempt >= self.attempts:
            return None
        asked = _seconds(retry_after)
        if asked is not None:
            return asked if asked <= self.longest_wait_s else None
        # Half to all of the step, so that many clients do not come back at the same moment.
        step: float = self.backoff_s * 2 ** (attempt - 1)
        return min(step, self.longest_wait_s) * random.uniform(0.5, 1.0)  # noqa: S311


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds; its other form, a date, counts as absent."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return None
    return float(retry_after)
