"""SQL conditions on client addresses: networks of partners, whose callers are neither strangers nor internal, and the
internet.

The addresses are those of calls. `isIPAddressInRange` accepts neither an empty text nor one that is not an address.
IANA's special-purpose registries (RFC 6890) define which addresses are not public.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from typing import Final


class PartnerNetworks:
    """Some networks; made once."""

    __slots__ = ("condition", "networks")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError on a text that is no network."""
        self.networks = tuple(str(ip_network(text)) for text in networks)
        # Of our own making: digits, letters, dots, colons and a slash.
        is_address = "(isIPv4String(toString(r.client_address)) OR isIPv6String(toString(r.client_address)))"
        # An engine may evaluate the range before the other condition, so it never gets what is no address.
        address = f"if({is_address}, toString(r.client_address), '::')"
        tests = " OR ".join(f"isIPAddressInRange({address}, '{one}')" for one in self.networks)
        self.condition = f"({is_address} AND ({tests}))" if tests else "false"


NO_PARTNERS = PartnerNetworks()


_SPECIAL: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)


_STARTS: Final = [int(network.network_address) for network in _SPECIAL]
_BOUNDS: Final = sorted({0, *_STARTS, *(int(network.broadcast_address) + 1 for network in _SPECIAL)} - {2**32})


def is_public(column: str) -> str:
    """The condition that an address in textual form is one of the internet. Of IPv6, global unicast is 2000::/3, of
    which 2001:db8::/32 is for documentation. One look among the bounds, for an engine that resolves a comparison with
    each network takes 5 ms for a statement."""
    number = f"IPv4StringToNumOrDefault(toString({column}))"
    is_v4 = f"isIPv4String(toString({column})) AND roundDown({number}, {_BOUNDS}) NOT IN {tuple(_STARTS)}"
    is_v6 = f"isIPv6String(toString({column})) AND match({column}, '^[23][0-9a-f]{{3}}:')"
    return f"(({is_v4}) OR ({is_v6} AND NOT startsWith({column}, '2001:db8:')))"
