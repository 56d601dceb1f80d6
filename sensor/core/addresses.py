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
