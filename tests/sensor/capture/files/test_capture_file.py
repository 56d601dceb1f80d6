"""pcap and pcapng in every form that tools write, and what is no capture."""

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.files.capture_file import CapturedPacket, CaptureFileError
from tests.sensor.capture.files.packets import read_file, write_pcap

PACKETS = [CapturedPacket(1_700_000_000_123_456_789, 1, b"one"), CapturedPacket(1_700_000_001_000_001_000, 1, b"two!")]


def block(kind: int, body: bytes, *, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order=order)


def interface(link_type: int, *options: tuple[int, bytes], order: str = "<", snap: int = 0) -> bytes:
    body = struct.pack(order + "HHI", link_type, 0, snap)
    for code, value in options:
        body += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(1, body, order=order)


def enhanced(number: int, ticks: int, data: bytes, *, order: str = "<") -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data, order=order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_nanoseconds", [False, True])
def test_pcap(tmp_path: Path, order: str, is_nanoseconds: bool) -> None:
    packets, is_truncated = read_file(write_pcap(tmp_path / "x", PACKETS, order=order, is_nanoseconds=is_nanoseconds))
    unit = 1 if is_nanoseconds else 1_000
    assert packets == [CapturedPacket(each.time_ns // unit * unit, 1, each.data) for each in PACKETS]
    assert not is_truncated


def test_gzip(tmp_path: Path) -> None:
    plain = write_pcap(tmp_path / "x", PACKETS, is_nanoseconds=True).read_bytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(plain))
    assert read_file(tmp_path / "x.gz") == (PACKETS, False)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(plain)[:-20])
    packets, is_truncated = read_file(tmp_path / "cut.gz")
    assert is_truncated
    assert packets == PACKETS[: len(packets)]


@pytest.mark.parametrize("cut", [1, 3, 5, 17, 19])
def test_a_file_that_ends_within_a_packet_gives_those_before(tmp_path: Path, cut: int) -> None:
    path = write_pcap(tmp_path / "x", PACKETS, is_nanoseconds=True)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_file(path) == (PACKETS[:1], True)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(
        section(order)
        + interface(1, order=order)
        + interface(101, (9, b"\x09"), (14, struct.pack(order + "q", 100)), (0, b""), order=order)
        + enhanced(0, 1_500_000, b"micro", order=order)
        + block(5, b"statistics", order=order)
        + enhanced(1, 7, b"nano", order=order)
        + block(3, struct.pack(order + "I", 6) + b"simple", order=order)
        + block(2, struct.pack(order + "HHIIII", 0, 0, 0, 9, 3, 3) + b"old", order=order)
        + section()
        + interface(113, (9, b"\x8a"))  # Of a second section, in units of 2**-10 s.
        + enhanced(0, 512, b"half a second")
    )
    assert read_file(path) == (
        [
            CapturedPacket(1_500_000_000, 1, b"micro"),
            CapturedPacket(100_000_000_007, 101, b"nano"),
            CapturedPacket(0, 1, b"simple"),
            CapturedPacket(9_000, 1, b"old"),
            CapturedPacket(500_000_000, 113, b"half a second"),
        ],
        False,
    )


def test_a_packet_of_an_interface_that_was_not_described_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(section() + interface(1) + enhanced(3, 0, b"lost") + enhanced(0, 0, b"kept"))
    packets, is_truncated = read_file(path)
    assert ([packet.data for packet in packets], is_truncated) == ([b"kept"], True)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "it starts with nothing"), (b"GET / HTTP/1.1", "it starts with 47455420"), (b"\x00", "it starts with 00")],
)
def test_what_is_no_capture_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CaptureFileError, match=said):
        read_file(tmp_path / "x")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CaptureFileError, match=r"cannot read .*: No such file or directory; name a pcap"):
        read_file(tmp_path / "none")


@given(
    st.sampled_from([b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", section(), section() + interface(1), b"\x1f\x8b"]),
    st.binary(max_size=120),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes) -> None:
    path = tmp_path_factory.mktemp("capture") / "x"
    path.write_bytes(start + rest)
    try:
        packets, _ = read_file(path)
    except CaptureFileError:
        return
    assert sum(len(packet.data) for packet in packets) <= len(start + rest)
