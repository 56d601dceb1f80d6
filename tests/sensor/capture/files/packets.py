"""Captures made in memory: frames, connections and files for the tests of `sensor.capture.files`."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

from sensor.capture.files.capture_file import CapturedPacket, CaptureFile
from sensor.capture.files.lines import Line
from sensor.cli.replay import Replay

RAW_IP = 101
ETHERNET = 1
CLIENT, SERVER = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
CLIENT6, SERVER6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
START_NS = 1_760_000_000_000_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
GET = b"GET /v1/users/17?key=s3cret HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer t0ps3cret\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def tcp(sport: int, dport: int, sequence: int, ack: int, flags: int, data: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", sport, dport, sequence, ack, 5 << 4, flags, 65_535, 0, 0) + data


def udp(sport: int, dport: int, data: bytes) -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data


def ipv4(
    source: bytes, destination: bytes, protocol: int, payload: bytes, *, fragment: int = 0, number: int = 1
) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), number, fragment, 64, protocol, 0)
    return head + source + destination + payload


def ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + source + destination + payload


def ethernet(ether_type: int, payload: bytes) -> bytes:
    return bytes(12) + struct.pack(">H", ether_type) + payload


@dataclass
class Talk:
    """Both ends of a TCP connection; each call makes a packet a millisecond after the last."""

    client: tuple[bytes, int] = (CLIENT, 40_000)
    server: tuple[bytes, int] = (SERVER, 80)
    packets: list[CapturedPacket] = field(default_factory=list)
    next: list[int] = field(default_factory=lambda: [1_000, 5_000])

    def open(self) -> "Talk":
        self._add(0, SYN)
        self._add(1, SYN | ACK)
        return self._add(0, ACK)

    def ask(self, data: bytes, *, size: int = 1_400) -> "Talk":
        return self._say(0, data, size)

    def answer(self, data: bytes, *, size: int = 1_400) -> "Talk":
        return self._say(1, data, size)

    def close(self) -> "Talk":
        self._add(1, FIN | ACK)
        return self._add(0, FIN | ACK)

    def reset(self) -> "Talk":
        return self._add(0, RST)

    def lose(self, index: int = -1) -> "Talk":
        """The capture misses a packet that was made."""
        del self.packets[index]
        return self

    def _say(self, end: int, data: bytes, size: int) -> "Talk":
        for at in range(0, len(data), size):
            self._add(end, ACK, data[at : at + size])
        return self

    def _add(self, end: int, flags: int, data: bytes = b"") -> "Talk":
        ends = (self.client, self.server)
        (source, sport), (destination, dport) = ends[end], ends[1 - end]
        segment = tcp(sport, dport, self.next[end], self.next[1 - end] if flags & ACK else 0, flags, data)
        build = ipv4 if len(source) == 4 else ipv6
        time_ns = START_NS + len(self.packets) * 1_000_000
        self.packets.append(CapturedPacket(time_ns, RAW_IP, build(source, destination, 6, segment)))
        self.next[end] = (self.next[end] + len(data) + bool(flags & (SYN | FIN))) % (1 << 32)
        return self


def run(packets: list[CapturedPacket], *, is_raw: bool = True) -> tuple[list[Line], Replay]:
    replay = Replay(is_raw=is_raw)
    return list(replay.run(packets)), replay


def write_pcap(path: Path, packets: list[CapturedPacket], *, order: str = "<", is_nanoseconds: bool = False) -> Path:
    magic, unit = (0xA1B23C4D, 1) if is_nanoseconds else (0xA1B2C3D4, 1_000)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, packets[0].link_type)
    for packet in packets:
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        out += struct.pack(order + "IIII", seconds, rest // unit, len(packet.data), len(packet.data)) + packet.data
    path.write_bytes(out)
    return path


def read_file(path: Path) -> tuple[list[CapturedPacket], bool]:
    capture = CaptureFile(path)
    try:
        packets = list(capture)
    finally:
        capture.close()
    return packets, capture.is_truncated
