"""The objects of an acceptance: workloads of every kind and the Jobs that call them, all of one image and one program.

shop: orders (Deployment of two, ClusterIP and NodePort), cart (StatefulSet), agent (DaemonSet with a host port), web
(host network), rpc (gRPC), edge (a proxy before orders), steady (what restarts are measured with), visitor (calls
Pods that live for seconds), report (CronJob)
"""

import json
from pathlib import Path
from typing import Any, Final

from scripts.accepting.kubernetes_client import Object

PROGRAM: Final = Path(__file__).with_name("pod_program.py")
LABEL: Final = "apidae.io/acceptance"
PORT: Final = 8080
HOST_PORT, HOST_NETWORK_PORT, RPC_PORT, VISITOR_PORT = 18_180, 18_181, 50_051, 9_000
HOST: Final = "shop.example"  # Of calls through the proxy, and of the Ingress.
ORDERS, USERS, ITEMS = "/api/v1/orders/{}", "/api/v1/users/{}", "/api/v1/items/{}"


class Workloads:
    """Objects of one namespace, whose Pods run `image`."""

    def __init__(self, namespace: str, image: str, python: str) -> None:
        self._namespace, self._image, self._python = namespace, image, python

    def make_base(self) -> list[Object]:
        """The namespace and the program."""
        labels = {LABEL: "true", "pod-security.kubernetes.io/enforce": "privileged"}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace, "labels": labels}},
            {
                **self._name("v1", "ConfigMap", "program"),
                "data": {"program.py": PROGRAM.read_text()},
            },
        ]

    def make_servers(self) -> list[Object]:
        """What stays: the servers with their Services."""
        orders, target = self.make_pod("orders", "serve", port=PORT), f"orders.{self._namespace}:{PORT}"
        probes = {
            "readinessProbe": {"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 2},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 3},
        }
        orders["spec"]["containers"][0] |= probes
        agent = self.make_pod("agent", "serve", port=PORT)
        agent["spec"]["containers"][0]["ports"] = [{"containerPort": PORT, "hostPort": HOST_PORT}]
        agent["spec"]["tolerations"] = [{"operator": "Exists"}]
        web = self.make_pod("web", "serve", port=HOST_NETWORK_PORT)
        web["spec"] |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
        return [
            self._make_workload("Deployment", "orders", orders, replicas=2),
            self._make_service("orders", PORT, type="NodePort"),
            self._make_workload("StatefulSet", "cart", self.make_pod("cart", "serve", port=PORT), replicas=2),
            self._make_service("cart", PORT, clusterIP="None"),
            self._make_workload("DaemonSet", "agent", agent),
            self._make_workload("Deployment", "web", web, replicas=1),
            self._make_workload("Deployment", "rpc", self.make_pod("rpc", "serve_rpc", port=RPC_PORT), replicas=1),
            self._make_service("rpc", RPC_PORT),
            self._make_workload("Deployment", "edge", self.make_pod("edge", "proxy", port=PORT, to=target), replicas=1),
            self._make_service("edge", PORT),
            self._make_workload("Deployment", "steady", self.make_pod("steady", "serve", port=PORT), replicas=1),
            self._make_service("steady", PORT),
            self._make_workload(
                "Deployment", "visitor", self.make_pod("visitor", "visit", port=VISITOR_PORT), replicas=1
            ),
            self._make_service("visitor", VISITOR_PORT),
            {
                **self._name("networking.k8s.io/v1", "Ingress", "shop"),
                "spec": {"rules": [{"host": HOST, "http": {"paths": [_make_path("/api", "orders")]}}]},
            },
        ]

    def make_report(self, target: Object) -> Object:
        """The CronJob, whose next run is within a minute."""
        job = {"template": self.make_pod("report", "call", targets=[target]), "backoffLimit": 0}
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": job}, "concurrencyPolicy": "Forbid"}
        return {**self._name("batch/v1", "CronJob", "report"), "spec": spec}

    def make_job(self, name: str, program: str, /, *, host_of: str = "", **arguments: Any) -> Object:
        """A client, which ends. `host_of`: on the network of this node."""
        pod = self.make_pod(name, program, **arguments)
        if host_of:
            pod["spec"] |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", "nodeName": host_of}
        return {**self._name("batch/v1", "Job", name), "spec": {"template": pod, "backoffLimit": 0}}

    def make_deployment(self, name: str, program: str, /, **arguments: Any) -> Object:
        """A client that stays, of one Pod."""
        return self._make_workload("Deployment", name, self.make_pod(name, program, **arguments), replicas=1)

    def make_bare_pod(self, name: str, program: str, /, **arguments: Any) -> Object:
        """A Pod without an owner."""
        pod = self.make_pod(name, program, **arguments)
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"], "name": name}, "spec": pod["spec"]}

    def make_inspector(self, node: str, number: int, program: str, /, **arguments: Any) -> Object:
        """A Pod that looks at the kernel of a node, with the rights for it."""
        pod = self.make_bare_pod(f"inspector-{number}-{program.replace('_', '-')}", program, **arguments)
        pod["spec"] |= {"hostPID": True, "nodeName": node}
        pod["spec"]["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0}
        return pod

    def make_pod(self, name: str, program: str, /, **arguments: Any) -> Object:
        """The template of a Pod."""
        own = {"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container = {
            "name": "app",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": [self._python, "-u", "/program/program.py", program, json.dumps(arguments)],
            "env": [{"name": "POD_ADDRESS", **own}],
            "volumeMounts": [{"name": "program", "mountPath": "/program"}],
            "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}},
        }
        spec = {
            "containers": [container],
            "volumes": [{"name": "program", "configMap": {"name": "program"}}],
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
        }
        return {"metadata": {"namespace": self._namespace, "labels": {"app": name}}, "spec": spec}

    def _make_workload(self, kind: str, name: str, pod: Object, **columns: Any) -> Object:
        pod["spec"]["restartPolicy"] = "Always"
        spec = {"selector": {"matchLabels": {"app": name}}, "template": pod, **columns}
        if kind == "StatefulSet":
            spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
        return {**self._name("apps/v1", kind, name), "spec": spec}

    def _make_service(self, name: str, port: int, **columns: Any) -> Object:
        spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": port}], **columns}
        return {**self._name("v1", "Service", name), "spec": spec}

    def _name(self, version: str, kind: str, name: str) -> Object:
        metadata = {"namespace": self._namespace, "name": name, "labels": {LABEL: "true"}}
        return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _make_path(path: str, service: str) -> Object:
    backend = {"service": {"name": service, "port": {"number": PORT}}}
    return {"path": path, "pathType": "Prefix", "backend": backend}
