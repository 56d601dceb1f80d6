"""Recognises the protocol of a connection and reads it: pieces of both directions in, transactions or calls out.

This is the one place that chooses. A protocol with a reader gets what was sent so far and all that follows. Bytes of
other protocols are counted by the protocol's name, never dropped in silence. What follows a CONNECT or an `Upgrade:
h2c` is a nested conversation.

`FieldKeeper` keeps the header fields and body sizes of HTTP/2 calls for `--raw`, which the sensor itself drops.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from common.bounded import BoundedDict
from sensor.http.bodies import BodyRoom, StreamSamples
from sensor.http.hpack import Field, HeaderBlock, HuffmanStrings
from sensor.http.http1.head import Malformed, parse_request_head
from sensor.http.http1.pairs import Http1Connection, Message, Transaction
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.frames import HEADER_BYTES, FrameKind, unpack_header
from sensor.http.http2.heads import read_response
from sensor.http.http2.reader import BoundarySearch
from sensor.http.http2.streams import REQUEST, RESPONSE, StreamCall
from sensor.http.reassembly import Chunk, DirectedPiece, Direction, Piece
from sensor.http.tls_hello import parse_client_hello
from sensor.http.websocket import WebSocket

# As many as one connection may have open (docs/internals/http2.md); past it the oldest go.
STREAMS_MAX: Final = 4_096


class StreamFields:
    """Of one call: the fields of both heads in their order, and the bytes of both bodies."""

    __slots__ = ("body_bytes", "heads")

    def __init__(self) -> None:
        self.heads: list[list[Field]] = [[], []]
        self.body_bytes = [0, 0]

    def __repr__(self) -> str:
        return f"StreamFields({len(self.heads[0])} and {len(self.heads[1])} fields, redacted)"


class FieldKeeper:
    """Those of one connection's open calls; a `StreamObserver`. Mutable."""

    def __init__(self) -> None:
        self._streams: BoundedDict[int, StreamFields] = BoundedDict(STREAMS_MAX)

    def see_head(self, stream: int, side: int, block: HeaderBlock) -> None:
        """Keeps the first head of a side: of a response the final one, not what comes before or behind it."""
        kept = self._find(stream).heads
        if kept[side] or (side == RESPONSE and not _is_final(block)):
            return
        kept[side] = block.fields

    def see_data(self, stream: int, side: int, size: int) -> None:
        """Adds to the size of a body."""
        self._find(stream).body_bytes[side] += size

    def keep_upgraded(self, fields: Iterable[tuple[bytes, bytes]], body_bytes: int) -> None:
        """The request of HTTP/1 that became stream 1; names in lower case, as HTTP/2 has them."""
        first = self._find(1)
        first.heads[REQUEST] = [(name.lower(), value) for name, value in fields]
        first.body_bytes[REQUEST] = body_bytes

    def pop(self, stream: int) -> StreamFields | None:
        """Those of a call that is told."""
        return self._streams.pop(stream, None)

    def _find(self, stream: int) -> StreamFields:
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = StreamFields()
        return found


def _is_final(block: HeaderBlock) -> bool:
    response = read_response(block)
    status = response.status_code or response.inferred_status_code
    return status >= 200 or (response.has_status and not status)


# Chunks looked at in each direction before a connection is given up as another protocol; the kernel looks at as many
# messages (bpf/conn.h, TRIES_MAX). A capture that joined in the middle of a body needs some.
MAX_TRIES: Final = 8
# Of a connection that was joined, whose first frame may be some 16 KiB of DATA in segments of a network.
MAX_JOINED_TRIES: Final = 64
# A start line in tiny segments is recognized once so much of it is here; before that nothing is given up.
ENOUGH_BYTES: Final = 64
# Kept until the protocol is known.
MAX_UNDECIDED_BYTES: Final = 256 << 10
MAX_NESTING: Final = 4
_ALL: Final = 1 << 62  # Streams, whose bodies are all kept.

_REQUEST = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} +[^\x00-\x20]{1,8192}(?: [^\r\n]*)? HTTP/1\.|"
                      rb"(?:GET|HEAD|POST) /[^\x00-\x20]*\r?\n|"
                      rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) [/*hA-Za-z0-9\[]")  # fmt: skip
_RESPONSE = re.compile(rb"HTTP/1\.\d ")
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
# ContentType handshake, major version 3: RFC 8446, section 5.1.
_TLS = re.compile(rb"\x16\x03[\x00-\x04]")


class Kind(StrEnum):
    """Protocols by the name that the account of unread bytes uses."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    WEBSOCKET = "websocket"
    TLS = "tls"
    OTHER = "other_protocol"
    UPGRADED = "upgraded"
    UNDECIDED = "undecided"
    TUNNEL = "tunnel"


Call = Transaction | StreamCall


def _join_chunks(pieces: Iterable[DirectedPiece], direction: Direction) -> bytes:
    """What was seen of one direction, in order."""
    return b"".join(piece.data for way, piece in pieces if way is direction and isinstance(piece, Chunk))


def recognize(data: bytes) -> tuple[Kind, bool] | None:
    """The protocol that a chunk starts with, and whether the client sent it; None: it says neither."""
    if data.startswith(_HTTP2_PREFACE):
        return Kind.HTTP2, True
    if _RESPONSE.match(data):
        return Kind.HTTP1, False
    if _REQUEST.match(data.lstrip(b"\r\n")):
        return Kind.HTTP1, True
    if _TLS.match(data):
        return Kind.TLS, True
    return None


class Conversation:
    """Mutable state of one."""

    def __init__(
        self,
        strings: HuffmanStrings,
        *,
        is_joined: bool = False,
        has_decoded_sizes: bool = False,
        bodies: BodyRoom | None = None,
        nesting: int = 0,
    ) -> None:
        """`strings` and `bodies` may serve all conversations; `is_joined`: the beginning was missed."""
        self._is_joined = is_joined
        self._strings = strings
        self._has_decoded_sizes = has_decoded_sizes
        self._bodies = bodies
        self.kind = Kind.UNDECIDED
        self.client = Direction.FORWARD  # The direction that requests travel in, once known.
        self.server_name = ""  # That the client of TLS asked for.
        self._http1: Http1Connection | None = None
        self._http2: Http2Connection | None = None
        self._nested: Conversation | None = None
        self._socket: WebSocket | None = None
        self._opener: Transaction | None = None  # The call that became it.
        self._nesting = nesting
        self._undecided: list[DirectedPiece] = []
        self._undecided_bytes = 0
        self._fields: FieldKeeper | None = None
        # Of a connection that was joined: where frames of HTTP/2 begin in each direction, and how often they seemed to.
        self._searches = (BoundarySearch(0, 0), BoundarySearch(0, 0)) if is_joined else None
        self._framed = 0
        self._begun = [b"", b""]  # What each direction began with, so far as it is needed to recognize it.
        self._tries = [0, 0]
        self._unread: Counter[str] = Counter()

    def take(self, direction: Direction, piece: Piece) -> list[Call]:
        """Takes the next piece of a direction."""
        if self._http1 is not None:
            return self._take_http1(self._http1, direction, piece)
        if self._http2 is not None:
            return self._take_http2(self._http2, direction, piece)
        if self._socket is not None:
            self._take_socket(self._socket, direction, piece)
            return []
        if self.kind is not Kind.UNDECIDED:
            self._count(piece)
            return []
        self._undecided.append((direction, piece))
        if not isinstance(piece, Chunk):
            return []
        self._undecided_bytes += len(piece.data)
        found = self._recognize(direction, piece.data)
        if found is not None:
            return self._decide(found[0], direction if found[1] else Direction(1 - direction))
        if (
            max(self._tries) >= (MAX_JOINED_TRIES if self._is_joined else MAX_TRIES)
            or self._undecided_bytes > MAX_UNDECIDED_BYTES
        ):
            return self._decide(Kind.OTHER, direction)
        return []

    def finish(self, time_ns: int, *, is_closed: Callable[[Direction], bool]) -> list[Call]:
        """Nothing more comes after `time_ns`; `is_closed` says whether a direction was ended by its sender."""
        done: list[Call] = []
        if self._http1 is not None:
            done += self._http1.finish(is_closed=is_closed(Direction(1 - self.client)))
            lost = self._http1.unread_bytes - self._unread[Kind.TUNNEL]
            self._unread[Kind.UPGRADED if self._http1.is_upgraded else Kind.HTTP1] += lost
        elif self._http2 is not None:
            calls: list[StreamCall] = []
            if self._bodies is not None:
                self._bodies.hold(-self._http2.held_bytes)
            self._http2.close(time_ns, calls)
            done += calls
            self._unread[Kind.HTTP2] += self._http2.counts.skipped_bytes
        elif self._opener is not None:
            done.append(self._opener)
        elif self.kind is Kind.UNDECIDED:
            for _, piece in self._undecided:
                self._count(piece)
        del self._unread[Kind.TUNNEL]
        if self._nested is not None:
            done += self._nested.finish(time_ns, is_closed=is_closed)
            self._unread += self._nested.unread
        return done

    @property
    def unread(self) -> Counter[str]:
        """Bytes of no transaction by reason; whole after `finish`."""
        return self._unread

    @property
    def heads_lost(self) -> int:
        """Messages of HTTP/1 whose head was never whole."""
        nested = self._nested.heads_lost if self._nested is not None else 0
        return nested + (self._http1.heads_lost if self._http1 is not None else 0)

    @property
    def unasked(self) -> int:
        """Answers of HTTP/2 whose request was not seen: calls that are not told."""
        nested = self._nested.unasked if self._nested is not None else 0
        return nested + (self._http2.counts.unasked if self._http2 is not None else 0)

    def pop_fields(self, stream: int) -> StreamFields | None:
        """What `--raw` tells of a call of HTTP/2 that ended."""
        if self._nested is not None:
            return self._nested.pop_fields(stream)
        return self._fields.pop(stream) if self._fields is not None else None

    @property
    def is_http(self) -> bool:
        """Transactions are read of it."""
        return self._http1 is not None or self._http2 is not None

    def _recognize(self, direction: Direction, data: bytes) -> tuple[Kind, bool] | None:
        """By what the direction began with, or, where the capture joined in the middle, by the start of a chunk."""
        begun = self._begun[direction]
        if len(begun) < ENOUGH_BYTES:
            begun = self._begun[direction] = begun + data[:ENOUGH_BYTES]
        self._tries[direction] += len(begun) >= ENOUGH_BYTES
        found = recognize(begun) or recognize(data)
        if found is None and self._searches is not None and self._is_framed(self._searches[direction], data):
            return Kind.HTTP2, True  # Who the client is, its connection finds out.
        return found

    def _is_framed(self, search: BoundarySearch, data: bytes) -> bool:
        """Whether the middle of HTTP/2 was joined: a head, more than one frame, or a whole one twice (as the kernel
        finds it, sensor/ebpf/bpf/http2_signs.h)."""
        at = search.add_segment(data)
        if at is None:
            return False
        self._framed += 1
        frames = search.kept[at:]
        if self._framed > 1 or len(frames) < HEADER_BYTES:
            return True
        length, kind, _, _ = unpack_header(bytes(frames[:HEADER_BYTES]), 0)
        return kind == FrameKind.HEADERS or len(frames) > HEADER_BYTES + length

    def _decide(self, kind: Kind, client: Direction, *, is_whole: bool = False) -> list[Call]:
        """`is_whole`: the conversation is known to begin here."""
        self.kind, self.client = kind, client
        waiting, self._undecided, self._searches = self._undecided, [], None
        if kind is Kind.TLS:
            hello = parse_client_hello(_join_chunks(waiting, client))
            self.server_name = hello.server_name if hello is not None else ""
        if kind is Kind.HTTP1:
            self._http1 = Http1Connection(
                is_joined=self._is_joined, has_decoded_sizes=self._has_decoded_sizes, bodies=self._bodies
            )
        elif kind is Kind.HTTP2:
            # What begins with its preface has missed nothing, wherever the capture joined.
            is_whole = is_whole or self._begun[client].startswith(_HTTP2_PREFACE)
            self._http2 = Http2Connection(self._strings, is_joined=not is_whole, client=client if is_whole else None)
            if self._bodies is not None:
                self._http2.samples = StreamSamples(self._bodies, _ALL)
            if self._has_decoded_sizes:
                self._http2.observer = self._fields = FieldKeeper()
        return [each for direction, piece in waiting for each in self.take(direction, piece)]

    def _take_http2(self, http2: Http2Connection, direction: Direction, piece: Piece) -> list[Call]:
        calls: list[StreamCall] = []
        held = http2.held_bytes
        http2.take_piece(direction, piece, calls)
        if self._bodies is not None:
            self._bodies.hold(http2.held_bytes - held)
        if http2.client is not None:
            self.client = http2.client
        return list(calls)

    def _take_http1(self, http1: Http1Connection, direction: Direction, piece: Piece) -> list[Call]:
        if self._nested is not None:
            if isinstance(piece, Chunk):
                self._unread[Kind.TUNNEL] += len(piece.data)
            http1.take_piece(piece, is_request=direction == self.client)
            return self._nested.take(direction, piece)
        before = http1.unread_bytes
        done: list[Call] = list(http1.take_piece(piece, is_request=direction == self.client))
        if not http1.is_upgraded or self._nesting >= MAX_NESTING:
            return done
        self._nested = Conversation(
            self._strings, has_decoded_sizes=self._has_decoded_sizes, bodies=self._bodies, nesting=self._nesting + 1
        )
        done = [each for each in done if not self._upgrade(self._nested, each)]
        rest = http1.unread_bytes - before
        if rest and isinstance(piece, Chunk):
            self._unread[Kind.TUNNEL] += rest
            at = len(piece.data) - rest
            rest_of = Chunk(piece.position + at, piece.data[at:], piece.time_ns, piece.acknowledged)
            done += self._nested.take(direction, rest_of)
        return done

    def _upgrade(self, nested: "Conversation", call: Call) -> bool:
        """Whether this call goes on: as the first stream of HTTP/2 (RFC 7540, section 3.2), which tells it, or as a
        WebSocket, at whose end it is told."""
        request = call.request if isinstance(call, Transaction) and call.is_upgraded else None
        if not isinstance(request, Message) or request.head is None:
            return False
        protocol = (request.head.get(b"upgrade") or b"").strip().lower()
        if protocol == b"websocket" and isinstance(call, Transaction):
            nested.kind, nested.client = Kind.WEBSOCKET, self.client
            nested._opener, nested._socket = call, WebSocket()
            call.socket = nested._socket
            return True
        if protocol != b"h2c":
            return False
        head = parse_request_head(request.head.raw, False)
        if isinstance(head, Malformed):
            return False
        nested._decide(Kind.HTTP2, self.client, is_whole=True)
        assert nested._http2 is not None
        nested._http2.open_upgraded(head, [], started_ns=request.started_ns, request_bytes=request.wire_bytes)
        if nested._fields is not None:
            nested._fields.keep_upgraded(request.head.fields, request.body_bytes)
        return True

    def _take_socket(self, socket: WebSocket, direction: Direction, piece: Piece) -> None:
        is_request = direction == self.client
        if isinstance(piece, Chunk):
            socket.feed(piece.data, piece.time_ns, is_request=is_request)
        else:
            socket.skip(piece.length, is_request=is_request)

    def _count(self, piece: Piece) -> None:
        if isinstance(piece, Chunk):
            self._unread[self.kind] += len(piece.data)
