"""The fast path for frames that need no reading: DATA, and known header blocks that still mean the same.

Takes bytes of one direction as the kernel cut them (sensor/ebpf/bpf/http2_follow.h) and gives calls. The functions stop
at the first thing they do not know and leave the rest to `sensor.http.http2.connection`. They are written for speed:
nearly every frame of programs that repeat themselves goes through them.
"""

import struct
from typing import Any, Final

from sensor.http.hpack import HeaderBlock, HpackDecoder, Placeholder
from sensor.http.http2.alike import AlikeCalls
from sensor.http.http2.frames import HEADER_BYTES, FrameFlag, FrameKind
from sensor.http.http2.heads import StreamRequest, is_request, read_request, read_response
from sensor.http.http2.open_streams import MAX_STREAMS, UNCOUNTED, OpenedStream, OpenStreams
from sensor.http.http2.streams import REQUEST, RESPONSE, Stream, StreamCall

_END_STREAM: Final = int(FrameFlag.END_STREAM)
_END_HEADERS: Final = int(FrameFlag.END_HEADERS)
_FORM: Final = int(FrameFlag.END_HEADERS | FrameFlag.PADDED | FrameFlag.PRIORITY)  # Of HEADERS.
_HEADERS: Final = int(FrameKind.HEADERS)
_HEADER: Final = struct.Struct(">HBBBI").unpack_from  # Of a frame: its length in two parts, kind, flags, stream.
_STREAM: Final = (1 << 31) - 1
_MESSAGE: Final = 0x20  # FRAME_MESSAGE in bpf/events.h: DATA that is one message of gRPC.
_NOT_DATA: Final = ~_MESSAGE
_INTERIM_BELOW: Final = 200

Known = dict[bytes, HeaderBlock]


# How far an event was taken: bytes of it, and the position behind them in the stream.
Taken = tuple[int, int]


def is_trailers(block: HeaderBlock) -> bool:
    """Whether a block of the client's is surely no head of a request."""
    return is_request(block) is None and not any(isinstance(name, Placeholder) for name, _ in block.fields)


def take_requests(
    open_: OpenStreams, known: Known, data: bytes, position: int, time_ns: int, calls: list[StreamCall]
) -> Taken:
    """Frames of the client, from `position` of its stream on."""
    streams, counts, size = open_.streams, open_.counts, len(data)
    at = requests = 0
    while size - at >= HEADER_BYTES:
        high, low, kind, flags, number = _HEADER(data, at)
        length = high << 8 | low
        wire_bytes = HEADER_BYTES + length
        number &= _STREAM
        if not kind & _NOT_DATA:
            stream = streams.get(number)
            if type(stream) is OpenedStream:
                stream.request_bytes += wire_bytes
                if length and stream.request_messages != UNCOUNTED:
                    stream.request_messages = stream.request_messages + 1 if kind else UNCOUNTED
                stream.last_ns = time_ns
                if flags & _END_STREAM:
                    stream.is_request_ended = True
            elif isinstance(stream, Stream):
                _pass_data(open_, stream, REQUEST, (wire_bytes, kind, flags), time_ns, calls)
            elif number in open_.early:
                break
            at += HEADER_BYTES
        elif kind == _HEADERS and flags & _FORM == _END_HEADERS:
            block = known.get(data[at + HEADER_BYTES : at + wire_bytes])
            if block is None or not (_opens(block) if block.is_plain is None else block.is_plain):
                break
            if number <= open_.max_stream or not number & 1 or open_.early or len(streams) >= MAX_STREAMS:
                break
            is_ended = flags & _END_STREAM == _END_STREAM
            streams[number] = OpenedStream(number, block, time_ns, time_ns, wire_bytes, 0, is_ended, open_.losses)
            open_.max_stream = number
            requests += 1
            at += wire_bytes
        else:
            break
        position += wire_bytes
    counts.requests += requests
    counts.blocks += requests
    return at, position


def take_responses(
    open_: OpenStreams,
    decoder: HpackDecoder,
    data: bytes,
    position: int,
    time_ns: int,
    calls: list[StreamCall],
    alike: AlikeCalls[Any] | None,
) -> Taken:
    """Frames of the server, whose blocks `decoder` reads. Calls that end are appended to `calls`, or to `alike` where
    their pattern is numbered."""
    streams, size, known = open_.streams, len(data), decoder.known
    at = blocks = 0
    while size - at >= HEADER_BYTES:
        high, low, kind, flags, number = _HEADER(data, at)
        length = high << 8 | low
        wire_bytes = HEADER_BYTES + length
        stream = streams.get(number & _STREAM)
        if not kind & _NOT_DATA:
            if type(stream) is OpenedStream:
                stream.response_bytes += wire_bytes
                if length and stream.response_messages != UNCOUNTED:
                    stream.response_messages = stream.response_messages + 1 if kind else UNCOUNTED
                stream.last_ns = time_ns
            elif isinstance(stream, Stream):
                _pass_data(open_, stream, RESPONSE, (wire_bytes, kind, flags), time_ns, calls)
            elif number & _STREAM in open_.early:
                break
            at += HEADER_BYTES
        elif kind == _HEADERS and flags & _FORM == _END_HEADERS:
            if stream is None:
                break
            raw = data[at + HEADER_BYTES : at + wire_bytes]
            block = known.get(raw) or decoder.repeat(raw)
            if block is None:
                break
            # What it adds to the table is there: whatever it says, it is taken.
            blocks += 1
            if type(stream) is OpenedStream and not _takes(stream, block):
                stream = open_.unfold(stream)
            if type(stream) is OpenedStream:
                if stream.head is None:
                    stream.head, stream.answered_ns = block, time_ns
                else:
                    stream.trailers = block
                stream.response_bytes += wire_bytes
                stream.last_ns = time_ns
            elif isinstance(stream, Stream):
                stream.bytes[RESPONSE] += wire_bytes
                stream.take_response(read_response(block), time_ns)
                if flags & _END_STREAM:
                    open_.end_side(stream, RESPONSE, time_ns, calls)
            at += wire_bytes
        else:
            break
        position += wire_bytes
        if flags & _END_STREAM and type(stream) is OpenedStream:
            _end(open_, stream, time_ns, calls, alike)
    open_.counts.blocks += blocks
    return at, position


def _end(
    open_: OpenStreams, stream: OpenedStream, time_ns: int, calls: list[StreamCall], alike: AlikeCalls[Any] | None
) -> None:
    """The response is whole."""
    if not stream.is_request_ended or stream.head is None or stream.losses is not open_.losses:
        open_.end_side(open_.unfold(stream), RESPONSE, time_ns, calls)
        return
    pattern = open_.find_pattern(stream)
    if pattern is None:
        open_.learn_pattern(stream, time_ns, calls)
        return
    del open_.streams[stream.number]
    open_.counts.told += 1
    if alike is not None and pattern.turn == alike.turn:
        alike.figures += (
            pattern.place,
            stream.started_ns,
            stream.answered_ns,
            time_ns,
            stream.request_bytes,
            stream.response_bytes,
        )
    else:
        calls.append(
            pattern.tell(
                stream.number,
                stream.started_ns,
                stream.answered_ns,
                time_ns,
                stream.request_bytes,
                stream.response_bytes,
            )
        )


def _pass_data(
    open_: OpenStreams,
    stream: Stream,
    side: int,
    frame: tuple[int, int, int],
    time_ns: int,
    calls: list[StreamCall],
) -> None:
    """`frame`: its bytes on the wire, kind and flags."""
    wire_bytes, kind, flags = frame
    stream.pass_data(side, wire_bytes, time_ns, kind == _MESSAGE)
    if flags & _END_STREAM:
        open_.end_side(stream, side, time_ns, calls)


def _opens(block: HeaderBlock) -> bool:
    """Whether it is a request's head with nothing odd about it."""
    request = read_request(block)
    block.is_plain = type(request) is StreamRequest and not request.protocol and not is_trailers(block)
    return block.is_plain


def _takes(stream: OpenedStream, block: HeaderBlock) -> bool:
    """Whether it is what comes next of most responses: a head, or trailers."""
    if stream.head is None:
        return _answers(block) if block.is_plain is None else block.is_plain
    return stream.trailers is None


def _answers(block: HeaderBlock) -> bool:
    """Whether it is the head of a final response, with its status."""
    block.is_plain = read_response(block).status_code >= _INTERIM_BELOW
    return block.is_plain
