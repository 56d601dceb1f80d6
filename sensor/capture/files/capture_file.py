"""Reads pcap and pcapng files, plain or gzipped, and finds the IP packet in each captured packet. An edge: it reads
files.

Formats: draft-ietf-opsawg-pcap (both byte orders, micro- and nanoseconds) and draft-ietf-opsawg-pcapng (sections of
either byte order, several interfaces, time resolutions and offsets, enhanced, simple and obsolete packet blocks). A
file that ends within a packet gives all packets before it and sets `is_truncated`. A file that is not a capture raises
one sentence for the user.

Link types are those of the registry at tcpdump.org/linktypes.html. VLANs, MPLS, PPPoE and LLC/SNAP are looked through.
`find_ip` gives the IP packet or the fixed word for why there is none, and never raises on bytes.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

# tcpdump refuses records over 256 KiB; DBus captures have 128 MiB. A longer length is a broken file.
MAX_PACKET_BYTES: Final = 16 << 20
MAX_BLOCK_BYTES: Final = MAX_PACKET_BYTES + (1 << 16)
MAX_INTERFACES: Final = 65_536

_GZIP_MAGIC: Final = b"\x1f\x8b"
_NS: Final = 1_000_000_000
# Magic number -> (byte order, nanoseconds of a unit of the fraction).
_PCAP_MAGICS: Final = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
_SECTION_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS: Final = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_OPTION_END, _OPTION_RESOLUTION, _OPTION_OFFSET = 0, 9, 14


class CaptureFileError(Exception):
    """Not a capture that can be read; the message is one sentence for the user."""


class CapturedPacket(msgspec.Struct, frozen=True, gc=False):
    """One packet as captured, perhaps cut by the capture's limit."""

    time_ns: int  # Unix time.
    link_type: int  # LINKTYPE_ of the interface.
    data: bytes


class _Interface(msgspec.Struct, frozen=True):
    link_type: int
    snap_bytes: int
    ticks_per_second: int
    offset_seconds: int

    def to_ns(self, ticks: int) -> int:
        return self.offset_seconds * _NS + ticks * _NS // self.ticks_per_second


class CaptureFile:
    """One open file. Iterate once; then `is_truncated` says whether it ended within a packet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_truncated = False
        try:
            self._raw: BinaryIO = path.open("rb")
            self.size_bytes = os.fstat(self._raw.fileno()).st_size
            is_gzip = self._raw.read(2) == _GZIP_MAGIC
            self._raw.seek(0)
        except OSError as error:
            raise CaptureFileError(f"cannot read {path}: {error.strerror}; name a pcap or pcapng file") from error
        self._file: BinaryIO = gzip.GzipFile(fileobj=self._raw) if is_gzip else self._raw  # type: ignore[assignment]

    @property
    def read_bytes(self) -> int:
        """How far in the file, as stored."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __iter__(self) -> Iterator[CapturedPacket]:
        magic = self._read(4)
        if magic in _PCAP_MAGICS:
            yield from self._read_pcap(*_PCAP_MAGICS[magic])
        elif magic == _SECTION_MAGIC:
            yield from self._read_pcapng()
        else:
            raise CaptureFileError(
                f"{self._path} is no capture: it starts with {magic.hex() or 'nothing'}; give a pcap or pcapng file, "
                "plain or gzipped"
            )

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer at the end of the file or of what of it can be unpacked."""
        try:
            return self._file.read(size)
        except (OSError, EOFError, zlib.error):
            self.is_truncated = True
            return b""

    def _read_exactly(self, size: int) -> bytes | None:
        data = self._read(size)
        if len(data) == size:
            return data
        self.is_truncated = True
        return None

    def _read_pcap(self, order: str, unit_ns: int) -> Iterator[CapturedPacket]:
        header = self._read_exactly(20)
        if header is None:
            return
        link_type = struct.unpack(order + "HHiIII", header)[5] & 0x0FFF_FFFF  # The upper bits say how long an FCS is.
        record = struct.Struct(order + "IIII")
        while True:
            head = self._read(16)
            if len(head) < 16:
                self.is_truncated = self.is_truncated or bool(head)
                return
            seconds, fraction, captured, _ = record.unpack(head)
            if captured > MAX_PACKET_BYTES:
                self.is_truncated = True
                return
            data = self._read_exactly(captured)
            if data is None:
                return
            yield CapturedPacket(seconds * _NS + fraction * unit_ns, link_type, data)

    def _read_pcapng(self) -> Iterator[CapturedPacket]:
        order, interfaces, block_type = "<", list[_Interface](), _SECTION
        head: bytes | None = _SECTION_MAGIC
        while head:
            block_type = struct.unpack(order + "I", head)[0]
            if block_type == _SECTION:
                start = self._read_exactly(8)
                if start is None or start[4:] not in _BYTE_ORDERS:
                    self.is_truncated = True
                    return
                order, interfaces = _BYTE_ORDERS[start[4:]], []
                length = struct.unpack(order + "I", start[:4])[0]
                taken = 12
            else:
                start = self._read_exactly(4)
                if start is None:
                    return
                length = struct.unpack(order + "I", start)[0]
                taken = 8
            if length < taken + 4 or length % 4 or length > MAX_BLOCK_BYTES:
                self.is_truncated = True
                return
            body = self._read_exactly(length - taken)
            if body is None:
                return
            body = body[:-4]
            if block_type == _INTERFACE and len(interfaces) < MAX_INTERFACES:
                interface = _read_interface(body, order)
                if interface is not None:
                    interfaces.append(interface)
            elif block_type in _PACKET_READERS:
                packet = _PACKET_READERS[block_type](body, order, interfaces)
                if packet is None:
                    self.is_truncated = True
                else:
                    yield packet
            head = self._read(4)
            if head and len(head) < 4:
                self.is_truncated = True
                return


def _read_interface(body: bytes, order: str) -> _Interface | None:
    if len(body) < 8:
        return None
    link_type, _, snap_bytes = struct.unpack_from(order + "HHI", body)
    ticks, offset, at = 1_000_000, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == _OPTION_END:
            break
        if code == _OPTION_RESOLUTION and len(value) == 1:
            exponent = value[0] & 0x7F
            ticks = 1 << exponent if value[0] & 0x80 else 10 ** min(exponent, 30)
        elif code == _OPTION_OFFSET and len(value) == 8:
            offset = struct.unpack(order + "q", value)[0]
        at += 4 + (length + 3) // 4 * 4
    return _Interface(link_type, snap_bytes, ticks, offset)


def _read_enhanced(body: bytes, order: str, interfaces: list[_Interface]) -> CapturedPacket | None:
    if len(body) < 20:
        return None
    number, high, low, captured, _ = struct.unpack_from(order + "IIIII", body)
    return _cut_packet(body, 20, captured, number, high << 32 | low, interfaces)


def _read_old(body: bytes, order: str, interfaces: list[_Interface]) -> CapturedPacket | None:
    if len(body) < 20:
        return None
    number, _, high, low, captured, _ = struct.unpack_from(order + "HHIIII", body)
    return _cut_packet(body, 20, captured, number, high << 32 | low, interfaces)


def _read_simple(body: bytes, order: str, interfaces: list[_Interface]) -> CapturedPacket | None:
    """A packet without a time, of the first interface."""
    if len(body) < 4 or not interfaces:
        return None
    captured = min(struct.unpack_from(order + "I", body)[0], interfaces[0].snap_bytes or MAX_PACKET_BYTES)
    return _cut_packet(body, 4, min(captured, len(body) - 4), 0, 0, interfaces)


def _cut_packet(
    body: bytes, at: int, captured: int, number: int, ticks: int, interfaces: list[_Interface]
) -> CapturedPacket | None:
    if number >= len(interfaces) or at + captured > len(body):
        return None
    interface = interfaces[number]
    return CapturedPacket(interface.to_ns(ticks), interface.link_type, body[at : at + captured])


_PACKET_READERS: Final = {_ENHANCED: _read_enhanced, _OLD_PACKET: _read_old, _SIMPLE: _read_simple}


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
