"""Chooses the HTTP/2 header blocks that the kernel may match, and turns the kernel's records of matched calls into
calls.

A block of a pattern (sensor.http.http2.streams) keeps its meaning until something changes the header table of its
direction. The kernel sees what may change it (bpf/http2_match.h). So the bytes of such blocks are installed in the
kernel under numbers, and a call of known blocks is a record of these numbers.

All records of a read are counted by pattern at once, without a step per call. If nobody has numbered a pattern lately,
its first call is reported by itself, and the others wait for the next read.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sensor.ebpf.abi import (
    BLOCK_KEY,
    MATCHED_STREAMS,
    MESSAGES_UNCOUNTED,
    STREAM_RECORD,
    TAUGHT_BLOCK,
    TAUGHT_BYTES,
    BlockUse,
)
from sensor.http.hpack import HeaderBlock
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.frames import Http2Counts
from sensor.http.http2.states import StreamState
from sensor.http.http2.streams import FIGURES, UNCOUNTED, AlikeCalls, CallPattern, OpenStreams, Stream, StreamCall

# Events of a connection before its blocks are taught, again where some of them went stale.
TEACH_EVENTS: Final = 8
# Where most calls of a connection come up nevertheless, it is taught only so often: in reads.
MAX_WAIT: Final = 64
# Lessons that may bring nothing before that: a connection says much for the first time in its beginning.
FIRST_LESSONS: Final = 6
# A lesson is in the kernel so long after the read that led to it: what came up before says nothing of its use.
LESSON_NS: Final = 20_000_000
# Fewer matched calls than this part of the events that came up make a lesson of no use: a stream that waits and then
# comes up costs more than one that never waited.
LEAST_PART: Final = 4
# Bytes of a direction after which its blocks are taught anew: the kernel compares sequence numbers, which wrap.
RENEW_BYTES: Final = 1 << 29
# Blocks of a connection, and of all; half of the kernel's map, since what is forgotten lies there for a moment.
CONNECTION_BLOCKS: Final = 128
MAX_BLOCKS: Final = 8_192
# A stream that waits in the kernel is at most so far below the newest: each has a place by its number.
WAITING_REACH: Final = 2 * MATCHED_STREAMS
# Kinds of calls; past them all are looked up anew.
MAX_PATTERNS: Final = 4_096
# What a connection was taught is kept for so many reads after its end: records of it may still lie in their ring.
RETIRED_READS: Final = 3
# So long after the read that had it forgotten, the kernel surely knows a block no more.
LEFT_NS: Final = 1_000_000_000

Records = npt.NDArray[np.void]
NumberedCall = tuple[int, StreamCall]
Count = tuple[int, int]  # (place of a pattern, calls).
_Key = tuple[int, int, int, int, int]
_KEY_FIELDS: Final = ("request", "answer", "trailers", "request_messages", "response_messages")
# Odd numbers without a pattern: they fold the fields of a key into one word.
_FOLD: Final = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)
_NONE: Final = np.empty(0, STREAM_RECORD)


class _Lessons(msgspec.Struct):
    """What one connection was taught."""

    numbers: dict[int, int]  # By identity of the block.
    keys: set[bytes]
    left: dict[int, int]  # When those that the last lesson had no more were taken away, by identity.
    read_to: tuple[int, int] = (0, 0)  # At the last lesson.
    matched: int = 0  # Calls since then.
    fruitless: int = 0  # Lessons in a row after which few were matched.
    is_resting: bool = False  # It was taught nothing, since that was of no use.
    due: int = 0  # In which read.
    settled_ns: int = 0  # From when on what comes up does so in spite of the last one.


class MatchedStreams:
    """Mutable state. `find` gives a connection that is followed."""

    def __init__(self, alike: AlikeCalls, find: Callable[[int], Http2Connection | None]) -> None:
        self._alike = alike
        self._find = find
        self._blocks: dict[int, HeaderBlock] = {}  # By the numbers under which the kernel knows them.
        self._last = 0
        self._lessons: dict[int, _Lessons] = {}
        self._patterns: dict[_Key, CallPattern] = {}
        self._rest = _NONE
        self._retired: list[tuple[int, int]] = []  # (last read, connection).
        self._outdated: list[tuple[int, list[int]]] = []  # (last read, numbers of blocks).
        self._reads = 0
        self.unknown = 0  # Calls of blocks that mean nothing here.
        self._gone = OpenStreams(Http2Counts())  # For calls of connections that are over.
        self.taught: dict[bytes, bytes] = {}  # Elements of `blocks` that are to be written, and keys to be deleted.
        self.untaught: set[bytes] = set()

    @property
    def has_rest(self) -> bool:
        """Whether calls wait for the next `take`."""
        return len(self._rest) > 0

    # Teaching

    def is_settling(self, number: int, time_ns: int) -> bool:
        """Whether the last lesson may not have been in the kernel when an event of that time came up."""
        lessons = self._lessons.get(number)
        return lessons is not None and time_ns < lessons.settled_ns

    def is_due(self, number: int, events: int, read_to: tuple[int, int]) -> bool:
        """Whether a connection of which so many events came since the last lesson is to be taught. `read_to`: positions
        up to which both directions are read."""
        lessons = self._lessons.get(number)
        if lessons is None:
            return events >= TEACH_EVENTS
        if any(now - then > RENEW_BYTES for now, then in zip(read_to, lessons.read_to, strict=True)):
            return True
        return events >= TEACH_EVENTS and lessons.due <= self._reads

    def teach(
        self,
        number: int,
        connection: Http2Connection,
        events: int,
        read_to: tuple[int, int],
        *,
        time_ns: int,
        settled_ns: int = 0,
    ) -> None:
        """Has the kernel know what repeats of a connection, and nothing else of it, from `settled_ns` on. `time_ns`:
        of its last event."""
        lessons = self._open(number)
        self._outdate(lessons, time_ns)
        if not lessons.is_resting:
            is_fruitless = lessons.matched < max(TEACH_EVENTS, events // LEAST_PART)
            lessons.fruitless = lessons.fruitless + 1 if is_fruitless else 0
        lessons.is_resting = lessons.fruitless >= FIRST_LESSONS and not lessons.is_resting
        wait = min(4 << lessons.fruitless - FIRST_LESSONS, MAX_WAIT) if lessons.is_resting else 1
        lessons.due, lessons.matched, lessons.read_to = self._reads + wait, 0, read_to
        repeated = [] if lessons.is_resting else connection.list_repeated(TAUGHT_BYTES)
        keys: set[bytes] = set()
        left = dict.fromkeys(lessons.numbers, settled_ns)
        for direction, data, block, is_request in repeated:
            place = self._number(lessons, block)
            if place:
                left.pop(id(block), None)
                use = BlockUse.REQUEST if is_request else BlockUse.ANSWER if block.is_plain else BlockUse(0)
                key = BLOCK_KEY.pack(number, direction, len(data), data)
                keys.add(key)
                self.taught[key] = TAUGHT_BLOCK.pack(place, read_to[direction] & 0xFFFFFFFF, use)
        self._unteach(lessons.keys - keys)
        lessons.keys = keys
        lessons.left = {block: lessons.left.get(block, left_ns) for block, left_ns in left.items()}
        lessons.settled_ns = settled_ns if keys else 0

    def _number(self, lessons: _Lessons, block: HeaderBlock) -> int:
        """By which the kernel names a block; 0 where there is no room for it."""
        number = lessons.numbers.get(id(block), 0)
        if not number and len(lessons.numbers) < CONNECTION_BLOCKS and len(self._blocks) < MAX_BLOCKS:
            number = self._last = self._last + 1
            lessons.numbers[id(block)] = number
            self._blocks[number] = block
        return number

    def _outdate(self, lessons: _Lessons, time_ns: int) -> None:
        """Makes room: a connection may change its tables as often as it likes. All that waits goes up before an event,
        so with one of `time_ns` no stream waits in the kernel any more that began with a block it had forgotten."""
        over = [block for block, left_ns in lessons.left.items() if time_ns >= left_ns + LEFT_NS]
        if over:
            self._outdated.append((self._reads + RETIRED_READS, [lessons.numbers.pop(block) for block in over]))
            for block in over:
                del lessons.left[block]

    def _unteach(self, keys: set[bytes]) -> None:
        for key in keys:
            self.taught.pop(key, None)
        self.untaught |= keys

    def _open(self, number: int) -> _Lessons:
        lessons = self._lessons.get(number)
        if lessons is None:
            lessons = self._lessons[number] = _Lessons({}, set(), {})
            connection = self._find(number)
            if connection is not None:
                connection.streams.reach = WAITING_REACH
        return lessons

    def forget(self, number: int) -> bool:
        """A connection is over; whether records of it may still come."""
        lessons = self._lessons.get(number)
        if lessons is None:
            return False
        self._unteach(lessons.keys)
        lessons.keys = set()
        self._retired.append((self._reads + RETIRED_READS, number))
        return True

    def pop_gone(self) -> list[int]:
        """A read begins; gives connections of which no record can come any more."""
        self._reads += 1
        gone = []
        over: set[int] = set()
        while self._outdated and self._outdated[0][0] <= self._reads:
            over.update(self._outdated.pop(0)[1])
        while self._retired and self._retired[0][0] <= self._reads:
            _, number = self._retired.pop(0)
            lessons = self._lessons.get(number)
            if lessons is None or lessons.keys:  # It was followed again.
                continue
            del self._lessons[number]
            over.update(lessons.numbers.values())
            gone.append(number)
        if over:
            for place in over:
                del self._blocks[place]
            self._patterns = {key: pattern for key, pattern in self._patterns.items() if over.isdisjoint(key[:3])}
        return gone

    def pop_lessons(self) -> tuple[dict[bytes, bytes], set[bytes]]:
        """Elements of `blocks` to be written, after keys that are to be deleted."""
        taught, self.taught = self.taught, {}
        untaught, self.untaught = self.untaught, set()
        return taught, untaught

    # Records

    def take(self, records: Records, told: list[NumberedCall]) -> list[Count]:
        """Records of the kernel, which may be changed afterwards. Appends calls that are to be described; figures of
        the others go to `alike`. Gives how many these are."""
        rest, self._rest = self._rest, _NONE
        counts: list[Count] = []
        if len(rest):
            self._take(rest, told, counts, is_last=True)
        if len(records):
            self._take(records, told, counts, is_last=False)
        return counts

    def _take(self, records: Records, told: list[NumberedCall], counts: list[Count], *, is_last: bool) -> None:
        fields = [records[name] for name in _KEY_FIELDS]
        folded = np.zeros(len(records), np.uint64)
        for field, factor in zip(fields, _FOLD, strict=True):
            folded += field.astype(np.uint64) * factor
        _, firsts, kinds = np.unique(folded, return_index=True, return_inverse=True)
        if any((field != field[firsts][kinds]).any() for field in fields):  # Two keys fold into one word.
            for at in range(len(records)):
                self._take_kind(records[at : at + 1], told, counts, is_last=True)
            return
        order = np.argsort(kinds, kind="stable")
        ends = np.cumsum(np.bincount(kinds))
        for first, end in zip((0, *ends[:-1]), ends, strict=True):
            self._take_kind(records[order[first:end]], told, counts, is_last=is_last)

    def _take_kind(self, records: Records, told: list[NumberedCall], counts: list[Count], *, is_last: bool) -> None:
        """Those of one key."""
        first = records[0]
        key: _Key = tuple(int(first[name]) for name in _KEY_FIELDS)  # type: ignore[assignment]
        number, count = int(first["connection"]), len(records)
        connection, lessons = self._find(number), self._lessons.get(number)
        pattern = self._patterns.get(key)
        is_numbered = pattern is not None and pattern.turn == self._alike.turn
        if not is_numbered and not is_last:
            self._rest = np.concatenate((self._rest, records[1:]))
            records, count = records[:1], 1
        if lessons is not None:
            lessons.matched += count
        if connection is not None:
            connection.count_matched(count, 2 + (key[2] != 0), int(records["stream"].max()))
        if pattern is None or not is_numbered:
            for record in records:
                told += [(number, call) for call in self._tell(record, key, connection)]
            return
        figures = np.empty((count, FIGURES), np.int64)
        figures[:, 0] = pattern.place
        for column, name in enumerate(("started_ns", "ended_ns", "ended_ns", "request_bytes", "response_bytes"), 1):
            figures[:, column] = records[name]
        self._alike.add_figures(figures)
        counts.append((pattern.place, count))

    def _tell(self, record: np.void, key: _Key, connection: Http2Connection | None) -> Iterable[StreamCall]:
        """One call by itself."""
        started_ns, ended_ns = int(record["started_ns"]), int(record["ended_ns"])
        sizes = int(record["request_bytes"]), int(record["response_bytes"])
        pattern = self._patterns.get(key)
        if pattern is not None:
            return [pattern.make_call(int(record["stream"]), started_ns, ended_ns, ended_ns, *sizes)]
        open_ = self._gone if connection is None else connection.streams
        times = started_ns, ended_ns, ended_ns
        stream = self.open_waiting((*times, int(record["stream"]), *key[:3], *sizes, *key[3:], True))
        if stream is None:
            return []
        calls: list[StreamCall] = []
        open_.end_matched(stream, ended_ns, calls)
        pattern = calls[0].pattern
        if len(self._patterns) >= MAX_PATTERNS:
            self._patterns.clear()
        if pattern is not None:
            self._patterns[key] = pattern
        return calls

    def open_waiting(self, waiting: tuple[int, ...]) -> Stream | None:
        """A stream of WAITING_STREAM as the kernel followed it; None where a number of its blocks means nothing."""
        started_ns, last_ns, answered_ns, number, *blocks, request_bytes, response_bytes = waiting[:9]
        request_messages, response_messages, is_ended = waiting[9:12]
        request, head, trailers = (self._blocks.get(block) for block in blocks)
        if request is None or (head is None and blocks[1]) or (trailers is None and blocks[2]):
            self.unknown += 1
            return None
        return Stream(
            number=number,
            request=request,
            state=StreamState.REQUEST_ENDED if is_ended else StreamState.OPEN,
            started_ns=started_ns,
            last_ns=last_ns,
            losses=[],  # Those of its connection, once it is adopted.
            losses_before=(0, 0),
            is_plain=True,
            request_bytes=request_bytes,
            response_bytes=response_bytes,
            request_messages=UNCOUNTED if request_messages == MESSAGES_UNCOUNTED else request_messages,
            response_messages=UNCOUNTED if response_messages == MESSAGES_UNCOUNTED else response_messages,
            answered_ns=answered_ns,
            head=head,
            trailers=trailers,
        )
