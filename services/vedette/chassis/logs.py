"""Logs: one line an event, as JSON or for people, with the ids of the request that was being served.

Rule: whatever a client sent is escaped and cut at 1 KiB a field; a log line is always exactly one line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any, Literal

from vedette.core.errors import Internal

log = logging.getLogger(__name__)

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a caller may give as the id of its request; anything else is replaced by an id of ours."""
MAX_FIELD = 1024
_MAX_STACK = 16 * 1024
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))} | {10: "\\n", 13: "\\r", 9: "\\t"}
_CONTROL |= {0x2028: "\\u2028", 0x2029: "\\u2029"}


def configure_logging(service: str, *, level: str, form: Literal["json", "text"]) -> None:
    """Send all logging of this process to stderr, at `level` and above, in `form`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service) if form == "json" else TextLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(max(logging.WARNING, root.level))  # it greets at every start
    logging.captureWarnings(capture=True)


def clean(value: object, *, limit: int = MAX_FIELD) -> str:
    """Text of a value that fits one line: control characters escaped, cut at `limit` characters."""
    text = value if isinstance(value, str) else str(value)
    cut = text[:limit]
    escaped = cut if cut.isprintable() else cut.translate(_CONTROL)
    escaped = escaped.encode("utf-8", "backslashreplace").decode()
    return escaped if len(text) <= limit else f"{escaped}...({len(text)} characters)"


def log_unexpected(error: BaseException, request_id: str) -> Internal:
    """Log an exception that nobody foresaw, with its stack; the caller is shown only the id that finds it."""
    log.error("unexpected %s", type(error).__name__, exc_info=error, extra={"error_id": request_id})
    return Internal(f"internal error; the id {request_id} finds it in the log")


class JsonLines(logging.Formatter):
    """`{"time", "level", "service", "logger", "message", ...}` with every `extra` field."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": clean(record.getMessage()),
        }
        line.update(_ids())
        for key, value in vars(record).items():
            if key not in _STANDARD and key not in line:
                line[key] = value if isinstance(value, int | float | bool) else clean(value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _stack(record)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """`time LEVEL service logger: message (key=value ...)`; a stack follows, indented, on lines of its own."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        fields = {**_ids(), **{key: value for key, value in vars(record).items() if key not in _STANDARD}}
        shown = " ".join(f"{key}={clean(value)}" for key, value in fields.items())
        source = f"{record.levelname:<7} {self._service} {record.name}"
        line = f"{_timestamp(record.created)} {source}: {clean(record.getMessage())}"
        line = f"{line} ({shown})" if shown else line
        if record.exc_info and record.exc_info[0] is not None:
            stack = (clean(part, limit=_MAX_STACK) for part in _stack(record).splitlines())
            line = "\n    ".join((line, *stack))
        return line


def _ids() -> dict[str, str]:
    ids = {"request_id": REQUEST_ID.get(), "trace_id": TRACE_ID.get()}
    return {key: value for key, value in ids.items() if value}


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _stack(record: logging.LogRecord) -> str:
    assert record.exc_info is not None  # noqa: S101 - the callers have looked
    return "".join(traceback.format_exception(*record.exc_info))[-_MAX_STACK:]
