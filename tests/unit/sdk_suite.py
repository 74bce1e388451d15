"""A registry and a data plane small enough to read: behaviour behind the real HTTP surface, in memory.

`FakeSuite().answer` is a handler for httpx.MockTransport; `serving(suite)` puts it on a real port.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import numpy as np

from vedette.codec import v2json
from vedette.core.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    VedetteError,
)
from vedette.core.tensors import InferResponse, Tensor

NAMES = ("setosa", "versicolor", "virginica")
METADATA: dict[str, Any] = {
    "name": "iris",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
    ],
    "signature": {
        "feature_names": ["a", "b", "c"],
        "categories": {},
        "label_names": list(NAMES),
        "kind": "tabular",
        "target": "",
    },
}


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeSuite:
    """Keeps models, endpoints and every request; `failures` are answered before anything is done."""

    asked: list[Asked] = field(default_factory=list)
    failures: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[str, dict[str, bytes]] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=lambda: {"iris": METADATA})
    page_items: int = 100
    settle_after: int = 1
    """How often an endpoint is looked at before its newest generation serves."""
    outcome: str = "InService"
    """Where an endpoint ends up; `RolledBack`: in service again as it was before, with the reason."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        """As a transport: the URL's host does not matter."""
        url = urlsplit(str(request.url))
        headers = {key.lower(): value for key, value in request.headers.items()}
        status, sent, body = self.respond(
            Asked(request.method, unquote(url.path), parse_qsl(url.query), headers, request.read())
        )
        return httpx.Response(status, headers=sent, content=body)

    def respond(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        """Do what was asked, or say why not in the shape of the side that was asked."""
        self.asked.append(asked)
        if self.failures:
            return self.failures.pop(0)
        try:
            if asked.path.startswith("/v2/"):
                return self._inference(asked)
            status, document = self._registry(asked)
            return (
                status,
                {"content-type": "application/json"},
                b"" if document is None else json.dumps(document).encode(),
            )
        except VedetteError as error:
            return error.http_status, *_shown(error, asked.path)

    def _registry(self, asked: Asked) -> tuple[int, Any]:
        parts = asked.path.split("/")[2:]
        document = (
            json.loads(asked.body) if asked.headers.get("content-type") == "application/json" and asked.body else {}
        )
        if parts[0] == "models":
            return self._models(asked, parts[1:], document)
        if parts[0] == "uploads":
            return self._uploads(asked, parts[1:], document)
        return self._endpoints(asked, parts[1:], document)

    def _models(self, asked: Asked, parts: list[str], document: dict[str, Any]) -> tuple[int, Any]:
        query = dict(asked.query)
        if not parts:
            if asked.method == "GET":
                found = [m for m in self.models.values() if query.get("name_contains", "") in m["name"]]
                tags = dict(value.split("=", 1) for key, value in asked.query if key == "tag")
                return 200, self._page([m for m in found if tags.items() <= m["tags"].items()], query)
            if document["name"] in self.models:
                raise AlreadyExists(f"model {document['name']!r} exists")
            return 201, self._model(document["name"], document)
        name, *rest = parts
        if rest == ["uploads"]:
            self.uploads[f"u{len(self.uploads)}"] = {"": name.encode()}
            return 201, {"id": f"u{len(self.uploads) - 1}", "model": name, "expires_at": 0.0}
        if rest == ["imports"]:
            if not document["source"].startswith("s3://allowed/"):
                raise InvalidArgument("the source is not allowed")
            return self._version(name, {"model.onnx": document["source"].encode()}, document["details"])
        if rest == ["versions"] and asked.method == "POST":
            return self._version(name, {"model.onnx": asked.body}, json.loads(query.get("details", "{}")))
        if name not in self.models:
            raise NotFound(f"there is no model {name!r}")
        return self._one_model(asked, name, rest, document)

    def _one_model(self, asked: Asked, name: str, rest: list[str], document: dict[str, Any]) -> tuple[int, Any]:
        model = self.models[name]
        if rest[:1] == ["aliases"]:
            if asked.method == "DELETE":
                del model["aliases"][rest[1]]
                return 204, None
            model["aliases"][rest[1]] = document["version"]
            return 200, model
        if rest == ["versions"]:
            wanted = dict(asked.query).get("status")
            found = [v for v in reversed(self.versions[name]) if wanted in (None, v["status"])]
            return 200, self._page(found, dict(asked.query))
        if rest:
            found = [v for v in self.versions[name] if str(v["version"]) == rest[1]]
            if not found:
                raise NotFound(f"there is no version {name}:{rest[1]}")
            if len(rest) == 4:
                return 200, {"file": rest[3]}
            if asked.method == "DELETE":
                self.versions[name].remove(found[0])
                return 204, None
            found[0].update(document)
            return 200, found[0]
        if asked.method == "DELETE":
            if any(endpoint["config"]["model"] == name for endpoint in self.endpoints.values()):
                raise Conflict(f"model {name!r} is deployed")
            del self.models[name]
            return 204, None
        model.update(document)
        return 200, model

    def _uploads(self, asked: Asked, parts: list[str], document: dict[str, Any]) -> tuple[int, Any]:
        upload = self.uploads[parts[0]]
        if asked.method == "DELETE":
            del self.uploads[parts[0]]
            return 204, None
        if parts[1] == "files":
            upload[parts[2]] = asked.body
            return 204, None
        name = upload.pop("").decode()
        return self._version(name, self.uploads.pop(parts[0]), document["details"])

    def _endpoints(self, asked: Asked, parts: list[str], document: dict[str, Any]) -> tuple[int, Any]:
        query = dict(asked.query)
        if not parts:
            if asked.method == "GET":
                found = [e for e in self.endpoints.values() if query.get("status", e["status"]) == e["status"]]
                return 200, self._page(found, query)
            return 201, self._deploy(document)
        name, *rest = parts
        if name not in self.endpoints:
            raise NotFound(f"there is no endpoint {name!r}")
        endpoint = self.endpoints[name]
        if asked.method == "GET":
            if rest == ["generations"]:
                config = endpoint["config"]
                return 200, self._page(
                    [{"endpoint": name, "generation": 1, "config": config, "cause": "create"}], query
                )
            self._look(endpoint)
            return 200, endpoint
        if asked.method == "DELETE":
            del self.endpoints[name]
            return 202, endpoint
        return 200, self._changed(endpoint, rest, document)

    def _deploy(self, document: dict[str, Any]) -> dict[str, Any]:
        name = document["name"]
        if name in self.endpoints:
            raise AlreadyExists(f"endpoint {name!r} exists")
        config = document.get("config")
        if config is None:
            model = document.get("model") or name
            if model not in self.models:
                raise NotFound(f"there is no model {model!r}")
            version = document.get("version", self.models[model]["latest_version"])
            if isinstance(version, str):
                version = self.models[model]["aliases"][version[1:]]
            config = {"model": model, "variants": [{"name": "primary", "version": version}]}
        self.endpoints[name] = {
            "name": name, "generation": 1, "config": config, "status": "Creating", "serving": True, "looks": 0,
        }  # fmt: skip
        return self.endpoints[name]

    def _changed(self, endpoint: dict[str, Any], rest: list[str], document: dict[str, Any]) -> dict[str, Any]:
        endpoint.update(generation=endpoint["generation"] + 1, status="Updating", looks=0, reason="")
        if rest == ["weights"]:
            for variant in endpoint["config"]["variants"]:
                variant["weight"] = document["weights"].get(variant["name"], 1.0)
        elif rest == ["stop"]:
            endpoint.update(status="OutOfService")
        elif not rest:
            endpoint["config"] = document["config"]
        return endpoint

    def _look(self, endpoint: dict[str, Any]) -> None:
        """Each look brings the endpoint nearer to serving."""
        endpoint["looks"] += 1
        if endpoint["looks"] > self.settle_after and endpoint["status"] != "OutOfService":
            failed = endpoint["generation"]
            if self.outcome == "RolledBack":
                if endpoint["status"] != "InService":
                    endpoint.update(generation=failed + 1, reason=f"generation {failed} failed: out of memory")
                    endpoint.update(status="InService", serving_generation=failed + 1)
                return
            endpoint.update(
                status=self.outcome,
                serving_generation=endpoint["generation"],
                reason="" if self.outcome == "InService" else "out of memory",
            )

    def _model(self, name: str, document: dict[str, Any]) -> dict[str, Any]:
        model = {"name": name, "latest_version": 0, "aliases": {}, "tags": {}, "description": ""} | document
        self.versions[name] = []
        self.models[name] = model
        return model

    def _version(self, name: str, files: dict[str, bytes], details: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if not files["model.onnx"]:
            raise InvalidArgument("check: the graph is empty")
        model = self.models.get(name) or self._model(name, {})
        signature = {"inputs": [], "outputs": []} | details.get("signature", {})
        for known in self.versions[name]:
            if (known["files"], known["signature"]) == (_listed(files), signature):
                known["metadata"].update(details.get("metadata", {}))
                return 200, known
        model["latest_version"] += 1
        version = {
            "model": name, "version": model["latest_version"], "digest": sha256(files["model.onnx"]).hexdigest(),
            "files": _listed(files),
            "signature": signature,
            "admission": {"run_time_us": 9.0, "load_time_ms": 3.0, "memory_bytes": 2048},
            "metadata": details.get("metadata", {}), "a field of tomorrow": 1,
        }  # fmt: skip
        version["status"] = "PendingManualApproval"
        self.versions[name].append(version)
        return 201, version

    def _page(self, items: list[Any], query: dict[str, str]) -> dict[str, Any]:
        start, size = int(query.get("page_token", "0")), min(int(query["limit"]), self.page_items)
        following = str(start + size) if start + size < len(items) else ""
        return {"items": items[start : start + size], "next_page_token": following}

    def _inference(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        parts = asked.path.split("/")[3:]
        if parts == ["ready"]:
            return 200, {}, b""
        name, version = parts[0], parts[2] if parts[1:2] == ["versions"] else "1"
        if name not in self.metadata or version != "1":
            raise NotFound(f"{name}: not deployed here")
        if parts[-1] == "ready":
            return 200, {}, b""
        if parts[-1] != "infer":
            return 200, {}, json.dumps(self.metadata[name]).encode()
        length = asked.headers.get("inference-header-content-length")
        request = v2json.decode_request(asked.body, None if length is None else int(length))
        wanted = [spec["name"] for spec in self.metadata[name]["inputs"]]
        if [tensor.name for tensor in request.inputs] != wanted:
            raise InvalidArgument(f"the inputs are {', '.join(wanted)}")
        outputs = self._outputs(name, request.inputs)
        chosen = [
            tensor
            for tensor in outputs
            if tensor.name in [item.name for item in request.outputs] or not request.outputs
        ]
        answer = InferResponse(name, version, "primary", chosen, id=request.id, parameters=request.parameters)
        body, json_length = v2json.encode_response(answer, {tensor.name: request.binary_output for tensor in chosen})
        return 200, {} if json_length is None else {"inference-header-content-length": str(json_length)}, body

    def _outputs(self, name: str, inputs: list[Tensor]) -> list[Tensor]:
        """`iris`: the largest column is the class; anything else echoes its inputs."""
        if name != "iris":
            return [Tensor(f"{tensor.name}_out", tensor.datatype, tensor.array) for tensor in inputs]
        rows = inputs[0].array.astype(np.float32)
        label = Tensor("label", "INT64", np.argmax(rows, axis=1).astype(np.int64))
        return [label, Tensor("probabilities", "FP32", rows / rows.sum(axis=1, keepdims=True))]


def _shown(error: VedetteError, path: str) -> tuple[dict[str, str], bytes]:
    if path.startswith("/v2/"):
        return {"content-type": "application/json"}, json.dumps({"error": error.message}).encode()
    problem = {
        "type": "about:blank",
        "title": "x",
        "status": error.http_status,
        "detail": error.message,
        "code": error.code,
    }
    return {"content-type": "application/problem+json"}, json.dumps(problem).encode()


@contextmanager
def serving(suite: FakeSuite) -> Iterator[str]:
    """The suite on a free port of loopback; yields its address, both services in one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            url = urlsplit(self.path)
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            asked = Asked(self.command, unquote(url.path), parse_qsl(url.query), headers, body)
            status, sent, answer = suite.respond(asked)
            self.send_response(status)
            for key, value in {**sent, "content-length": str(len(answer))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - the library looks for these names

        def log_message(self, *args: object) -> None:
            """Silence: tests read what was asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listed(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return [{"path": name, "size": len(body), "sha256": sha256(body).hexdigest()} for name, body in files.items()]
