"""Frames of HTTP/2 (RFC 9113, sections 4 and 6): their numbers, which headers are valid, their fields, and counters.

    +-----------------------------------------------+
    |                 Length (24)                   |
    +---------------+---------------+---------------+
    |   Type (8)    |   Flags (8)   |
    +-+-------------+---------------+-------------------------------+
    |R|                 Stream Identifier (31)                      |
    +=+=============================================================+
    |                   Frame Payload (0...)                      ...

Validity is a table. A header that an endpoint refuses with a connection error is not a frame here either, because the
peers exchange nothing after it. The same table recognises a place in a stream as the start of a frame.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from common.figures import total

HEADER_BYTES: Final = 9
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # Section 3.4.
MAX_FRAME_BYTES: Final = (1 << 24) - 1
DEFAULT_MAX_FRAME_BYTES: Final = 16_384  # Section 6.5.2, until SETTINGS allow more.


class FrameKind(IntEnum):
    """Section 6; higher numbers are extensions and skipped (section 5.5)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


# A kind that nobody uses, for what the kernel passed over: frames that are not read, told as one without payload.
PASSED_OVER: Final = 0xFF


class FrameFlag(IntFlag):
    """Section 6; ACK (of SETTINGS and PING) has the bit of END_STREAM."""

    END_STREAM = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 32


class ErrorCode(IntEnum):
    """Section 7; those that are read or told."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FRAME_SIZE_ERROR = 6


class Setting(IntEnum):
    """Section 6.5.2; those that are read."""

    HEADER_TABLE_SIZE = 1
    MAX_FRAME_SIZE = 5


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame, or a part of a DATA frame, or several DATA frames of one stream that were counted and not copied.

    Frames of one direction leave no hole: what the kernel passes over it tells as `PASSED_OVER`. A hole is a loss.
    Padding and priority fields of HEADERS and PUSH_PROMISE are in `payload`; those of DATA are not.
    """

    position: int  # Of its first byte in its direction.
    wire_bytes: int  # Covered by it, frame headers and padding included.
    time_ns: int  # When its last byte was seen.
    kind: int  # FrameKind, or an extension.
    flags: int  # END_STREAM of a DATA frame is on its last part only.
    stream: int
    payload: bytes | None  # None: not copied.
    payload_bytes: int  # Of DATA without padding, as far as that is known.
    is_message: bool = False  # DATA that was not copied and is just one message of gRPC.
    is_sampled: bool = False  # DATA that the kernel copied for its own sake.

    def __repr__(self) -> str:
        return f"Frame(position={self.position}, kind={self.kind}, flags={self.flags}, stream={self.stream}, redacted)"


class Prefaced(msgspec.Struct, frozen=True, gc=False):
    """The client's preface was seen: this direction is the client's, and nothing was missed before."""


class Lost(msgspec.Struct, frozen=True, gc=False):
    """The place in the stream was lost at `position`: frames may be missing from here on."""

    position: int
    error: ErrorCode  # NO_ERROR: bytes were missing; else what was wrong with a frame.


FrameEvent = Prefaced | Frame | Lost


class _Rule(msgspec.Struct, frozen=True):
    """What a valid header of one kind is like."""

    has_stream: bool | None  # None: either.
    flags: int  # All that are defined; others must be ignored (section 4.1), so they only count against a guess.
    least_bytes: int = 0
    most_bytes: int = MAX_FRAME_BYTES
    unit_bytes: int = 1  # The length is a multiple of it.


_RULES: Final = {
    FrameKind.DATA: _Rule(True, 0x9),
    FrameKind.HEADERS: _Rule(True, 0x2D),
    FrameKind.PRIORITY: _Rule(True, 0, 5, 5),
    FrameKind.RST_STREAM: _Rule(True, 0, 4, 4),
    FrameKind.SETTINGS: _Rule(False, 0x1, unit_bytes=6),
    FrameKind.PUSH_PROMISE: _Rule(True, 0xC, 4),
    FrameKind.PING: _Rule(False, 0x1, 8, 8),
    FrameKind.GOAWAY: _Rule(False, 0, 8),
    FrameKind.WINDOW_UPDATE: _Rule(None, 0, 4, 4),
    FrameKind.CONTINUATION: _Rule(True, 0x4),
}
_RULE_LIST: Final = list(_RULES.values())  # By kind.

# Plain ints: an operation on members of a flag costs 1 us, on their numbers 0.03.
_END_STREAM, _PADDED, _PRIORITY = int(FrameFlag.END_STREAM), int(FrameFlag.PADDED), int(FrameFlag.PRIORITY)
_HEADERS, _SETTINGS, _PUSH_PROMISE = int(FrameKind.HEADERS), int(FrameKind.SETTINGS), int(FrameKind.PUSH_PROMISE)
_WINDOW_UPDATE, _CONTINUATION = int(FrameKind.WINDOW_UPDATE), int(FrameKind.CONTINUATION)
_KINDS: Final = len(_RULE_LIST)
_NO_ERROR: Final = ErrorCode.NO_ERROR

# Where a place is only guessed to be a frame, more is asked of it than of one that is known to be.
_GUESSED_BYTES: Final = {
    FrameKind.SETTINGS: 120,  # 20 settings; nine are registered.
    FrameKind.GOAWAY: 1_024,  # With a debug text.
    FrameKind.HEADERS: 65_536,
    FrameKind.PUSH_PROMISE: 65_536,
    FrameKind.CONTINUATION: 65_536,
}


def check_header(kind: int, flags: int, stream: int, length: int, max_frame_bytes: int) -> ErrorCode:
    """Why a peer must end the connection over this header; NO_ERROR where it is valid or an extension's."""
    if length > max_frame_bytes:
        return ErrorCode.FRAME_SIZE_ERROR
    if kind >= _KINDS:
        return _NO_ERROR
    rule = _RULE_LIST[kind]
    if rule.has_stream is not None and rule.has_stream != (stream != 0):
        return ErrorCode.PROTOCOL_ERROR
    if length < rule.least_bytes or length > rule.most_bytes or length % rule.unit_bytes:
        return ErrorCode.FRAME_SIZE_ERROR
    if kind == _SETTINGS and flags & _END_STREAM and length:
        return ErrorCode.FRAME_SIZE_ERROR
    return _NO_ERROR


def is_plausible(header: bytes, max_stream: int) -> bool:
    """Whether nine bytes at a place that is not known to be a frame's start look like the header of one.

    `max_stream` bounds stream numbers; those of pushed streams (even) are not taken.
    """
    length, kind, flags, stream = unpack_header(header, 0)
    if kind >= _KINDS or header[5] & 0x80:
        return False
    if stream and (stream > max_stream or not stream & 1):
        return False
    if flags & ~_RULE_LIST[kind].flags:
        return False
    if kind in (_HEADERS, _CONTINUATION) and not length:
        return False
    most = _GUESSED_BYTES.get(FrameKind(kind), MAX_FRAME_BYTES)
    return check_header(kind, flags, stream, length, most) is _NO_ERROR


def unpack_header(data: bytes | bytearray, at: int) -> tuple[int, int, int, int]:
    """(length, kind, flags, stream) of the nine bytes at `at`. The reserved bit is ignored (section 4.1)."""
    return (
        data[at] << 16 | data[at + 1] << 8 | data[at + 2],
        data[at + 3],
        data[at + 4],
        (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8],
    )


def check_payload(kind: int, flags: int, payload: bytes) -> ErrorCode:
    """Why a peer must end the connection over this payload (of any kind but DATA); the header was valid."""
    if (kind == _HEADERS and flags & (_PADDED | _PRIORITY)) or kind == _PUSH_PROMISE:
        is_padded = bool(flags & _PADDED)
        room = len(payload) - is_padded - _count_fixed_bytes(kind, flags)
        if room < 0:
            return ErrorCode.FRAME_SIZE_ERROR
        if is_padded and payload[0] > room:
            return ErrorCode.PROTOCOL_ERROR
    if kind == _WINDOW_UPDATE and not int.from_bytes(payload) & 0x7FFFFFFF:
        return ErrorCode.PROTOCOL_ERROR
    if kind == _PUSH_PROMISE:
        promised = read_promised_stream(flags, payload)
        if not promised or promised & 1:
            return ErrorCode.PROTOCOL_ERROR
    return _NO_ERROR


def _count_fixed_bytes(kind: int, flags: int) -> int:
    """Bytes before the fragment, without the length of padding."""
    if kind == _PUSH_PROMISE:
        return 4
    return 5 if kind == _HEADERS and flags & _PRIORITY else 0


def read_fragment(kind: int, flags: int, payload: bytes) -> bytes:
    """The part of a header block in the payload of HEADERS, PUSH_PROMISE or CONTINUATION, which was checked."""
    if kind == _CONTINUATION or (not flags & (_PADDED | _PRIORITY) and kind == _HEADERS):
        return payload
    start, end = _count_fixed_bytes(kind, flags), len(payload)
    if flags & _PADDED:
        start, end = start + 1, end - payload[0]
    return payload[start:end]


def read_promised_stream(flags: int, payload: bytes) -> int:
    """Section 6.6."""
    start = 1 if flags & _PADDED else 0
    return int.from_bytes(payload[start : start + 4]) & 0x7FFFFFFF


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Section 6.5.1: (identifier, value), in order."""
    return [
        (int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        for at in range(0, len(payload) - 5, 6)
    ]


def read_goaway(payload: bytes) -> tuple[int, int]:
    """Section 6.8: (last stream that was or may be handled, error code)."""
    return int.from_bytes(payload[:4]) & 0x7FFFFFFF, int.from_bytes(payload[4:8])


@dataclass(slots=True)
class Http2Counts:
    """Account of one connection, both directions together."""

    requests: int = total("Requests of HTTP/2 whose header block was read.")
    told: int = total("Calls of HTTP/2 that were reported, each once.", name="http2_calls")
    given_up: int = total(
        "Calls of HTTP/2 reported as ended because a loss left their end in doubt.", name="http2_given_up_calls"
    )
    orphan_responses: int = total("Responses of HTTP/2 whose request was not seen, or had ended.")
    unasked: int = total("Calls of HTTP/2 that were not reported because their request was not seen.")
    blocks: int = total("Header blocks of HTTP/2 that ended, whether they could be read or not.")
    broken_blocks: int = total("Header blocks that could not be decoded.")
    long_blocks: int = total("Header blocks that were too long to keep, or that the kernel did not copy.")
    cut_blocks: int = total("Header blocks of which the beginning or the end is missing.")
    undirected_blocks: int = total("Header blocks not read because it was not known which side is the client.")
    pushed_blocks: int = total("Header blocks of server push, which is not reported.")
    late_blocks: int = total("Header blocks of streams that had ended.")
    illegal_inputs: int = total("Heads, ends and resets that the state of their HTTP/2 stream does not allow.")
    losses: int = total("Times that the header table of a direction became unknown.")
    loaded_tables: int = total("Connections of HTTP/2 that continued with the header tables of the previous sensor.")
    unfit_tables: int = total(
        "Connections of HTTP/2 whose header tables of the previous sensor were discarded: blocks were missed, or the "
        "connection was not seen again."
    )
    lost_places: int = total("Times that the place of the next frame was lost.")
    faults: int = total("Frames that break the protocol; the place of the next frame is then lost.")
    skipped_bytes: int = total(
        "Bytes of HTTP/2 that were seen and not read while the place of the next frame was lost."
    )
    gap_bytes: int = total("Bytes of HTTP/2 that were never seen, between bytes that were.")
