"""What is fuzzed: functions of bytes that fail where a promise is broken. Every failure is a bug of ours.

`TARGETS` names them; tests/fuzz/corpus/NAME holds inputs worth keeping, also those that once failed.
"""

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sensor.capture.files.capture_file import CaptureFile, CaptureFileError, find_ip
from sensor.capture.files.flows import FlowTable
from sensor.capture.files.lines import build_raw_line
from sensor.capture.files.network import NetworkReader, TcpSegment
from sensor.coverage.handshakes import HandshakeTable
from sensor.coverage.row import CoverageRole
from sensor.http.http1.head import Malformed, RequestHead, parse_request_head, read_response_content_type
from sensor.http.http1.stream import Abandoned, Data, End, Event, Head, MessageReader, MessageState, Started
from sensor.http.reassembly import (
    MAX_WAITING_BYTES,
    Chunk,
    Direction,
    DirectionAssembler,
    Piece,
    Segment,
    TcpConnection,
    TcpPacket,
)
from sensor.http.tls_hello import (
    NAME_CHARACTERS_MAX,
    PROTOCOLS_MAX,
    VERSIONS_MAX,
    list_weaknesses,
    parse_client_hello,
    parse_server_hello,
)
from tests.fuzz import captured, described, files, names, received, streams


def fuzz_http1_head(data: bytes) -> None:
    """A request head, whole or cut, is read or malformed."""
    for is_truncated in (False, True):
        head = parse_request_head(data, is_truncated)
        assert isinstance(head, RequestHead | Malformed)
        if isinstance(head, RequestHead):
            assert head.method and head.method.isascii()
            assert head.version in ("1.0", "1.1")
            repr(head)
    assert read_response_content_type(data).isascii()


def _merge(events: list[Event]) -> list[Event]:
    out: list[Event] = []
    for event in events:
        if isinstance(event, Data) and out and isinstance(out[-1], Data):
            out[-1] = Data(out[-1].data + event.data)
        else:
            out.append(event)
    return out


def fuzz_http1_stream(data: bytes) -> None:
    """Two bytes choose the reading and the cuts: any cut gives the same events, and every byte counts at most once."""
    if len(data) < 2:
        return
    is_request, is_strict, step, data = bool(data[0] & 1), bool(data[0] & 2), data[1] % 64 + 1, data[2:]
    readers = [MessageReader(is_request=is_request, is_strict=is_strict, has_data=True) for _ in range(2)]
    whole, cut = list[Event](), list[Event]()
    readers[0].feed(data, whole)
    was_lost = False
    for at in range(0, len(data), step):
        readers[1].feed(data[at : at + step], cut)
        was_lost = was_lost or readers[1].state is MessageState.LOST
    was_lost = was_lost or readers[0].state is MessageState.LOST
    for reader, events in zip(readers, (whole, cut), strict=True):
        reader.finish(events)
        assert reader.position == len(data)
        counted = sum(event.wire_bytes for event in events if isinstance(event, End | Abandoned))
        assert counted + reader.unread_bytes <= len(data)
        heads = sum(isinstance(event, Head) for event in events)
        assert heads == sum(isinstance(event, End) for event in events)
        assert heads <= sum(isinstance(event, Started) for event in events)
    if not was_lost:  # Reading goes on at the start of a feed, so there the cuts matter.
        assert _merge(whole) == _merge(cut)


def fuzz_reassembly(data: bytes) -> None:
    """Operations of 4 bytes (what, sequence number, length), on one stream: order, cover, account, bound."""
    stream, pieces = DirectionAssembler(), list[Piece]()
    for act, sequence, length in struct.iter_unpack(">BHB", data[: len(data) // 4 * 4]):
        sequence = (0xFFFFFF00 + sequence) % (1 << 32) if act & 0x80 else sequence << 16 | sequence
        match act & 7:
            case 0:
                stream.start(sequence)
            case 1:
                stream.end(sequence)
            case 2:
                pieces += stream.acknowledge(stream.find_position(sequence))
            case _:
                pieces += stream.add(Segment(sequence, bytes([act]) * length, 0))
        assert stream.waiting_bytes <= MAX_WAITING_BYTES
    pieces += stream.finish()
    position = 0
    for piece in pieces:
        assert piece.position == position
        position += len(piece.data) if isinstance(piece, Chunk) else piece.length
    counts = stream.counts
    assert counts.seen_bytes == counts.used_bytes + counts.duplicate_bytes + counts.stray_bytes
    assert counts.used_bytes == sum(len(piece.data) for piece in pieces if isinstance(piece, Chunk))


def fuzz_connection(data: bytes) -> None:
    """Packets of 6 bytes (direction and flags, sequence number, acknowledgement, length): each direction is covered."""
    connection, told = TcpConnection(), [0, 0]
    packets = [
        TcpPacket(sequence, ack, flags & 0x17, bytes(length), number)
        for number, (flags, sequence, ack, length) in enumerate(struct.iter_unpack(">BHHB", data[: len(data) // 6 * 6]))
    ]
    ends = [Direction(data[number * 6] >> 7) for number in range(len(packets))]
    taken = [connection.take(end, packet) for end, packet in zip(ends, packets, strict=True)]
    for direction, piece in [each for part in taken for each in part] + connection.finish():
        assert piece.position == told[direction]
        told[direction] += len(piece.data) if isinstance(piece, Chunk) else piece.length


def fuzz_capture_file(data: bytes) -> None:
    """A file is read or refused; its packets have a TCP segment or a reason."""
    with tempfile.NamedTemporaryFile(dir=_FAST, buffering=0) as file:
        file.write(data)
        capture, reader = CaptureFile(Path(file.name)), NetworkReader()
        try:
            for packet in capture:
                found = find_ip(packet.link_type, packet.data)
                assert isinstance(found, str) or isinstance(reader.read(found, packet.time_ns), TcpSegment | str)
        except CaptureFileError:
            pass
        finally:
            capture.close()


def fuzz_conversation(data: bytes) -> None:
    """What two ends say, in parts (a byte of direction and one of length before each), ends in lines or the account."""
    table, sequences, at, number = FlowTable(has_decoded_sizes=True), [100, 900], 0, 0
    ends = ((b"\x0a\x00\x00\x01", 40_000), (b"\x0a\x00\x00\x02", 80))
    transactions = []
    while at + 2 <= len(data):
        end, length, lost = data[at] & 1, data[at + 1], data[at] & 0xF0 == 0xF0
        said = data[at + 2 : at + 2 + length]
        at += 2 + length
        number += 1
        (source, sport), (destination, dport) = ends[end], ends[1 - end]
        segment = TcpSegment(source, sport, destination, dport, sequences[end], sequences[1 - end], 16, said, len(said))
        sequences[end] += len(said)
        if not lost:
            transactions += table.take(segment, number)
    transactions += table.finish()
    for each in transactions:
        build_raw_line(each, None, reason="")
    assert sum(table.counts.unread_bytes.values()) <= table.counts.streams.used_bytes


def fuzz_tls_hello(data: bytes) -> None:
    """The first bytes of an encrypted connection, cut anywhere: what is read of them is bounded text of the names' own
    alphabets, and of a cut nothing is read that the whole does not say.
    """
    hello, answer = parse_client_hello(data), parse_server_hello(data)
    assert hello is None or answer is None
    if hello is not None:
        assert len(hello.server_name) <= NAME_CHARACTERS_MAX and hello.server_name.isascii()
        assert len(hello.protocols) <= PROTOCOLS_MAX and all(name.isprintable() for name in hello.protocols)
        assert len(hello.versions) <= VERSIONS_MAX
        for size in range(0, len(data), max(1, len(data) // 16)):
            cut = parse_client_hello(data[:size])
            assert cut is None or cut.server_name in ("", hello.server_name)
    if answer is not None:
        list_weaknesses(answer.version, answer.cipher_suite)
    table = HandshakeTable()
    table.take_client((0, CoverageRole.LISTENING, 443, ""), "::", data)
    table.take_server((0, CoverageRole.LISTENING, 443, ""), data, 0)
    assert table.find((0, CoverageRole.LISTENING, 443, ""), 0).count == 1


_FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "http1_head": fuzz_http1_head,
    "http1_stream": fuzz_http1_stream,
    "reassembly": fuzz_reassembly,
    "connection": fuzz_connection,
    "capture_file": fuzz_capture_file,
    "conversation": fuzz_conversation,
    "tls_hello": fuzz_tls_hello,
    **streams.TARGETS,
    **described.TARGETS,
    **files.TARGETS,
    **captured.TARGETS,
    **received.TARGETS,
    **names.TARGETS,
}
