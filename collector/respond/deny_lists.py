"""Deny lists that a proxy's own program reads: HAProxy, Traefik, Envoy. Pure.

They hold for everything behind the proxy, so a block of some services only is not in them.
Sources: HAProxy `acl .. src -f`; Traefik 3 file provider, `ClientIP` and `ipAllowList`; Envoy's extension config
discovery from a file (`config_discovery`, envoy.extensions.filters.http.rbac.v3.RBAC).
"""

import hashlib
import ipaddress
import json
from collections.abc import Sequence
from typing import Any, Final

from collector.respond.denied import Denied

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
