"""The open streams of one HTTP/2 connection: heads and DATA in, calls out once the streams end.

The directions are read apart, and one may wait for a hole. Then a response comes before its request and waits for it.

Most calls open and end with header blocks that were met before. Such a stream is an `OpenedStream`: a few numbers and
its blocks. As soon as anything else happens to it, it becomes a `Stream`, which handles every case.
"""

import itertools
from collections.abc import Iterable
from typing import Final

import msgspec

from sensor.http.grpc import EnvelopeCounter
from sensor.http.hpack import HeaderBlock
from sensor.http.http1.head import Malformed
from sensor.http.http2.alike import CallPattern
from sensor.http.http2.frames import Http2Counts
from sensor.http.http2.heads import StreamRequest, read_request, read_response
from sensor.http.http2.streams import CONNECTION_BYTES_MAX, REQUEST, RESPONSE, GatheredBodies, Stream, StreamCall

# Open at once; servers allow 100 to 250 as a rule, some any number. The oldest is given up.
MAX_STREAMS: Final = 4_096
# Responses that were read before their requests.
MAX_EARLY: Final = 256
# Streams that a loss left in doubt and that were silent for so long are given up.
DOUBTFUL_SILENCE_NS: Final = 60_000_000_000
# After a reset whose other side may still be heard of with what it sent before.
RESET_PATIENCE_NS: Final = 60_000_000_000
STREAM_BYTES: Final = 1_024  # What an open one is taken to hold: its head and counters.
# Kinds of calls that are alike; past them all are forgotten. What one holds beside its blocks: measured.
MAX_PATTERNS: Final = 128
PATTERN_BYTES: Final = 600
UNCOUNTED: Final = -1


_Key = tuple[int, int, int, int, int]


class OpenedStream(msgspec.Struct, gc=False):
    """A stream of which only known blocks and DATA were seen. Private to the node: holds a head."""

    number: int
    request: HeaderBlock
    started_ns: int
    last_ns: int
    request_bytes: int  # On the wire.
    request_messages: int  # DATA frames of one message each; UNCOUNTED once there is another with a payload.
    is_request_ended: bool
    losses: tuple[int, int]  # Of both sides when it began.
    head: HeaderBlock | None = None  # Of its response.
    trailers: HeaderBlock | None = None
    answered_ns: int = 0
    response_bytes: int = 0
    response_messages: int = 0

    def __repr__(self) -> str:
        return f"OpenedStream({self.number}, redacted)"


def _make_key(opened: OpenedStream) -> _Key:
    """All that a call depends on but for times and sizes."""
    return (
        id(opened.request),
        id(opened.head),
        id(opened.trailers),
        opened.request_messages,
        opened.response_messages,
    )


def _pass_bodies(stream: Stream, opened: OpenedStream) -> None:
    """What went by of both, none of which was copied."""
    for side, size, messages in (
        (REQUEST, opened.request_bytes, opened.request_messages),
        (RESPONSE, opened.response_bytes, opened.response_messages),
    ):
        stream.bytes[side] += size
        # How much it was nobody needs to know: a body without its beginning is not read.
        stream.uncopied[side] += abs(messages)
        counter = stream.counters[side] if stream.counters is not None else None
        if messages > 0 and isinstance(counter, EnvelopeCounter):
            counter.pass_messages(messages)
        elif messages and counter is not None:
            counter.skip(1)  # Within no message: they are not counted from here on.


class OpenStreams:
    """Mutable state of one connection."""

    __slots__ = (
        "_gathered_bytes",
        "_is_doubtful",
        "_losses",
        "_patterns",
        "counts",
        "cut_ns",
        "early",
        "losses",
        "lost",
        "max_stream",
        "reach",
        "resetting",
        "streams",
    )

    def __init__(self, counts: Http2Counts) -> None:
        self.streams: dict[int, Stream | OpenedStream] = {}  # The oldest, lowest first.
        self.early: dict[int, Stream] = {}  # The oldest first.
        self.max_stream = 0
        self.reach = 0  # Streams this far below `max_stream` may still come: the kernel follows some by itself.
        self.resetting: dict[int, int] = {}  # Streams that were reset, and the side whose DATA may wait in the kernel.
        self._losses = [0, 0]  # Of requests and responses, for full streams to look at.
        self.losses = 0, 0  # The same; another object after each.
        self.cut_ns = -RESET_PATIENCE_NS  # When a call ended last whose request or response was not whole.
        self.counts = counts
        self.lost = 0  # Streams whose requests are counted elsewhere as lost, and whose answers were not met yet.
        self._is_doubtful = False
        self._patterns: dict[_Key, CallPattern] = {}
        self._gathered_bytes = 0  # Of bodies.

    @property
    def held_bytes(self) -> int:
        """About what it holds."""
        open_bytes = (len(self.streams) + len(self.early)) * STREAM_BYTES
        return open_bytes + len(self._patterns) * PATTERN_BYTES + self._gathered_bytes

    def list_requests(self) -> list[StreamRequest | Malformed]:
        """Requests of the open streams, the oldest first."""
        found = []
        for stream in self.streams.values():
            request = read_request(stream.request) if isinstance(stream, OpenedStream) else stream.request
            if request is not None:
                found.append(request)
        return found

    def find(self, number: int) -> Stream | None:
        """An open stream whose request was read, as one that knows all that may happen to it."""
        stream = self.streams.get(number)
        return self.unfold(stream) if type(stream) is OpenedStream else stream  # type: ignore[return-value]

    def find_any(self, number: int) -> Stream | None:
        """The same, or one that was answered before its request was read."""
        return self.find(number) or self.early.get(number)

    def find_early(self, number: int) -> Stream | None:
        """A stream whose request was not read yet; None where it was, or none is to come."""
        if not number & 1:
            self.counts.pushed_blocks += 1
            return None
        if number <= self.max_stream - self.reach:
            self.counts.orphan_responses += 1
            return None
        stream = self.early.get(number)
        if stream is None:
            if len(self.early) >= MAX_EARLY:
                self._pass_early(next(iter(self.early)))
            stream = self.early[number] = Stream(number, self._losses)
            stream.is_passed = number <= self.max_stream
        return stream

    def open(self, number: int, request: StreamRequest | Malformed, started_ns: int, calls: list[StreamCall]) -> Stream:
        """A new one; the oldest goes where there are too many."""
        self.max_stream = number
        if len(self.streams) >= MAX_STREAMS:
            self._give_up(next(iter(self.streams)), calls)
        stream = self.early.pop(number, None) or Stream(number, self._losses)
        stream.begin(request, started_ns)
        self.streams[number] = stream
        if self.early:  # Streams are opened in order, so those before this one never will be.
            self._pass_early(*[early for early in self.early if early < number - self.reach])
        return stream

    def end_side(self, stream: Stream, side: int, time_ns: int, calls: list[StreamCall]) -> None:
        """END_STREAM of one side."""
        if side == RESPONSE:
            stream.ended_ns = stream.ended_ns or time_ns
        else:
            stream.is_request_ended = True
        if stream.ended_ns and stream.is_request_ended:
            self.end(stream, stream.ended_ns, calls)

    def end(self, stream: Stream, time_ns: int, calls: list[StreamCall]) -> None:
        """Nothing more comes of it: aborted, unless its response was whole."""
        if not stream.ended_ns:
            stream.ended_ns, stream.is_aborted = time_ns, True
        if stream.is_aborted or not stream.is_request_ended:
            self.cut_ns = max(self.cut_ns, time_ns)
        if stream.request is None:  # It is told once its request is read.
            return
        del self.streams[stream.number]
        self.resetting.pop(stream.number, None)
        self.counts.told += not stream.is_told
        calls.append(stream.tell(ended_ns=stream.ended_ns, is_aborted=stream.is_aborted))
        if stream.bodies is not None:
            self._gathered_bytes -= len(stream.bodies)

    def reset(self, stream: Stream, side: int, time_ns: int, calls: list[StreamCall]) -> None:
        """RST_STREAM of one side. The kernel tells of DATA with what comes after it in its direction, so the other side
        may have sent some that was not read yet: the call ends once more of that side was."""
        may_wait = not stream.is_request_ended if side == RESPONSE else stream.answered_ns and not stream.ended_ns
        if stream.request is None or not may_wait:
            self.end(stream, time_ns, calls)
        elif stream.number not in self.resetting:
            stream.ended_ns, stream.is_aborted = stream.ended_ns or time_ns, not stream.ended_ns
            self.resetting[stream.number] = 1 - side

    def settle(self, side: int, calls: list[StreamCall]) -> None:
        """All that a side sent up to some place was read, and with it what it sent before a reset."""
        for number in [number for number, waiting in self.resetting.items() if waiting == side]:
            self._end_numbered(number, 0, calls)

    def gather(self, stream: Stream, side: int, payload: bytes) -> int:
        """DATA of a sample, which was taken; gives how many bytes were kept."""
        if stream.request is None:
            return 0  # Its response came first, around a hole: no sample.
        if stream.bodies is None:
            stream.bodies = GatheredBodies()
            for passed, size in enumerate(stream.uncopied):
                if size:
                    stream.bodies.cut(passed, size)
        kept = stream.bodies.add(side, payload, CONNECTION_BYTES_MAX - self._gathered_bytes)
        self._gathered_bytes += kept
        return kept

    def end_above(self, last: int, time_ns: int, calls: list[StreamCall]) -> None:
        """The server handles none of those above `last`."""
        newest_first = itertools.takewhile(lambda number: number > last, reversed(self.streams))
        for number in reversed(list(newest_first)):
            self._end_numbered(number, time_ns, calls)

    def doubt(self, sides: tuple[int, ...]) -> None:
        """Frames of these sides may have been missed."""
        self._is_doubtful = bool(self.streams)
        for side in sides:
            self._losses[side] += 1
        self.losses = self._losses[REQUEST], self._losses[RESPONSE]

    def poll(self, now_ns: int, early_after_ns: int, calls: list[StreamCall]) -> None:
        """Appends the early halves of calls whose response has lasted for so long, and gives up doubtful ones."""
        for stream in list(self.streams.values()):
            if type(stream) is OpenedStream:
                is_due = stream.answered_ns and now_ns - stream.answered_ns >= early_after_ns
                if not is_due and stream.losses is self.losses:
                    continue
                stream = self.unfold(stream)
            assert isinstance(stream, Stream)
            is_waiting = stream.answered_ns and stream.number in self.resetting
            if stream.ended_ns and now_ns - stream.ended_ns >= (RESET_PATIENCE_NS if is_waiting else early_after_ns):
                self.end(stream, now_ns, calls)
            elif self._is_doubtful and stream.is_lossy and now_ns - stream.last_ns >= DOUBTFUL_SILENCE_NS:
                self._give_up(stream.number, calls)
            elif stream.answered_ns and not stream.is_told and now_ns - stream.answered_ns >= early_after_ns:
                self.counts.told += 1
                calls.append(stream.tell(ended_ns=0, is_aborted=False))

    def close(self, time_ns: int, calls: list[StreamCall]) -> None:
        """The connection ended (0: when each stream was last heard of), and with it all that is open."""
        for number in list(self.streams):
            self._end_numbered(number, time_ns, calls)
        self._pass_early(*self.early)

    def adopt(self, opened: OpenedStream, calls: list[StreamCall]) -> None:
        """One that was read elsewhere up to here; its request may be older than others that are open."""
        number, max_stream = opened.number, max(self.max_stream, opened.number)
        if len(self.streams) >= MAX_STREAMS:
            self._give_up(next(iter(self.streams)), calls)
        opened.losses = self.losses
        if number in self.early:  # Its answer was read first.
            stream = self.open(number, read_request(opened.request), opened.started_ns, calls)
            _pass_bodies(stream, opened)
            stream.last_ns = max(stream.last_ns, opened.last_ns)
            if opened.is_request_ended:
                self.end_side(stream, REQUEST, opened.last_ns, calls)
        else:
            self.streams[number] = opened
        if number < max_stream:
            self.streams = dict(sorted(self.streams.items()))
        self.max_stream = max_stream

    @property
    def patterns(self) -> Iterable[CallPattern]:
        """Kinds of calls that were met."""
        return self._patterns.values()

    def find_pattern(self, opened: OpenedStream) -> CallPattern | None:
        """What a stream whose response is whole is like; None where it is the first of its kind."""
        return self._patterns.get(_make_key(opened))

    def learn_pattern(self, opened: OpenedStream, time_ns: int, calls: list[StreamCall]) -> None:
        """Ends the first of its kind at `time_ns` and appends its call."""
        stream = self.unfold(opened)
        self.end_side(stream, RESPONSE, time_ns, calls)
        if stream.is_lossy or stream.is_aborted:
            return
        call = calls.pop()
        pattern = CallPattern(call, (opened.request, opened.head, opened.trailers))
        if len(self._patterns) >= MAX_PATTERNS:
            self._patterns.clear()
        self._patterns[_make_key(opened)] = pattern
        calls.append(msgspec.structs.replace(call, pattern=pattern))

    def unfold(self, opened: OpenedStream) -> Stream:
        """The same stream as one that knows all that may happen to it; it takes its place."""
        stream = Stream(opened.number, self._losses, opened.losses)
        stream.begin(read_request(opened.request), opened.started_ns)
        _pass_bodies(stream, opened)
        stream.is_request_ended = opened.is_request_ended
        for block in (opened.head, opened.trailers):
            if block is not None:
                stream.take_response(read_response(block), opened.answered_ns)
        stream.last_ns = opened.last_ns
        self.streams[opened.number] = stream
        return stream

    def _pass_early(self, *numbers: int) -> None:
        """These were answered, and what was asked will not be known; or they had ended before."""
        self.counts.orphan_responses += len(numbers)
        missed = sum(not self.early.pop(number).is_passed for number in numbers)
        counted = min(missed, self.lost)
        self.lost -= counted
        self.counts.unasked += missed - counted

    def _end_numbered(self, number: int, time_ns: int, calls: list[StreamCall]) -> None:
        stream = self.find(number)
        if stream is not None:
            self.end(stream, time_ns or stream.last_ns, calls)

    def _give_up(self, number: int, calls: list[StreamCall]) -> None:
        stream = self.find(number)
        if stream is not None:
            self.counts.given_up += 1
            stream.give_up()
            self.end(stream, stream.last_ns, calls)
