"""Link layers: a captured packet in, its IP packet out, or the fixed word for why there is none.

Link types are those of the registry at tcpdump.org/linktypes.html; VLANs, MPLS, PPPoE and LLC/SNAP are looked through.
Never raises on bytes.
"""

from collections.abc import Callable
from typing import Final

# What leads to IP is at most so deep: QinQ over MPLS over PPPoE is 5.
MAX_HEADERS: Final = 12

_IPV4, _IPV6, _BRIDGED, _ARP = 0x0800, 0x86DD, 0x6558, 0x0806
_VLANS: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))
_MPLS: Final = frozenset((0x8847, 0x8848))
_PPPOE_SESSION: Final = 0x8864
_PPP_PROTOCOLS: Final = {0x21: _IPV4, 0x57: _IPV6}
_SNAP: Final = b"\xaa\xaa\x03"

Found = bytes | str


def find_ip(link_type: int, data: bytes) -> Found:
    """The IP packet (it may be followed by padding), or why there is none."""
    read = _LINKS.get(link_type)
    if read is None:
        return f"link_type_{link_type}"
    return read(data)


def find_ip_after(ether_type: int, data: bytes) -> Found:
    """Below an EtherType."""
    for _ in range(MAX_HEADERS):
        if ether_type in (_IPV4, _IPV6):
            return data
        if ether_type in _VLANS:
            ether_type, data = int.from_bytes(data[2:4], "big"), data[4:]
        elif ether_type in _MPLS:
            return _skip_mpls(data)
        elif ether_type == _PPPOE_SESSION:
            return _read_ppp(data[6:])
        elif ether_type == _BRIDGED:
            ether_type, data = int.from_bytes(data[12:14], "big"), data[14:]
        elif ether_type <= 1500:  # IEEE 802.3: a length; LLC follows.
            if data[:3] != _SNAP:
                return "not_ip"
            ether_type, data = int.from_bytes(data[6:8], "big"), data[8:]
            if ether_type <= 1500:
                return "not_ip"
        else:
            return "not_ip"
    return "not_ip"


def _by_version(data: bytes) -> Found:
    return data if data[:1] and data[0] >> 4 in (4, 6) else "not_ip"


def _read_ethernet(data: bytes) -> Found:
    return find_ip_after(int.from_bytes(data[12:14], "big"), data[14:]) if len(data) >= 14 else "cut"


def _read_null(data: bytes) -> Found:
    """Four bytes of address family in the byte order of some machine: the version nibble says it better."""
    return _by_version(data[4:])


def _read_sll(data: bytes) -> Found:
    return find_ip_after(int.from_bytes(data[14:16], "big"), data[16:]) if len(data) >= 16 else "cut"


def _read_sll2(data: bytes) -> Found:
    return find_ip_after(int.from_bytes(data[0:2], "big"), data[20:]) if len(data) >= 20 else "cut"


def _read_ppp(data: bytes) -> Found:
    if data[:2] == b"\xff\x03":  # Address and control of HDLC-like framing, RFC 1662.
        data = data[2:]
    size = 1 if data[:1] and data[0] & 1 else 2  # Compressed protocol field.
    ether_type = _PPP_PROTOCOLS.get(int.from_bytes(data[:size], "big"))
    return data[size:] if ether_type else "not_ip"


def _read_hdlc(data: bytes) -> Found:
    return find_ip_after(int.from_bytes(data[2:4], "big"), data[4:])


def _skip_mpls(data: bytes) -> Found:
    for _ in range(MAX_HEADERS):
        if len(data) < 4:
            return "cut"
        is_bottom = data[2] & 1
        data = data[4:]
        if is_bottom:
            return _by_version(data)
    return "not_ip"


_LINKS: Final[dict[int, Callable[[bytes], Found]]] = {
    0: _read_null,
    1: _read_ethernet,
    9: _read_ppp,
    12: _by_version,  # DLT_RAW as some systems wrote it into files.
    14: _by_version,
    50: _read_ppp,
    51: lambda data: _read_ppp(data[6:]),
    101: _by_version,
    104: _read_hdlc,
    108: _read_null,
    113: _read_sll,
    228: _by_version,
    229: _by_version,
    276: _read_sll2,
}
