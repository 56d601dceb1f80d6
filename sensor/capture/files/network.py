"""Finds the TCP segment in an IPv4 or IPv6 packet, through options, extension headers, fragments and tunnels.

Tunnels are IP in IP and 6in4 (RFC 2003, 4213), GRE (RFC 2784, 2890), VXLAN (RFC 7348), Geneve (RFC 8926), GTP-U (3GPP
TS 29.281) and Teredo (RFC 4380). Those over UDP are known by their ports, Teredo by its addresses. Checksums are not
checked: the sending host has not computed them yet when a packet is captured. Never raises on bytes.

`Defragmenter` joins IP fragments (RFC 815; RFC 8200, section 4.5). The number of pending datagrams is bounded. The
oldest is given up and counted, and so is one whose last fragment does not come within 30 s. RFC 1122, section 3.3.2
asks for 60 to 120 s, Linux keeps 30 s. Bytes that came first win.
"""

import struct
from typing import Final

import msgspec

from sensor.capture.files.capture_file import find_ip_after

MAX_DATAGRAMS: Final = 1_024
TIMEOUT_NS: Final = 30_000_000_000
MAX_PAYLOAD_BYTES: Final = 65_535
MAX_FRAGMENTS: Final = 8_192  # 65,535 bytes in pieces of 8.

FragmentKey = tuple[bytes, bytes, int, int]  # Source, destination, identification, protocol.


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """One piece of a datagram."""

    key: FragmentKey
    offset: int  # In bytes.
    has_more: bool
    data: bytes
    time_ns: int


class _Datagram:
    __slots__ = ("end", "parts", "time_ns")

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns
        self.end: int | None = None
        self.parts: dict[int, bytes] = {}


class Defragmenter:
    """Mutable state between fragments."""

    def __init__(self) -> None:
        self._pending: dict[FragmentKey, _Datagram] = {}  # Oldest first.
        self.given_up = 0  # Datagrams that were never whole.

    def add(self, fragment: Fragment) -> bytes | None:
        """The payload, once all of it is here."""
        self._expire(fragment.time_ns)
        datagram = self._pending.get(fragment.key)
        if datagram is None:
            datagram = self._pending[fragment.key] = _Datagram(fragment.time_ns)
            if len(self._pending) > MAX_DATAGRAMS:
                self._give_up(next(iter(self._pending)))
        end = fragment.offset + len(fragment.data)
        if end > MAX_PAYLOAD_BYTES or len(datagram.parts) >= MAX_FRAGMENTS:
            self._give_up(fragment.key)
            return None
        if not fragment.has_more and datagram.end is None:
            datagram.end = end
        datagram.parts.setdefault(fragment.offset, fragment.data)
        payload = _join(datagram)
        if payload is not None:
            del self._pending[fragment.key]
        return payload

    def finish(self) -> None:
        """No more fragments come."""
        for key in list(self._pending):
            self._give_up(key)

    def _expire(self, now_ns: int) -> None:
        while self._pending:
            key = next(iter(self._pending))
            if now_ns - self._pending[key].time_ns <= TIMEOUT_NS:
                return
            self._give_up(key)

    def _give_up(self, key: FragmentKey) -> None:
        del self._pending[key]
        self.given_up += 1


def _join(datagram: _Datagram) -> bytes | None:
    if datagram.end is None:
        return None
    whole = bytearray()
    for offset in sorted(datagram.parts):
        if offset > len(whole):
            return None
        whole += datagram.parts[offset][len(whole) - offset :]
    return bytes(whole[: datagram.end]) if len(whole) >= datagram.end else None


# Tunnels in tunnels.
MAX_DEPTH: Final = 8
MAX_EXTENSION_HEADERS: Final = 16

_TCP, _UDP, _IP_IN_IP, _IPV6_IN_IP, _GRE = 6, 17, 4, 41, 47
_FRAGMENT, _AUTHENTICATION = 44, 51
# Hop-by-hop, routing, destination options, mobility, HIP, shim6: a next header and a length in units of 8 bytes.
_EXTENSIONS: Final = frozenset((0, 43, 60, 135, 139, 140))
_VXLAN_PORTS: Final = frozenset((4789, 8472))
_GENEVE_PORT, _GTP_PORT = 6081, 2152
# Addresses of Teredo, RFC 4380 section 2.6. Its clients talk over any ports, so it is known by these.
_TEREDO_PREFIX: Final = b"\x20\x01\x00\x00"
_TCP_HEADER = struct.Struct(">HHIIHHHH")
_IPV4_HEADER = struct.Struct(">BBHHHBBH4s4s")


class TcpSegment(msgspec.Struct, frozen=True, gc=False):
    """One TCP segment with the addresses it had in its innermost IP packet."""

    source: bytes  # 4 or 16 bytes.
    source_port: int
    destination: bytes
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    data: bytes
    length: int  # Of the payload as sent; `data` is shorter where the capture cut the packet.


Found = TcpSegment | str


class NetworkReader:
    """Keeps fragments between packets."""

    def __init__(self) -> None:
        self.defragmenter = Defragmenter()

    def read(self, data: bytes, time_ns: int) -> Found:
        """The TCP segment in an IP packet, or the fixed word for why there is none."""
        return self._read_ip(data, time_ns, 0)

    def _read_ip(self, data: bytes, time_ns: int, depth: int) -> Found:
        if depth > MAX_DEPTH:
            return "tunnel_depth"
        version = data[0] >> 4 if data else 0
        if version == 4:
            return self._read_ipv4(data, time_ns, depth)
        return self._read_ipv6(data, time_ns, depth) if version == 6 else "not_ip"

    def _read_ipv4(self, data: bytes, time_ns: int, depth: int) -> Found:
        if len(data) < 20:
            return "cut"
        first, _, total, identification, fragment, _, protocol, _, source, destination = _IPV4_HEADER.unpack_from(data)
        header = (first & 15) * 4
        if header < 20 or len(data) < header:
            return "cut"
        if not total:  # Segmentation offload: longer than the field can say.
            total = len(data)
        if total < header:
            return "cut"
        payload = data[header:total]
        if fragment & 0x3FFF:
            piece = Fragment(
                (source, destination, identification, protocol),
                (fragment & 0x1FFF) * 8,
                bool(fragment & 0x2000),
                payload,
                time_ns,
            )
            return self._read_fragment(piece, source, destination, protocol, time_ns, depth)
        return self._read_transport(protocol, source, destination, payload, total - header, time_ns, depth)

    def _read_ipv6(self, data: bytes, time_ns: int, depth: int) -> Found:
        if len(data) < 40:
            return "cut"
        length, protocol = struct.unpack_from(">HB", data, 4)
        source, destination = data[8:24], data[24:40]
        payload = data[40 : 40 + length] if length else data[40:]  # 0: a jumbogram or offload.
        left = length or len(payload)
        for _ in range(MAX_EXTENSION_HEADERS):
            if protocol in _EXTENSIONS:
                size = (payload[1] + 1) * 8 if len(payload) > 1 else 0
            elif protocol == _AUTHENTICATION:
                size = (payload[1] + 2) * 4 if len(payload) > 1 else 0
            elif protocol == _FRAGMENT and len(payload) >= 8:
                following, _, offset, identification = struct.unpack_from(">BBHI", payload)
                if not offset & 0xFFF9:  # An atomic fragment, RFC 6946.
                    protocol, payload, left = following, payload[8:], left - 8
                    continue
                key = (source, destination, identification, following)
                piece = Fragment(key, offset & 0xFFF8, bool(offset & 1), payload[8:], time_ns)
                return self._read_fragment(piece, source, destination, following, time_ns, depth)
            else:
                break
            if not size or size > len(payload):
                return "cut"
            protocol, payload, left = payload[0], payload[size:], left - size
        return self._read_transport(protocol, source, destination, payload, left, time_ns, depth)

    def _read_fragment(
        self, piece: Fragment, source: bytes, destination: bytes, protocol: int, time_ns: int, depth: int
    ) -> Found:
        whole = self.defragmenter.add(piece)
        if whole is None:
            return "fragment"
        return self._read_transport(protocol, source, destination, whole, len(whole), time_ns, depth)

    def _read_transport(
        self, protocol: int, source: bytes, destination: bytes, payload: bytes, length: int, time_ns: int, depth: int
    ) -> Found:
        """`length` is that of the payload as sent."""
        if protocol == _TCP:
            return _read_tcp(source, destination, payload, length)
        if protocol == _UDP:
            return self._read_udp(payload, time_ns, depth)
        if protocol in (_IP_IN_IP, _IPV6_IN_IP):
            return self._read_ip(payload, time_ns, depth + 1)
        if protocol == _GRE:
            return self._read_below(_skip_gre(payload), time_ns, depth)
        return "not_tcp"

    def _read_udp(self, payload: bytes, time_ns: int, depth: int) -> Found:
        if len(payload) < 8:
            return "cut"
        ports = struct.unpack_from(">HH", payload)
        body = payload[8:]
        if ports[1] in _VXLAN_PORTS:
            return self._read_below(_skip_vxlan(body), time_ns, depth)
        if ports[1] == _GENEVE_PORT:
            return self._read_below(_skip_geneve(body), time_ns, depth)
        if _GTP_PORT in ports:
            return self._read_below(_skip_gtp(body), time_ns, depth)
        return self._read_below(_skip_teredo(body), time_ns, depth)

    def _read_below(self, found: bytes | str, time_ns: int, depth: int) -> Found:
        return found if isinstance(found, str) else self._read_ip(found, time_ns, depth + 1)


def _read_tcp(source: bytes, destination: bytes, payload: bytes, length: int) -> Found:
    if len(payload) < 20:
        return "cut"
    source_port, destination_port, sequence, acknowledgement, offset, *_ = _TCP_HEADER.unpack_from(payload)
    header = (offset >> 12) * 4
    if header < 20 or header > length:
        return "cut"
    return TcpSegment(
        source,
        source_port,
        destination,
        destination_port,
        sequence,
        acknowledgement,
        offset & 0x3F,
        payload[header:],
        length - header,
    )


def _skip_gre(data: bytes) -> bytes | str:
    if len(data) < 4:
        return "cut"
    flags, ether_type = struct.unpack_from(">HH", data)
    # Checksum, key, sequence number; version 1 (PPTP) carries PPP.
    if flags & 7:
        return "udp"
    return find_ip_after(
        ether_type, data[4 + 4 * bool(flags & 0x8000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000) :]
    )


def _skip_vxlan(data: bytes) -> bytes | str:
    return find_ip_after(0x6558, data[8:]) if len(data) > 8 and data[0] & 0x08 else "udp"


def _skip_geneve(data: bytes) -> bytes | str:
    if len(data) < 8 or data[0] >> 6:
        return "udp"
    return find_ip_after(int.from_bytes(data[2:4], "big"), data[8 + (data[0] & 0x3F) * 4 :])


def _skip_gtp(data: bytes) -> bytes | str:
    """GTPv1-U; only G-PDUs (255) carry a packet."""
    if len(data) < 8 or data[0] >> 4 != 3 or data[1] != 255:
        return "udp"
    if not data[0] & 7:
        return data[8:]
    if len(data) < 12:
        return "cut"
    following, at = data[11] if data[0] & 4 else 0, 12
    for _ in range(MAX_EXTENSION_HEADERS):
        if not following:
            return data[at:]
        size = data[at] * 4 if at < len(data) else 0
        if not size or at + size > len(data):
            return "cut"
        following, at = data[at + size - 1], at + size
    return "cut"


def _skip_teredo(data: bytes) -> bytes | str:
    """RFC 4380, section 5.1.1: an authentication header and an origin indication may come first."""
    if data[:2] == b"\x00\x01" and len(data) >= 4:
        data = data[13 + data[2] + data[3] :]
    if data[:2] == b"\x00\x00":
        data = data[8:]
    if len(data) < 40 or data[0] >> 4 != 6 or len(data) != 40 + int.from_bytes(data[4:6], "big"):
        return "udp"
    return data if _TEREDO_PREFIX in (data[8:12], data[24:28]) else "udp"
