"""From link layers and tunnels down to TCP; never raises on bytes."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.capture.files.capture_file import find_ip
from sensor.capture.files.network import MAX_DATAGRAMS, TIMEOUT_NS, Defragmenter, Fragment, NetworkReader, TcpSegment
from tests.sensor.capture.files.packets import ACK, CLIENT, CLIENT6, SERVER, SERVER6, ethernet, ipv4, ipv6, tcp, udp

SEGMENT = tcp(40_000, 80, 7, 9, ACK, b"data")
PACKET4, PACKET6 = ipv4(CLIENT, SERVER, 6, SEGMENT), ipv6(CLIENT6, SERVER6, 6, SEGMENT)
TEREDO6 = ipv6(b"\x20\x01\x00\x00" + bytes(12), SERVER6, 6, SEGMENT)


def read(link_type: int, data: bytes) -> TcpSegment | str:
    found = find_ip(link_type, data)
    return found if isinstance(found, str) else NetworkReader().read(found, 0)


def gre(ether_type: int, payload: bytes, flags: int = 0) -> bytes:
    options = bytes(4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000)))
    return struct.pack(">HH", flags, ether_type) + options + payload


LINKS = {
    "ethernet": (1, ethernet(0x0800, PACKET4)),
    "ethernet, padded": (1, ethernet(0x0800, PACKET4) + bytes(9)),
    "vlan": (1, ethernet(0x8100, b"\x00\x05\x08\x00" + PACKET4)),
    "qinq": (1, ethernet(0x88A8, b"\x00\x05\x81\x00\x00\x06\x86\xdd" + PACKET6)),
    "mpls": (1, ethernet(0x8847, b"\x00\x01\x00\x40" + b"\x00\x02\x01\x40" + PACKET4)),
    "pppoe": (1, ethernet(0x8864, bytes(6) + b"\x00\x21" + PACKET4)),
    "snap": (1, ethernet(len(PACKET4) + 8, b"\xaa\xaa\x03\x00\x00\x00\x08\x00" + PACKET4)),
    "null, little": (0, b"\x02\x00\x00\x00" + PACKET4),
    "null, IPv6": (0, b"\x00\x00\x00\x1e" + PACKET6),
    "loop": (108, b"\x00\x00\x00\x02" + PACKET4),
    "raw": (101, PACKET6),
    "raw of old": (12, PACKET4),
    "ipv4": (228, PACKET4),
    "ipv6": (229, PACKET6),
    "sll": (113, bytes(14) + b"\x08\x00" + PACKET4),
    "sll2": (276, b"\x86\xdd" + bytes(18) + PACKET6),
    "ppp": (9, b"\xff\x03\x00\x57" + PACKET6),
    "ppp, short": (9, b"\x21" + PACKET4),
    "hdlc": (104, b"\x0f\x00\x08\x00" + PACKET4),
    "ip options": (
        101, b"\x46\x00" + struct.pack(">H", len(PACKET4) + 4) + PACKET4[4:20] + bytes(4) + SEGMENT),
    "extension headers": (
        101, ipv6(CLIENT6, SERVER6, 0, b"\x3c\x00" + bytes(6) + b"\x33\x00" + bytes(6) + b"\x2c\x02" + bytes(14)
                  + b"\x06\x00\x00\x00\x00\x00\x00\x01" + SEGMENT)),
    "ip in ip": (101, ipv4(CLIENT, SERVER, 4, PACKET4)),
    "6in4": (101, ipv4(CLIENT, SERVER, 41, PACKET6)),
    "gre": (101, ipv4(CLIENT, SERVER, 47, gre(0x0800, PACKET4))),
    "gre with key and number": (101, ipv4(CLIENT, SERVER, 47, gre(0x6558, ethernet(0x0800, PACKET4), 0xB000))),
    "vxlan": (101, ipv4(CLIENT, SERVER, 17, udp(5, 4789, b"\x08" + bytes(7) + ethernet(0x0800, PACKET4)))),
    "geneve": (101, ipv4(CLIENT, SERVER, 17, udp(5, 6081, b"\x01\x00\x65\x58" + bytes(8) + ethernet(0x86DD, PACKET6)))),
    "gtp": (101, ipv4(CLIENT, SERVER, 17, udp(2152, 2152, b"\x30\xff\x00\x00" + bytes(4) + PACKET4))),
    "gtp with extension": (
        101, ipv4(CLIENT, SERVER, 17, udp(2152, 2152, b"\x34\xff" + bytes(9) + b"\x85\x01\x00\x00\x00" + PACKET4))),
    "teredo": (101, ipv4(CLIENT, SERVER, 17, udp(50, 60, b"\x00\x01" + bytes(11) + b"\x00\x00" + bytes(6) + TEREDO6))),
}  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_tcp_is_found_below(name: str) -> None:
    segment = read(*LINKS[name])
    assert isinstance(segment, TcpSegment), segment
    assert (segment.source_port, segment.destination_port, segment.sequence, segment.acknowledgement) == (
        40_000,
        80,
        7,
        9,
    )
    assert (segment.data, segment.length) == (b"data", 4)


@pytest.mark.parametrize(
    ("link_type", "data", "reason"),
    [
        (105, b"", "link_type_105"),
        (1, b"", "cut"),
        (1, ethernet(0x0806, bytes(28)), "not_ip"),
        (1, ethernet(40, b"\x42\x42\x03"), "not_ip"),
        (101, b"", "not_ip"),
        (101, PACKET4[:10], "cut"),
        (101, ipv4(CLIENT, SERVER, 6, SEGMENT[:12]), "cut"),
        (101, ipv4(CLIENT, SERVER, 1, b"ping"), "not_tcp"),
        (101, ipv4(CLIENT, SERVER, 17, udp(1, 53, b"question")), "udp"),
        (101, ipv4(CLIENT, SERVER, 17, udp(1, 443, PACKET6)), "udp"),
    ],
)
def test_what_is_not_tcp_has_a_reason(link_type: int, data: bytes, reason: str) -> None:
    assert read(link_type, data) == reason


def test_a_packet_that_the_capture_cut_knows_its_length() -> None:
    segment = read(101, PACKET4[:-3])
    assert isinstance(segment, TcpSegment)
    assert (segment.data, segment.length) == (b"d", 4)


def test_fragments_in_any_order() -> None:
    reader = NetworkReader()
    whole = tcp(1, 2, 3, 4, ACK, bytes(range(64)))
    parts = [
        ipv4(CLIENT, SERVER, 6, whole[at : at + 24], fragment=at // 8 | (0x2000 if at + 24 < len(whole) else 0))
        for at in range(0, len(whole), 24)
    ]
    assert [reader.read(part, 0) for part in (*parts[1:], parts[1])] == ["fragment"] * len(parts)
    segment = reader.read(parts[0], 0)
    assert isinstance(segment, TcpSegment)
    assert segment.data == bytes(range(64))


def test_fragments_are_bounded_and_time_out() -> None:
    pieces = Defragmenter()
    for number in range(MAX_DATAGRAMS + 5):
        pieces.add(Fragment((CLIENT, SERVER, number, 6), 0, True, b"x" * 8, 0))
    assert pieces.given_up == 5
    pieces.add(Fragment((CLIENT, SERVER, 99_999, 6), 0, True, b"x" * 8, TIMEOUT_NS + 1))
    assert pieces.given_up == MAX_DATAGRAMS + 5
    pieces.add(Fragment((CLIENT, SERVER, 99_999, 6), 65_528, True, b"x" * 16, TIMEOUT_NS + 1))
    assert pieces.given_up == MAX_DATAGRAMS + 6


@settings(max_examples=500)
@given(st.sampled_from([each[0] for each in LINKS.values()] + [50, 51, 999]), st.binary(max_size=120), st.data())
def test_any_bytes_give_a_segment_or_a_reason(link_type: int, data: bytes, draw: st.DataObject) -> None:
    if draw.draw(st.booleans()):  # Bytes of a good packet, some changed.
        link_type, good = draw.draw(st.sampled_from(list(LINKS.values())))
        at = draw.draw(st.integers(0, len(good)))
        data = good[:at] + data[: draw.draw(st.integers(0, 3))] + good[at + draw.draw(st.integers(0, 3)) :]
    assert isinstance(read(link_type, data), TcpSegment | str)
