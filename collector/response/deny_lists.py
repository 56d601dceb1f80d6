"""Writes live address blocks as deny lists for proxies and policies for Kubernetes, and updates HAProxy by its socket.

Lists for HAProxy, Traefik and Envoy hold for everything behind the proxy. So blocks of some services only are not in
them. Policies are for Envoy Gateway, Cilium and NetworkPolicy. These functions are pure.

`HaproxyList` keeps a list of HAProxy equal to the live blocks by its runtime API (EDGE: a socket). HAProxy needs `acl
apidae_blocked src -f NAME` and a socket of level admin (`stats socket .. level admin`). All entries of that list belong
to Apidae: an entry that no block names is removed. One connection carries one line of commands.

Sources: HAProxy `acl .. src -f` and Management Guide, section 9.3 (`show acl`, `add acl`, `del acl`). Traefik 3 file
provider, `ClientIP` and `ipAllowList`. Envoy's extension config discovery from a file (`config_discovery`,
envoy.extensions.filters.http.rbac.v3.RBAC). Envoy Gateway SecurityPolicy (gateway.envoyproxy.io/v1alpha1,
authorization; precedence of policies). cilium.io/v2 `ingressDeny`. networking.k8s.io/v1.
"""

import hashlib
import ipaddress
import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.receiver.policy import BlockOrder
from collector.response.block import Denied, collect_denied

# Before all other routers.
_TRAEFIK_PRIORITY: Final = 1_000_000
# Lets in an address that nobody has.
_NOBODY: Final = "255.255.255.255/32"
_ENVOY_TYPES: Final = "type.googleapis.com/envoy"


def write_haproxy(denied: Denied) -> str:
    """One network a line."""
    lines = ["# Apidae: acl apidae_blocked src -f FILE    then: tcp-request connection reject if apidae_blocked"]
    return "\n".join([*lines, *denied.everywhere]) + "\n"


def write_traefik(denied: Denied, entry_points: Sequence[str]) -> str:
    """Two routers before all others, for a router answers either clear HTTP or TLS. They name their entry points
    (none: all that are default): on one that speaks first, as of SMTP, a router of TLS would have everybody wait. The
    middleware is always there, for a file whose `http` is empty is an error, and then what was there goes on."""
    router = {
        "rule": " || ".join(f"ClientIP(`{network}`)" for network in denied.everywhere),
        "priority": _TRAEFIK_PRIORITY,
        "middlewares": ["apidae-nobody"],
        "service": "noop@internal",
        **({"entryPoints": list(entry_points)} if entry_points else {}),
    }
    routers = {"apidae-blocked": router, "apidae-blocked-tls": {**router, "tls": {}}}
    http: dict[str, Any] = {"middlewares": {"apidae-nobody": {"ipAllowList": {"sourceRange": [_NOBODY]}}}}
    if denied.everywhere:
        http["routers"] = routers
    return write_documents([{"http": http}])


def write_envoy(denied: Denied) -> str:
    """The filter `apidae.blocked`, which refuses by the client's address as Envoy has it (`use_remote_address`,
    `xff_num_trusted_hops`). The version changes with the list: Envoy takes up nothing it has."""
    principals = [_name_network(network) for network in denied.everywhere]
    policy = {"permissions": [{"any": True}], "principals": principals}
    rules = {"action": "DENY", "policies": {"apidae-blocked": policy} if principals else {}}
    resource = {
        "@type": f"{_ENVOY_TYPES}.config.core.v3.TypedExtensionConfig",
        "name": "apidae.blocked",
        "typed_config": {"@type": f"{_ENVOY_TYPES}.extensions.filters.http.rbac.v3.RBAC", "rules": rules},
    }
    version = hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:16]
    return write_documents([{"version_info": version, "resources": [resource]}])


def _name_network(text: str) -> dict[str, Any]:
    network = ipaddress.ip_network(text)
    return {"remote_ip": {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}}


def write_documents(documents: Sequence[dict[str, Any]]) -> str:
    """YAML, written as JSON, which it holds."""
    return "".join(f"---\n{json.dumps(document, indent=2)}\n" for document in documents)


TIMEOUT_SECONDS: Final = 5.0
ANSWER_BYTES_MAX: Final = 8 << 20
COMMANDS_MAX: Final = 100  # Of one line; HAProxy reads 16 KB of it.


class HaproxyError(Exception):
    """HAProxy did not do it; one sentence."""


def parse_socket(text: str) -> str | tuple[str, int]:
    """`/run/haproxy/admin.sock` or HOST:PORT as an address to connect to. Raises ValueError."""
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ValueError(f"{text!r} is neither the path of a socket nor HOST:PORT; take HAProxy's `stats socket`")
    return host.strip("[]"), int(port)


class HaproxyList:
    """One list of HAProxy."""

    def __init__(self, address: str, name: str, cluster: str = "") -> None:
        """`cluster`: in which it stands. Raises ValueError."""
        self.name = f"HAProxy at {address}"
        self._address = parse_socket(address)
        self._list, self._cluster = name, cluster

    def write(self, orders: Sequence[BlockOrder]) -> None:
        """Have it hold the networks that are blocked everywhere, and no others. Raises HaproxyError."""
        held, wanted = set(self._read()), set(collect_denied(orders, self._cluster).everywhere)
        commands = [f"del acl {self._list} {pattern}" for pattern in sorted(held - wanted)]
        commands += [f"add acl {self._list} {pattern}" for pattern in sorted(wanted - held)]
        for first in range(0, len(commands), COMMANDS_MAX):
            answer = self._ask(commands[first : first + COMMANDS_MAX])
            if answer.strip():
                raise HaproxyError(f"{self.name} refused a change of {self._list}: {answer.strip()[:200]}")

    def _read(self) -> list[str]:
        """What it holds: lines of a reference and a pattern."""
        answer = self._ask([f"show acl {self._list}"])
        found = []
        for line in answer.splitlines():
            if not line.strip():
                continue
            reference, _, pattern = line.strip().partition(" ")
            if not reference.startswith("0x") or not _is_network(pattern):
                raise HaproxyError(f"{self.name} has no list {self._list}: {line.strip()[:200]}")
            found.append(pattern)
        return found

    def _ask(self, commands: Iterable[str]) -> str:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        if not isinstance(self._address, str) and ":" in self._address[0]:
            family = socket.AF_INET6
        try:
            with socket.socket(family) as channel:
                channel.settimeout(TIMEOUT_SECONDS)
                channel.connect(self._address)
                channel.sendall(";".join(commands).encode() + b"\n")
                answer = b""
                while len(answer) < ANSWER_BYTES_MAX and (some := channel.recv(1 << 16)):
                    answer += some
        except OSError as error:
            raise HaproxyError(f"{self.name} did not answer: {error}; is it a `stats socket` of level admin?") from None
        return answer.decode("utf-8", "replace")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


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


class ExportFormat(StrEnum):
    """For whom."""

    HAPROXY = "haproxy"
    TRAEFIK = "traefik"
    ENVOY = "envoy"
    ENVOY_GATEWAY = "envoy-gateway"
    CILIUM = "cilium"
    NETWORK_POLICY = "networkpolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What the collector's settings say of what stands in front."""

    cluster: str = ""  # In which it stands; empty: in none.
    traefik_entry_points: tuple[str, ...] = ()  # None: all that are default.


_WRITERS: Final = {
    ExportFormat.HAPROXY: write_haproxy,
    ExportFormat.ENVOY: write_envoy,
    ExportFormat.ENVOY_GATEWAY: write_envoy_gateway,
    ExportFormat.CILIUM: write_cilium,
    ExportFormat.NETWORK_POLICY: write_network_policy,
}


def export_blocks(orders: Sequence[BlockOrder], kind: ExportFormat, settings: ExportSettings) -> str:
    """The file's text; without blocks one that denies nobody."""
    denied = collect_denied(orders, settings.cluster)
    return (
        write_traefik(denied, settings.traefik_entry_points) if kind is ExportFormat.TRAEFIK else _WRITERS[kind](denied)
    )
