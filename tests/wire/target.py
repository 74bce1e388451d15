"""The server that wire tests drive: ours, started and filled with models, or any other by URL.

Rule: tests reach it over the wire alone; nothing of the product is imported here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from tests import onnx_models
from tests.suite import Suite

DATATYPES: dict[str, type] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.uint16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""The protocol's datatypes and the numpy type that holds each; BF16 as its bits."""


LEAK = re.compile(
    r"/(?:root|home|tmp|usr|opt|var|mnt|proc|\w+_src)/|site-packages|services/|\.py\b|\.(?:cc|h|cpp):\d|Traceback|::"
    r"|0x[0-9a-f]{6,}|onnxruntime|ONNXRuntime|vedette\.|numpy|msgspec|orjson|"
    + re.escape(str(Path(__file__).parents[2]))
)
"""What no error shows a caller: paths, files, stacks, addresses, names of modules and libraries."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, and what its identity models are called."""

    http: str
    grpc: str
    pattern: str
    """Name of the identity model of a datatype; `{datatype}` stands for it in lower case."""
    suite: Suite | None = None
    """None: a server that is not ours."""

    @property
    def ours(self) -> bool:
        """Whether our own extensions may be expected."""
        return self.suite is not None

    def client(self) -> httpx.Client:
        """A plain HTTP client on the server."""
        return httpx.Client(base_url=self.http, timeout=30, trust_env=False)

    def identity(self, datatype: str, rows: int = 2) -> Identity:
        """The identity model of this datatype with a shape it takes; skips where another's server has none."""
        name = self.pattern.format(datatype=datatype.lower())
        with self.client() as client:
            answer = client.get(f"/v2/models/{name}")
        if answer.status_code != 200 and not self.ours:
            pytest.skip(f"the server has no model {name}")
        assert answer.status_code == 200, answer.text
        told = answer.json()
        (takes,), gives = told["inputs"], told["outputs"][0]
        if takes["datatype"] != datatype and not self.ours:
            pytest.skip(f"model {name} takes {takes['datatype']}, not {datatype}")
        shape = tuple(rows if dim < 0 else dim for dim in takes["shape"])
        return Identity(name, datatype, takes["name"], gives["name"], shape)


@dataclass(frozen=True, slots=True)
class Identity:
    """A model that gives back what it takes."""

    model: str
    datatype: str
    takes: str
    gives: str
    shape: tuple[int, ...]

    def sample(self) -> np.ndarray:
        """Values that show cut, swapped or rounded bits, among them the ends of the datatype."""
        count, kind = int(np.prod(self.shape)), DATATYPES[self.datatype]
        if self.datatype == "BYTES":
            return np.resize(np.array([b"", b"a", "\u00e9\u4e16".encode(), b"x" * 300], object), self.shape)
        if self.datatype == "BF16":
            return np.resize(np.array([0x3F80, 0xC000, 0x0001, 0x7F7F], np.uint16), self.shape)
        if np.issubdtype(kind, np.floating):
            ends = [np.finfo(kind).max, -1.5, np.finfo(kind).tiny, 0.1]
        elif kind is np.bool_:
            ends = [True, False, False, True]
        else:
            ends = [np.iinfo(kind).min, np.iinfo(kind).max, 1, 100]
        return np.resize(np.array(ends, kind), count).reshape(self.shape)

    def values(self) -> list[object]:
        """The sample as a flat list that JSON can hold."""
        array = self.sample().ravel()
        if self.datatype == "BYTES":
            return [value.decode() for value in array.tolist()]
        if self.datatype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64).tolist()
        return array.tolist()

    def raw(self) -> bytes:
        """The sample as the binary extension has it."""
        array = self.sample()
        if self.datatype == "BYTES":
            return b"".join(len(value).to_bytes(4, "little") + value for value in array.ravel().tolist())
        return array.tobytes()


@dataclass(frozen=True, slots=True)
class Deployed:
    """A model of ours for the tests, its versions in order, and what completes its signature."""

    name: str
    versions: tuple[bytes, ...]
    signature: dict[str, object]
    config: dict[str, object] | None = None


def our_models() -> list[Deployed]:
    """Everything that the wire tests call."""
    two_variants = {
        "model": "scale",
        "variants": [{"name": "one", "version": 1, "weight": 1.0}, {"name": "two", "version": 2, "weight": 0.0}],
    }
    identities = [Deployed(f"identity-{kind.lower()}", (onnx_models.identity(kind),), {}) for kind in DATATYPES]
    return [
        *identities,
        Deployed("pair", (onnx_models.sum_and_difference(),), {}),
        Deployed("scale", (onnx_models.scaled(1.0), onnx_models.scaled(2.0)), {}, two_variants),
        Deployed("root", (onnx_models.square_root(),), {}),
        Deployed("lookup", (onnx_models.lookup(),), {}),
        Deployed("reshaped", (onnx_models.reshaped(),), {}),
        Deployed("slow", (onnx_models.slow(),), {}),
        Deployed("merged-pair", (onnx_models.sum_and_difference(),), {}, _gathering("merged-pair")),
        Deployed("merged-lookup", (onnx_models.lookup(),), {}, _gathering("merged-lookup")),
        Deployed("row-sum", (onnx_models.row_sum(),), {"feature_names": ["a", "b", "c", "d"], "kind": "tabular"}),
        Deployed("labelled", (onnx_models.identity("FP32", ("rows", 3)),), {"label_names": ["cat", "dog", "owl"]}),
        Deployed("coming-and-going", (onnx_models.scaled(3.0),), {}),
    ]


def _gathering(model: str) -> dict[str, object]:
    """A configuration under which requests that come within five milliseconds share a run."""
    batching = {"max_queue_delay_microseconds": 5000, "max_batch_size": 16}
    return {"model": model, "variants": [{"name": "primary", "version": 1}], "dynamic_batching": batching}


@contextmanager
def our_suite(folder: Path) -> Iterator[Target]:
    """Registry and inference in processes of their own, with all models in service."""
    with Suite(folder) as suite:
        with httpx.Client(base_url=suite.registry_http, timeout=120, trust_env=False) as registry:
            models = our_models()
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(lambda each: _deploy(registry, each), models))
        _wait_ready(suite, [each.name for each in models])
        yield Target(suite.http, suite.grpc, "identity-{datatype}", suite)


@contextmanager
def fast_twin(suite: Suite, folder: Path) -> Iterator[Target]:
    """One more inference process on this suite's registry, which serves gRPC with the extra `fast`."""
    env = {
        "VEDETTE_INFERENCE__REGISTRY_ADDRESS": suite.registry_grpc,
        "VEDETTE_INFERENCE__GRPC_TRANSPORT": "fast",
    }
    with Suite(folder, ("inference",), env) as twin:
        _wait_ready(twin, [each.name for each in our_models()])
        yield Target(twin.http, twin.grpc, "identity-{datatype}", twin)


def _deploy(registry: httpx.Client, deployed: Deployed) -> None:
    details = msgspec.json.encode({"signature": deployed.signature}).decode()
    for graph in deployed.versions:
        made = registry.post(f"/v1/models/{deployed.name}/versions", content=graph, params={"details": details})
        assert made.status_code == 201, made.text
    document: dict[str, object] = {"name": deployed.name}
    if deployed.config:
        document["config"] = deployed.config
    made = registry.post("/v1/endpoints", json=document)
    assert made.status_code == 201, made.text


def _wait_ready(suite: Suite, names: list[str]) -> None:
    with httpx.Client(base_url=suite.http, timeout=30, trust_env=False) as client:
        for name in names:
            deadline = time.monotonic() + 60
            while client.get(f"/v2/models/{name}/ready").status_code != 200:
                assert time.monotonic() < deadline, f"{name} is not ready:\n{suite.logs('inference')[-4000:]}"
                time.sleep(0.05)  # the only sign a server gives is its answer
