"""What waits to run, in which order, and what may run together: a state machine, and nothing else.

    offer -> WAITING -> take -> TAKEN -> end -> ENDED
                \\-------- cancel, expire --------/

A batch is begun by the first of the highest priority and filled with what is like it, in order of priority and
arrival, until it is full or the next one does not fit. Source of the options and their meaning:
triton-inference-server/common, protobuf/model_config.proto (ModelDynamicBatching, ModelQueuePolicy).

Rule: pure. The time goes in with every call; no event loop, no thread, no model. Cost of a request: a few
constant steps, whatever waits.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum

from vedette.core.errors import DeadlineExceeded, Overloaded
from vedette.core.models import DynamicBatching, QueuePolicy

_NO_PRIORITY = 2**64
_WINDOW = 256
"""Waiting requests of another kind that a batch being filled looks past: it bounds the work of a `take`."""

_Place = tuple[int, bool]
"""Priority level, and whether the queue timeout has passed: places in ascending order are served in that order."""


class Phase(Enum):
    """Where a ticket is."""

    WAITING = 1
    TAKEN = 2
    ENDED = 3


@dataclass(slots=True, eq=False)
class Ticket:
    """One request as the machine sees it. The fields below the line are the machine's own."""

    rows: int
    key: Hashable = None
    """Requests with equal keys may share a run."""
    expires: float = math.inf
    """When its caller stops waiting, on the clock of the calls."""
    priority: int = 0
    timeout_s: float = 0.0
    """The caller's own queue timeout, where the policy allows one; 0: none."""

    arrived: float = 0.0
    number: int = 0
    """Order of arrival."""
    phase: Phase = Phase.WAITING
    place: _Place = (0, False)
    patience: float = math.inf
    """When the queue timeout passes."""


class Batcher:
    """The queue of one variant."""

    def __init__(self, settings: DynamicBatching, *, max_rows: int) -> None:
        self.max_rows = max_rows
        """Rows of a batch of several; 1: nothing is ever merged."""
        self.waiting = 0
        """Tickets that wait."""
        self.rows = 0
        """Rows of those."""
        self._settings = settings
        self._delay_s = settings.max_queue_delay_microseconds / 1e6 if max_rows > 1 else 0.0
        self._preferred = frozenset(settings.preferred_batch_size)
        self._lines: dict[_Place, deque[Ticket]] = {}
        self._places: list[_Place] = []
        self._counts: dict[int, int] = {}
        self._entries = 0
        """Tickets in the lines, also those that have left their place."""
        self._live = 0
        self._numbers = 0
        self._times: list[tuple[float, int, Ticket]] = []

    def offer(self, ticket: Ticket, now: float) -> None:
        """Have a ticket wait.

        Raises:
            Overloaded: as many of its priority wait as its policy allows.
        """
        level = self._level(ticket.priority)
        policy = self._policy(level)
        count = self._counts.get(level, 0)
        if policy.max_queue_size and count >= policy.max_queue_size:
            raise Overloaded(f"{policy.max_queue_size} requests of this priority are waiting already")
        self._counts[level] = count + 1
        self._numbers += 1
        ticket.number = self._numbers
        ticket.arrived = now
        ticket.patience = now + (_timeout_s(policy, ticket.timeout_s) or math.inf)
        ticket.place = (level, False)
        self.waiting += 1
        self.rows += ticket.rows
        self._live += 1
        self._stand(ticket)
        self._watch(ticket, min(ticket.expires, ticket.patience))

    def due(self, now: float) -> float | None:
        """When `take` will give a batch: `now`, later, or None while nothing waits. Call `expire` first."""
        if not self.waiting:
            return None
        if not self._delay_s:
            return now
        at = min(ticket.arrived for ticket in self._heads()) + self._delay_s
        if at <= now:
            return now
        batch, full = self._pick(self.max_rows, now)
        return now if full or self._preferred_part(batch) else at

    def take(self, now: float, max_rows: int = 0) -> list[Ticket]:
        """The batch that is due, taken out of the queue; empty when none is.

        `max_rows` lowers the machine's own. A single ticket may have more rows than either.
        """
        due = self.due(now)
        if due is None or due > now:
            return []
        batch, full = self._pick(min(max_rows or self.max_rows, self.max_rows), now)
        if self._delay_s and not full and min(t.arrived for t in self._heads()) + self._delay_s > now:
            batch = batch[: self._preferred_part(batch) or None]
        for ticket in batch:
            self._step_out(ticket, Phase.TAKEN)
        self._tidy()
        return batch

    def expire(self, now: float) -> list[tuple[Ticket, DeadlineExceeded]]:
        """End the tickets whose time is over, waiting or taken, and say why; delay those that are to be delayed."""
        over: list[tuple[Ticket, DeadlineExceeded]] = []
        while self._times and self._times[0][0] <= now:
            ticket = heapq.heappop(self._times)[2]
            if ticket.phase is Phase.ENDED:
                continue
            if ticket.expires <= now:
                ran = ticket.phase is Phase.TAKEN
                text = "is over" if ran else "was over before it ran"
                over.append((ticket, DeadlineExceeded(f"the time for this request {text}")))
            elif ticket.phase is Phase.WAITING and self._policy(ticket.place[0]).timeout_action == "REJECT":
                over.append((ticket, DeadlineExceeded("the request waited for longer than its queue timeout")))
            else:
                self._delay(ticket)
                continue
            self.cancel(ticket)
        return over

    def next_expiry(self) -> float:
        """When `expire` has something to do; infinite when it never will."""
        while self._times and self._times[0][2].phase is Phase.ENDED:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else math.inf

    def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more, wherever it is; one that has ended stays as it is."""
        if ticket.phase is Phase.WAITING:
            self._step_out(ticket, Phase.ENDED)
            self._tidy()
        self.end(ticket)

    def end(self, ticket: Ticket) -> None:
        """A taken ticket has its answer."""
        if ticket.phase is Phase.TAKEN:
            ticket.phase = Phase.ENDED
            self._forget()

    def _level(self, priority: int) -> int:
        settings = self._settings
        if not settings.priority_levels:
            return priority or _NO_PRIORITY
        return priority if 1 <= priority <= settings.priority_levels else settings.default_priority_level

    def _policy(self, level: int) -> QueuePolicy:
        settings = self._settings
        return settings.priority_queue_policy.get(level, settings.default_queue_policy)

    def _stand(self, ticket: Ticket) -> None:
        line = self._lines.get(ticket.place)
        if line is None:
            line = self._lines[ticket.place] = deque()
            insort(self._places, ticket.place)
        line.append(ticket)
        self._entries += 1

    def _heads(self) -> Iterator[Ticket]:
        """The first ticket of each line that has one."""
        for place in self._places:
            first = next((ticket for ticket in self._lines[place] if _stands(ticket, place)), None)
            if first is not None:
                yield first

    def _pick(self, limit: int, now: float) -> tuple[list[Ticket], bool]:
        """What would run together now, and whether nothing more can join it. Nothing is changed."""
        batch: list[Ticket] = []
        rows = others = 0
        for place in self._places:
            for ticket in self._lines[place]:
                if not _stands(ticket, place) or ticket.expires <= now:
                    continue
                if not batch:
                    batch.append(ticket)
                    rows = ticket.rows
                elif ticket.key != batch[0].key:
                    others += 1
                elif rows + ticket.rows > limit:
                    return batch, True
                else:
                    batch.append(ticket)
                    rows += ticket.rows
                if rows >= limit or others >= _WINDOW:
                    return batch, True
        return batch, False

    def _preferred_part(self, batch: list[Ticket]) -> int:
        """How many of the batch's tickets make the largest preferred size; 0: none is reached."""
        rows = best = 0
        for count, ticket in enumerate(batch, 1):
            rows += ticket.rows
            if rows in self._preferred:
                best = count
        return best

    def _step_out(self, ticket: Ticket, phase: Phase) -> None:
        ticket.phase = phase
        self.waiting -= 1
        self.rows -= ticket.rows
        level = ticket.place[0]
        self._counts[level] -= 1
        if not self._counts[level]:
            del self._counts[level]
        if phase is Phase.ENDED:
            self._forget()

    def _delay(self, ticket: Ticket) -> None:
        """The queue timeout has passed: behind all others of its level, until its deadline."""
        ticket.patience = math.inf
        if ticket.phase is Phase.WAITING:
            ticket.place = (ticket.place[0], True)
            self._stand(ticket)
        self._watch(ticket, ticket.expires)

    def _watch(self, ticket: Ticket, at: float) -> None:
        if at != math.inf:
            heapq.heappush(self._times, (at, ticket.number, ticket))

    def _forget(self) -> None:
        """One ticket less is alive; its time is taken out when it comes up, or when half of them are like it."""
        self._live -= 1
        if not self._live:
            self._times.clear()
        elif len(self._times) > 2 * self._live + 64:
            self._times = [entry for entry in self._times if entry[2].phase is not Phase.ENDED]
            heapq.heapify(self._times)

    def _tidy(self) -> None:
        """Take out of the lines what has left its place: at the front always, elsewhere when it is the larger part."""
        if self._entries > 2 * self.waiting + 64 or not self.waiting:
            for place, line in self._lines.items():
                self._lines[place] = deque(ticket for ticket in line if _stands(ticket, place))
            self._lines = {place: line for place, line in self._lines.items() if line}
            self._places = sorted(self._lines)
            self._entries = self.waiting
        while self._places:
            place = self._places[0]
            line = self._lines[place]
            while line and not _stands(line[0], place):
                line.popleft()
                self._entries -= 1
            if line:
                return
            del self._lines[self._places.pop(0)]


def _stands(ticket: Ticket, place: _Place) -> bool:
    return ticket.phase is Phase.WAITING and ticket.place == place


def _timeout_s(policy: QueuePolicy, own_s: float) -> float:
    """The queue timeout of a request, 0 for none: a caller's own may only be shorter than the policy's."""
    given_s = policy.default_timeout_microseconds / 1e6
    if policy.allow_timeout_override and own_s:
        return min(own_s, given_s or own_s)
    return given_s
