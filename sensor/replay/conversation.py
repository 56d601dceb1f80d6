"""Which protocol the two ends of a connection speak, and its reader: pieces of both directions in, transactions out.

The one place that chooses. A protocol with a reader gets what was said so far and all that follows; the bytes of the
others are counted by the protocol's name, never dropped in silence. What a CONNECT or an `Upgrade: h2c` leads to is a
conversation of its own.
"""

import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from sensor.protocols.http1_pairs import Http1Connection, Transaction
from sensor.reassembly.connection import DirectedPiece, Direction
from sensor.reassembly.stream import Chunk, Piece

# Chunks looked at in each direction before a connection is given up as another protocol; the kernel looks at as many
# messages (bpf/conn.h, TRIES_MAX). A capture that joined in the middle of a body needs some.
MAX_TRIES: Final = 8
# A start line in tiny segments is recognized once so much of it is here; before that nothing is given up.
ENOUGH_BYTES: Final = 64
# Kept until the protocol is known.
MAX_UNDECIDED_BYTES: Final = 256 << 10
MAX_NESTING: Final = 4

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
    TLS = "tls"
    OTHER = "other_protocol"
    UPGRADED = "upgraded"
    UNDECIDED = "undecided"
    TUNNEL = "tunnel"


class Reader(Protocol):
    """Reads one protocol."""

    unread_bytes: int

    def take(self, piece: Piece, *, is_request: bool) -> list[Transaction]:
        """Takes the next piece of a direction."""
        ...

    def finish(self, *, is_closed: bool) -> list[Transaction]:
        """Nothing more comes."""
        ...


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

    def __init__(self, *, has_decoded_sizes: bool = False, nesting: int = 0) -> None:
        self._has_decoded_sizes = has_decoded_sizes
        self.kind = Kind.UNDECIDED
        self.client = Direction.FORWARD  # The direction that requests travel in, once known.
        self._http1: Http1Connection | None = None
        self._nested: Conversation | None = None
        self._nesting = nesting
        self._undecided: list[DirectedPiece] = []
        self._undecided_bytes = 0
        self._begun = [b"", b""]  # What each direction began with, so far as it is needed to recognize it.
        self._tries = [0, 0]
        self._unread: Counter[str] = Counter()

    def take(self, direction: Direction, piece: Piece) -> list[Transaction]:
        """Takes the next piece of a direction."""
        if self._http1 is not None:
            return self._take_http1(self._http1, direction, piece)
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
        if max(self._tries) >= MAX_TRIES or self._undecided_bytes > MAX_UNDECIDED_BYTES:
            return self._decide(Kind.OTHER, direction)
        return []

    def finish(self, *, is_closed: Callable[[Direction], bool]) -> list[Transaction]:
        """Nothing more comes; `is_closed` says whether a direction was ended by its sender."""
        done: list[Transaction] = []
        if self._http1 is not None:
            done += self._http1.finish(is_closed=is_closed(Direction(1 - self.client)))
            lost = self._http1.unread_bytes - self._unread[Kind.TUNNEL]
            self._unread[Kind.UPGRADED if self._http1.is_upgraded else Kind.HTTP1] += lost
        elif self.kind is Kind.UNDECIDED:
            for _, piece in self._undecided:
                self._count(piece)
        del self._unread[Kind.TUNNEL]
        if self._nested is not None:
            done += self._nested.finish(is_closed=is_closed)
            self._unread += self._nested.unread
        return done

    @property
    def unread(self) -> Counter[str]:
        """Bytes of no transaction by reason; whole after `finish`."""
        return self._unread

    @property
    def heads_lost(self) -> int:
        """Messages whose head was never whole."""
        nested = self._nested.heads_lost if self._nested is not None else 0
        return nested + (self._http1.heads_lost if self._http1 is not None else 0)

    @property
    def is_http(self) -> bool:
        """Transactions are read of it."""
        return self._http1 is not None

    def _recognize(self, direction: Direction, data: bytes) -> tuple[Kind, bool] | None:
        """By what the direction began with, or, where the capture joined in the middle, by the start of a chunk."""
        begun = self._begun[direction]
        if len(begun) < ENOUGH_BYTES:
            begun = self._begun[direction] = begun + data[:ENOUGH_BYTES]
        self._tries[direction] += len(begun) >= ENOUGH_BYTES
        return recognize(begun) or recognize(data)

    def _decide(self, kind: Kind, client: Direction) -> list[Transaction]:
        self.kind, self.client = kind, client
        waiting, self._undecided = self._undecided, []
        if kind is Kind.HTTP1:
            self._http1 = Http1Connection(has_decoded_sizes=self._has_decoded_sizes)
        return [each for direction, piece in waiting for each in self.take(direction, piece)]

    def _take_http1(self, http1: Http1Connection, direction: Direction, piece: Piece) -> list[Transaction]:
        if self._nested is not None:
            if isinstance(piece, Chunk):
                self._unread[Kind.TUNNEL] += len(piece.data)
            http1.take(piece, is_request=direction == self.client)
            return self._nested.take(direction, piece)
        before = http1.unread_bytes
        done = http1.take(piece, is_request=direction == self.client)
        if http1.is_upgraded and self._nesting < MAX_NESTING:
            self._nested = Conversation(has_decoded_sizes=self._has_decoded_sizes, nesting=self._nesting + 1)
            rest = http1.unread_bytes - before
            if rest and isinstance(piece, Chunk):
                self._unread[Kind.TUNNEL] += rest
                at = len(piece.data) - rest
                rest_of = Chunk(piece.position + at, piece.data[at:], piece.time_ns, piece.acknowledged)
                done += self._nested.take(direction, rest_of)
        return done

    def _count(self, piece: Piece) -> None:
        if isinstance(piece, Chunk):
            self._unread[self.kind] += len(piece.data)
