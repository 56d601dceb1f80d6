"""WebSocket frames in any cut: the RFC's examples, fragments, control frames between them, losses, noise."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.http.websocket import Opcode, WebSocketCounter


def write_frame(opcode: int, payload: bytes, *, is_final: bool = True, mask: bytes = b"", reserved: int = 0) -> bytes:
    first = opcode | reserved << 4 | (0x80 if is_final else 0)
    size, masked = len(payload), 0x80 if mask else 0
    if size < 126:
        header = bytes([first, masked | size])
    elif size < 65_536:
        header = bytes([first, masked | 126]) + struct.pack(">H", size)
    else:
        header = bytes([first, masked | 127]) + struct.pack(">Q", size)
    if mask:
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return header + mask + payload


def count(data: bytes, cuts: set[int] | None = None) -> WebSocketCounter:
    counter = WebSocketCounter()
    for start, end in itertools.pairwise(sorted({0, len(data), *(cut for cut in cuts or () if cut < len(data))})):
        counter.feed(data[start:end])
    return counter


# RFC 6455, section 5.7: (bytes, messages). The fourth and fifth are a ping and a pong.
EXAMPLES = [
    ("810548656c6c6f", 1),
    ("818537fa213d7f9f4d5158", 1),
    ("010348656c80026c6f", 1),
    ("890548656c6c6f", 0),
    ("8a8537fa213d7f9f4d5158", 0),
    ("827e0100" + "00" * 256, 1),
    ("827f0000000000010000" + "00" * 65_536, 1),
]


@pytest.mark.parametrize(("wire", "messages"), EXAMPLES)
def test_examples_of_the_rfc(wire, messages):
    data = bytes.fromhex(wire)
    for cuts in (None, set(range(20))):
        counts = count(data * 2, cuts).counts
        assert (counts.messages, counts.is_lost) == (2 * messages, False)


PAYLOADS = st.binary(max_size=200) | st.sampled_from([b"x" * 126, b"y" * 65_535, b"z" * 65_536])
PARTS = st.lists(PAYLOADS, min_size=1, max_size=3)


@given(
    st.lists(st.tuples(PARTS, st.booleans(), st.booleans()), max_size=5), st.booleans(), st.lists(st.integers(0, 500))
)
def test_messages_are_counted_in_any_cut(messages, is_masked, cuts):
    mask = b"\x37\xfa\x21\x3d" if is_masked else b""
    wire = b""
    for parts, is_text, has_ping in messages:
        for place, part in enumerate(parts):
            opcode = Opcode.CONTINUATION if place else Opcode.TEXT if is_text else Opcode.BINARY
            # The first reserved bit says that it is compressed (RFC 7692).
            wire += write_frame(opcode, part, is_final=place == len(parts) - 1, mask=mask, reserved=0 if place else 4)
            if has_ping:
                wire += write_frame(Opcode.PING, b"ping", mask=mask)
    counts = count(wire, set(cuts)).counts
    assert (counts.messages, counts.is_lost) == (len(messages), False)
    if len(wire) < 3_000:
        assert count(wire, set(range(len(wire)))).counts == counts


def test_nothing_follows_a_close():
    wire = write_frame(Opcode.TEXT, b"a") + write_frame(Opcode.CLOSE, b"\x03\xe8") + write_frame(Opcode.TEXT, b"b")
    counts = count(wire).counts
    assert (counts.messages, counts.is_closed, counts.is_lost) == (1, True, False)


@pytest.mark.parametrize(
    "wire",
    [
        write_frame(3, b"reserved"),
        write_frame(11, b""),
        write_frame(Opcode.PING, b"x" * 126),
        write_frame(Opcode.CLOSE, b"", is_final=False),
        b"\x82\x7f\xff" + b"\0" * 7,
    ],
)
def test_what_is_no_frame_ends_the_counts(wire):
    counter = count(write_frame(Opcode.TEXT, b"a") + wire + write_frame(Opcode.TEXT, b"b"))
    assert (counter.counts.messages, counter.counts.is_lost, counter.messages) == (1, True, None)


def test_gap_is_harmless_within_a_payload_only():
    wire = write_frame(Opcode.BINARY, b"x" * 100) + write_frame(Opcode.TEXT, b"b")
    inside = count(wire[:20])
    inside.skip(50)
    inside.feed(wire[70:])
    assert inside.messages == 2
    for first, size in ((1, 5), (20, 90)):
        counter = count(wire[:first])
        counter.skip(size)
        assert counter.counts.is_lost


@given(st.lists(st.binary(max_size=60) | st.integers(0, 300), max_size=20))
def test_noise_never_raises(pieces):
    counter = WebSocketCounter()
    fed = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            counter.feed(piece)
            fed += len(piece)
        else:
            counter.skip(piece)
            fed += piece
    assert counter.counts.messages <= fed
    assert len(counter._held) < 14
