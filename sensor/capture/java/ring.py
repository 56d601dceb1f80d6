"""Reads the memory into which the Java agent writes: gives events like those of bpf/tls.c.

The memory is a file of the process's own (src/io/apidae/java/Ring.java), so nothing in it is trusted. It is read by
system calls, because a map of a file that is cut short would end the sensor. Every number is checked, and a ring with a
wrong one is given up. Whatever it says, its calls are those of the process that holds it. Its counters count from when
the sensor opened it, and no faster than a process can be. Addresses are taken only where the kernel knows that this
process has such a connection.

Layout: docs/internals/java.md. Positions count from the start of the writing. A record begins with its position under
the ring's secret, so bytes of payload and of old records never look like one. A thread that ended within a record would
stop the reading: so what stays incomplete for `STALL_NS` is skipped, and counted as lost.
"""

import contextlib
import errno
import os
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from typing import Final

from common.bounded import BoundedDict
from common.token_bucket import TokenBucket
from sensor.ebpf.abi import Binding, Library, Moved, SyscallEvent, SyscallKind

VERSION: Final = 2
HEADER_BYTES: Final = 4_096
DATA_BYTES_MAX: Final = 1 << 22
COPY_BYTES_MAX: Final = 16_384
REFUSALS: Final = 256
MAGIC: Final = b"APIDJAV1"
# Magic, version, size of the ring, secret, how the agent came.
_START: Final = struct.Struct("<8sIIQI")
_WORD: Final = struct.Struct("<Q")
_HEAD_AT, _COUNTS_AT = 64, 128
_TAIL_AT, _HEARTBEAT_AT, _COMMAND_AT, _REFUSAL_COUNT_AT, _BUDGET_AT = 192, 200, 208, 216, 224
_REFUSALS_AT: Final = 1_024
# Records and bytes dropped, state, connections whose socket is ambiguous, failures within the agent, requests beyond
# the budget.
_COUNTS: Final = struct.Struct("<6Q")
# Position under the secret, length, kind, family, time, connection, sequence, other, size, length of the data, ports,
# addresses; 8 bytes of 96 are free.
_RECORD: Final = struct.Struct("<QIBB2xQQ4I2H4x16s16s8x")
RECORD_BYTES: Final = _RECORD.size
_RECORD_BYTES_MAX: Final = RECORD_BYTES + COPY_BYTES_MAX + 7
_PAD_BYTES: Final = 16  # A record that only fills the end of the ring may be as short as its first word.
_PAD: Final = struct.Struct("<QIB")
READ_BYTES: Final = 1 << 18
_SECOND_NS: Final = 1_000_000_000
STALL_NS: Final = 2 * _SECOND_NS
# What a thread wrote to a connection in pieces is one event, if so little time is between them.
JOIN_NS: Final = 1_000_000
# So long nothing waits, for whoever asks, after a reading that found nothing complete.
QUIET_NS: Final = _SECOND_NS
# And so long after all that the budget allows was read: no record is read by itself.
SPENT_NS: Final = 100_000_000
# What a process says of its clock is taken within this much of now.
LATE_NS_MAX: Final = 60 * _SECOND_NS
# No process moves or counts more in a second: what it says beyond that is made up.
RECORDS_PER_SECOND_MAX: Final = 100_000
BYTES_PER_SECOND_MAX: Final = 1 << 34
_ELAPSED_NS_MAX: Final = 3_600 * _SECOND_NS
# Records that are read for each request that the budget allows; most calls are three, those with long bodies more.
RECORDS_PER_REQUEST: Final = 16
# Connections that are remembered of a process; each takes some 300 bytes.
SESSIONS_MAX: Final = 4_096
# Records with addresses of a connection for which the kernel is asked.
_TRIES_MAX: Final = 3
COMMAND_WAIT, COMMAND_READ = 0, 2
STATE_WAITING, STATE_READING, STATE_FAILED = 0, 1, 3
_STATES: Final = frozenset((STATE_WAITING, STATE_READING, STATE_FAILED))
CAME_WITH_JVM, CAME_ATTACHED = 1, 2
_READ, _CLOSED = int(SyscallKind.READ), int(SyscallKind.CLOSED)
_KINDS: Final = frozenset((_READ, int(SyscallKind.WRITE), _CLOSED))
_JAVA: Final = int(Library.JAVA)
# Of all sessions no other has these bits: a number of the kernel's is a cookie, or a time with the first one.
_SESSION_BITS: Final = 3 << 62
_SERIAL_SHIFT, _SERIAL_MASK, _NUMBER_MASK = 40, (1 << 22) - 1, (1 << 40) - 1


class RingError(Exception):
    """A ring holds what the agent never writes. One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Of a connection, as an event has them; `family` 0: not known; `remote_port` 0: of the other end nothing is.
    `is_client`: nothing listens at its own end, so whoever calls there is nobody."""

    family: int = 0  # 4 or 6.
    local_port: int = 0
    remote_port: int = 0
    local_address: bytes = bytes(16)
    remote_address: bytes = bytes(16)
    is_client: bool = False


UNKNOWN_ENDS: Final = Ends()


@dataclass(frozen=True, slots=True, kw_only=True)
class RingCounts:
    """Sums over a time."""

    lost_records: int = 0  # Dropped by the agent, or skipped here.
    lost_bytes: int = 0
    ambiguous: int = 0
    failures: int = 0
    over_budget: int = 0
    stalls: int = 0  # Incomplete records that were skipped.
    unproven: int = 0  # Connections whose addresses the kernel did not confirm.

    def __add__(self, other: "RingCounts") -> "RingCounts":
        return RingCounts(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


@dataclass(slots=True)
class _Session:
    """A connection of the process; positions as of its last record."""

    ends: Ends = UNKNOWN_ENDS
    about: tuple[int, int, bytes, bytes] = (0, 0, bytes(16), bytes(16))  # Of an event: family, bound, addresses.
    place: int = -1  # Of its last event, among those of this reading.
    tries: int = 0
    read: int = 0
    written: int = 0
    time_ns: int = 0


class AgentRing:
    """Of one process. Takes over the descriptor. Not thread-safe."""

    def __init__(
        self,
        fd: int,
        *,
        process: int,
        cgroup_id: int,
        serial: int,
        now_ns: int,
        prove: Callable[[Ends], Ends],
        requests_per_second: int,
    ) -> None:
        """`serial` is part of the numbers of its sessions; `prove` gives what the kernel confirms of a connection's
        ends. Raises RingError, OSError."""
        start = os.pread(fd, _START.size, 0)
        if len(start) < _START.size:
            raise RingError("the memory of the Java agent is too short")
        if not any(start[: len(MAGIC)]):
            raise OSError(errno.EAGAIN, "the Java agent has not begun yet")
        magic, version, size, self._secret, way = _START.unpack(start)
        if magic != MAGIC or version != VERSION:
            raise RingError(f"the Java agent has the format {magic[:8]!r} {version}, and this sensor reads {VERSION}")
        if not READ_BYTES <= size <= DATA_BYTES_MAX or size & (size - 1):
            raise RingError(f"the Java agent's ring has {size} bytes")
        if way not in (CAME_WITH_JVM, CAME_ATTACHED):
            raise RingError(f"the Java agent came in the way {way}")
        self.is_attached = way == CAME_ATTACHED  # To a JVM that ran, with consent that may be withdrawn.
        self._fd = fd
        self._size = size
        self.process = process
        self.cgroup_id = cgroup_id
        self._base = _SESSION_BITS | (serial & _SERIAL_MASK) << _SERIAL_SHIFT
        self._prove_ends = prove
        self._sessions: BoundedDict[int, _Session] = BoundedDict(SESSIONS_MAX)
        self._lost_records = self._lost_bytes = self._stalls = self._unproven = 0  # Since they were taken.
        self._end: int | None = None  # Nothing behind it is read any more.
        self._position = 0
        self.resume()
        self._stalled: tuple[int, int, int] | None = None  # Position, head, since when.
        self._quiet_until_ns = 0
        self._now_ns = now_ns
        most = requests_per_second * RECORDS_PER_REQUEST
        self._budget = TokenBucket(most, most, lambda: self._now_ns / _SECOND_NS)  # Of records.
        self.limit(requests_per_second)
        self._refused = 0
        self.events = 0
        self._event_bytes = 0
        self.state, *self._counted = self._read_counts()
        self._counted_ns = now_ns

    def beat(self, now_ns: int, command: int, requests_per_second: int) -> None:
        """COMMAND_READ shows the agent that somebody reads; without it, or with COMMAND_WAIT, it takes its patches out.
        Raises OSError."""
        if command == COMMAND_READ:
            os.pwrite(self._fd, _WORD.pack(now_ns), _HEARTBEAT_AT)
        os.pwrite(self._fd, _WORD.pack(command), _COMMAND_AT)
        self.limit(requests_per_second)

    def limit(self, requests_per_second: int) -> None:
        """Beyond them the agent copies nothing and counts. One that copies all the same is read no faster. Raises
        OSError."""
        os.pwrite(self._fd, _WORD.pack(requests_per_second), _BUDGET_AT)
        rate = requests_per_second * RECORDS_PER_REQUEST
        self._budget.limit(rate, rate)

    def refuse(self, session: int) -> None:
        """No more of a session is wanted. Raises OSError."""
        slot = _REFUSALS_AT + _WORD.size * (self._refused % REFUSALS)
        self._refused += 1
        os.pwrite(self._fd, _WORD.pack(session & _NUMBER_MASK), slot)
        os.pwrite(self._fd, _WORD.pack(self._refused), _REFUSAL_COUNT_AT)

    def owns(self, session: int) -> bool:
        """Whether a session is of this ring."""
        return session & ~_NUMBER_MASK == self._base

    def take_counts(self, now_ns: int) -> RingCounts:
        """What was counted since the last time, or since the ring was opened; renews `state`. Raises OSError,
        RingError."""
        self.state, *counted = self._read_counts()
        more = [new - old for new, old in zip(counted, self._counted, strict=True)]
        seconds = 1 + min(max(now_ns - self._counted_ns, 0), _ELAPSED_NS_MAX) / _SECOND_NS
        records, size, ambiguous, failures, over_budget = more
        most = RECORDS_PER_SECOND_MAX * seconds
        over_budget = min(over_budget, int(most))  # Not copied, so as many as a process may be asked for.
        is_possible = max(records, ambiguous, failures) <= most
        if min(more) < 0 or not is_possible or size > BYTES_PER_SECOND_MAX * seconds:
            raise RingError(f"the Java agent counted {more} more within {seconds:.0f} s")
        self._counted, self._counted_ns = counted, now_ns
        counts = RingCounts(
            lost_records=records, lost_bytes=size, ambiguous=ambiguous, failures=failures, over_budget=over_budget
        )
        return counts + self._take_own()

    def pending_bytes(self, now_ns: int) -> int:
        """What waits to be read now. Raises OSError, RingError."""
        self._now_ns = max(now_ns, self._now_ns)
        return 0 if now_ns < self._quiet_until_ns else self.waiting_bytes

    def read(self, limit: int, bytes_max: int, now_ns: int) -> list[Moved]:
        """The events of up to `limit` records, and about `bytes_max` of them. Raises OSError, RingError."""
        self._now_ns = max(now_ns, self._now_ns)
        limit = min(limit, int(self._budget.tokens))
        found: list[Moved] = []
        begin, end = self._position, self.events + limit
        waiting = self.waiting_bytes
        while waiting and self.events < end and self._position - begin < bytes_max:
            offset = self._position & (self._size - 1)
            most = min((end - self.events) * _RECORD_BYTES_MAX, begin + bytes_max - self._position, READ_BYTES)
            wanted = min(waiting, self._size - offset, max(most, _RECORD_BYTES_MAX + 1))
            content = os.pread(self._fd, wanted, HEADER_BYTES + offset)
            if len(content) < wanted:
                raise RingError("the memory of the Java agent was cut short")
            done = self._take_records(content, self._size - offset, end, found)
            if not done and not self._skip(self._position + waiting):
                self._quiet_until_ns = now_ns + QUIET_NS
                break
            self._position += done
            waiting = self.waiting_bytes
        self._budget.spend(limit - (end - self.events))
        if self._budget.tokens < 1:
            self._quiet_until_ns = max(self._quiet_until_ns, now_ns + SPENT_NS)
        self._free()
        return found

    def stop(self) -> None:
        """What comes from now on is not read. Raises OSError, RingError."""
        if self._end is None:
            self._end = self._position + self.waiting_bytes

    def resume(self) -> None:
        """Reads on from what is there now; what is before that is of an earlier reading. Raises OSError, RingError."""
        if self._end is not None:
            self._count_loss(self._end - self._position)
        self._end = None
        self._position = self._read_word(_HEAD_AT)
        if self._position % _WORD.size:
            raise RingError(f"the Java agent's ring begins at byte {self._position}")
        self._free()

    def end_sessions(self, kinds: Collection[SyscallKind]) -> Iterator[Moved]:
        """Events of these kinds for each connection that is open now, made as they are asked for."""
        sessions, self._sessions = self._sessions, BoundedDict(SESSIONS_MAX)
        return (
            (self._make_event(number, one, kind, one.written, one.read, 0, 0), b"")
            for number, one in sessions.items()
            for kind in kinds
        )

    def close(self) -> RingCounts:
        """Gives the descriptor back. Returns what was not counted yet: what is not read any more is lost."""
        with contextlib.suppress(OSError, RingError):  # For which it was given up.
            self._count_loss(self.waiting_bytes)
        os.close(self._fd)
        return self._take_own()

    def _take_own(self) -> RingCounts:
        own = RingCounts(
            lost_records=self._lost_records,
            lost_bytes=self._lost_bytes,
            stalls=self._stalls,
            unproven=self._unproven,
        )
        self._lost_records = self._lost_bytes = self._stalls = self._unproven = 0
        return own

    @property
    def open_sessions(self) -> int:
        """Connections that are open, of which something was read."""
        return len(self._sessions)

    @property
    def waiting_bytes(self) -> int:
        """What is to be read, now or later. Raises OSError, RingError."""
        waiting = (self._end if self._end is not None else self._read_word(_HEAD_AT)) - self._position
        if not 0 <= waiting <= self._size or waiting % _WORD.size:
            raise RingError(f"the Java agent's ring holds {waiting} bytes of {self._size}")
        return waiting

    def _take_records(self, content: bytes, to_end: int, last: int, found: list[Moved]) -> int:
        """Bytes of complete records, up to the record number `last`; `to_end`: of the ring, from here on."""
        done = 0
        while self.events < last and done < len(content):
            left = len(content) - done
            if _WORD.unpack_from(content, done)[0] ^ self._secret != self._position + done:
                break  # Not written yet.
            if to_end - done < _PAD_BYTES:
                return done + left
            if left < _PAD_BYTES:
                break
            _, length, kind = _PAD.unpack_from(content, done)
            if length % 8 or not _PAD_BYTES <= length <= min(to_end - done, _RECORD_BYTES_MAX):
                raise RingError(f"the Java agent's ring has a record of {length} bytes")
            if kind and length < RECORD_BYTES:
                raise RingError(f"the Java agent's ring has a record of {length} bytes")
            if not kind and length != to_end - done:
                raise RingError(
                    f"the Java agent's ring is filled up with {length} bytes where {to_end - done} are left"
                )
            if length > left:
                break  # With the next reading.
            if kind:
                self._take_record(content, done, length, found)
                self.events += 1
                self._event_bytes += length
            done += length
        return done

    def _take_record(self, content: bytes, at: int, room: int, found: list[Moved]) -> None:
        (_, _, kind, family, time_ns, number, sequence, other, size, length, local, remote, here, there) = (
            _RECORD.unpack_from(content, at)
        )
        if kind not in _KINDS or family not in (0, 4, 6) or length > min(size, room - RECORD_BYTES):
            what = f"kind {kind}, family {family}, {length} of {size} bytes"
            raise RingError(f"the Java agent's ring has a record of {what}")
        number &= _NUMBER_MASK
        session = self._sessions.use(number)
        if session is None:
            session = self._sessions[number] = _Session()
        if family and not session.ends.family and session.tries < _TRIES_MAX:
            ends = Ends(family=family, local_port=local, remote_port=remote, local_address=here, remote_address=there)
            self._prove(session, ends)
        session.time_ns = min(max(time_ns, self._now_ns - LATE_NS_MAX), self._now_ns)
        if kind == _CLOSED:
            del self._sessions[number]
            self._unproven += not session.ends.family and 0 < session.tries < _TRIES_MAX
        elif kind == _READ:
            session.read, session.written = (sequence + size) & 0xFFFF_FFFF, other
        else:
            session.written, session.read = (sequence + size) & 0xFFFF_FFFF, other
        start = at + RECORD_BYTES
        data = content[start : start + length]
        event = self._make_event(number, session, kind, sequence, other, size, length)
        place = session.place
        if 0 <= place < len(found) and (joined := _join(found[place], event, data)) is not None:
            found[place] = joined
        else:
            session.place = len(found)
            found.append((event, data))

    def _prove(self, session: _Session, ends: Ends) -> None:
        """A process may write any addresses; only its own connections are taken for its own."""
        session.tries += 1
        ends = session.ends = self._prove_ends(ends)
        bound = (Binding.LAST | Binding.CLIENT * ends.is_client) if ends.family else 0
        session.about = ends.family, int(bound), ends.local_address, ends.remote_address
        if not session.ends.remote_port and (session.ends.family or session.tries == _TRIES_MAX):
            self._unproven += 1

    def _make_event(
        self, number: int, session: _Session, kind: int, sequence: int, other: int, size: int, length: int
    ) -> SyscallEvent:
        ends = session.ends
        family, bound, here, there = session.about
        return SyscallEvent(
            session.time_ns,
            self._base | number,
            self.cgroup_id,
            sequence,
            other,
            size,
            length,
            0,
            ends.local_port,
            ends.remote_port,
            kind,
            family,
            bound,
            _JAVA,
            self.process,
            here,
            there,
        )

    def _skip(self, head: int) -> bool:
        """Skips what stays incomplete; whether it did."""
        stalled = self._stalled
        if stalled is None or stalled[0] != self._position:
            self._stalled = self._position, head, self._now_ns
            return False
        if self._now_ns - stalled[2] < STALL_NS:
            return False
        self._count_loss(stalled[1] - self._position)
        self._position, self._stalled = stalled[1], None
        self._stalls += 1
        return True

    def _count_loss(self, size: int) -> None:
        """Of bytes that are not read: as many records as they would be at their mean length so far."""
        if size:
            self._lost_bytes += size
            self._lost_records += max(1, size * self.events // max(self._event_bytes, RECORD_BYTES))

    def _free(self) -> None:
        """Gives the agent the room of what was read."""
        os.pwrite(self._fd, _WORD.pack(self._position), _TAIL_AT)

    def _read_counts(self) -> tuple[int, ...]:
        """State, then what only grows. Raises OSError, RingError."""
        content = os.pread(self._fd, _COUNTS.size, _COUNTS_AT)
        if len(content) < _COUNTS.size:
            raise RingError("the memory of the Java agent was cut short")
        records, size, state, ambiguous, failures, over_budget = _COUNTS.unpack(content)
        if state not in _STATES:
            raise RingError(f"the Java agent is in the state {state}")
        return state, records, size, ambiguous, failures, over_budget

    def _read_word(self, at: int) -> int:
        content = os.pread(self._fd, _WORD.size, at)
        if len(content) < _WORD.size:
            raise RingError("the memory of the Java agent was cut short")
        return int(_WORD.unpack(content)[0])


def _join(last: Moved, event: SyscallEvent, data: bytes) -> Moved | None:
    """The last event of a connection with what follows on it at once; None where they are two."""
    first, before = last
    is_next = (
        first.socket == event.socket
        and first.kind == event.kind
        and first.family == event.family
        and first.other == event.other
        and first.length == first.size
        and event.time_ns - first.time_ns < JOIN_NS
        and (first.sequence + first.size) & 0xFFFF_FFFF == event.sequence
        and 0 < first.length + event.length <= COPY_BYTES_MAX
    )
    if not is_next or event.kind == _CLOSED:
        return None
    size, length = first.size + event.size, first.length + event.length
    return SyscallEvent._make((*first[:5], size, length, *first[7:])), before + data
