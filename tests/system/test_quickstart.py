"""`vedette up` as its users run it: on free ports, with every line that it prints, and until Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import vedette
from vedette.cli.addresses import running
from vedette.core.models import EndpointStatus

EXAMPLES = Path(__file__).parents[2] / "examples"
LAST = "vedette demo drift"
"""What stands in the last line of the guide."""
TIMEOUT_S = 120.0


class Up:
    """A running `vedette up` and what it has printed."""

    def __init__(self, folder: Path, *arguments: str, last: str = LAST) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VEDETTE_")}
        for service in ("REGISTRY", "INFERENCE", "MONITOR"):
            environment |= {f"VEDETTE_{service}__PORT": "0", f"VEDETTE_{service}__GRPC_PORT": "0"}
        command = [sys.executable, "-m", "vedette", "up", *arguments]
        self.folder = folder
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            self.lines = self._read_until(last)
        except BaseException:
            self.kill()
            raise

    def _read_until(self, last: str) -> list[str]:
        """Everything up to the line with `last` in it; fails when the output ends first."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, self.process.kill)
        watchdog.start()
        lines: list[str] = []
        try:
            for line in self.process.stdout:
                lines.append(line.rstrip("\n"))
                if last in lines[-1]:
                    return lines
        finally:
            watchdog.cancel()
        raise AssertionError("\n".join(lines))

    def line(self, client: str) -> str:
        """The line to copy for a client."""
        return self.lines[self.lines.index(f"# {client}") + 1]

    def shell(self, line: str, *, timeout_s: float = 60.0) -> str:
        """What a line prints when it is pasted into another terminal in the same folder."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def addresses(self) -> tuple[str, str]:
        """URLs of inference and registry."""
        run_dir = self.folder / ".vedette" / "run"
        return running(run_dir, "inference")["http"], running(run_dir, "registry")["http"]

    def interrupt(self) -> int:
        """Ctrl-C, which a terminal sends to every process of the command; returns the exit status."""
        if self.process.poll() is not None:
            return self.process.returncode
        os.killpg(self.process.pid, signal.SIGINT)
        rest, _ = self.process.communicate(timeout=60)
        assert "Traceback" not in rest, rest
        return self.process.returncode

    def kill(self) -> None:
        """Whatever a failed test has left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every run of this module shares, as a user's clone would be."""
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Up]:
    """The first run."""
    started = Up(folder)
    try:
        yield started
        assert started.interrupt() == 0
    finally:
        started.kill()


def prediction_in(text: str) -> float:
    """The only number of an answer that is a prediction of this data set."""
    (value,) = [float(found) for found in re.findall(r"\d+\.\d+", text) if float(found) > 25]
    return value


@pytest.fixture(scope="module")
def expected(up: Up) -> float:
    """What the Python line answers: the others must say the same."""
    return prediction_in(up.shell(up.line("Python")))


def test_it_trains_three_models_and_tells_the_truth_beside_each(up: Up) -> None:
    """Each prediction is on a row that was held out, and good enough to be a real model."""
    table = [line.split("\t") for line in up.lines if line.count("\t") == 4]
    assert table[0] == ["model", "version", "on held-out rows", "predicted", "truth"]
    found = {name: (score.split(), predicted, truth) for name, _, score, predicted, truth in table[1:]}
    assert set(found) == {"breast-cancer", "diabetes", "digits"}
    assert float(found["breast-cancer"][0][1]) > 0.93
    assert float(found["digits"][0][1]) > 0.95
    assert float(found["diabetes"][0][1]) > 0.3
    assert found["breast-cancer"][1] == found["breast-cancer"][2]
    assert found["digits"][1] == found["digits"][2]
    assert load_diabetes().target.min() < float(found["diabetes"][1]) < load_diabetes().target.max()
    assert "\x1b" not in "".join(up.lines)


@pytest.mark.parametrize(("model", "columns"), [("breast-cancer", 30), ("diabetes", 10), ("digits", 64)])
def test_every_model_answers_in_every_format(up: Up, model: str, columns: int) -> None:
    """KServe's V1, and SageMaker's route with each content type it gives."""
    url, _ = up.addresses()
    row = [1.0] * columns
    with httpx.Client(base_url=url) as client:
        answers = [client.post(f"/v1/models/{model}:predict", json={"instances": [row, row]})]
        for accept in ("application/json", "application/jsonlines", "text/csv"):
            headers = {"content-type": "text/csv", "accept": accept}
            body = (",".join(map(str, row)) + "\n") * 2
            answers.append(client.post(f"/endpoints/{model}/invocations", content=body, headers=headers))
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    assert len(answers[0].json()["predictions"]) == len(answers[2].text.splitlines()) == 2


def test_nothing_but_the_guide_is_printed(up: Up) -> None:
    """No log line, no warning of a library between a user and the addresses."""
    assert [line for line in up.lines if "WARN" in line or "Warning" in line or line.startswith("{")] == []
    assert up.lines.count("vedette is up (Ctrl-C ends it)") == 1


def test_the_line_for_curl(up: Up, expected: float) -> None:
    """Verbatim from the screen."""
    answer = json.loads(up.shell(up.line("curl")))
    assert answer["model_name"] == "diabetes"
    assert answer["outputs"][0]["data"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("client", ["command line", "tritonclient (gRPC)", "boto3 (SageMaker)"])
def test_the_lines_for_the_other_clients(up: Up, expected: float, client: str) -> None:
    """Verbatim from the screen; every client gets the same number."""
    assert prediction_in(up.shell(up.line(client))) == pytest.approx(expected, rel=1e-4)


def test_the_line_for_the_demo(up: Up) -> None:
    """Verbatim from the screen: real rows raise nothing, shifted ones an alert in time, and the report is there."""
    said = up.shell(up.lines[-1], timeout_s=TIMEOUT_S)
    alert = re.search(r"alert (\d+\.\d) s after the shift", said)
    assert alert, said
    assert float(alert[1]) <= 15
    assert "before the shift" not in said
    moved = re.search(r"features that moved: (.*)", said)
    assert moved, said
    assert "mean radius" in moved[1]
    report = re.search(r"report: (\S+)", said)
    assert report, said
    assert "mean radius" in up.shell(f"curl -s {report[1]}")


def test_the_printed_addresses_answer(up: Up) -> None:
    """Inference, registry and metrics are where the guide says."""
    text = "\n".join(up.lines)
    inference, registry = up.addresses()
    assert f"inference  {inference}" in text
    assert f"registry   {registry}" in text
    assert re.search(r"monitor    http://127\.0\.0\.1:\d+   gRPC 127\.0\.0\.1:\d+", text), text
    metrics = re.search(r"metrics    (\S+)   (\S+)", text)
    assert metrics, text
    assert metrics[1] == f"{inference}/metrics"
    assert "vedette_requests_total" in up.shell(f"curl -s {metrics[1]}")
    assert "vedette_stream_lag_messages" in up.shell(f"curl -s {metrics[2]}")


def test_the_command_line_finds_the_suite_by_its_folder(up: Up) -> None:
    """In the folder of the suite no address is needed."""
    listed = json.loads(up.shell(f"{sys.executable} -m vedette endpoint list --json"))
    assert {endpoint["name"] for endpoint in listed} == {"breast-cancer", "diabetes", "digits"}
    rows = load_diabetes().data[:3]
    np.savetxt(up.folder / "rows.csv", rows, delimiter=",", header=",".join(load_diabetes().feature_names), comments="")
    answer = json.loads(up.shell(f"{sys.executable} -m vedette predict diabetes rows.csv --json"))
    assert len(answer["outputs"]["prediction"]) == 3


@pytest.mark.parametrize(
    ("script", "option", "shown"),
    [
        ("sklearn_model.py", "--inference {0} --registry {1}", "registered: customers:1"),
        ("tritonclient_grpc.py", "--grpc {2}", "predictions: ["),
        ("boto3_sagemaker.py", "--inference {0}", "error: ValidationError"),
    ],
)
def test_the_example_programs_run(up: Up, script: str, option: str, shown: str) -> None:
    """What `examples/` shows works as it stands, twice where a second run meets the first one's model."""
    grpc = running(up.folder / ".vedette" / "run", "inference")["grpc"]
    line = f"{sys.executable} {EXAMPLES / script} {option.format(*up.addresses(), grpc)}"
    assert shown in up.shell(line)
    assert shown in up.shell(line)


def test_an_endpoint_through_its_whole_life(up: Up) -> None:
    """New version, update, target variant by header, weights, rollback, stop, start, delete: on the real suite."""
    with vedette.Client(*up.addresses()) as client:
        graph = client.models.download("diabetes", 1)
        row = load_diabetes().data[0]
        wanted = float(client.predict("diabetes", row).array[0, 0])
        assert client.models.register("twin", graph).version == 1
        client.endpoints.deploy("twin")
        variants = [{"name": name, "version": 1, "weight": weight} for name, weight in (("a", 1.0), ("b", 0.0))]
        client.endpoints.wait_in_service("twin")
        client.endpoints.update("twin", {"model": "twin", "variants": variants})
        client.endpoints.wait_in_service("twin")
        assert float(client.predict("twin", row, variant="b").array[0, 0]) == wanted
        with pytest.raises(vedette.InvalidArgument, match="nobody"):
            client.predict("twin", row, variant="nobody")
        client.endpoints.weights("twin", {"b": 3.0})
        client.endpoints.rollback("twin", generation=1)
        assert client.endpoints.wait_in_service("twin").config.variants[0].name == "primary"
        client.endpoints.stop("twin")
        client.endpoints.start("twin")
        assert client.endpoints.wait_in_service("twin").status is EndpointStatus.IN_SERVICE
        with pytest.raises(vedette.Conflict):
            client.models.delete("twin")
        client.endpoints.delete("twin")
        client.endpoints.wait_deleted("twin")
        client.models.delete("twin")
        with pytest.raises(vedette.NotFound):
            client.predict("twin", row)


def test_a_second_run_uses_what_is_there(folder: Path, up: Up) -> None:
    """After Ctrl-C nothing is trained again, the versions are the same, and Ctrl-C ends it with 0 once more."""
    assert up.interrupt() == 0
    assert not (folder / ".vedette" / "run" / "registry.json").exists()
    again = Up(folder)
    try:
        assert [line for line in again.lines if line.startswith("Trained")] == []
        table = [line for line in again.lines if line.count("\t") == 4]
        assert table == [line for line in up.lines if line.count("\t") == 4]
        assert again.interrupt() == 0
    finally:
        again.kill()


def test_without_models_it_says_where_things_are(tmp_path: Path) -> None:
    """`--no-models` starts an empty suite."""
    up = Up(tmp_path, "--no-models", last="/metrics")
    try:
        with vedette.Client(*up.addresses()) as client:
            assert list(client.models.list()) == []
        assert up.interrupt() == 0
    finally:
        up.kill()


def test_without_scikit_learn_it_says_what_to_install(tmp_path: Path) -> None:
    """The suite starts all the same; only the example models are missing."""
    (tmp_path / "sklearn.py").write_text("raise ImportError('no sklearn here', name='sklearn')\n")
    up = Up(tmp_path, last="pip install 'vedette[convert]'")
    try:
        assert "vedette is up (Ctrl-C ends it)" in up.lines
        assert up.interrupt() == 0
    finally:
        up.kill()
