"""IP networks of settings and blocks, and which of them may be blocked at all."""

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Final, Protocol

from pydantic import AfterValidator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # Where IPv6 writes IPv4.


def unmap(network: Network) -> Network:
    """IPv4 that is written as IPv6 (RFC 4291, 2.5.5.2) as IPv4, as addresses are."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        first = int(network.network_address) - int(MAPPED.network_address)
        return ipaddress.IPv4Network((first, network.prefixlen - MAPPED.prefixlen))
    return network


Networks = Annotated[tuple[Network, ...], AfterValidator(lambda networks: tuple(map(unmap, networks)))]


class NetworkLimits(Protocol):
    """Settings of the sensor or the collector."""

    @property
    def never_block_cidrs(self) -> tuple[Network, ...]: ...
    @property
    def min_ipv4_prefix_bits(self) -> int: ...
    @property
    def min_ipv6_prefix_bits(self) -> int: ...


def explain_limit(network: Network, limits: NetworkLimits, *, whose: str) -> str:
    """Why a network may not be blocked, without a full stop; empty where it may. `whose`: "this sensor's"."""
    least = limits.min_ipv4_prefix_bits if network.version == 4 else limits.min_ipv6_prefix_bits
    if network.prefixlen < least:
        return f"{network} is wider than /{least}, {whose} limit"
    if isinstance(network, ipaddress.IPv6Network) and network.overlaps(MAPPED):
        return f"{network} holds all of IPv4, which is wider than {whose} limit"
    return f"{network} is never blocked, by {whose} settings" if is_within(network, limits.never_block_cidrs) else ""


def find_within(network: Network, others: Iterable[Network]) -> Network | None:
    """The first of the others that a network holds."""
    return next((other for other in others if is_within(other, (network,))), None)


def is_within(network: Network, others: Iterable[Network]) -> bool:
    """Whether one of the others holds all of a network."""
    return any(
        network.version == other.version and network.prefixlen >= other.prefixlen and network.network_address in other
        for other in others
    )
