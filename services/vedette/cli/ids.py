"""Ids on the command line: short ones on a terminal, whole ones for programs, and beginnings of them as arguments.

Rule: the services know whole ids only; a beginning is looked up here, and one that several have is never guessed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from vedette.core.errors import InvalidArgument

if TYPE_CHECKING:
    from vedette.sdk.sync.client import Client

SHORTEST = 6
"""Characters that a beginning has at least."""
ID_HELP = f"or at least {SHORTEST} characters of its beginning"
_MOST = 1_000
"""Executions of one monitor, and deliveries, among which a beginning is looked for: the newest."""
_MARK = "msg_"
_DIGITS = 32
"""Characters of a whole id of an execution, an alert or (behind its mark) a delivery."""
_SILENCE_DIGITS = 16
_SHOWN = 8


def shortened(ids: Sequence[str]) -> list[str]:
    """What a table shows of these ids: as much as tells them apart on a terminal, all of it in a pipe."""
    if not sys.stdout.isatty():
        return list(ids)
    distinct = set(ids)
    lengths = range(_SHOWN, max(map(len, ids), default=0))
    length = next((count for count in lengths if len({_cut(each, count) for each in distinct}) == len(distinct)), None)
    return list(ids) if length is None else [_cut(each, length) for each in ids]


def whole_execution(client: Client, text: str) -> str:
    """The id of the execution that `text` is the beginning of."""
    found = (
        execution.id
        for monitor in (client.monitors.list() if _partial(text) else ())
        for execution in islice(client.monitors.executions(monitor.name), _MOST)
    )
    return _whole("execution", text, found)


def whole_alert(client: Client, text: str) -> str:
    """The id of the alert, of those that are not ok, that `text` is the beginning of."""
    return _whole("alert", text, (alert.id for alert in (client.alerts.list() if _partial(text) else ())))


def whole_silence(client: Client, text: str) -> str:
    """The id of the silence in force that `text` is the beginning of."""
    partial = _partial(text, _SILENCE_DIGITS)
    return _whole("silence", text, (silence.id for silence in (client.alerts.silences() if partial else ())))


def whole_delivery(client: Client, text: str) -> str:
    """The id of the delivery that `text` is the beginning of, with or without `msg_`."""
    marked = text if text.startswith(_MARK) else f"{_MARK}{text}"
    if not _partial(marked, len(_MARK) + _DIGITS, len(_MARK) + SHORTEST):
        return text
    return _whole("delivery", marked, (sent.id for sent in islice(client.webhooks.deliveries(), _MOST)))


def _partial(text: str, length: int = _DIGITS, least: int = SHORTEST) -> bool:
    """Whether a text is long enough for a beginning, and no whole id yet."""
    return least <= len(text) < length


def _whole(what: str, text: str, ids: Iterable[str]) -> str:
    """The one id that begins with `text`; where none does, the service says so of the text as it is.

    Raises:
        InvalidArgument: several begin so.
    """
    found = {each for each in ids if each.startswith(text)}
    if text in found:
        return text
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:3])
        raise InvalidArgument(
            f"{len(found)} {what} ids begin with {text!r}: {shown}{', ...' if len(found) > 3 else ''}"
        )
    return found.pop() if found else text


def _cut(text: str, length: int) -> str:
    mark = len(_MARK) if text.startswith(_MARK) else 0
    return text[: mark + length]
