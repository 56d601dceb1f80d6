"""The TCP connections of a capture file: segments in, transactions with their ends and times out, then exchanges.

The number of connections is bounded. The connection that was silent longest is evicted and reported as it stands. A
closed connection is remembered without its state, so that retransmitted segments do not look like a new one. The
functions at the end build the exchange that the sensor would describe, with heads cut as the kernel cuts them.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from common.figures import sum_accounts
from sensor.capture.files.conversation import Call, Conversation, Kind, StreamFields
from sensor.capture.files.network import TcpSegment
from sensor.capture.syscalls.streams import join_bodies
from sensor.core.calls import CallFigures, Ends, Exchange, Role
from sensor.http.bodies import BodyRoom
from sensor.http.hpack import HuffmanStrings
from sensor.http.http1.grammar import RULES, Fault
from sensor.http.http1.head import shorten_head
from sensor.http.http1.pairs import Transaction
from sensor.http.http2.exchange import StreamExchange, build_stream_exchange
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import DirectedPiece, Direction, StreamCounts, TcpConnection, TcpFlag, TcpPacket

# With ~3 KB each, and what waits behind holes (sensor.http.reassembly) on top.
MAX_FLOWS: Final = 65_536

# Named in the account; those past it are counted together.
MAX_UNREAD_SERVERS: Final = 1_024
OTHER_SERVERS: Final = "other servers"

Endpoint = tuple[bytes, int]  # Packed address, port.
_Key = tuple[Endpoint, Endpoint]
_SYN, _ACK = int(TcpFlag.SYN), int(TcpFlag.ACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTransaction:
    """A transaction of HTTP/1 or a call of HTTP/2, and between whom it was."""

    transaction: Call
    connection: int  # 1, 2, 3 .. in the order of their first packets.
    client: Endpoint
    server: Endpoint
    fields: StreamFields | None = None  # Of HTTP/2, for `--raw`.


@dataclass(slots=True, kw_only=True)
class FlowCounts:
    """Account of a replay's connections; `unread_bytes` by reason."""

    flows: int = 0
    http_flows: int = 0
    http2_flows: int = 0  # Of those.
    joined_midstream: int = 0
    evicted: int = 0
    stray_segments: int = 0  # With data, after the end of their connection.
    streams: StreamCounts = field(default_factory=StreamCounts)  # Of both directions of all.
    heads_lost: int = 0
    unasked: int = 0  # Answers of HTTP/2 whose request was not seen.
    unread_bytes: Counter[str] = field(default_factory=Counter)
    unread_flows: Counter[str] = field(default_factory=Counter)
    unread_servers: Counter[tuple[str, str]] = field(default_factory=Counter)  # The same by protocol and server.


class _Flow:
    __slots__ = ("connection", "conversation", "first", "is_done", "number", "second", "syn_sequence")

    def __init__(self, number: int, first: Endpoint, second: Endpoint, conversation: Conversation) -> None:
        self.number = number
        self.first, self.second = first, second
        self.connection = TcpConnection()
        self.conversation = conversation
        self.syn_sequence: int | None = None
        self.is_done = False


class FlowTable:
    """Mutable state of all connections."""

    def __init__(self, *, has_decoded_sizes: bool = False) -> None:
        self._has_decoded_sizes = has_decoded_sizes
        self._bodies = BodyRoom()
        self._strings = HuffmanStrings()
        self._flows: OrderedDict[_Key, _Flow] = OrderedDict()
        self.counts = FlowCounts()

    def take(self, segment: TcpSegment, time_ns: int) -> Iterator[FlowTransaction]:
        """Transactions that this segment ended."""
        source, destination = (segment.source, segment.source_port), (segment.destination, segment.destination_port)
        key = (source, destination) if source < destination else (destination, source)
        flow = self._flows.get(key)
        is_opening = segment.flags & (_SYN | _ACK) == _SYN
        if flow is not None and is_opening and segment.sequence != flow.syn_sequence and flow.connection.packets:
            yield from self._finish(flow)  # The ports are used again.
            flow = None
        if flow is None:
            if not segment.length and not segment.flags & _SYN:
                return
            flow = self._open(key, source, destination, is_joined=not segment.flags & _SYN)
            yield from self._make_room()
        if flow.is_done:
            self.counts.stray_segments += bool(segment.length)
            return
        self._flows.move_to_end(key)
        direction = Direction.FORWARD if source == flow.first else Direction.BACKWARD
        if is_opening:
            flow.syn_sequence = segment.sequence
        packet = TcpPacket(
            segment.sequence, segment.acknowledgement, segment.flags, segment.data, time_ns, segment.length
        )
        yield from self._tell(flow, flow.connection.take(direction, packet))
        if flow.connection.is_closed:
            yield from self._finish(flow)

    def finish(self) -> Iterator[FlowTransaction]:
        """The capture ends."""
        for flow in self._flows.values():
            yield from self._finish(flow)

    def _open(self, key: _Key, first: Endpoint, second: Endpoint, *, is_joined: bool) -> _Flow:
        self.counts.flows += 1
        conversation = Conversation(
            self._strings, is_joined=is_joined, has_decoded_sizes=self._has_decoded_sizes, bodies=self._bodies
        )
        flow = self._flows[key] = _Flow(self.counts.flows, first, second, conversation)
        return flow

    def _make_room(self) -> Iterator[FlowTransaction]:
        while len(self._flows) > MAX_FLOWS:
            _, oldest = self._flows.popitem(last=False)
            if not oldest.is_done:
                self.counts.evicted += 1
                yield from self._finish(oldest)

    def _tell(self, flow: _Flow, pieces: Collection[DirectedPiece]) -> Iterator[FlowTransaction]:
        for direction, piece in pieces:
            for transaction in flow.conversation.take(direction, piece):
                yield self._name(flow, transaction)

    def _finish(self, flow: _Flow) -> Iterator[FlowTransaction]:
        if flow.is_done:
            return
        flow.is_done = True
        connection, conversation, counts = flow.connection, flow.conversation, self.counts
        yield from self._tell(flow, connection.finish())
        for transaction in conversation.finish(
            connection.last_ns, is_closed=lambda direction: connection.streams[direction].is_ended
        ):
            yield self._name(flow, transaction)
        counts.http_flows += conversation.is_http
        counts.http2_flows += conversation.kind is Kind.HTTP2
        counts.joined_midstream += connection.is_joined_midstream
        counts.heads_lost += conversation.heads_lost
        counts.unasked += conversation.unasked
        counts.streams = sum_accounts(StreamCounts, (counts.streams, *(one.counts for one in connection.streams)))
        counts.unread_bytes += conversation.unread
        if not conversation.is_http and conversation.unread:
            counts.unread_flows[conversation.kind] += 1
            address, port = flow.second if conversation.client is Direction.FORWARD else flow.first
            name = f"{conversation.server_name} at " if conversation.server_name else ""
            key = (str(conversation.kind), f"{name}{format_address(address)}:{port}")
            is_named = key in counts.unread_servers or len(counts.unread_servers) < MAX_UNREAD_SERVERS
            counts.unread_servers[key if is_named else (key[0], OTHER_SERVERS)] += 1
        flow.connection, flow.conversation = (
            TcpConnection(),
            Conversation(self._strings),
        )  # Remembered without its state.
        flow.connection.packets = 1

    @staticmethod
    def _name(flow: _Flow, transaction: Call) -> FlowTransaction:
        is_forward = flow.conversation.client is Direction.FORWARD
        client, server = (flow.first, flow.second) if is_forward else (flow.second, flow.first)
        fields = flow.conversation.pop_fields(transaction.stream) if isinstance(transaction, StreamCall) else None
        return FlowTransaction(
            transaction=transaction, connection=flow.number, client=client, server=server, fields=fields
        )


def format_address(packed: bytes) -> str:
    """Textual IPv4 or IPv6 (mapped IPv4 as IPv4)."""
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


NO_REQUEST: Final = "request_not_seen"
CUT_REQUEST: Final = "request_head_cut"
# bpf/conn.h, RESPONSE_COPY.
RESPONSE_HEAD_BYTES: Final = 1_024


def name_ends(flow: FlowTransaction) -> Ends:
    """The ends of a flow, as seen at the server's."""
    return Ends(
        connection=flow.connection,
        role=Role.SERVER,
        cgroup_id=0,
        peer_cgroup_id=0,
        local_address=format_address(flow.server[0]),
        local_port=flow.server[1],
        remote_address=format_address(flow.client[0]),
        remote_port=flow.client[1],
    )


def build_exchange(flow: FlowTransaction) -> Exchange | StreamExchange | str:
    """The exchange as seen at the server's end, or the fixed word for why there is none: no whole request head was
    seen."""
    transaction = flow.transaction
    if not isinstance(transaction, Transaction):  # Of HTTP/2, whose heads were read already.
        return build_stream_exchange(name_ends(flow), transaction, int)
    request, response = transaction.request, transaction.response
    if request is None:
        return NO_REQUEST
    if request.head is None or Fault.HEAD_CUT in request.faults:
        return CUT_REQUEST
    raw = request.head.raw
    head = shorten_head(raw)
    status_code, response_head, response_bytes = 0, b"", 0
    first_ns = last_ns = request.started_ns
    if response is not None:
        if response.head is not None:
            status_code, response_head = response.head.start.status_code, response.head.raw[:RESPONSE_HEAD_BYTES]
        response_bytes = response.wire_bytes + sum(interim.wire_bytes for interim in transaction.interim)
        first_ns, last_ns = response.started_ns, max(response.ended_ns, request.ended_ns)
    is_aborted = response is None or not response.is_complete
    request_bytes, socket = request.wire_bytes, transaction.socket
    messages: tuple[int | None, int | None] = (None, None)
    if socket is not None:
        request_bytes += socket.bytes[0]
        response_bytes += socket.bytes[1]
        last_ns = max(last_ns, socket.last_ns)
        messages = socket.counters[0].messages, socket.counters[1].messages
    figures = CallFigures(
        time_unix_ns=request.started_ns,
        status_code=status_code,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        time_to_first_byte_ns=max(first_ns - request.started_ns, 0),
        duration_ns=max(last_ns - request.started_ns, 0),
        calls=1,
        is_final=True,
        is_aborted=is_aborted and not transaction.is_lossy,
        is_lossy=transaction.is_lossy,
        is_ambiguous=any(RULES[fault].is_ambiguous for fault in request.faults),
    )
    return Exchange(
        name_ends(flow),
        figures,
        transaction.number,
        head,
        len(head) < len(raw),
        response_head,
        bodies=join_bodies(request, response),
        request_messages=messages[0],
        response_messages=messages[1],
    )
