"""The way from a started suite to three served models, and the lines to copy."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vedette.cli.addresses import running
from vedette.cli.output import Table
from vedette.cli.quickstart.recipes import ENDPOINT, Addresses, demo_line, recipes
from vedette.core.errors import DeadlineExceeded, NotFound, Unavailable, VedetteError
from vedette.core.models import Endpoint, EndpointStatus

if TYPE_CHECKING:
    from vedette.cli.quickstart.examples import Example
    from vedette.sdk.prediction import Prediction
    from vedette.sdk.sync.client import Client

START_TIMEOUT_S = 120.0
POLL_S = 0.05
GONE_WRONG = (EndpointStatus.FAILED, EndpointStatus.OUT_OF_SERVICE)


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the table of models."""

    name: str
    version: str
    score: str
    predicted: str
    truth: str


class Guide:
    """Speaks to the suite that process `parent` supervises; finds it by its run files."""

    def __init__(self, parent: int, run_dirs: Mapping[str, Path]) -> None:
        self._parent = parent
        self._run_dirs = dict(run_dirs)
        self._console = Console(soft_wrap=True, highlight=False, markup=False)

    def run(self, *, with_models: bool) -> int:
        """Everything in order. Returns the exit status: 1 when a model could not be set up."""
        from vedette.sdk.sync.client import Client

        with self._console.status("Starting " + ", ".join(self._run_dirs)):
            addresses = self._addresses()
        if not with_models:
            self._welcome(addresses)
            return 0
        with Client(addresses.inference, addresses.registry, addresses.monitor) as client:
            try:
                lines, row = self._models(client)
            except VedetteError as error:
                self._welcome(addresses)
                self._console.print(f"The example models are missing: {error.message}", style="red")
                return 1
        self._welcome(addresses)
        self._table(lines)
        self._recipes(addresses, row)
        return 0

    def _addresses(self) -> Addresses:
        """Wait until all services are ready; each writes its file then."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            found = {name: running(run_dir, name) for name, run_dir in self._run_dirs.items()}
            if all(facts.get("pid") == str(self._parent) for facts in found.values()):
                registry, inference, monitor = (found[name] for name in ("registry", "inference", "monitor"))
                pairs = ((service["http"], service["grpc"]) for service in (inference, registry, monitor))
                return Addresses(*(address for pair in pairs for address in pair))
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"the suite is not ready after {START_TIMEOUT_S:g} s")
            time.sleep(POLL_S)

    def _models(self, client: Client) -> tuple[list[Shown], list[float]]:
        try:
            from vedette.cli.quickstart.examples import EXAMPLES
        except ImportError as error:
            raise Unavailable(f"{error.name} is not installed: pip install 'vedette[convert]'") from error
        lines, row = [], [0.0]
        for example in EXAMPLES:
            shown, first = self._model(client, example)
            lines.append(shown)
            row = first if example.name == ENDPOINT else row
        return lines, row

    def _model(self, client: Client, example: Example) -> tuple[Shown, list[float]]:
        """Make sure that the example serves, and ask it about a row it has not seen."""
        try:
            split = example.load()
        except ImportError as error:
            raise Unavailable("scikit-learn is not installed: pip install 'vedette[convert]'") from error
        endpoint = self._served(client, example)
        prediction = client.predict(example.name, split.test[:1])
        number = int(prediction.version or endpoint.config.variants[0].version)
        metadata = client.models.version(endpoint.config.model, number).metadata
        score = f"{example.measure} {metadata[example.measure]}" if example.measure in metadata else ""
        shown = Shown(example.name, str(number), score, _answer(prediction), split.truth(0))
        return shown, split.test[0].reshape(-1).tolist()

    def _served(self, client: Client, example: Example) -> Endpoint:
        """The example's endpoint in service: what is there is used, what is missing is made."""
        try:
            endpoint = client.endpoints.get(example.name)
        except NotFound:
            self._registered(client, example)
            client.endpoints.deploy(example.name)
        else:
            if endpoint.status in GONE_WRONG:
                client.endpoints.start(example.name)
        with self._console.status(f"Waiting until {example.name} serves"):
            return client.endpoints.wait_in_service(example.name)

    def _registered(self, client: Client, example: Example) -> None:
        try:
            if client.models.get(example.name).latest_version:
                return
        except NotFound:
            pass
        from vedette.sdk.documents import Details

        with self._console.status(f"Training {example.name}: {example.description}"):
            conversion, score = example.train(example.load())
            details = Details(description=example.description, metadata={example.measure: f"{score:.3f}"})
            client.models.register(example.name, conversion, details=details)
        self._console.print(
            f"Trained and registered {example.name}: {example.description}; the graph is within "
            f"{conversion.largest_difference:.0e} of the original on {conversion.rows_compared} held-out rows"
        )

    def _welcome(self, addresses: Addresses) -> None:
        self._console.print()
        self._console.print(Text("vedette is up", style="bold green"), Text("(Ctrl-C ends it)", style="dim"))
        self._console.print()
        self._fact("inference", f"{addresses.inference}   gRPC {addresses.inference_grpc}")
        self._fact("registry", f"{addresses.registry}   gRPC {addresses.registry_grpc}")
        self._fact("monitor", f"{addresses.monitor}   gRPC {addresses.monitor_grpc}")
        self._fact("metrics", f"{addresses.inference}/metrics   {addresses.monitor}/metrics (drift, alerts)")
        self._console.print()
        sys.stdout.flush()

    def _fact(self, name: str, value: str) -> None:
        self._console.print(Text(f"  {name:<10}", style="bold"), Text(value))

    def _table(self, lines: list[Shown]) -> None:
        table = Table("model", "version", "on held-out rows", "predicted", "truth")
        for line in lines:
            table.row(line.name, line.version, line.score, line.predicted, line.truth)
        table.show()
        sys.stdout.flush()

    def _recipes(self, addresses: Addresses, row: list[float]) -> None:
        self._console.print("Ask the diabetes model yourself, from another terminal in this folder:")
        for recipe in recipes(addresses, row):
            self._console.print()
            self._console.print(Text(f"# {recipe.client}", style="dim"))
            if recipe.install:
                self._console.print(Text(f"# first: {recipe.install}", style="dim"))
            self._console.print(Text(recipe.line))
        self._console.print()
        self._console.print("See an alert arrive when the data drifts (half a minute, ends by itself):")
        self._console.print()
        self._console.print(Text(demo_line(addresses)))
        sys.stdout.flush()


def _answer(prediction: Prediction) -> str:
    if prediction.label_names:
        return prediction.label
    return f"{float(prediction.array.reshape(-1)[0]):.0f}"
