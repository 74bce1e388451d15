"""Log lines: one line an event, nothing injected, nothing endless."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from vedette.chassis.logs import REQUEST_ID, TRACE_ID, JsonLines, TextLines, clean, configure_logging

EVIL = "a\nb\r\x1b[31m\x00\u2028\u0085c"


def record(message: str, error: BaseException | None = None, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "vedette.test", "levelname": "INFO", "msg": message, "created": 1.5, **extra})
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    return made


def test_json_line_has_the_ids() -> None:
    """A line carries time, level, service, and the ids of the request being served."""
    tokens = (REQUEST_ID.set("r1"), TRACE_ID.set("t1"))
    try:
        line = json.loads(JsonLines("toy").format(record("hello", count=3)))
    finally:
        REQUEST_ID.reset(tokens[0])
        TRACE_ID.reset(tokens[1])
    assert line == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "INFO",
        "service": "toy",
        "logger": "vedette.test",
        "message": "hello",
        "request_id": "r1",
        "trace_id": "t1",
        "count": 3,
    }


@pytest.mark.parametrize("form", [JsonLines("toy"), TextLines("toy")])
def test_one_line_whatever_a_client_sent(form: logging.Formatter) -> None:
    """Line breaks, escapes and separators in messages and fields are escaped."""
    line = form.format(record(EVIL, name_sent=EVIL))
    assert line.splitlines() == [line]
    assert "\x1b" not in line
    assert "\x00" not in line


def test_fields_are_cut() -> None:
    """A field is at most 1 KiB and says how long it was."""
    line = json.loads(JsonLines("toy").format(record("x", sent="y" * 10_000)))
    assert line["sent"] == "y" * 1024 + "...(10000 characters)"


def test_clean_keeps_other_scripts() -> None:
    """Printable text of any script stays; lone surrogates cannot break the encoding."""
    assert clean("Größe 大") == "Größe 大"
    assert clean("a\ud800b").encode() == b"a\\ud800b"


def test_exceptions_are_in_the_line() -> None:
    """JSON holds the stack as one field; text puts it on indented lines whose content is escaped."""
    try:
        raise RuntimeError(EVIL)
    except RuntimeError as error:
        made = record("failed", error)
    assert "RuntimeError" in json.loads(JsonLines("toy").format(made))["exception"]
    first, *stack = TextLines("toy").format(made).split("\n")
    assert first.startswith("1970-01-01T00:00:01.500Z INFO    toy vedette.test: failed")
    assert stack
    assert all(line.startswith("    ") for line in stack)


def test_values_that_cannot_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers stay numbers, other objects become text."""
    line = json.loads(JsonLines("toy").format(record("x", ok=True, share=0.5, kind=sys)))
    assert (line["ok"], line["share"]) == (True, 0.5)
    assert line["kind"].startswith("<module 'sys'")


def test_the_migrations_greet_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alembic tells its dialect at every start; only its warnings are news."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    level = root.level
    try:
        configure_logging("toy", level="INFO", form="json")
        assert not logging.getLogger("alembic.runtime.migration").isEnabledFor(logging.INFO)
        assert logging.getLogger("alembic.runtime.migration").isEnabledFor(logging.WARNING)
    finally:
        root.setLevel(level)
        logging.getLogger("alembic").setLevel(logging.NOTSET)
        logging.captureWarnings(capture=False)
