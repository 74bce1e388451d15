"""The command line against a suite that behaves, through typer's runner."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.sdk_suite import METADATA, FakeSuite, serving
from typer.testing import CliRunner, Result

from vedette import modules
from vedette.chassis import supervisor
from vedette.cli import app


@pytest.fixture
def suite() -> FakeSuite:
    """A fresh suite."""
    return FakeSuite()


@pytest.fixture
def run(suite: FakeSuite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`run("model", "list")` in an empty folder, both addresses from the environment."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    with serving(suite) as address:
        environment = {"VEDETTE_REGISTRY_URL": address, "VEDETTE_INFERENCE_URL": address}
        yield lambda *arguments, text=None: runner.invoke(app, list(arguments), input=text, env=environment)


def ok(result: Result) -> str:
    """Standard output of a command that succeeded."""
    assert result.exit_code == 0, result.output
    return result.stdout


def registered(run: Callable[..., Result], name: str = "iris", content: str = "graph") -> None:
    """Register a version of `name`."""
    Path("m.onnx").write_text(content)
    ok(run("model", "register", name, "m.onnx"))


def test_the_short_forms_take_a_model_from_a_file_to_a_prediction(run) -> None:
    """register NAME PATH, deploy NAME, predict NAME: nothing else to say."""
    Path("m.onnx").write_text("graph")
    assert "iris:1 is registered" in ok(run("model", "register", "iris", "m.onnx"))
    assert "iris is InService: iris, primary v1 100%" in ok(run("endpoint", "deploy", "iris"))
    assert ok(run("predict", "iris", "1,5,2")).splitlines()[1].startswith("0\tversicolor\t1\t")


def test_after_a_registration_the_next_step_is_one_that_works(run) -> None:
    """Deploy where there is no endpoint yet, update where there is one; and deploying it again says so too."""
    registered(run)
    ok(run("endpoint", "deploy", "iris"))
    Path("m.onnx").write_text("another")
    assert ok(run("model", "register", "iris", "m.onnx")).endswith("vedette endpoint update iris --version 2\n")
    result = run("endpoint", "deploy", "iris")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.endswith("vedette endpoint update iris --version N\n")
    ok(run("endpoint", "update", "iris", "--version", "2"))
    assert "iris has this version" in ok(run("model", "register", "iris", "m.onnx"))
    ok(run("model", "register", "other", "m.onnx"))
    ok(run("endpoint", "deploy", "other", "--model", "iris"))
    assert "deploy ENDPOINT --model other" in ok(run("model", "import", "other", "s3://allowed/m.onnx"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["model", "register", "../etc", "m.onnx"],
        ["model", "delete", "UPPER/versions/1"],
        ["model", "show", "scale/versions/1"],
        ["model", "alias", "iris", "..", "1"],
        ["endpoint", "show", ".."],
        ["endpoint", "delete", "a/b"],
        ["predict", "a/b", "1,2"],
        ["predict", "iris", "1,2", "--version", "../../x"],
    ],
)
def test_what_is_no_name_is_refused_before_anything_is_sent(run, suite: FakeSuite, arguments: list[str]) -> None:
    """One line and status 1: a slash would make it the path of something else."""
    Path("m.onnx").write_text("graph")
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "is not a valid" in result.stderr
    assert suite.asked == []


def test_everything_known_of_a_version_can_be_said(run, suite: FakeSuite) -> None:
    """Columns, classes, kind, target, metadata, tags and description arrive."""
    Path("m.onnx").write_text("graph")
    extras = ["--feature-names", "a,b", "--label-names", "no, yes", "--kind", "tabular", "--target", "y"]
    extras += ["--metadata", "git=1", "--metadata", "by=me", "--tag", "team=x", "--description", "first", "--json"]
    version = json.loads(ok(run("model", "register", "iris", "m.onnx", *extras)))
    assert version["signature"]["feature_names"] == ["a", "b"]
    assert version["signature"]["label_names"] == ["no", "yes"]
    assert version["metadata"] == {"git": "1", "by": "me"}
    details = json.loads(dict(suite.asked[0].query)["details"])
    assert (details["tags"], details["description"]) == ({"team": "x"}, "first")


def test_a_version_that_exists_is_said_to(run) -> None:
    """Registering or importing the same bytes again makes no version, and the command does not claim one."""
    registered(run)
    again = ok(run("model", "register", "iris", "m.onnx", "--metadata", "run=2"))
    assert again.startswith("existed already as iris:1 (")
    assert json.loads(ok(run("model", "show", "iris:1", "--json")))["metadata"] == {"run": "2"}
    ok(run("model", "import", "iris", "s3://allowed/m.onnx"))
    assert "existed already as iris:2" in ok(run("model", "import", "iris", "s3://allowed/m.onnx"))


def test_categories_are_said_by_column(run, suite: FakeSuite) -> None:
    """Once for each column; an import takes them too."""
    Path("m.onnx").write_text("graph")
    said = ["--feature-names", "city,size", "--categories", "city=Ulm, Bern", "--categories", "size=S,M"]
    ok(run("model", "register", "shirts", "m.onnx", *said))
    ok(run("model", "import", "shirts", "s3://allowed/m.onnx", *said))
    expected = {"city": ["Ulm", "Bern"], "size": ["S", "M"]}
    assert [version["signature"]["categories"] for version in suite.versions["shirts"]] == [expected] * 2


def test_details_come_from_a_file_and_options_win(run, suite: FakeSuite) -> None:
    """The registry's own document; what an option names replaces that entry alone."""
    Path("m.onnx").write_text("graph")
    signature = {"feature_names": ["a", "b"], "categories": {"a": ["x, y", "z"], "b": ["1"]}, "target": "t"}
    document = {"signature": signature, "metadata": {"git": "1", "by": "me"}, "description": "from the file"}
    Path("details.json").write_text(json.dumps(document | {"tags": {"team": "x"}}))
    options = ["--details", "details.json", "--categories", "b=2,3", "--metadata", "git=2", "--target", "u"]
    ok(run("model", "register", "iris", "m.onnx", *options))
    sent = json.loads(dict(suite.asked[0].query)["details"])
    signature |= {"categories": {"a": ["x, y", "z"], "b": ["2", "3"]}, "target": "u"}
    metadata = {"git": "2", "by": "me"}
    assert sent == document | {"signature": signature, "metadata": metadata, "tags": {"team": "x"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "details.json"),
        ("[]", "details.json"),
        ('{"metdata": {}}', "no 'metdata' in details"),
        ('{"signature": {"features": []}}', "no 'features' in details"),
        ('{"signature": {"kind": "poem"}}', "details.json"),
        ("[" * 100_000, "details.json"),
    ],
)
def test_a_wrong_details_file_is_a_usage_error(run, suite: FakeSuite, text: str, said: str) -> None:
    """Nothing is sent."""
    Path("m.onnx").write_text("graph")
    Path("details.json").write_text(text)
    result = run("model", "register", "iris", "m.onnx", "--details", "details.json")
    assert result.exit_code == 2
    assert said.replace(" ", "") in "".join(result.stderr.split()).replace("│", "")
    assert suite.asked == []


def test_models_are_listed_and_shown_for_people_and_for_programs(run) -> None:
    """Tab-separated in a pipe, one JSON document with --json, no colour codes in either."""
    registered(run)
    registered(run, content="another")
    ok(run("model", "alias", "iris", "champion", "1"))
    text = ok(run("model", "list"))
    assert text.splitlines()[0].split("\t")[:3] == ["name", "newest", "aliases"]
    assert text.splitlines()[1].split("\t")[:3] == ["iris", "2", "champion=1"]
    assert [model["name"] for model in json.loads(ok(run("model", "list", "--json")))] == ["iris"]
    assert "@champion  1" in ok(run("model", "show", "iris"))
    assert len(json.loads(ok(run("model", "show", "iris", "--json")))["versions"]) == 2
    for reference in ("iris:1", "iris@champion"):
        assert json.loads(ok(run("model", "show", reference, "--json")))["version"] == 1
    assert "iris:1" in ok(run("model", "show", "iris@champion"))
    assert "\x1b" not in text


def test_a_version_is_approved_rejected_and_deleted(run) -> None:
    """NAME alone is the newest version; deleting NAME deletes the model."""
    registered(run)
    registered(run, content="another")
    assert "iris:2 is Approved" in ok(run("model", "approve", "iris"))
    assert json.loads(ok(run("model", "reject", "iris:1", "--json")))["status"] == "Rejected"
    assert "iris:1 is deleted" in ok(run("model", "delete", "iris:1"))
    ok(run("model", "alias", "iris", "champion", "2"))
    assert "is gone" in ok(run("model", "alias", "iris", "champion", "--delete"))
    assert "iris is deleted" in ok(run("model", "delete", "iris"))
    assert ok(run("model", "list")).splitlines() == ["name\tnewest\taliases\ttags\tchanged\tdescription"]


def test_an_import_names_a_source_of_the_registrys(run) -> None:
    """The registry reads it; the file need not be here."""
    assert "iris:1 is registered" in ok(run("model", "import", "iris", "s3://allowed/m.onnx"))
    result = run("model", "import", "iris", "/etc/passwd")
    assert (result.exit_code, result.stderr) == (1, "vedette: the source is not allowed\n")


def test_the_life_of_an_endpoint(run, suite: FakeSuite) -> None:
    """Deploy, show, change version, weights or all, roll back, stop, start, delete."""
    registered(run)
    registered(run, content="another")
    ok(run("model", "alias", "iris", "champion", "1"))
    deployed = json.loads(ok(run("endpoint", "deploy", "eu", "--model", "iris", "--version", "@champion", "--json")))
    assert (deployed["status"], deployed["config"]["variants"][0]["version"]) == ("InService", 1)
    assert "primary v2" in ok(run("endpoint", "update", "eu", "--version", "2"))
    variants = [{"name": "a", "version": 1}, {"name": "b", "version": 2}]
    Path("ab.json").write_text(json.dumps({"model": "iris", "variants": variants}))
    assert "a v1 50%, b v2 50%" in ok(run("endpoint", "update", "eu", "--config", "ab.json"))
    assert "a v1 90%, b v2 10%" in ok(run("endpoint", "update", "eu", "--weights", "a=9,b=1"))
    assert "90%" in ok(run("endpoint", "show", "eu"))
    assert json.loads(ok(run("endpoint", "show", "eu", "--json")))["generations"][0]["cause"] == "create"
    ok(run("endpoint", "rollback", "eu", "--to", "1"))
    assert b'{"generation":1}' in [asked.body for asked in suite.asked if asked.path.endswith("/rollback")]
    assert ok(run("endpoint", "list")).splitlines()[1].startswith("eu\tInService\tiris\t")
    assert json.loads(ok(run("endpoint", "list", "--status", "failed", "--json"))) == []
    ok(run("endpoint", "stop", "eu"))
    ok(run("endpoint", "start", "eu"))
    assert "eu is deleted" in ok(run("endpoint", "delete", "eu"))


def test_a_deployment_that_fails_says_why(run, suite: FakeSuite) -> None:
    """Exit status 1 and the registry's reason in one line; --no-wait does not look."""
    registered(run)
    suite.outcome = "Failed"
    result = run("endpoint", "deploy", "iris")
    assert (result.exit_code, result.stderr) == (1, "vedette: iris is Failed: out of memory\n")
    assert "slow is Creating" in ok(run("endpoint", "deploy", "slow", "--model", "iris", "--no-wait"))
    suite.settle_after = 10**6
    result = run("endpoint", "update", "slow", "--version", "1", "--timeout", "0.01")
    assert "still Updating" in result.stderr


def test_a_change_that_was_rolled_back_is_a_failure(run, suite: FakeSuite) -> None:
    """Exit status 1 and one line, although the endpoint serves: it serves something else."""
    registered(run)
    ok(run("endpoint", "deploy", "iris"))
    suite.outcome = "RolledBack"
    result = run("endpoint", "update", "iris", "--version", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "vedette: iris was rolled back: generation 2 failed: out of memory\n"


def npy(array: np.ndarray) -> bytes:
    """An array in numpy's file format."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


ROWS = np.array([[1.0, 5.0, 2.0], [7.0, 1.0, 2.0]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"1,5,2\n7,1,2\n"),
        ("named.csv", b"\xef\xbb\xbfc,a,b\n2,1,5\n2,7,1\n"),
        ("rows.json", b"[[1, 5, 2], [7, 1, 2]]"),
        ("records.json", b'[{"b": 5, "a": 1, "c": 2}, {"c": 2, "a": 7, "b": 1}]'),
        ("columns.json", b'{"c": [2, 2], "a": [1, 7], "b": [5, 1]}'),
        ("instances.json", b'{"instances": [[1, 5, 2], [7, 1, 2]]}'),
        ("v2.json", b'{"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 5, 2, 7, 1, 2]}]}'),
        ("rows.npy", npy(ROWS)),
    ],
)
def test_rows_come_in_many_forms(run, name: str, content: bytes) -> None:
    """From a file and from standard input alike; columns by name go where they belong."""
    Path(name).write_bytes(content)
    expected = ["versicolor", "setosa"]
    for arguments, text in (([name], None), (["-"], content), ([], content)):
        document = json.loads(ok(run("predict", "iris", *arguments, "--json", text=text)))
        assert document["labels"] == expected
        assert document["outputs"]["label"] == [1, 0]


def test_chosen_outputs_pinned_versions_and_variants(run, suite: FakeSuite) -> None:
    """What the client can ask for, the command can."""
    text = ok(run("predict", "iris", "[[1, 5, 2]]", "--version", "1", "--variant", "blue", "--output", "label"))
    assert text.splitlines()[0] == "row\tclass\tlabel"
    assert suite.asked[-1].path.endswith("/versions/1/infer")
    assert suite.asked[-1].headers["x-amzn-sagemaker-target-variant"] == "blue"


def test_text_columns_and_empty_fields(run, suite: FakeSuite) -> None:
    """CSV keeps text as text, and an empty field of a column of numbers is NaN, shown as null."""
    inputs = [
        {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
    ]
    suite.metadata["mixed"] = METADATA | {"name": "mixed", "inputs": inputs, "signature": {}}
    document = json.loads(ok(run("predict", "mixed", "--json", text='city,age\n"Ulm, Stadt",3\nBern,\n')))
    assert document["outputs"] == {"age_out": [[3.0], [None]], "city_out": [["Ulm, Stadt"], ["Bern"]]}
    document = json.loads(ok(run("predict", "mixed", "--no-header", "--json", text="3,Ulm\n4,Bern\n")))
    assert document["outputs"]["city_out"] == [["Ulm"], ["Bern"]]


def test_infinities_survive_json(run, suite: FakeSuite) -> None:
    """They are strings, NaN is null: three values that stay three."""
    inputs = [{"name": "age", "datatype": "FP32", "shape": [-1, 1]}]
    suite.metadata["mixed"] = METADATA | {"name": "mixed", "inputs": inputs, "signature": {}}
    printed = ok(run("predict", "mixed", "--json", "--header", text="age\ninf\n-inf\nnan\n"))
    assert json.loads(printed)["outputs"]["age_out"] == [["Infinity"], ["-Infinity"], [None]]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("missing.csv", "missing.csv: no such file"),
        ("[[1, 2", "the data: not valid JSON"),
        ("1,2,3\n1,2", "line 2 has 2 fields, the first has 3"),
        ("[" * 100_000, "not valid JSON"),
        ('{"inputs": [{"name": "x"}]}', "not an inference request"),
        ("1,2", "takes"),
        ("[[1, 2, \"three\"]]", "takes numbers; 'three' is not one"),
        (" ", "empty"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_read_is_one_line_on_standard_error(run, suite: FakeSuite, data: str, text: str) -> None:
    """Exit status 1, nothing on standard output, no stack."""
    suite.metadata["iris"] = METADATA | {
        "inputs": [{"name": f"i{n}", "datatype": "FP32", "shape": [-1, 1]} for n in range(3)]
    }
    result = run("predict", "iris", data)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("vedette: ")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00", npy(np.array([{}], dtype=object)), b"\xff\xfe", b""])
def test_files_are_never_unpickled(run, content: bytes) -> None:
    """A cut npy, one that holds Python objects, and bytes that are no text are refused."""
    Path("data.npy").write_bytes(content)
    result = run("predict", "iris", "data.npy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "data.npy" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["model", "alias", "iris", "champion"],
        ["model", "alias", "iris", "champion", "1", "--delete"],
        ["model", "register", "iris", "m.onnx", "--kind", "poem"],
        ["model", "register", "iris", "m.onnx", "--metadata", "novalue"],
        ["endpoint", "deploy", "iris", "--version", "latest"],
        ["endpoint", "deploy", "iris", "--config", "missing.json"],
        ["endpoint", "deploy", "iris", "--config", "list.json"],
        ["endpoint", "deploy", "iris", "--config", "ab.json", "--model", "x"],
        ["endpoint", "update", "iris"],
        ["endpoint", "update", "iris", "--version", "1", "--weights", "a=1"],
        ["endpoint", "update", "iris", "--weights", "a=much"],
        ["endpoint", "list", "--status", "Happy"],
        ["serve", "transform"],
        ["serve"],
        ["fly"],
        ["predict"],
    ],
)
def test_a_wrong_command_line_ends_with_two(run, suite: FakeSuite, arguments: list[str]) -> None:
    """Nothing is sent; the message is on standard error."""
    Path("list.json").write_text("[]")
    Path("ab.json").write_text("{}")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr
    assert suite.asked == []


def test_serve_alone_is_the_only_service_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run IMAGE serve`, as SageMaker starts containers; where two could be meant, NAME must be said."""
    served: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "supervise", lambda plans: served.extend(plan.service for plan in plans))
    assert CliRunner().invoke(app, ["serve"]).exit_code == 2
    for name in ("registry", "monitor"):
        missing = replace(modules.SERVICES[name], needs=("no_such_library",))
        monkeypatch.setitem(modules.SERVICES, name, missing)
    ok(CliRunner().invoke(app, ["serve"]))
    assert served == ["inference"]


def test_several_variants_need_a_whole_configuration(run) -> None:
    """--version would not know which variant is meant."""
    registered(run)
    Path("ab.json").write_text(json.dumps({"model": "iris", "variants": [{"name": n, "version": 1} for n in "ab"]}))
    ok(run("endpoint", "deploy", "iris", "--config", "ab.json"))
    result = run("endpoint", "update", "iris", "--version", "1")
    assert result.exit_code == 2
    assert "a, b" in result.stderr


def test_addresses_come_from_the_run_files_of_a_data_folder(suite: FakeSuite, tmp_path: Path) -> None:
    """A suite on this machine is found without an address; a damaged file counts as none."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with serving(suite) as address:
        (run_dir / "registry.json").write_text(json.dumps({"service": "registry", "pid": 1, "http": address}))
        assert ok(CliRunner().invoke(app, ["model", "list", "--data-dir", str(tmp_path)]))
    (run_dir / "registry.json").write_text("{")
    result = CliRunner().invoke(app, ["model", "list", "--data-dir", str(tmp_path), "--registry", address])
    assert result.exit_code == 1
    assert f"nothing answers at {address}" in result.stderr


def test_a_data_folder_that_was_named_must_have_a_suite(
    suite: FakeSuite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By option or environment, the default's name too: no falling back to the default ports."""
    monkeypatch.chdir(tmp_path)
    for folder in (".vedette", "empty"):
        line = f"vedette: no suite runs in {tmp_path / folder}\n"
        for arguments in (["model", "list"], ["predict", "iris", "1"]):
            named = CliRunner().invoke(app, [*arguments, "--data-dir", folder])
            assert (named.exit_code, named.stderr) == (1, line)
            told = CliRunner().invoke(app, arguments, env={"VEDETTE_DATA_DIR": folder})
            assert (told.exit_code, told.stderr) == (1, line)
    with serving(suite) as address:
        assert ok(CliRunner().invoke(app, ["model", "list", "--data-dir", "empty", "--registry", address]))
        (tmp_path / "half" / "run").mkdir(parents=True)
        (tmp_path / "half" / "run" / "registry.json").write_text(json.dumps({"http": address}))
        assert ok(CliRunner().invoke(app, ["model", "list", "--data-dir", "half"]))
    half = CliRunner().invoke(app, ["predict", "iris", "1", "--data-dir", "half"])
    assert half.stderr == f"vedette: no inference service runs in {tmp_path / 'half'}\n"


def test_check_config_shows_every_setting_and_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and environment are told apart, and a misspelt key is an error with the nearest known one."""
    file = tmp_path / "v.toml"
    file.write_text("[registry]\nport = 9999\n")
    monkeypatch.setenv("VEDETTE_INFERENCE__WORKERS", "3")
    settings = json.loads(ok(CliRunner().invoke(app, ["check-config", "--config", str(file), "--json"])))
    found = {(line["service"], line["name"]): line for line in settings}
    assert (found["registry", "port"]["value"], found["registry", "port"]["source"]) == ("9999", str(file))
    assert found["inference", "workers"]["source"] == "VEDETTE_INFERENCE__WORKERS"
    assert "meaning" in ok(CliRunner().invoke(app, ["check-config", "--config", str(file)]))
    file.write_text("[registry]\nprot = 1\n")
    result = CliRunner().invoke(app, ["check-config", "--config", str(file)])
    assert result.exit_code == 1
    assert "did you mean port" in result.stderr


def commands() -> list[list[str]]:
    """Every command there is."""
    import typer.main

    def walk(command: object, path: list[str]) -> Iterator[list[str]]:
        for name, child in getattr(command, "commands", {}).items():
            yield [*path, name]
            yield from walk(child, [*path, name])

    return list(walk(typer.main.get_command(app), []))


GROUPS = [["model"], ["endpoint"], ["baseline"], ["monitor"], ["alert"], ["webhook"], ["demo"]]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself_by_example(command: list[str]) -> None:
    """--help names what it does and, for what runs, shows at least one line to type."""
    text = ok(CliRunner().invoke(app, [*command, "--help"]))
    if command not in GROUPS:
        assert f"vedette {' '.join(command)}" in text.split("Examples")[1]
