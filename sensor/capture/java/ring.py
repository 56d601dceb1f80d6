"""Reads the memory into which the Java agent writes: gives records like those of bpf/tls.c.

The memory is a file of the process's own (src/io/apidae/java/Ring.java), so nothing in it is trusted. It is read by
system calls, because a map of a file that is cut short would end the sensor. Every number is checked, and a ring with a
wrong one is given up. Whatever it says, its calls are those of the process that holds it.

Layout: a page with a header, then records in a ring. Positions count from the start of the writing. A record begins
with its position under the ring's secret, so bytes of payload and of old records never look like one. A thread that
ended within a record would stop the reading: so what stays incomplete for `STALL_NS` is skipped.
"""

import os
import struct
from dataclasses import dataclass
from typing import Final

from sensor.ebpf.abi import SYSCALL_EVENT, Binding, Library, SyscallEvent, SyscallKind

VERSION: Final = 2
HEADER_BYTES: Final = 4_096
DATA_BYTES_MAX: Final = 1 << 24
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
_PAD_BYTES: Final = 16  # A record that only fills the end of the ring may be as short as its first word.
_PAD: Final = struct.Struct("<QIB")
READ_BYTES: Final = 1 << 18
STALL_NS: Final = 2_000_000_000
# What a process says of its clock is taken within this much of now.
LATE_NS_MAX: Final = 60_000_000_000
COMMAND_WAIT, COMMAND_READ = 0, 2
STATE_WAITING, STATE_READING, STATE_FAILED = 0, 1, 3
CAME_WITH_JVM, CAME_ATTACHED = 1, 2
_KINDS: Final = frozenset((SyscallKind.READ, SyscallKind.WRITE, SyscallKind.CLOSED))
# Of all sessions no other has these bits: a number of the kernel's is a cookie, or a time with the first one.
_SESSION_BITS: Final = 3 << 62
_SERIAL_SHIFT, _SERIAL_MASK, _NUMBER_MASK = 40, (1 << 22) - 1, (1 << 40) - 1


class RingError(Exception):
    """A ring holds what the agent never writes. One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingCounts:
    """What the agent counted; `stalls`: incomplete records that were skipped."""

    dropped_records: int = 0
    dropped_bytes: int = 0
    state: int = 0
    ambiguous: int = 0
    failures: int = 0
    over_budget: int = 0
    stalls: int = 0


class AgentRing:
    """Of one process. Takes over the descriptor. Not thread-safe but for `beat`."""

    def __init__(self, fd: int, *, process: int, cgroup_id: int, serial: int) -> None:
        """`serial` is part of the numbers of its sessions. Raises RingError, OSError."""
        start = os.pread(fd, _START.size, 0)
        if len(start) < _START.size:
            raise RingError("the memory of the Java agent is too short")
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
        self._cgroup_id = cgroup_id
        self._base = _SESSION_BITS | (serial & _SERIAL_MASK) << _SERIAL_SHIFT
        self._position = self._read_word(_HEAD_AT)  # What is there is of a sensor before this one.
        if self._position % _WORD.size:
            raise RingError(f"the Java agent's ring begins at byte {self._position}")
        self._stalled: tuple[int, int, int] | None = None  # Position, head, since when.
        self._refused = 0
        self.events = 0
        self._stalls = 0
        self._free()

    def beat(self, now_ns: int) -> None:
        """Shows the agent that somebody reads; without it the agent takes its patches out. Raises OSError."""
        os.pwrite(self._fd, _WORD.pack(now_ns), _HEARTBEAT_AT)

    def order(self, command: int) -> None:
        """COMMAND_READ or COMMAND_WAIT. Raises OSError."""
        os.pwrite(self._fd, _WORD.pack(command), _COMMAND_AT)

    def limit(self, requests_per_second: int) -> None:
        """Beyond them the agent copies nothing and counts. Raises OSError."""
        os.pwrite(self._fd, _WORD.pack(requests_per_second), _BUDGET_AT)

    def refuse(self, session: int) -> None:
        """No more of a session is wanted. Raises OSError."""
        slot = _REFUSALS_AT + _WORD.size * (self._refused % REFUSALS)
        self._refused += 1
        os.pwrite(self._fd, _WORD.pack(session & _NUMBER_MASK), slot)
        os.pwrite(self._fd, _WORD.pack(self._refused), _REFUSAL_COUNT_AT)

    def owns(self, session: int) -> bool:
        """Whether a session is of this ring."""
        return session & ~_NUMBER_MASK == self._base

    def counts(self) -> RingCounts:
        """As of now. Raises OSError, RingError."""
        content = os.pread(self._fd, _COUNTS.size, _COUNTS_AT)
        if len(content) < _COUNTS.size:
            raise RingError("the memory of the Java agent was cut short")
        records, size, state, ambiguous, failures, over_budget = _COUNTS.unpack(content)
        return RingCounts(
            dropped_records=records,
            dropped_bytes=size,
            state=state,
            ambiguous=ambiguous,
            failures=failures,
            over_budget=over_budget,
            stalls=self._stalls,
        )

    def pending_bytes(self) -> int:
        """What waits to be read. Raises OSError, RingError."""
        waiting = self._read_word(_HEAD_AT) - self._position
        if not 0 <= waiting <= self._size or waiting % _WORD.size:
            raise RingError(f"the Java agent's ring holds {waiting} bytes of {self._size}")
        return waiting

    def read(self, limit: int, now_ns: int) -> list[memoryview]:
        """Up to `limit` records as `SYSCALL_EVENT` and data. Raises OSError, RingError."""
        found: list[memoryview] = []
        waiting = self.pending_bytes()
        while waiting and len(found) < limit:
            offset = self._position & (self._size - 1)
            wanted = min(waiting, self._size - offset, READ_BYTES)
            content = os.pread(self._fd, wanted, HEADER_BYTES + offset)
            if len(content) < wanted:
                raise RingError("the memory of the Java agent was cut short")
            done = self._take_records(content, self._size - offset, limit, now_ns, found)
            if not done and not self._skip(self._position + waiting, now_ns):
                break
            self._position += done
            waiting = self.pending_bytes()
        self._free()
        return found

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)

    def _take_records(self, content: bytes, to_end: int, limit: int, now_ns: int, found: list[memoryview]) -> int:
        """Bytes of complete records; `to_end`: of the ring, from here on."""
        done = 0
        while len(found) < limit and done < len(content):
            left = len(content) - done
            if _WORD.unpack_from(content, done)[0] ^ self._secret != self._position + done:
                break  # Not written yet.
            if to_end - done < _PAD_BYTES:
                return done + left
            if left < _PAD_BYTES:
                break
            _, length, kind = _PAD.unpack_from(content, done)
            if length % 8 or not _PAD_BYTES <= length <= to_end - done:
                raise RingError(f"the Java agent's ring has a record of {length} bytes")
            if kind:
                if not RECORD_BYTES <= length <= RECORD_BYTES + COPY_BYTES_MAX + 7:
                    raise RingError(f"the Java agent's ring has a record of {length} bytes")
                if length > left:
                    break  # With the next reading.
                found.append(self._build(content, done, length, now_ns))
                self.events += 1
            elif length != to_end - done:
                raise RingError(
                    f"the Java agent's ring is filled up with {length} bytes where {to_end - done} are left"
                )
            done += min(length, left)
        return done

    def _build(self, content: bytes, at: int, room: int, now_ns: int) -> memoryview:
        (_, _, kind, family, time_ns, number, sequence, other, size, length, local, remote, here, there) = (
            _RECORD.unpack_from(content, at)
        )
        if kind not in _KINDS or family not in (0, 4, 6) or length > min(size, room - RECORD_BYTES):
            what = f"kind {kind}, family {family}, {length} of {size} bytes"
            raise RingError(f"the Java agent's ring has a record of {what}")
        event = SyscallEvent(
            time_ns=min(max(time_ns, now_ns - LATE_NS_MAX), now_ns),
            socket=self._base | number & _NUMBER_MASK,
            cgroup_id=self._cgroup_id,
            sequence=sequence,
            other=other,
            size=size,
            length=length,
            hash=0,
            local_port=local,
            remote_port=remote,
            kind=kind,
            family=family,
            bound=Binding.LAST if family else 0,
            library=Library.JAVA,
            process=self.process,
            local_address=here,
            remote_address=there,
        )
        start = at + RECORD_BYTES
        return memoryview(SYSCALL_EVENT.pack(*event) + content[start : start + length])

    def _skip(self, head: int, now_ns: int) -> bool:
        """Skips what stays incomplete; whether it did."""
        stalled = self._stalled
        if stalled is None or stalled[0] != self._position:
            self._stalled = self._position, head, now_ns
            return False
        if now_ns - stalled[2] < STALL_NS:
            return False
        self._position, self._stalled = stalled[1], None
        self._stalls += 1
        return True

    def _free(self) -> None:
        """Gives the agent the room of what was read."""
        os.pwrite(self._fd, _WORD.pack(self._position), _TAIL_AT)

    def _read_word(self, at: int) -> int:
        content = os.pread(self._fd, _WORD.size, at)
        if len(content) < _WORD.size:
            raise RingError("the memory of the Java agent was cut short")
        return int(_WORD.unpack(content)[0])
