"""Files that a report is made of, as exchanges with the times at which they ended: captures and HAR files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from common.capture_report import UnreadPart
from sensor.capture.files.capture_file import CapturedPacket, CaptureFile
from sensor.capture.files.flows import FlowTransaction, build_exchange
from sensor.capture.files.har import HarFile
from sensor.capture.files.packets import PacketReader
from sensor.core.calls import Exchange
from sensor.http.http2.exchange import StreamExchange

_SECOND_NS: Final = 1_000_000_000
# Times that can be shown and stored. A file that begins outside has no real times: it is moved to the first of these.
TIMES_NS: Final = (1_000 * 86_400 * _SECOND_NS, 4_000_000_000 * _SECOND_NS)
_UNREAD_PROTOCOLS: Final = {
    "tls": "Encrypted: capture behind the program that ends TLS, or run a sensor, which reads inside TLS libraries.",
    "other_protocol": "Another protocol than HTTP.",
    "undecided": "Too little was captured to know the protocol.",
    "upgraded": "HTTP changed to a protocol that is not read.",
    "tunnel": "A CONNECT tunnel with something that is not read.",
    "websocket": "Messages of a WebSocket are counted and not read.",
}
_OTHER_PACKETS: Final = {
    "not_tcp": "Not TCP, such as UDP. HTTP/3 is not read.",
    "other_port": "Of other ports than --port.",
    "fragment": "Parts of packets, which are read once they are joined.",
    "not_ip": "Not IP.",
    "cut": "The capture kept too little of them: capture with `tcpdump -s 0`.",
}

# What ended at a time: exchanges, and the fixed words of what is in none.
Ended = tuple[int, Sequence[Exchange | StreamExchange | str]]


class ExchangeSource(Protocol):
    """One file, read once."""

    size_bytes: int

    def read(self) -> Iterator[Ended]:
        """The times of the file, in its order, with what ended at each."""
        ...

    def list_unread(self) -> Iterator[UnreadPart]:
        """What is in no exchange; also with a count of 0."""
        ...

    @property
    def packets(self) -> int: ...

    @property
    def connections(self) -> int: ...

    @property
    def http_connections(self) -> int: ...

    @property
    def lost_calls(self) -> int:
        """Calls that are known to be missing."""
        ...


class HarSource:
    """The entries of a HAR file."""

    packets = 0

    def __init__(self, file: HarFile) -> None:
        self.size_bytes = file.size_bytes
        self._file = file
        self.lost_calls = 0

    @property
    def connections(self) -> int:
        """Entries: which connection they had is of no use."""
        return self._file.entries

    @property
    def http_connections(self) -> int:
        """Of those, calls."""
        return self._file.exchanges

    def read(self) -> Iterator[Ended]:
        """The time at which the first began, then each exchange at its end."""
        exchanges = list(self._file.read())
        if exchanges:
            yield min(exchange.figures.time_unix_ns for _, exchange in exchanges), ()
        for time_ns, exchange in exchanges:
            yield time_ns, (exchange,)

    def list_unread(self) -> Iterator[UnreadPart]:
        """Entries that are no calls, and missing credentials."""
        return self._file.list_unread()


class PacketSource:
    """The packets of a capture."""

    def __init__(self, capture: CaptureFile, packets: Iterable[CapturedPacket], ports: Sequence[int] = ()) -> None:
        """`packets` are those of `capture`, perhaps with a bar of progress around them. `ports`: only connections with
        one of them."""
        self.size_bytes = capture.size_bytes
        self._capture, self._packets = capture, packets
        self._reader = PacketReader(ports=ports)
        self._moved = 0  # Packets whose times are others than in the file.
        self._lossy_calls = 0

    @property
    def packets(self) -> int:
        """All of them."""
        return self._reader.counts.packets

    @property
    def connections(self) -> int:
        """Of TCP."""
        return self._reader.flows.counts.flows

    @property
    def http_connections(self) -> int:
        """Of those."""
        return self._reader.flows.counts.http_flows

    @property
    def lost_calls(self) -> int:
        """Messages without a whole head."""
        return self._reader.flows.counts.heads_lost

    def read(self) -> Iterator[Ended]:
        """Each packet with the transactions that it ended."""
        last_ns = 0
        for packet in self._mend_times():
            last_ns = packet.time_ns
            yield last_ns, [self._build(flow) for flow in self._reader.read_packet(packet)]
        yield last_ns, [self._build(flow) for flow in self._reader.finish()]

    def _build(self, flow: FlowTransaction) -> Exchange | StreamExchange | str:
        exchange = build_exchange(flow)
        if not isinstance(exchange, str):
            plain = exchange.exchange if isinstance(exchange, StreamExchange) else exchange
            self._lossy_calls += plain.figures.is_lossy
        return exchange

    def _mend_times(self) -> Iterator[CapturedPacket]:
        """The same packets at times that can be shown and stored."""
        earliest, latest = TIMES_NS
        offset: int | None = None
        for packet in self._packets:
            if offset is None:
                offset = 0 if earliest <= packet.time_ns <= latest else earliest - packet.time_ns
            time_ns = min(max(packet.time_ns + offset, earliest), latest)
            if time_ns != packet.time_ns:
                self._moved += 1
                packet = CapturedPacket(time_ns, packet.link_type, packet.data)
            yield packet

    def list_unread(self) -> Iterator[UnreadPart]:
        """Protocols that are not read, and what the file lacks."""
        flows, packets, streams = self._reader.flows.counts, self._reader.counts, self._reader.flows.counts.streams
        for (protocol, server), count in sorted(flows.unread_servers.items()):
            why = _UNREAD_PROTOCOLS.get(protocol, "A protocol that is not read.")
            yield UnreadPart(what=f"Connections to {server} ({protocol.replace('_', ' ')})", count=count, why=why)
        yield UnreadPart(
            what="End of the file",
            count=int(self._capture.is_truncated),
            why="The file ends within a packet. What follows is missing.",
        )
        yield UnreadPart(
            what="Times of packets",
            count=self._moved,
            why="They were outside of 1972 to 2096. If the first one was, the file has no real times: all were moved "
            "by the same span. Else they were set to the nearest of these years.",
        )
        yield UnreadPart(
            what="Packets that were cut",
            count=packets.cut_segments,
            why="The capture kept the first bytes of each packet: capture with `tcpdump -s 0`.",
        )
        yield UnreadPart(
            what="Gaps in connections",
            count=streams.gaps,
            why=f"The file lacks {streams.gap_bytes:,} bytes. Calls with a part of them: {self._lossy_calls:,}. "
            "Give the capture a larger buffer, as `tcpdump -B 65536`.",
        )
        yield UnreadPart(
            what="Connections that were open before",
            count=flows.joined_midstream,
            why="Their first packets are not in the file. What came after a whole head was read.",
        )
        yield UnreadPart(
            what="Messages whose head is not whole", count=flows.heads_lost, why="The file lacks a part of them."
        )
        yield UnreadPart(
            what="Responses of HTTP/2 without a request",
            count=flows.unasked,
            why="Their requests are not in the file.",
        )
        yield UnreadPart(
            what="Fragmented packets",
            count=self._reader.fragments_given_up,
            why="They were never whole.",
        )
        yield UnreadPart(
            what="Connections given up", count=flows.evicted, why="Too many connections were open at once."
        )
        for reason, count in sorted(packets.other_packets.items()):
            why = _OTHER_PACKETS.get(reason, reason.replace("_", " ").capitalize() + ".")
            yield UnreadPart(what=f"Packets without a TCP segment ({reason.replace('_', ' ')})", count=count, why=why)
