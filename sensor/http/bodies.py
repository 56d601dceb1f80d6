"""Beginnings and ends of bodies that are kept while their calls go on: the room for all, and those of a stream of
HTTP/2.

Bodies of a stream come without frames and padding, and are bounded by side and by connection. Bytes that were not
copied or found no room end their side, and what came before stays. Bodies are never logged or exported.
"""

import re
from typing import Final

import msgspec

# As much of a body as the kernel copies (bpf/bodies.h, BODY_COPY; bpf/http2_data.h, STREAM_COPY).
BODY_BYTES_MAX: Final = 65_536
# Of an answer that says what an MCP server has (bpf/bodies.h, LIST_COPY), whose request names such a method this early.
LIST_BYTES_MAX: Final = 262_144
_LIST_SIGN: Final = re.compile(rb'\{[^\0]*?"method"\s*:\s*"[a-z/]{1,40}s/list"')
_LIST_SIGN_BYTES: Final = 128
LAST_BYTES_MAX: Final = 2_048  # Kept of the end of a response that is longer.
ROOM_BYTES: Final = 64 << 20
# Of all open streams of a connection.
CONNECTION_BYTES_MAX: Final = 512 << 10
# As the kernel chooses streams (bpf/http2_data.h): the first ones of a connection, then one a second.
FIRST_STREAMS: Final = 20
_SECOND_NS: Final = 1_000_000_000


def find_most(request: bytes | bytearray) -> int:
    """How much is kept of the answer to a request with such a body."""
    return LIST_BYTES_MAX if _LIST_SIGN.match(request[:_LIST_SIGN_BYTES]) else BODY_BYTES_MAX


class BodyRoom:
    """Room for the bodies of all connections; past it the beginnings stay shorter."""

    __slots__ = ("_free_bytes",)

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._free_bytes = room_bytes

    def add_data(self, body: bytearray, data: bytes, most: int = BODY_BYTES_MAX) -> bool:
        """Appends what fits of the next bytes of a body; says whether it was all, else no more of it is to come."""
        taken = min(len(data), most - len(body), self._free_bytes)
        if taken > 0:
            body += data[:taken]
            self._free_bytes -= taken
        return taken == len(data)

    def may_begin(self) -> bool:
        """Whether another body is kept."""
        return self._free_bytes > 0

    def hold(self, size: int) -> None:
        """So many bytes more, or fewer, are held elsewhere, and are to count."""
        self._free_bytes -= size

    def spend(self, size: int) -> None:
        """So many bytes of bodies are kept elsewhere."""

    def release(self, body: bytearray) -> None:
        """The body's transaction is over; whoever has it keeps it."""
        self._free_bytes += len(body)


class StreamSamples:
    """Chooses the streams of a connection whose bodies are kept, where the kernel does not. Mutable."""

    __slots__ = ("_count", "_first_count", "_next_ns", "budget")

    def __init__(self, budget: BodyRoom, first_count: int = FIRST_STREAMS) -> None:
        """`first_count` streams are kept before one a second is."""
        self.budget = budget
        self._first_count = first_count
        self._count = 0
        self._next_ns = 0

    def choose(self, time_ns: int) -> bool:
        """Whether a stream whose first DATA came now is one."""
        if self._count >= self._first_count and time_ns < self._next_ns:
            return False
        if not self.budget.may_begin():
            return False
        self._count += 1
        self._next_ns = time_ns + _SECOND_NS
        return True


class StreamBodies(msgspec.Struct, frozen=True, gc=False):
    """Beginnings of both bodies of a call. Private to the node; ends in `sensor.describe.bodies`."""

    request: bytes
    response: bytes
    is_request_whole: bool
    is_response_whole: bool
    response_coding: bytes  # `content-encoding`.
    head_bytes: int  # Of the response, all that is no payload of DATA.
    response_last: bytes = b""  # Of a longer response its last bytes, where these came.

    def __repr__(self) -> str:
        return f"StreamBodies({len(self.request)} and {len(self.response)} bytes, redacted)"


class GatheredBodies:
    """Mutable state of one open stream."""

    __slots__ = ("_data", "_is_cut", "_last", "_response_data")

    def __init__(self) -> None:
        self._data = bytearray(), bytearray()
        self._is_cut = [False, False]
        self._last = b""
        self._response_data = 0  # Bytes of the response's body, copied or not.

    def __len__(self) -> int:
        return len(self._data[0]) + len(self._data[1])

    def add_payload(self, side: int, payload: bytes, room: int) -> int:
        """Keeps what comes next of a side; returns how many bytes were kept, 0 where there is no room for all."""
        data = self._data[side]
        self._response_data += side * len(payload)
        if self._is_cut[side] or len(payload) > room or len(data) + len(payload) > BODY_BYTES_MAX:
            self._is_cut[side] = True
            if side:
                self._last = (self._last + payload)[-LAST_BYTES_MAX:]
            return 0
        data += payload
        return len(payload)

    def cut_side(self, side: int, size: int) -> None:
        """So many bytes of a side did not come."""
        self._is_cut[side] = True
        self._response_data += side * size
        if side:
            self._last = b""  # What came before these is not the end, and joins nothing that comes behind them.

    def make_bodies(
        self, *, is_request_whole: bool, is_response_whole: bool, coding: bytes, response_bytes: int
    ) -> StreamBodies:
        """What came; the flags say whether the sides ended as they should, `response_bytes` is all of the response."""
        request, response = self._data
        is_request_cut, is_response_cut = self._is_cut
        return StreamBodies(
            bytes(request),
            bytes(response),
            is_request_whole and not is_request_cut,
            is_response_whole and not is_response_cut,
            coding,
            response_bytes - self._response_data,
            self._last,
        )
