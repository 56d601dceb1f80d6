"""Kubernetes objects as an API server gives them, with what no reader of ours needs left out."""

from typing import Any

Manifest = dict[str, Any]


def make_namespace(name: str, **labels: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def make_pod(
    name: str,
    *,
    namespace: str = "shop",
    owner: tuple[str, str] | None = ("ReplicaSet", "orders-5d4f8b9c7d"),
    labels: dict[str, str] | None = None,
    node: str = "node-1",
    addresses: tuple[str, ...] = ("10.1.0.5",),
    node_addresses: tuple[str, ...] = ("10.0.0.1",),
    is_host_network: bool = False,
    phase: str = "Running",
    ports: tuple[dict[str, Any], ...] = ({"name": "http", "containerPort": 8080},),
    started: str = "2026-11-25T10:00:00Z",
    uid: str = "",
) -> Manifest:
    """A Pod of the Deployment `orders`, unless told otherwise."""
    owners = [{"apiVersion": "v1", "kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "creationTimestamp": started,
            "uid": uid or f"uid-of-{name}",
            "labels": {"app": "orders", "pod-template-hash": "5d4f8b9c7d"} if labels is None else labels,
            "ownerReferences": owners,
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": is_host_network,
            "containers": [{"name": "app", "image": "example/app", "ports": list(ports)}],
        },
        "status": {
            "phase": phase,
            "startTime": started,
            "podIP": addresses[0] if addresses else "",
            "podIPs": [{"ip": address} for address in addresses],
            "hostIP": node_addresses[0],
            "hostIPs": [{"ip": address} for address in node_addresses],
        },
    }


def make_service(
    name: str = "orders",
    *,
    namespace: str = "shop",
    type: str = "ClusterIP",
    address: str = "10.96.0.10",
    port: int = 80,
    target_port: str = "http",
    node_port: int | None = None,
    annotations: dict[str, str] | None = None,
    balanced: tuple[str, ...] = (),
    external: tuple[str, ...] = (),
) -> Manifest:
    """A Service with one port, named `http`."""
    served: dict[str, Any] = {"name": "http", "port": port, "targetPort": target_port, "protocol": "TCP"}
    if node_port:
        served["nodePort"] = node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "annotations": annotations or {},
            "creationTimestamp": "2026-11-25T09:00:00Z",
        },
        "spec": {
            "type": type,
            "clusterIP": address,
            "clusterIPs": [address],
            "externalIPs": list(external),
            "selector": {"app": name},
            "ports": [served],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": one} for one in balanced]}},
    }


def make_slice(
    service: str, pods: dict[str, str], *, namespace: str = "shop", port: int = 8080, port_name: str = "http"
) -> Manifest:
    """The EndpointSlice of a Service: addresses by Pod."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": f"{service}-x7x9z",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace}}
            for pod, address in pods.items()
        ]
        or None,
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }


def make_ingress(
    name: str, *paths: dict[str, Any], host: str = "shop.example", namespace: str = "shop", **metadata: Any
) -> Manifest:
    """An Ingress with one rule."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"namespace": namespace, "name": name, **metadata},
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": [host], "secretName": "certificate"}],
            "rules": [{"host": host, "http": {"paths": list(paths)}}],
        },
    }


def make_path(path: str, service: str = "orders", path_type: str = "Prefix", port: int | str = 80) -> dict[str, Any]:
    """A path of an Ingress."""
    by = {"number": port} if isinstance(port, int) else {"name": port}
    return {"path": path, "pathType": path_type, "backend": {"service": {"name": service, "port": by}}}


def make_policy(name: str, *, ingress: list[Any] | None, labels: dict[str, str], namespace: str = "shop") -> Manifest:
    """A NetworkPolicy about what comes in."""
    spec: dict[str, Any] = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"]}
    if ingress is not None:
        spec["ingress"] = ingress
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    }


def make_gateway(name: str = "edge", *listeners: dict[str, Any], namespace: str = "infra") -> Manifest:
    """A Gateway with an address."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"gatewayClassName": "example", "listeners": list(listeners)},
        "status": {"addresses": [{"type": "IPAddress", "value": "203.0.113.7"}]},
    }


def make_route(
    name: str, rules: list[dict[str, Any]], *, hosts: tuple[str, ...] = (), namespace: str = "shop", **parent: Any
) -> Manifest:
    """An HTTPRoute of the Gateway infra/edge."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "parentRefs": [{"name": "edge", "namespace": "infra", **parent}],
            "hostnames": list(hosts),
            "rules": rules,
        },
    }
