"""As much of an API server as Helm asks for when it looks Secrets up: which kinds there are, and single Secrets."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.deploy.chart import Document

# Group and version, kind, name in paths, whether it is in a namespace.
RESOURCES = (
    ("v1", "ConfigMap", "configmaps", True),
    ("v1", "Secret", "secrets", True),
    ("v1", "Service", "services", True),
    ("v1", "ServiceAccount", "serviceaccounts", True),
    ("apps/v1", "DaemonSet", "daemonsets", True),
    ("apps/v1", "StatefulSet", "statefulsets", True),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", True),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", True),
)
GROUPS = sorted({version for version, *_ in RESOURCES if "/" in version})


def _list_kinds(version: str) -> Document:
    return {
        "kind": "APIResourceList",
        "groupVersion": version,
        "resources": [
            {"name": name, "namespaced": is_namespaced, "kind": kind, "verbs": ["get"]}
            for group, kind, name, is_namespaced in RESOURCES
            if group == version
        ],
    }


def _list_groups() -> Document:
    versions = [{"groupVersion": group, "version": group.partition("/")[2]} for group in GROUPS]
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {"name": version["groupVersion"].partition("/")[0], "versions": [version], "preferredVersion": version}
            for version in versions
        ],
    }


class _Handler(BaseHTTPRequestHandler):
    secrets: Mapping[str, Document]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers: dict[str, Any] = {
            "/version": {"major": "1", "minor": "35", "gitVersion": "v1.35.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": _list_kinds("v1"),
            "/apis": _list_groups(),
            **{f"/apis/{group}": _list_kinds(group) for group in GROUPS},
            **{f"/api/v1/namespaces/apidae/secrets/{name}": secret for name, secret in self.secrets.items()},
        }
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(answers.get(path, missing)).encode()
        self.send_response(200 if path in answers else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def serve(secrets: Mapping[str, Document]) -> Iterator[str]:
    """The address of a server that has these Secrets, by name."""
    handler = type("Handler", (_Handler,), {"secrets": secrets})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
