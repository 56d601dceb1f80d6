"""Live address blocks as files for what stands in front: deny lists of proxies and policies of Kubernetes. Pure.

Only addresses: nobody but the sensors can know a credential by its hash. What only some services are to be protected
from is left out of the lists that hold for all (HAProxy, Traefik); of the policies each service gets its own.
Sources: HAProxy 2.x `acl .. src -f`; Traefik 3 `ClientIP` and `ipAllowList`; Envoy Gateway SecurityPolicy
(gateway.envoyproxy.io/v1alpha1, authorization); cilium.io/v2 `ingressDeny`; networking.k8s.io/v1.
"""

import ipaddress
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from collector.ingest.blocks import BlockKind, BlockOrder

_LABEL: Final = "app.kubernetes.io/name"
_MANAGED: Final = {"app.kubernetes.io/managed-by": "apidae"}
# Before all other routers, and lets in an address that nobody has.
_TRAEFIK_PRIORITY: Final = 1_000_000
_NOBODY: Final = "255.255.255.255/32"


class ExportFormat(StrEnum):
    """For whom."""

    HAPROXY = "haproxy"
    TRAEFIK = "traefik"
    ENVOY_GATEWAY = "envoy-gateway"
    CILIUM = "cilium"
    NETWORK_POLICY = "networkpolicy"


def export_blocks(orders: Sequence[BlockOrder], kind: ExportFormat) -> str:
    """The file's text; without blocks one that denies nobody."""
    addresses = [order for order in orders if order.kind is BlockKind.ADDRESS]
    return _WRITERS[kind](addresses)


def list_networks(orders: Sequence[BlockOrder]) -> list[str]:
    """Networks that are blocked at every service, as CIDR."""
    return _everywhere([order for order in orders if order.kind is BlockKind.ADDRESS])


def _cidr(order: BlockOrder) -> str:
    return str(ipaddress.ip_network(order.value))


def _everywhere(orders: Sequence[BlockOrder]) -> list[str]:
    return sorted({_cidr(order) for order in orders if not order.scopes})


def _by_workload(orders: Sequence[BlockOrder]) -> dict[tuple[str, str], list[str]]:
    """Networks by (namespace, workload) of the scopes that name both."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for order in orders:
        for scope in order.scopes:
            if scope.namespace and scope.workload:
                found[scope.namespace, scope.workload].add(_cidr(order))
    return {place: sorted(networks) for place, networks in sorted(found.items())}


def _write_haproxy(orders: Sequence[BlockOrder]) -> str:
    lines = ["# Apidae: acl apidae_blocked src -f FILE    then: tcp-request connection reject if apidae_blocked"]
    return "\n".join([*lines, *_everywhere(orders)]) + "\n"


def _write_traefik(orders: Sequence[BlockOrder]) -> str:
    networks = _everywhere(orders)
    if not networks:
        return _documents([{"http": {}}])
    rule = " || ".join(f"ClientIP(`{network}`)" for network in networks)
    router = {
        "rule": rule,
        "priority": _TRAEFIK_PRIORITY,
        "middlewares": ["apidae-nobody"],
        "service": "noop@internal",
    }
    middleware = {"ipAllowList": {"sourceRange": [_NOBODY]}}
    return _documents([{"http": {"routers": {"apidae-blocked": router}, "middlewares": {"apidae-nobody": middleware}}}])


def _write_envoy(orders: Sequence[BlockOrder]) -> str:
    """One SecurityPolicy for each workload that is named, aimed at the HTTPRoute of its name; and one for the
    Gateway `apidae`, which is to be renamed, of what is blocked everywhere."""
    documents = [
        _deny_clients(namespace, f"apidae-{workload}", "HTTPRoute", workload, networks)
        for (namespace, workload), networks in _by_workload(orders).items()
    ]
    if networks := _everywhere(orders):
        documents.append(_deny_clients("", "apidae-blocked", "Gateway", "apidae", networks))
    return _documents(documents)


def _deny_clients(namespace: str, name: str, kind: str, target: str, networks: list[str]) -> dict[str, Any]:
    rule = {"name": "apidae-blocked", "action": "Deny", "principal": {"clientCIDRs": networks}}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": _metadata(namespace, name),
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": kind, "name": target}],
            "authorization": {"defaultAction": "Allow", "rules": [rule]},
        },
    }


def _write_cilium(orders: Sequence[BlockOrder]) -> str:
    def deny(selector: dict[str, Any], networks: list[str]) -> dict[str, Any]:
        # Denies nobody but these: without enableDefaultDeny a policy would isolate its Pods.
        return {
            "endpointSelector": selector,
            "enableDefaultDeny": {"ingress": False},
            "ingressDeny": [{"fromCIDR": networks}],
        }

    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": _metadata(namespace, f"apidae-{workload}"),
            "spec": deny({"matchLabels": {_LABEL: workload}}, networks),
        }
        for (namespace, workload), networks in _by_workload(orders).items()
    ]
    if networks := _everywhere(orders):
        documents.append(
            {
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumClusterwideNetworkPolicy",
                "metadata": _metadata("", "apidae-blocked"),
                "spec": deny({}, networks),
            }
        )
    return _documents(documents)


def _write_network_policy(orders: Sequence[BlockOrder]) -> str:
    """Policies only allow: each lets in all but the blocked, and so must stand alone on its Pods."""
    documents = []
    for (namespace, workload), networks in _by_workload(orders).items():
        parts = [(version, [n for n in networks if ipaddress.ip_network(n).version == version]) for version in (4, 6)]
        blocks = [
            {"ipBlock": {"cidr": "0.0.0.0/0" if version == 4 else "::/0", **({"except": held} if held else {})}}
            for version, held in parts
        ]
        documents.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": _metadata(namespace, f"apidae-{workload}"),
                "spec": {
                    "podSelector": {"matchLabels": {_LABEL: workload}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": blocks}],
                },
            }
        )
    warning = "# Only where no other NetworkPolicy selects these Pods: what one allows, another cannot forbid.\n"
    return warning + _documents(documents)


def _metadata(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), "labels": _MANAGED}


def _documents(documents: Sequence[dict[str, Any]]) -> str:
    """YAML, written as JSON, which it holds."""
    return "".join(f"---\n{json.dumps(document, indent=2)}\n" for document in documents)


_WRITERS: Final[dict[ExportFormat, Callable[[Sequence[BlockOrder]], str]]] = {
    ExportFormat.HAPROXY: _write_haproxy,
    ExportFormat.TRAEFIK: _write_traefik,
    ExportFormat.ENVOY_GATEWAY: _write_envoy,
    ExportFormat.CILIUM: _write_cilium,
    ExportFormat.NETWORK_POLICY: _write_network_policy,
}
