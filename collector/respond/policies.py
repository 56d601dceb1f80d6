"""Policies of Kubernetes that refuse the blocked: Envoy Gateway, Cilium, NetworkPolicy. Pure.

Sources: Envoy Gateway SecurityPolicy (gateway.envoyproxy.io/v1alpha1, authorization; precedence of policies);
cilium.io/v2 `ingressDeny`; networking.k8s.io/v1.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from collector.respond.denied import Denied
from collector.respond.deny_lists import write_documents

_LABEL: Final = "app.kubernetes.io/name"
_MANAGED: Final = {"app.kubernetes.io/managed-by": "apidae"}
_ALONE: Final = (
    "# A SecurityPolicy of a route takes the place of its Gateway's, and of two for one target the older holds. Only "
    "where there is no other:\n# elsewhere put the rule apidae-blocked before the rules that are there.\n"
)
_ONLY: Final = "# Only where no other NetworkPolicy selects these Pods: what one allows, another cannot forbid.\n"


def write_envoy_gateway(denied: Denied) -> str:
    """One SecurityPolicy for each workload that is named, aimed at the HTTPRoute of its name; and one for the
    Gateway `apidae`, which is to be renamed. A route's replaces the Gateway's, so it holds that one's networks too."""
    documents = [
        _deny_clients(namespace, f"apidae-{workload}", "HTTPRoute", workload, sorted({*networks, *denied.everywhere}))
        for (namespace, workload), networks in denied.by_workload.items()
    ]
    if denied.everywhere:
        documents.append(_deny_clients("", "apidae-blocked", "Gateway", "apidae", denied.everywhere))
    return _ALONE + write_documents(documents)


def _deny_clients(namespace: str, name: str, kind: str, target: str, networks: Sequence[str]) -> dict[str, Any]:
    rule = {"name": "apidae-blocked", "action": "Deny", "principal": {"clientCIDRs": list(networks)}}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": _metadata(namespace, name),
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": kind, "name": target}],
            "authorization": {"defaultAction": "Allow", "rules": [rule]},
        },
    }


def write_cilium(denied: Denied) -> str:
    """Denies nobody but these: without enableDefaultDeny a policy would isolate its Pods."""
    documents = [
        _deny_ingress("CiliumNetworkPolicy", _metadata(namespace, f"apidae-{workload}"), _select(workload), networks)
        for (namespace, workload), networks in denied.by_workload.items()
    ]
    if denied.everywhere:
        metadata = _metadata("", "apidae-blocked")
        documents.append(_deny_ingress("CiliumClusterwideNetworkPolicy", metadata, {}, denied.everywhere))
    return write_documents(documents)


def _deny_ingress(
    kind: str, metadata: dict[str, Any], selector: dict[str, Any], networks: Sequence[str]
) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": metadata,
        "spec": {
            "endpointSelector": selector,
            "enableDefaultDeny": {"ingress": False},
            "ingressDeny": [{"fromCIDR": list(networks)}],
        },
    }


def write_network_policy(denied: Denied) -> str:
    """Policies only allow: each lets in all but the blocked, and so must stand alone on its Pods."""
    documents = [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _metadata(namespace, f"apidae-{workload}"),
            "spec": {
                "podSelector": _select(workload),
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [_allow_but(networks, version=4), _allow_but(networks, version=6)]}],
            },
        }
        for (namespace, workload), networks in denied.by_workload.items()
    ]
    return _ONLY + write_documents(documents)


def _allow_but(networks: Sequence[str], *, version: int) -> dict[str, Any]:
    held = [network for network in networks if ipaddress.ip_network(network).version == version]
    return {"ipBlock": {"cidr": "0.0.0.0/0" if version == 4 else "::/0", **({"except": held} if held else {})}}


def _select(workload: str) -> dict[str, Any]:
    return {"matchLabels": {_LABEL: workload}}


def _metadata(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, **({"namespace": namespace} if namespace else {}), "labels": _MANAGED}
