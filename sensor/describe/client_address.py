"""Finds the address that a request came from: peer address and forwarding headers in, one textual IP address out.

`RemoteServices` names a server of another node by the only name this node knows: its address.

Anyone can write a forwarding header. It counts only where the peer itself is in the configured trusted networks. Then
its addresses are read from the right, and the first one that is not a trusted hop is the client.

Sources: RFC 7239 (Forwarded), and the conventions of X-Forwarded-For and X-Real-IP as nginx's realip module and Envoy
document them.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from common.bounded import BoundedDict
from sensor.core.calls import Service, WorkloadKind
from sensor.http.http1.head import Malformed, RequestHead, parse_request_head

# Hops looked at, from the right: longer chains are forged or loops.
MAX_HOPS: Final = 32
_CACHE_ENTRIES: Final = 8_192
# Remote ends named; dropped whole when full.
_REMOTES_MAX: Final = 8_192
# forwarded-pair = token "=" value; node = nodename [ ":" node-port ]; RFC 7239 section 4 and 6.
_FOR = re.compile(rb'(?:^|[;,\s])for="?(\[[0-9A-Fa-f:.]+\]|[^";,\s]+)', re.IGNORECASE)

FORWARDING_HEADERS: Final = frozenset((b"forwarded", b"x-forwarded-for", b"x-real-ip"))

Network = IPv4Network | IPv6Network


def read_networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """Parses CIDRs; raises ValueError that names the bad one."""
    networks = []
    for cidr in cidrs:
        try:
            networks.append(ip_network(cidr, strict=False))
        except ValueError:
            raise ValueError(f"trusted network {cidr!r} is no CIDR; write one like 10.0.0.0/8") from None
    return tuple(networks)


def _normalize(text: bytes) -> str:
    """Textual IP of one hop, its port dropped, mapped IPv4 as IPv4; empty for `unknown` and obfuscated names."""
    raw = text.strip().strip(b'"').decode("latin-1")
    if raw.startswith("["):
        raw = raw[1:].partition("]")[0]
    elif raw.count(":") == 1:
        raw = raw.partition(":")[0]
    try:
        address = ip_address(raw)
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


class ClientAddresses:
    """Finds the client of a request, given which networks hold trusted proxies."""

    def __init__(self, trusted_networks: Iterable[str]) -> None:
        self._networks = read_networks(trusted_networks)
        self._trusted: BoundedDict[str, bool] = BoundedDict(_CACHE_ENTRIES)

    def find(self, head: RequestHead, peer: str) -> str:
        """Address of the client; `peer` itself unless it is a trusted hop that names another. Free without trusted
        networks."""
        if not self._networks or not self.is_trusted(peer):
            return peer
        return self.find_by_hops(self.read_hops(head), peer)

    def read_hops(self, head: RequestHead) -> tuple[bytes, ...]:
        """What the head's forwarding headers say, for `find_by_hops`; empty without trusted networks."""
        return tuple(_read_hops(head)[-MAX_HOPS:]) if self._networks else ()

    def parse_hops(self, request_head: bytes) -> tuple[bytes, ...]:
        """The same of a head in bytes."""
        if not self._networks:
            return ()
        head = parse_request_head(request_head, False)
        return () if isinstance(head, Malformed) else self.read_hops(head)

    def find_by_hops(self, hops: Sequence[bytes], peer: str) -> str:
        """The same as `find`, of a head read earlier."""
        if not hops or not self.is_trusted(peer):
            return peer
        client = peer
        for hop in reversed(hops):
            address = _normalize(hop)
            if not address:
                return client
            client = address
            if not self.is_trusted(address):
                return client
        return client

    def is_trusted(self, address: str) -> bool:
        """Whether it is a trusted proxy's."""
        known = self._trusted.get(address)
        if known is None:
            try:
                parsed = ip_address(address)
            except ValueError:
                return False
            known = any(parsed in network for network in self._networks if network.version == parsed.version)
            self._trusted[address] = known
        return known


def _read_hops(head: RequestHead) -> list[bytes]:
    """Addresses in the order proxies appended them: Forwarded, else X-Forwarded-For, else X-Real-IP. Repeated headers
    are one list."""
    forwarded: list[bytes] = []
    x_forwarded: list[bytes] = []
    real: list[bytes] = []
    for header in head.headers:
        name, value = header.name, header.value
        if name == b"x-forwarded-for":
            x_forwarded += value.split(b",")
        elif name == b"forwarded":
            forwarded += _FOR.findall(value)
        elif name == b"x-real-ip":
            real = [value]
    return forwarded or [hop for hop in x_forwarded if hop.strip()] or real


class RemoteServices:
    """Services at remote ends, each one object."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._services: dict[tuple[str, int], Service] = {}

    def name(self, address: str, port: int) -> Service:
        """The service at an address and port. One look-up where it was called before."""
        service = self._services.get((address, port))
        if service is None:
            if len(self._services) >= _REMOTES_MAX:
                self._services.clear()
            service = self._services[address, port] = Service(
                cluster=self._cluster,
                namespace="",
                workload=address,
                workload_kind=WorkloadKind.UNSPECIFIED,
                host_name="",
                port=port,
            )
        return service
