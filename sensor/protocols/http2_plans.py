"""Events of HTTP/2 that were met before but for the number of their stream: what they mean is known without a reading.

Programs repeat themselves: a stub's request is the same bytes each time, once its fields are in the table. A *plan* is
what one event meant that held a whole request, or a whole response, of one stream. It holds as long as the table of its
direction does not change.

Is it surely the same? A plan is found by the event's bytes without the number of their stream, wherever those four
bytes occur, and it knows how many bytes there were and where the number stood. Bytes of the same length, equal without
as many occurrences, with the number at the same places, are the same bytes.
"""

from typing import Final

import msgspec

from sensor.protocols.hpack.decoder import HpackDecoder
from sensor.protocols.http1 import Malformed
from sensor.protocols.http2_frames import HEADER_BYTES, Frame, FrameFlag, FrameKind
from sensor.protocols.http2_heads import StreamRequest, StreamResponse, read_request, read_response

# Of one direction; past them all are forgotten.
MAX_PLANS: Final = 64
MAX_EVENT_BYTES: Final = 512
MAX_FRAMES: Final = 4
PLAN_HELD_BYTES: Final = 700  # With its key, as a rule.
_NUMBER_AT: Final = 5  # Of the stream, in a frame's header.
_NUMBER_BYTES: Final = 4
_DATA, _HEADERS = int(FrameKind.DATA), int(FrameKind.HEADERS)
_END_STREAM: Final = int(FrameFlag.END_STREAM)
_PLAIN: Final = int(FrameFlag.END_HEADERS)  # Of HEADERS: whole, without padding and priority.
_FORM: Final = int(FrameFlag.END_HEADERS | FrameFlag.PADDED | FrameFlag.PRIORITY)


class Plan(msgspec.Struct, gc=False):
    """What an event meant."""

    revision: int  # Of the decoder's table.
    size: int
    places: tuple[int, ...]
    wire_bytes: int
    body_bytes: int
    request: StreamRequest | Malformed | None
    responses: tuple[StreamResponse, ...]  # A head, and trailers.

    def __repr__(self) -> str:
        return f"Plan({self.size} bytes, redacted)"


def find_plan(plans: dict[bytes, Plan], data: bytes, revision: int) -> Plan | None:
    """The plan of an event."""
    number = data[_NUMBER_AT : _NUMBER_AT + _NUMBER_BYTES]
    plan = plans.get(data.replace(number, b""))
    if plan is None or plan.size != len(data):
        return None
    if plan.revision != revision:
        plans.clear()
        return None
    for place in plan.places:
        if data[place : place + _NUMBER_BYTES] != number:
            return None
    return plan


def keep_plan(
    plans: dict[bytes, Plan], data: bytes, frames: list[Frame], decoder: HpackDecoder, *, is_request: bool
) -> None:
    """Makes one of an event that was read, where it is of that kind."""
    plan = _make_plan(data, frames, decoder, is_request)
    if plan is not None:
        if len(plans) >= MAX_PLANS:
            plans.clear()
        plans[data.replace(data[_NUMBER_AT : _NUMBER_AT + _NUMBER_BYTES], b"")] = plan


def _make_plan(data: bytes, frames: list[Frame], decoder: HpackDecoder, is_request: bool) -> Plan | None:
    first, last = frames[0], frames[-1]
    if first.kind != _HEADERS or not last.flags & _END_STREAM or len(data) > MAX_EVENT_BYTES:
        return None
    blocks, places, at, wire_bytes, body_bytes = [], [], 0, 0, 0
    for frame in frames:
        if frame.stream != first.stream or (frame is not last and frame.flags & _END_STREAM):
            return None
        places.append(at + _NUMBER_AT)
        at += HEADER_BYTES
        wire_bytes += frame.wire_bytes
        body_bytes += frame.payload_bytes
        if frame.kind == _HEADERS:
            if frame.payload is None or frame.flags & _FORM != _PLAIN:
                return None
            at += len(frame.payload)
            blocks.append(decoder.decode(frame.payload))
        elif frame.kind != _DATA or frame.payload is not None:
            return None
    if at != len(data) or (is_request and len(blocks) > 1):
        return None
    return Plan(
        decoder.revision,
        len(data),
        tuple(places),
        wire_bytes,
        body_bytes,
        read_request(blocks[0]) if is_request else None,
        () if is_request else tuple(map(read_response, blocks)),
    )
