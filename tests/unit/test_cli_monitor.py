"""The monitor's commands against a real registry and monitor on sockets, through typer's runner and on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from tests.monitor_rig import START
from tests.monitor_room import WATCHED, Addresses, serving_both
from typer.testing import CliRunner, Result

from vedette.cli import app
from vedette.cli.durations import seconds_of
from vedette.cli.ids import shortened
from vedette.cli.monitors import _reason
from vedette.cli.watching import Line, _recent, drawn
from vedette.entities.alerts import Alert, AlertState, WebhookFormat
from vedette.entities.monitors import CheckResult, Execution, ExecutionStatus, Monitor, MonitorStatus

HOOK = "http://127.0.0.1:9/alerts"
Run = Callable[..., Result]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Addresses]:
    """A registry with `m:1` behind the endpoint `e`, and a monitor `m` of it that has seen a shift."""
    with serving_both(tmp_path / "suite", monkeypatch) as addresses:
        yield addresses


@pytest.fixture
def run(both: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("monitor", "list")` in an empty folder, all addresses from the environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    runner = CliRunner()
    environment = {"VEDETTE_REGISTRY_URL": both.registry, "VEDETTE_MONITOR_URL": both.monitor}
    return lambda *arguments, text=None: runner.invoke(app, list(arguments), input=text, env=environment)


def ok(result: Result) -> str:
    """Standard output of a command that succeeded."""
    assert result.exit_code == 0, result.output
    return result.stdout


def rows(result: Result) -> list[list[str]]:
    """The cells of a table, without its heading."""
    return [line.split("\t") for line in ok(result).splitlines()[1:]]


def shifted(run: Run) -> str:
    """The id of the execution with violations."""
    return str(
        json.loads(ok(run("monitor", "executions", "m", "--status", "CompletedWithViolations", "--json")))[0]["id"]
    )


def test_a_whole_life_of_a_monitor(run: Run) -> None:
    """create, list, show, pause, resume, delete; --json prints the whole document."""
    made = ok(run("monitor", "create", "night", "--endpoint", "e", "--window", "1m", "--check", "psi:threshold=0.2",
                  "--check", "drift", "--alert-after", "2/3", "--segment", "sex", "--no-reports"))  # fmt: skip
    assert made.splitlines()[0] == "night watches e in windows of 1m: psi, drift"
    document = json.loads(ok(run("monitor", "show", "night", "--json")))
    assert (document["window_s"], document["lateness_s"], document["reports"]) == (60, 6, "on_demand")
    assert document["checks"][0] == {"check": "psi", "parameters": {"threshold": 0.2}}
    assert (document["alert"]["datapoints_to_alert"], document["alert"]["evaluation_period"]) == (2, 3)
    assert [row[0] for row in rows(run("monitor", "list"))] == ["m", "night"]
    assert [each["name"] for each in json.loads(ok(run("monitor", "list", "--endpoint", "e", "--json")))] == [
        "m",
        "night",
    ]
    assert rows(run("monitor", "list", "--endpoint", "other")) == []
    assert ok(run("monitor", "pause", "night")) == "night is paused\n"
    assert json.loads(ok(run("monitor", "show", "night", "--json")))["status"] == "Stopped"
    assert ok(run("monitor", "resume", "night")) == "night is watching\n"
    assert ok(run("monitor", "delete", "night")) == "night is deleted\n"
    assert json.loads(ok(run("monitor", "create", "e", "--json")))["endpoint"] == "e"


def test_what_a_new_monitor_waits_for_is_told(run: Run) -> None:
    """Its baseline or its endpoint is not there yet."""
    made = ok(run("monitor", "create", "night", "--endpoint", "e", "--baseline", "march")).splitlines()
    assert made[1:] == ["Pending: there is no baseline 'march' of m:1 yet"]
    made = ok(run("monitor", "create", "late", "--endpoint", "nowhere")).splitlines()
    assert made[1:] == ["Pending: endpoint 'nowhere' does not exist yet"]


def test_what_a_monitor_has_found(run: Run) -> None:
    """show, executions, execution, violations, report: what moved stands there."""
    shown = ok(run("monitor", "show", "m"))
    assert "open windows  A" in shown
    assert shown.count("Completed") == WATCHED
    identity = shifted(run)
    found = rows(run("monitor", "executions", "m", "--limit", "2"))
    assert (len(found), found[0][5], found[0][-1]) == (2, "CompletedWithViolations", identity)
    heading = ok(run("monitor", "executions", "m")).splitlines()[0].split("\t")
    assert (heading[-3:], found[0][-3:-1]) == (["labels", "revision", "id"], ["", "1"])
    assert "age" in found[0][6]
    assert json.loads(ok(run("monitor", "executions", "m", "--since", "1h", "--json"))) == []
    text = ok(run("monitor", "execution", identity))
    assert "rows       200" in text
    first = next(line for line in text.splitlines() if line.startswith("drift\t"))
    assert first.split("\t")[3] == "violated"
    assert json.loads(ok(run("monitor", "execution", identity[:6], "--json")))["id"] == identity
    violated = rows(run("monitor", "violations", "--of", "m", "--feature", "age", "--endpoint", "e"))
    assert [(row[4], row[-1]) for row in violated] == [("age", identity)]
    assert json.loads(ok(run("monitor", "violations", "--feature", "none", "--json"))) == []
    assert ok(run("monitor", "report", identity[:10])).endswith(f"/reports/{identity}.html\n")


def test_labels_from_a_file_and_from_standard_input(run: Run) -> None:
    """Counted by what became of them."""
    Path("labels.jsonl").write_text('{"id": "a", "label": 1}\n{"id": "b", "label": 0}\n')
    assert "2 waiting" in ok(run("monitor", "ground-truth", "e", "labels.jsonl"))
    said = ok(run("monitor", "ground-truth", "e", "-", "--json", text='{"id": "c", "label": 1}\n'))
    assert json.loads(said)["waiting"] == 1


def test_refused_labels_are_told_with_their_lines(run: Run) -> None:
    """Status 1, the first five with number and reason; the others are taken."""
    text = '{"id": "a", "label": 1}\nno\n' + '{"id": "b"}\n' * 6
    result = run("monitor", "ground-truth", "e", "-", text=text)
    assert (result.exit_code, "1 waiting" in result.stdout, "7 refused" in result.stdout) == (1, True, True)
    lines = result.stderr.splitlines()
    assert (len(lines), lines[-1]) == (6, "and 2 lines more")
    assert lines[0].startswith("refused: line 2: ")
    assert lines[1] == 'refused: line 3: neither "groundTruthData" nor "label" is there'
    result = run("monitor", "ground-truth", "e", "-", "--json", text=text)
    assert (result.exit_code, len(json.loads(result.stdout)["refused_lines"]), result.stderr) == (1, 5, "")


def test_alerts_and_silences(run: Run) -> None:
    """list, ack, silence, silences, unsilence."""
    firing = rows(run("alert", "list", "--state", "firing", "--of", "m"))
    assert "age" in {row[5] for row in firing}
    assert firing[0][6].endswith("x")
    assert json.loads(ok(run("alert", "list", "--of", "other", "--json"))) == []
    assert ok(run("alert", "ack", firing[0][0][:12], "--by", "ada")).endswith("is looked after by ada\n")
    assert json.loads(ok(run("alert", "ack", firing[0][0], "--json")))["acknowledged_by"]
    assert "firing (seen by" in ok(run("alert", "list"))
    made = json.loads(ok(run("alert", "silence", "--endpoint", "e", "--for", "2h", "--comment", "x", "--json")))
    assert made["until"] == START + 7200
    assert ok(run("alert", "silence", "--of", "m")).startswith("silence ")
    assert [row[0] for row in rows(run("alert", "silences"))].count(made["id"]) == 1
    assert ok(run("alert", "unsilence", made["id"][:8])) == f"silence {made['id']} is over\n"
    assert len(json.loads(ok(run("alert", "silences", "--json")))) == 1


def test_what_fires_stands_first(run: Run, both: Addresses) -> None:
    """Then what may fire soon, then what is over, whatever their ids."""
    states = {"a": AlertState.RESOLVED, "b": AlertState.PENDING, "c": AlertState.FIRING}
    made = [Alert(name, "n", "e", "A", "", "drift", name, state, START, START) for name, state in states.items()]
    with both.rooms[1].rig.store.transaction() as tx:
        tx.alerts.put_alerts("group", made)
    assert [row[0] for row in rows(run("alert", "list", "--of", "n"))] == ["c", "b", "a"]


def test_a_beginning_that_several_ids_have_is_not_guessed(run: Run, both: Addresses) -> None:
    """They are named; a whole id that is the beginning of another is itself. Segments have a column where there are."""
    names = ["abcdef-1", "abcdef-2", "abcdef"]
    made = [Alert(each, "n", "e", "A", f"sex={each}", "drift", each, AlertState.FIRING, START, START) for each in names]
    with both.rooms[1].rig.store.transaction() as tx:
        tx.alerts.put_alerts("group", made[:2])
    result = run("alert", "ack", "abcdef")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "2 alert ids begin with 'abcdef': abcdef-1, abcdef-2" in result.stderr
    with both.rooms[1].rig.store.transaction() as tx:
        tx.alerts.put_alerts("group", made)
    assert "abcdef is looked after" in ok(run("alert", "ack", "abcdef"))
    assert [row[4] for row in rows(run("alert", "list", "--of", "n"))] == [f"sex={each}" for each in sorted(names)]


def test_tables_show_as_much_of_ids_as_tells_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; into a pipe go whole ones."""
    digits = "0123456789abcdef"
    ids = [digits, digits[:9] + "x" * 7, f"msg_{digits}", digits]
    assert shortened(ids) == ids
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert shortened(ids) == ["0123456789", "012345678x", "msg_0123456789", "0123456789"]
    assert shortened(["a", "b"]) == ["a", "b"]
    assert shortened([]) == []


def test_a_whole_life_of_a_webhook(run: Run) -> None:
    """Every format; the secret is printed once; tests and deliveries."""
    for kind in get_args(WebhookFormat):
        ok(run("webhook", "create", f"h-{kind.replace('_', '-')}", HOOK, "--format", kind))
    made = json.loads(ok(run("webhook", "create", "ops", HOOK, "--header", "x-team=a", "--json")))
    assert made["secret"].startswith("whsec_")
    assert "shown this once: whsec_" in ok(run("webhook", "create", "chat", HOOK))
    assert len(rows(run("webhook", "list"))) == 2 + len(get_args(WebhookFormat))
    assert "whsec_" not in ok(run("webhook", "list", "--json"))
    assert "whsec_" in ok(run("webhook", "rotate", "ops"))
    assert json.loads(ok(run("webhook", "rotate", "ops", "--json")))["secret"] != made["secret"]
    ok(run("webhook", "disable", "ops"))
    assert run("webhook", "test", "ops").exit_code == 1
    ok(run("webhook", "enable", "ops"))
    assert "is in the outbox: vedette webhook deliveries --webhook ops" in ok(run("webhook", "test", "ops"))
    sent = rows(run("webhook", "deliveries", "--webhook", "ops"))
    assert [(row[1], row[4]) for row in sent] == [("ops", "test")]
    assert ok(run("webhook", "redeliver", sent[0][0][4:14])) == f"{sent[0][0]} is in the outbox again\n"
    assert ok(run("webhook", "redeliver", sent[0][0][:14])) == f"{sent[0][0]} is in the outbox again\n"
    assert json.loads(ok(run("webhook", "deliveries", "--state", "delivered", "--json"))) == []
    assert ok(run("webhook", "delete", "ops")) == "ops is deleted\n"


def test_a_labelled_baseline_is_measured(run: Run) -> None:
    """Its documents are printed and replaced; an analysis config is a file of JSON."""
    Path("data.csv").write_text("a,b,c,y_0,came\n" + "".join(f"{i},{i % 3},{i / 2},1,{i % 5}\n" for i in range(30)))
    Path("config.json").write_text(
        '{"label": "came", "label_values_or_threshold": 2, "facet": {"name_or_index": "b", "value_or_threshold": 1}}'
    )
    create = ["baseline", "create", "m:1", "data.csv", "--target", "came", "--prediction", "y_0"]
    assert "30 rows" in ok(run(*create, "--problem-type", "Regression", "--analysis", "config.json"))
    file = ["baseline", "constraints", "m", "--file"]
    document = json.loads(ok(run(*file, "model_quality_constraints.json")))
    document["regression_constraints"]["mae"]["threshold"] = 7.5
    Path("edited.json").write_text(json.dumps(document))
    assert "has new constraints" in ok(run(*file, "model_quality_constraints.json", "--set", "edited.json"))
    assert json.loads(ok(run(*file, "model_quality_constraints.json"))) == document
    assert "b" in json.loads(ok(run(*file, "analysis.json")))["post_training_bias_metrics"]["facets"]
    assert run(*file, "profile.json").exit_code == 1
    Path("config.json").write_text("[]")
    assert run(*create, "--analysis", "config.json").exit_code == 2


def test_what_a_baseline_left_out_is_printed(run: Run) -> None:
    """Beside the line that says what was made, and in its JSON."""
    Path("data.csv").write_text(
        "a,b,c,came\n" + "".join(f"{'x' if i < 3 else i},{i % 3},{i / 2},\n" for i in range(30))
    )
    result = run("baseline", "create", "m:1", "data.csv", "--target", "came")
    assert ok(result) == "m:1 has baseline default: 30 rows of 4 columns\n"
    told = [
        "column 'a' is a number for the model and holds text in 3 of 30 rows",
        "the model's quality was not measured: the column 'came' is empty",
    ]
    assert result.stderr.splitlines() == [f"left out: {each}" for each in told]
    made = json.loads(ok(run("baseline", "create", "m:1", "data.csv", "--target", "came", "--json")))
    assert made["left_out"] == told


def test_a_whole_life_of_a_baseline(run: Run) -> None:
    """create, list, show, constraints, constraints --set, delete."""
    Path("data.csv").write_text("a,b,c\n" + "".join(f"{i},{i % 3},{i / 2}\n" for i in range(30)))
    assert ok(run("baseline", "create", "m:1", "data.csv")) == "m:1 has baseline default: 30 rows of 3 columns\n"
    Path("data.bin").write_bytes(Path("data.csv").read_bytes())
    said = ok(run("baseline", "create", "m", "data.bin", "--format", "csv", "--name", "march", "--json"))
    assert json.loads(said)["rows"] == 30
    assert [row[0] for row in rows(run("baseline", "list", "m"))] == ["default", "march"]
    assert [each["name"] for each in json.loads(ok(run("baseline", "list", "m", "--json")))] == ["default", "march"]
    assert [line.split("\t")[:2] for line in ok(run("baseline", "show", "m")).splitlines()[-3:]] == [
        ["a", "Integral"],
        ["b", "Integral"],
        ["c", "Fractional"],
    ]
    assert json.loads(ok(run("baseline", "show", "m", "--json")))["dataset"]["item_count"] == 30
    document = json.loads(ok(run("baseline", "constraints", "m")))
    document["features"] = document["features"][:2]
    Path("edited.json").write_text(json.dumps(document))
    assert "has new constraints" in ok(run("baseline", "constraints", "m", "--set", "edited.json"))
    assert json.loads(ok(run("baseline", "constraints", "m"))) == document
    assert ok(run("baseline", "delete", "m:1", "--name", "march")) == "baseline march of m:1 is deleted\n"
    assert run("baseline", "show", "m", "--name", "march").exit_code == 1


def test_capture_is_switched_on_and_off(run: Run) -> None:
    """And the endpoint says so; what else it is configured to stays."""
    said = ok(
        run("endpoint", "capture", "e", "--percent", "20", "--exclude", "a,b", "--inputs-only", "--no-wait", "--json")
    )
    capture = json.loads(said)["config"]["capture"]
    assert (capture["sampling_percent"], capture["inputs"], capture["outputs"]) == (20.0, True, False)
    assert (capture["mode"], capture["exclude"]) == ("best_effort", ["a", "b"])
    assert "capture     20% of requests, inputs, best_effort, without a, b" in ok(run("endpoint", "show", "e"))
    strict = json.loads(ok(run("endpoint", "capture", "e", "--mode", "strict", "--no-wait", "--json")))
    assert strict["config"]["capture"] == {**capture, "mode": "strict"}, "what is not named holds"
    said = ok(run("endpoint", "capture", "e", "--percent", "30", "--both", "--no-wait"))
    assert "capture: 30% of requests, inputs and outputs, strict, without a, b" in said
    assert "strict" in ok(run("endpoint", "capture", "e", "--exclude", "", "--no-wait")).splitlines()[-1]
    assert "without" not in ok(run("endpoint", "show", "e"))
    off = json.loads(ok(run("endpoint", "capture", "e", "--percent", "0", "--no-wait", "--json")))
    assert off["config"]["capture"]["sampling_percent"] == 0
    assert "capture     off, strict" in ok(run("endpoint", "show", "e"))
    again = json.loads(ok(run("endpoint", "capture", "e", "--no-wait", "--json")))
    assert again["config"]["capture"]["sampling_percent"] == 100
    assert off["config"]["variants"][0]["version"] == 1


def test_batching_is_changed_option_by_option(run: Run) -> None:
    """What is not named holds, and the endpoint says what it does."""
    assert "batching    as many rows as pay, no delay" in ok(run("endpoint", "show", "e"))
    asked = ("--max-batch-size", "32", "--max-queue-delay-us", "500", "--preferred-batch-size", "8,16")
    said = json.loads(ok(run("endpoint", "batching", "e", *asked, "--no-wait", "--json")))
    batching = said["config"]["dynamic_batching"]
    assert (batching["max_batch_size"], batching["preferred_batch_size"]) == (32, [8, 16])
    kept = json.loads(ok(run("endpoint", "batching", "e", "--bucket-sizes", "32", "--no-wait", "--json")))
    assert kept["config"]["dynamic_batching"] == {**batching, "bucket_sizes": [32]}
    shown = "up to 32 rows, at most 500 us delay, preferably 8, 16, filled up to 32"
    assert shown in ok(run("endpoint", "show", "e"))
    assert "batching: off" in ok(run("endpoint", "batching", "e", "--off", "--no-wait"))
    refused = run("endpoint", "batching", "e", "--max-batch-size", "-3", "--no-wait")
    assert refused.exit_code == 1
    assert "max_batch_size must be 0 to 4096" in refused.stderr
    for wrong in ((), ("--bucket-sizes", "some")):
        assert run("endpoint", "batching", "e", *wrong).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["monitor", "create", "x", "--window", "5"],
        ["monitor", "create", "x", "--window", "5 parsecs"],
        ["monitor", "create", "x", "--alert-after", "3/2"],
        ["monitor", "create", "x", "--check", "psi:threshold"],
        ["monitor", "create", "x", "--min-rows", "0"],
        ["monitor", "executions", "m", "--status", "Fine"],
        ["monitor", "executions", "m", "--since", "yesterday"],
        ["monitor", "executions", "m", "--limit", "0"],
        ["monitor", "ground-truth", "e", "nothing.jsonl"],
        ["monitor", "nothing"],
        ["alert", "list", "--state", "bad"],
        ["alert", "silence"],
        ["alert", "silence", "--of", "m", "--for", "ever"],
        ["webhook", "create", "w", HOOK, "--format", "mail"],
        ["webhook", "create", "w", HOOK, "--header", "x"],
        ["webhook", "deliveries", "--state", "lost"],
        ["baseline", "constraints", "m", "--set", "nothing.json"],
        ["baseline", "constraints", "m", "--set", "list.json"],
        ["endpoint", "capture", "e", "--mode", "always"],
        ["endpoint", "capture", "e", "--inputs-only", "--outputs-only"],
        ["endpoint", "capture", "e", "--inputs-only", "--both"],
        ["endpoint", "capture", "e", "--percent", "101"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(run: Run, both: Addresses, arguments: list[str]) -> None:
    """Status 2, the reason on standard error, nothing is sent to the monitor."""
    Path("list.json").write_text("[]")
    before = len(both.asked)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr
    assert len(both.asked) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["monitor", "create", "a/b"], "is not a valid"),
        (["monitor", "create", "x", "--check", "drfit"], "drift"),
        (["monitor", "create", "x", "--check", "psi:treshold=1"], "threshold"),
        (["monitor", "create", "x", "--check", "psi:threshold=nan"], "'threshold' of the check 'psi' must be a number"),
        (["monitor", "create", "x", "--check", "bias"], "needs 'facets'"),
        (["monitor", "create", "x", "--window", "1s"], "5"),
        (["monitor", "create", "m"], "m"),
        (["monitor", "show", "none"], "none"),
        (["monitor", "execution", "none"], "none"),
        (["monitor", "report", "none"], "none"),
        (["monitor", "watch", "none", "--once"], "none"),
        (["monitor", "ground-truth", "a/b", "labels.jsonl"], "is not a valid"),
        (["monitor", "ground-truth", "e", "bad.jsonl"], "no line is a label"),
        (["alert", "ack", "none"], "none"),
        (["alert", "unsilence", "none"], "none"),
        (["webhook", "create", "w", "http://[fd00::1]/x"], "private"),
        (["webhook", "create", "w", "http://127.0.0.1:99999/"], "99999 is no port"),
        (["webhook", "rotate", "none"], "none"),
        (["webhook", "redeliver", "none"], "none"),
        (["baseline", "create", "m:1", "nothing.csv"], "no such file"),
        (["baseline", "create", "m:1", "labels.txt"], "format"),
        (["baseline", "create", "m:9", "data.csv"], "9"),
        (["baseline", "show", "m"], "default"),
        (["endpoint", "capture", "none"], "none"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_line(run: Run, arguments: list[str], said: str) -> None:
    """Status 1 and one line that names it."""
    Path("labels.jsonl").write_text('{"id": "a", "label": 1}\n')
    Path("bad.jsonl").write_text("no\n")
    Path("labels.txt").write_text("x")
    Path("data.csv").write_text("a,b,c\n1,2,3\n")
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
    assert said in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["webhook", "list"], ["webhook", "deliveries"], ["alert", "silences"], ["baseline", "list", "m"]],
)
def test_empty_lists_are_empty(run: Run, arguments: list[str]) -> None:
    """A heading alone in a pipe, [] for programs."""
    assert rows(run(*arguments)) == []
    assert json.loads(ok(run(*arguments, "--json"))) == []


def test_the_table_into_a_pipe(run: Run) -> None:
    """Plain text, once, with or without --once; the strip is letters."""
    for arguments in (["--once"], [], ["m"]):
        [cells] = rows(run("monitor", "watch", *arguments))
        assert (cells[0], cells[2], cells[4], cells[5]) == ("m", "....x", "200", "200")
        assert cells[6].endswith(" firing")
        assert "age" in cells[7].split(", ")


def on_terminal(both: Addresses, *arguments: str, until: bytes) -> tuple[int, bytes]:
    """Run on a terminal of 100 columns; Ctrl-C when `until` has been shown twice, if it does not end itself."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VEDETTE_")}
    environment |= {"VEDETTE_MONITOR_URL": both.monitor, "COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "vedette", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 60
        try:
            while time.monotonic() < deadline and (chunk := os.read(ours, 65536)):
                shown += chunk
                if shown.count(until) >= 2:
                    process.send_signal(signal.SIGINT)
                    until = b"\0"
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        return process.wait(30), shown


def test_the_table_on_a_terminal_lives_until_ctrl_c(both: Addresses) -> None:
    """Drawn again each second, in colours, and Ctrl-C ends it without a trace."""
    status, shown = on_terminal(both, "monitor", "watch", until=b"last windows")
    assert status == 0
    assert b"Traceback" not in shown
    assert "█".encode() in shown
    assert b"\x1b[31m" in shown
    once, first = on_terminal(both, "monitor", "watch", "m", "--once", until=b"\0")
    assert (once, first.count(b"last windows")) == (0, 1)


def execution(number: int, score: float = 0.0, **changes: object) -> Execution:
    """A window of five seconds whose one feature has this score, of at most 0.3."""
    outcome = "violated" if score >= 0.3 else "ok"
    status = ExecutionStatus.WITH_VIOLATIONS if score >= 0.3 else ExecutionStatus.COMPLETED
    result = CheckResult("drift", "age", outcome, score, 0.3)
    start = START + 5 * number
    made = Execution(f"e{number}", "m", "e", "A", "1", "", start, start + 5, 1000, status, (result,))
    return replace(made, **changes)


def shown_at(lines: list[Line], width: int) -> list[str]:
    """What a terminal of this width shows."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(drawn(lines, START + 100))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_table_is_good_to_read(width: int) -> None:
    """Bars grow with the worst score, oldest first; what moved stands below; nothing is wider than the terminal."""
    windows = [execution(5, 0.9), execution(4, 0.31), execution(3, 0.29), execution(2, 0.01)]
    windows.append(execution(1, results=(CheckResult("drift", "age", "ok", 0.9, 0.3),)))  # far, but of too few rows
    windows += [execution(1, results=(), reason="no requests"), execution(0, status=ExecutionStatus.FAILED, results=())]
    alerts = [
        Alert(f"a{i}", "m", "e", "A", "", "drift", f"feature {i}", state, START, START, value=1 - i / 99, threshold=0.3)
        for i, state in enumerate([AlertState.PENDING] + [AlertState.FIRING] * 14)
    ]
    waiting = Monitor("x" * 60, "e", status=MonitorStatus.PENDING, reason="endpoint 'e' does not exist yet")
    shown = shown_at([Line(Monitor("m", "e"), windows, 57, alerts), Line(waiting, [], 0, [])], width)
    assert max(map(len, shown)) <= width
    row = next(line for line in shown if line.startswith(" m "))
    assert "!·▄▁▄▅█" in row
    assert row.split()[-1:] == ["firing"]
    assert row.split()[-2] == "14"
    text = "\n".join(shown)
    assert text.index("feature 1 ") < text.index("feature 2 ") < text.index("feature 12 ")
    assert "feature 13" not in text
    assert "and 3 more: vedette alert list" in text
    assert "none yet" in text
    assert "endpoint 'e' does not exist yet" in text


def test_each_variant_and_segment_has_a_line(run: Run, both: Addresses) -> None:
    """The whole before its segments, each with its own windows, rows and alerts; on a terminal they are named."""
    with both.rooms[1].rig.store.transaction() as tx:
        alert = Alert("a1", "m", "e", "B", "sex=f", "drift", "height", AlertState.FIRING, START, START)
        tx.alerts.put_alerts("group", [alert])
    whole, part = rows(run("monitor", "watch", "m"))
    assert (whole[2], whole[8:], part[2], part[7:]) == ("....x", ["A", ""], "", ["height", "B", "sex=f"])
    shown = shown_at([Line(Monitor("m", "e"), [], 0, [], "A"), Line(Monitor("m", "e"), [], 0, [], "A", "sex=f")], 100)
    assert [line.split()[:3] for line in shown if line.startswith(" m ")] == [
        ["m", "A", "Scheduled"],
        ["m", "A", "sex=f"],
    ]


def test_the_windows_of_every_series_are_read() -> None:
    """As many of each as of one alone, however many series there are, and no more than is bearable."""
    walk = (execution(1000 - n, variant=f"v{n % 3}") for n in range(1000))
    assert {series: len(windows) for series, windows in _recent(walk).items()} == {(f"v{n}", ""): 16 for n in range(3)}
    assert next(walk).start == START + 5 * (1000 - 49)
    walk = (execution(5000 - n, variant=f"v{n % 100}") for n in range(5000))
    assert sum(len(windows) for windows in _recent(walk).values()) == 256


def test_the_marks_are_explained() -> None:
    """Below the table."""
    assert "· nothing compared   ! failed" in shown_at([Line(Monitor("m", "e"), [execution(1)], 0, [])], 200)[-1]


def test_a_monitor_is_changed_setting_by_setting(run: Run) -> None:
    """What is not named stays; a new window brings its own lateness unless one is named."""
    made = ["--endpoint", "e", "--check", "psi:threshold=0.3", "--alert-after", "2/3", "--resolve-after", "4"]
    ok(run("monitor", "create", "night", *made, "--segment", "sex", "--window", "1m"))
    before = json.loads(ok(run("monitor", "show", "night", "--json")))
    after = json.loads(ok(run("monitor", "update", "night", "--window", "10m", "--alert-after", "3/5", "--json")))
    rule = {"datapoints_to_alert": 3, "evaluation_period": 5, "resolve_after": 4}
    changed = {"window_s": 600.0, "lateness_s": 60.0, "alert": rule, "updated_at": after["updated_at"]}
    assert after == before | changed
    line = ok(
        run("monitor", "update", "night", "--check", "drift", "--check", "psi", "--lateness", "5s", "--no-reports")
    )
    assert line == "night watches e: drift, psi\n"
    last = json.loads(ok(run("monitor", "show", "night", "--json")))
    assert (last["lateness_s"], last["reports"], last["segments"]) == (5.0, "on_demand", ["sex"])
    assert run("monitor", "update", "night").exit_code == 2
    assert run("monitor", "update", "nobody", "--min-rows", "5").exit_code == 1


def test_what_changes_something_tells_it_as_json(run: Run) -> None:
    """Every command has --json, and prints one document."""
    ok(run("monitor", "create", "night", "--endpoint", "e", "--window", "8s"))
    paused = json.loads(ok(run("monitor", "pause", "night", "--json")))
    assert (paused["status"], paused["lateness_s"]) == ("Stopped", 1.0)
    assert json.loads(ok(run("monitor", "resume", "night", "--json")))["name"] == "night"
    assert json.loads(ok(run("monitor", "delete", "night", "--json"))) == {"deleted": "night"}
    ok(run("webhook", "create", "ops", "http://127.0.0.1:9/x"))
    test = json.loads(ok(run("webhook", "test", "ops", "--json")))
    assert json.loads(ok(run("webhook", "disable", "ops", "--json")))["enabled"] is False
    assert json.loads(ok(run("webhook", "enable", "ops", "--json")))["enabled"] is True
    assert test["webhook"] == "ops"
    assert json.loads(ok(run("webhook", "delete", "ops", "--json"))) == {"deleted": "ops"}
    made = json.loads(ok(run("alert", "silence", "--all", "--for", "1m", "--json")))
    assert json.loads(ok(run("alert", "unsilence", made["id"], "--json"))) == {"ended": made["id"]}


@pytest.mark.parametrize("command", [["monitor", "violations", "--of", "no"], ["alert", "silence", "--of", "no"]])
def test_a_monitor_that_is_not_there_is_an_error(run: Run, command: list[str]) -> None:
    """Not an empty table, and no silence over nothing."""
    result = run(*command)
    assert (result.exit_code, "no" in result.stderr) == (1, True)


def test_one_line_says_how_many_empty_windows_it_stands_for() -> None:
    """A stretch without requests."""
    assert _reason(execution(1, reason="no requests", counts={"windows": 3})) == "no requests in 3 windows"
    assert _reason(execution(1, reason="no requests", counts={"windows": 1})) == "no requests"


def test_a_window_of_which_every_check_was_skipped_is_not_fine() -> None:
    """Its labels have not come, say: nothing was compared, in the pipe as on the terminal."""
    skipped = execution(2, results=(CheckResult("model_quality", "", "skipped"),))
    line = Line(Monitor("m", "e"), [execution(3), skipped, execution(1)], 0, [])
    assert line.cells()[2] == ".-."
    row = next(each for each in shown_at([line], 100) if each.startswith(" m "))
    assert row.count("·") == 1


def test_no_monitors_yet_is_told() -> None:
    """With what to do about it."""
    assert shown_at([], 100) == ["no monitors yet: vedette monitor create ENDPOINT"]


def test_the_checks_are_listed(run: Run, both: Addresses) -> None:
    """With summaries, parameters and defaults; no service is asked."""
    found = {row[0]: row for row in rows(run("monitor", "checks"))}
    assert found["psi"] == ["psi", found["psi"][1], "threshold=0.2"]
    assert "non_negative=false" in found["data_quality"][2]
    documents = json.loads(ok(run("monitor", "checks", "--json")))
    assert {each["check"] for each in documents} == set(found)
    [threshold] = next(each for each in documents if each["check"] == "psi")["parameters"]
    assert threshold == {
        "name": "threshold", "type": "number", "default": 0.2, "meaning": "A larger score is a violation."
    }  # fmt: skip


def test_lists_are_written_by_repeating(run: Run) -> None:
    """One value is a list of one."""
    bias = "bias:facets=sex=f,facets=age>45,min_rows=5"
    made = json.loads(ok(run("monitor", "create", "fair", "--endpoint", "e", "--check", bias, "--json")))
    assert made["checks"] == [{"check": "bias", "parameters": {"facets": ["sex=f", "age>45"], "min_rows": 5}}]
    ok(run("monitor", "create", "one", "--endpoint", "e", "--check", "bias:facets=sex=f"))


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1.5m", 90)])
def test_spans_of_time(text: str, seconds: float) -> None:
    """As people type them."""
    assert seconds_of(text, "--window") == seconds
