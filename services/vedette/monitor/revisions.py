"""Windows that late labels have re-opened, taken together: a file of labels may re-open a hundred of them.

Rule: alerts move window by window, and receivers are told once, of what has changed when all are through: a replay of
the past would tell of ends and beginnings that are long over. The marks stay until then, so that a crash in between
makes the round again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from vedette.core.errors import NotFound
from vedette.entities.alerts import Notification
from vedette.entities.monitors import Execution
from vedette.monitor.alerting import alerts
from vedette.ports.monitors import MonitorTransaction, WindowKey

MOST = 256
"""Windows of one round."""
LONGEST_S = 60.0
"""How long receivers are held back; what is not through by then makes the next round."""


@dataclass(slots=True)
class Round:
    """The windows under way; `spent_s` is what evaluating them took so far."""

    began: float
    waiting: deque[WindowKey] = field(default_factory=deque)
    spent_s: float = 0.0
    _through: list[WindowKey] = field(default_factory=list)
    _changed: dict[str, Execution] = field(default_factory=dict)
    _series: frozenset[tuple[str, str]] = frozenset()

    @staticmethod
    def of(keys: Iterable[WindowKey], began: float) -> Round:
        """A round of these windows."""
        waiting = deque(keys)
        return Round(began, waiting, _series=frozenset((key.monitor, key.variant) for key in waiting))

    def is_over(self, now: float) -> bool:
        """Whether it is time to tell."""
        return not self.waiting or now - self.began >= LONGEST_S

    def holds(self, execution: Execution) -> bool:
        """Whether receivers of this execution are told with the end of the round."""
        return (execution.monitor, execution.variant) in self._series

    def keep(self, execution: Execution) -> None:
        """An execution has moved alerts, and nobody was told."""
        group = alerts.group_id(execution.monitor, execution.endpoint, execution.variant, execution.segment)
        self._changed[group] = execution

    def done(self, key: WindowKey, *, answered: bool = True) -> None:
        """The window was evaluated; not `answered`: it could not be, and stays marked."""
        self.waiting.remove(key)
        if answered:
            self._through.append(key)

    def close(self, tx: MonitorTransaction, now: float, *, repeat_s: float) -> list[Notification]:
        """Take the marks away and put what is to be told into the outbox, in one transaction."""
        for key in self._through:
            tx.close_again(key)
        notifications: list[Notification] = []
        for execution in self._in_time():
            try:
                monitor = tx.monitor(execution.monitor)
            except NotFound:
                continue  # its end was told when it was deleted
            notifications += alerts.tell_changes(execution, tx.alerts, monitor, now, repeat_s=repeat_s)
        return notifications

    def _in_time(self) -> list[Execution]:
        """The last execution of each group, with the newest window of its variant: its segments are told together."""
        newest: dict[tuple[str, str], Execution] = {}
        for each in self._changed.values():
            before = newest.setdefault((each.monitor, each.variant), each)
            if each.start > before.start:
                newest[each.monitor, each.variant] = each
        windows = ((each, newest[each.monitor, each.variant]) for each in self._changed.values())
        return [replace(each, start=last.start, end=last.end) for each, last in windows]
