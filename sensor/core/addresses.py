"""Network addresses as text and as the bytes of a packet."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=65_536)
def name_address(family: int, packed: bytes) -> str:
    """Textual address of 16 bytes as the kernel gives them, IPv4 in the first four; mapped IPv4 as IPv4."""
    if family == 4:
        return ".".join(map(str, packed[:4]))
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def pack_address(address: str) -> bytes:
    """Bytes as in a packet: 4 of IPv4, else 16."""
    return ipaddress.ip_address(address).packed


_SUBNET_BITS = 64  # Of IPv6: what one customer or one host has at least (RFC 6177).


@lru_cache(maxsize=65_536)
def find_network(address: str) -> str:
    """The network that stands for one client: an IPv4 address itself, of IPv6 its /64. Other texts stay as they are."""
    if ":" not in address:
        return address
    try:
        network = ipaddress.IPv6Network((address.partition("%")[0], _SUBNET_BITS), strict=False)
    except ValueError:
        return address
    return str(network)
