"""As much of a Kubernetes cluster as Helm needs to install, upgrade and uninstall a release: objects that are written,
patched and deleted, and Jobs that run their command on this machine.

Not checked: what the objects say. tests/deploy/test_rendered.py validates them.
"""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.deploy.chart import Document

# Group and version, kind, name in paths, whether it is in a namespace.
RESOURCES: Final = (
    ("v1", "ConfigMap", "configmaps", True),
    ("v1", "Pod", "pods", True),
    ("v1", "Secret", "secrets", True),
    ("v1", "Service", "services", True),
    ("v1", "ServiceAccount", "serviceaccounts", True),
    ("apps/v1", "DaemonSet", "daemonsets", True),
    ("apps/v1", "StatefulSet", "statefulsets", True),
    ("batch/v1", "Job", "jobs", True),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", True),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", True),
)
GROUPS: Final = sorted({version for version, *_ in RESOURCES if "/" in version})
_KINDS: Final = {name: (version, kind) for version, kind, name, _ in RESOURCES}
_WATCH_SECONDS: Final = 20.0
_JOB_SECONDS: Final = 60.0
# The programs of the images: `apidae` of this checkout.
_ENTRYPOINT: Final = (sys.executable, "-c", "from common.main import main; main()")


def _list_kinds(version: str) -> Document:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {"name": name, "namespaced": is_namespaced, "kind": kind, "verbs": verbs}
        for group, kind, name, is_namespaced in RESOURCES
        if group == version
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def _list_groups() -> Document:
    versions = [{"groupVersion": group, "version": group.partition("/")[2]} for group in GROUPS]
    groups = [
        {"name": version["groupVersion"].partition("/")[0], "versions": [version], "preferredVersion": version}
        for version in versions
    ]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _describe_group(version: str) -> Document:
    """The OpenAPI document of a group, as far as Helm asks: whether the server checks unknown fields itself."""
    group, _, number = version.rpartition("/")
    paths = {
        f"/{name}/{{name}}": {
            "patch": {
                "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                "responses": {"200": {"description": "OK"}},
            }
        }
        for one, kind, name, _ in RESOURCES
        if one == version
    }
    return {"openapi": "3.0.0", "info": {"title": "fake", "version": "1"}, "paths": paths}


_PLACES: Final = {version: f"apis/{version}" if "/" in version else f"api/{version}" for version in ("v1", *GROUPS)}
_DISCOVERY: Final[Mapping[str, Any]] = {
    "/openapi/v3": {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in _PLACES.values()}},
    **{f"/openapi/v3/{place}": _describe_group(version) for version, place in _PLACES.items()},
    "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": _list_kinds("v1"),
    "/apis": _list_groups(),
    **{f"/apis/{group}": _list_kinds(group) for group in GROUPS},
}


def _merge(old: Any, new: Any) -> Any:
    """JSON Merge Patch (RFC 7386)."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        elif not name.startswith("$"):  # Directives of a strategic merge patch.
            merged[name] = _merge(merged.get(name), value)
    return merged


# Helm writes its releases as protobuf (k8s.io/apimachinery pkg/runtime/serializer/protobuf, api core/v1).
_PROTOBUF_MAGIC: Final = b"k8s\0"


def _decode_fields(content: bytes) -> dict[int, list[bytes]]:
    """The length-delimited fields of a message by number."""
    found: dict[int, list[bytes]] = {}
    place = 0

    def read_number() -> int:
        nonlocal place
        number = shift = 0
        while True:
            byte = content[place]
            place += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while place < len(content):
        tag = read_number()
        length = read_number()
        if tag & 7 == 2:
            found.setdefault(tag >> 3, []).append(content[place : place + length])
            place += length
    return found


def _decode_secret(content: bytes) -> Document:
    secret = _decode_fields(_decode_fields(content[len(_PROTOBUF_MAGIC) :])[2][0])
    metadata = _decode_fields(secret[1][0])
    labels = [_decode_fields(one) for one in metadata.get(11, ())]
    data = [_decode_fields(one) for one in secret.get(2, ())]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": metadata[1][0].decode(),
            "labels": {one[1][0].decode(): one[2][0].decode() for one in labels},
        },
        "type": secret[3][0].decode(),
        "data": {one[1][0].decode(): base64.b64encode(one[2][0]).decode() for one in data},
    }


class FakeCluster:
    """The objects by path, as `/api/v1/namespaces/apidae/secrets/apidae-tokens`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.objects: dict[str, Document] = {}
        self.jobs: list[str] = []  # What the Jobs that ran have printed.
        self.url = ""
        self._version = 0
        self.changed = threading.Condition()

    def secret(self, name: str) -> Document:
        """The data of a Secret; KeyError where there is none."""
        data: Document = self.objects[f"/api/v1/namespaces/apidae/secrets/{name}"]["data"]
        return data

    def names(self, plural: str) -> set[str]:
        """Of the objects of a kind, without those in which Helm keeps releases."""
        found = {path.rpartition("/")[2] for path in self.objects if f"/{plural}/" in path}
        return {name for name in found if not name.startswith("sh.helm.release")}

    def write(self, path: str, item: Document) -> Document:
        with self.changed:
            self._version += 1
            metadata = item["metadata"]
            metadata.setdefault("uid", f"uid-{self._version}")
            metadata["resourceVersion"] = str(self._version)
            plural = path.rpartition("/")[0].rpartition("/")[2]
            item["apiVersion"], item["kind"] = _KINDS[plural]
            self.objects[path] = item
            self.changed.notify_all()
        return item

    def write_kubeconfig(self) -> Path:
        """A file with the cluster's address."""
        kubeconfig = self._directory / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": "job"}}],
        }
        kubeconfig.write_text(json.dumps(config))
        return kubeconfig

    def run_job(self, path: str) -> None:
        """Carries out its command, and completes it."""
        job = self.objects[path]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        command = [*_ENTRYPOINT, *container["args"], "--kubeconfig", str(self.write_kubeconfig())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_JOB_SECONDS, check=False)
        self.jobs.append(done.stdout + done.stderr)
        condition = {"type": "Failed" if done.returncode else "Complete", "status": "True"}
        counts = {"failed": 1} if done.returncode else {"succeeded": 1}
        self.write(path, {**job, "status": {"conditions": [condition], **counts}})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: FakeCluster

    def _path(self) -> str:
        return urlsplit(self.path).path

    def do_GET(self) -> None:
        path, parameters = self._path(), dict(parse_qsl(urlsplit(self.path).query))
        if path in _DISCOVERY:
            self._answer(200, _DISCOVERY[path])
        elif path in self.cluster.objects:
            self._answer(200, self.cluster.objects[path])
        elif path.rpartition("/")[2] in _KINDS:
            self._watch(path, parameters) if parameters.get("watch") else self._list(path, parameters)
        else:
            self._refuse(404, "NotFound")

    def do_POST(self) -> None:
        item = self._read()
        path = f"{self._path()}/{item['metadata']['name']}"
        if path in self.cluster.objects:
            self._refuse(409, "AlreadyExists")
            return
        namespace = self._path().partition("/namespaces/")[2].partition("/")[0]
        if namespace:
            item["metadata"].setdefault("namespace", namespace)
        self._answer(201, self.cluster.write(path, item))
        if item["kind"] == "Job":
            self.cluster.run_job(path)

    def do_PUT(self) -> None:
        self._answer(200, self.cluster.write(self._path(), self._read()))

    def do_PATCH(self) -> None:
        path, body = self._path(), self._read()
        if "apply-patch" in self.headers["Content-Type"]:
            is_new = path not in self.cluster.objects
            self._answer(201 if is_new else 200, self.cluster.write(path, _merge(self.cluster.objects.get(path), body)))
            if is_new and body["kind"] == "Job":
                self.cluster.run_job(path)
        elif path in self.cluster.objects:
            self._answer(200, self.cluster.write(path, _merge(self.cluster.objects[path], body)))
        else:
            self._refuse(404, "NotFound")

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        gone = self.cluster.objects.pop(self._path(), None)
        self._refuse(404, "NotFound") if gone is None else self._answer(200, {"kind": "Status", "status": "Success"})

    def _select(self, path: str, parameters: Mapping[str, str]) -> list[Document]:
        wanted = dict(term.split("=", 1) for term in parameters.get("labelSelector", "").split(",") if "=" in term)
        name = parameters.get("fieldSelector", "").removeprefix("metadata.name=")
        return [
            item
            for place, item in list(self.cluster.objects.items())
            if place.rpartition("/")[0] == path
            and name in ("", item["metadata"]["name"])
            and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]

    def _list(self, path: str, parameters: Mapping[str, str]) -> None:
        version, kind = _KINDS[path.rpartition("/")[2]]
        items = self._select(path, parameters)
        listed = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}
        self._answer(200, listed)

    def _watch(self, path: str, parameters: Mapping[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        told: dict[str, str] = {}
        end = time.monotonic() + _WATCH_SECONDS
        is_marked = parameters.get("sendInitialEvents") != "true"
        try:
            while time.monotonic() < end:
                for item in self._select(path, parameters):
                    name, version = item["metadata"]["name"], item["metadata"]["resourceVersion"]
                    if told.get(name) != version:
                        self._write_event("MODIFIED" if name in told else "ADDED", item)
                        told[name] = version
                if not is_marked:
                    version, kind = _KINDS[path.rpartition("/")[2]]
                    mark = {"resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}
                    self._write_event("BOOKMARK", {"apiVersion": version, "kind": kind, "metadata": mark})
                    is_marked = True
                with self.cluster.changed:
                    self.cluster.changed.wait(0.2)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # Helm has seen what it waited for.

    def _write_event(self, kind: str, item: Document) -> None:
        line = json.dumps({"type": kind, "object": item}).encode()
        self.wfile.write(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
        self.wfile.flush()

    def _read(self) -> Document:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if content.startswith(_PROTOBUF_MAGIC):
            return _decode_secret(content)
        return yaml.safe_load(content) if content else {}  # type: ignore[no-any-return]

    def _refuse(self, code: int, reason: str) -> None:
        self._answer(code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code})

    def _answer(self, status: int, item: Mapping[str, Any]) -> None:
        body = json.dumps(item).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


@contextmanager
def serve(directory: Path) -> Iterator[FakeCluster]:
    """An empty cluster, at its `url`."""
    cluster = FakeCluster(directory)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster})) as server:
        cluster.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield cluster
        finally:
            server.shutdown()
            thread.join()
