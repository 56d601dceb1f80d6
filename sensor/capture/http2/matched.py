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
    BLOCK_BYTES,
    BLOCK_ENTRY,
    BLOCK_KEY,
    MATCHED_STREAMS,
    MESSAGES_UNCOUNTED,
    STREAM_RECORD,
    BlockUse,
)
from sensor.http.hpack import HeaderBlock
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.frames import Http2Counts
from sensor.http.http2.states import StreamState
from sensor.http.http2.streams import FIGURES, UNCOUNTED, AlikeCalls, CallPattern, OpenStreams, Stream, StreamCall

# Events of a connection before its blocks are installed, again where some of them went stale.
INSTALL_EVENTS: Final = 8
# Where most events of a connection are copied nevertheless, its blocks are installed only so often: in reads.
MAX_WAIT: Final = 64
# Installs that may bring nothing before that: a connection says much for the first time in its beginning.
FIRST_INSTALLS: Final = 6
# Blocks are in the kernel so long after the read that led to them: events before say nothing of their use.
INSTALL_NS: Final = 20_000_000
# Fewer matched calls than this part of the copied events make an install of no use: a stream that waits and is then
# copied costs more than one that never waited.
LEAST_PART: Final = 4
# Bytes of a direction after which its blocks are installed anew: the kernel compares sequence numbers, which wrap.
RENEW_BYTES: Final = 1 << 29
# Blocks of a connection, and of all; half of the kernel's map, since what is forgotten lies there for a moment.
CONNECTION_BLOCKS: Final = 128
MAX_BLOCKS: Final = 8_192
# A stream that waits in the kernel is at most so far below the newest: each has a place by its number.
WAITING_REACH: Final = 2 * MATCHED_STREAMS
# Kinds of calls; past them all are looked up anew.
MAX_PATTERNS: Final = 4_096
# The numbers of blocks are kept for so many reads after the connection's end: its records may still lie in the ring.
RETIRED_READS: Final = 3
# So long after the read that had it forgotten, the kernel surely knows a block no more.
REMOVED_NS: Final = 1_000_000_000

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


class _Installed(msgspec.Struct):
    """The blocks of one connection in the kernel."""

    numbers: dict[int, int]  # By identity of the block.
    keys: set[bytes]
    removed: dict[int, int]  # When those that the last install did not have were removed, by identity.
    read_to: tuple[int, int] = (0, 0)  # At the last install.
    matched: int = 0  # Calls since then.
    unused: int = 0  # Installs in a row after which few were matched.
    is_backing_off: bool = False  # Nothing was installed, since it was of no use.
    due: int = 0  # In which read.
    settled_ns: int = 0  # Events from then on were copied in spite of the last install.


class MatchedStreams:
    """Mutable state. `find` gives a connection that is followed."""

    def __init__(self, alike: AlikeCalls, find: Callable[[int], Http2Connection | None]) -> None:
        self._alike = alike
        self._find = find
        self._blocks: dict[int, HeaderBlock] = {}  # By the numbers under which the kernel knows them.
        self._last = 0
        self._installed: dict[int, _Installed] = {}
        self._patterns: dict[_Key, CallPattern] = {}
        self._rest = _NONE
        self._retired: list[tuple[int, int]] = []  # (last read, connection).
        self._outdated: list[tuple[int, list[int]]] = []  # (last read, numbers of blocks).
        self._reads = 0
        self.unknown = 0  # Calls of blocks that mean nothing here.
        self._gone = OpenStreams(Http2Counts())  # For calls of connections that are over.
        self._entries: dict[bytes, bytes] = {}  # Elements of `blocks` that are to be written, and keys to be deleted.
        self._removed: set[bytes] = set()

    @property
    def has_rest(self) -> bool:
        """Whether calls wait for the next `take`."""
        return len(self._rest) > 0

    # Installing

    def is_settling(self, number: int, time_ns: int) -> bool:
        """Whether the last install may not have been in the kernel at the time of an event."""
        installed = self._installed.get(number)
        return installed is not None and time_ns < installed.settled_ns

    def is_due(self, number: int, events: int, read_to: tuple[int, int]) -> bool:
        """Whether to install blocks of a connection of which so many events came since the last time. `read_to`:
        positions up to which both directions are read."""
        installed = self._installed.get(number)
        if installed is None:
            return events >= INSTALL_EVENTS
        if any(now - then > RENEW_BYTES for now, then in zip(read_to, installed.read_to, strict=True)):
            return True
        return events >= INSTALL_EVENTS and installed.due <= self._reads

    def install_blocks(
        self,
        number: int,
        connection: Http2Connection,
        events: int,
        read_to: tuple[int, int],
        *,
        time_ns: int,
        settled_ns: int = 0,
    ) -> None:
        """Has the kernel match what repeats of a connection, and nothing else of it, from `settled_ns` on. `time_ns`:
        of its last event."""
        installed = self._open(number)
        self._outdate(installed, time_ns)
        if not installed.is_backing_off:
            is_unused = installed.matched < max(INSTALL_EVENTS, events // LEAST_PART)
            installed.unused = installed.unused + 1 if is_unused else 0
        installed.is_backing_off = installed.unused >= FIRST_INSTALLS and not installed.is_backing_off
        wait = min(4 << installed.unused - FIRST_INSTALLS, MAX_WAIT) if installed.is_backing_off else 1
        installed.due, installed.matched, installed.read_to = self._reads + wait, 0, read_to
        repeated = [] if installed.is_backing_off else connection.list_repeated(BLOCK_BYTES)
        keys: set[bytes] = set()
        left = dict.fromkeys(installed.numbers, settled_ns)
        for direction, data, block, is_request in repeated:
            place = self._number(installed, block)
            if place:
                left.pop(id(block), None)
                use = BlockUse.REQUEST if is_request else BlockUse.ANSWER if block.is_plain else BlockUse(0)
                key = BLOCK_KEY.pack(number, direction, len(data), data)
                keys.add(key)
                self._entries[key] = BLOCK_ENTRY.pack(place, read_to[direction] & 0xFFFFFFFF, use)
        self._remove(installed.keys - keys)
        installed.keys = keys
        installed.removed = {block: installed.removed.get(block, left_ns) for block, left_ns in left.items()}
        installed.settled_ns = settled_ns if keys else 0

    def _number(self, installed: _Installed, block: HeaderBlock) -> int:
        """By which the kernel names a block; 0 where there is no room for it."""
        number = installed.numbers.get(id(block), 0)
        if not number and len(installed.numbers) < CONNECTION_BLOCKS and len(self._blocks) < MAX_BLOCKS:
            number = self._last = self._last + 1
            installed.numbers[id(block)] = number
            self._blocks[number] = block
        return number

    def _outdate(self, installed: _Installed, time_ns: int) -> None:
        """Makes room: a connection may change its tables as often as it likes. All that waits is copied before an
        event. So after one of `time_ns` no stream waits in the kernel that began with a block it had forgotten."""
        over = [block for block, left_ns in installed.removed.items() if time_ns >= left_ns + REMOVED_NS]
        if over:
            self._outdated.append((self._reads + RETIRED_READS, [installed.numbers.pop(block) for block in over]))
            for block in over:
                del installed.removed[block]

    def _remove(self, keys: set[bytes]) -> None:
        for key in keys:
            self._entries.pop(key, None)
        self._removed |= keys

    def _open(self, number: int) -> _Installed:
        installed = self._installed.get(number)
        if installed is None:
            installed = self._installed[number] = _Installed({}, set(), {})
            connection = self._find(number)
            if connection is not None:
                connection.streams.reach = WAITING_REACH
        return installed

    def forget(self, number: int) -> bool:
        """A connection is over; whether records of it may still come."""
        installed = self._installed.get(number)
        if installed is None:
            return False
        self._remove(installed.keys)
        installed.keys = set()
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
            installed = self._installed.get(number)
            if installed is None or installed.keys:  # It was followed again.
                continue
            del self._installed[number]
            over.update(installed.numbers.values())
            gone.append(number)
        if over:
            for place in over:
                del self._blocks[place]
            self._patterns = {key: pattern for key, pattern in self._patterns.items() if over.isdisjoint(key[:3])}
        return gone

    def pop_entries(self) -> tuple[dict[bytes, bytes], set[bytes]]:
        """Elements of `blocks` to be written, after keys that are to be deleted."""
        entries, self._entries = self._entries, {}
        removed, self._removed = self._removed, set()
        return entries, removed

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
        connection, installed = self._find(number), self._installed.get(number)
        pattern = self._patterns.get(key)
        is_numbered = pattern is not None and pattern.turn == self._alike.turn
        if not is_numbered and not is_last:
            self._rest = np.concatenate((self._rest, records[1:]))
            records, count = records[:1], 1
        if installed is not None:
            installed.matched += count
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
