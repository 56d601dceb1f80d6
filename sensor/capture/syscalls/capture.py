"""Capture by system calls as the rest of the sensor sees it: the fallback where cgroup v2 cannot be used.

The kernel matches no calls here, so every call comes with its heads and figures. docs/internals/kernels.md lists what
this way sees and what it does not see.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from common.figures import Figure, make_totals
from sensor.capture.packets.capture import READ_LIMIT
from sensor.capture.packets.port_counts import StreamCalls, read_port_counts
from sensor.capture.source import Capture, estimate_lost_calls
from sensor.capture.syscalls.local_clients import LocalClients
from sensor.capture.syscalls.streams import Conversations, Verdict, unpack_event
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount, StageCounter, take_each
from sensor.coverage.row import PortCount
from sensor.coverage.unread import Unread
from sensor.ebpf.abi import (
    SYSCALL_CONN,
    SYSCALL_COUNTER_PARTS,
    SYSCALL_COUNTERS_SIZE,
    SYSCALL_KEY,
    ConnectionKind,
    Counter,
    SyscallCounter,
    SyscallEvent,
)
from sensor.ebpf.bpf_syscall import read_divided_counts, update_batch, update_map
from sensor.ebpf.ring import Bell, Ring
from sensor.ebpf.run_time import UNKNOWN_NS_PER_CALL
from sensor.ebpf.tracepoints import ProbeSettings, TracepointProgram, load_tracepoints
from sensor.http.http2.exchange import StreamExchange

logger = logging.getLogger(__name__)

_KINDS: Final = {
    Verdict.OTHER: ConnectionKind.OTHER,
    Verdict.UPGRADED: ConnectionKind.UPGRADED,
    Verdict.LEFT: ConnectionKind.LOCAL_CLIENT,
}


class SyscallCapture(Capture):
    """The kernel side, attached to tracepoints. Not thread-safe."""

    def __init__(self, *, program: TracepointProgram, ring_bytes: int, clock: Clock, fallback_reason: str = "") -> None:
        """`fallback_reason`: why packets cannot be captured, where this stands in for them."""
        self.fallback_reason = fallback_reason
        self._program = program
        self._ring = Ring(program.maps["events"], ring_bytes)
        self.bell: Bell = Bell((program.maps["events"],))
        self._clock = clock
        self._stage = StageCounter("exchange")
        self._conversations = Conversations(to_unix_ns=clock.to_unix_ns, stage=self._stage, refuse=self._refuse)
        self._local = LocalClients(self._conversations.leave)
        self._stream_calls = StreamCalls()
        self._listening: set[int] = set()
        self._lost_calls = 0
        self._last_counters: dict[SyscallCounter, int] = {}
        self._last_coverage: list[PortCount] = []
        self._is_closed = False

    @classmethod
    def load(
        cls,
        settings: ProbeSettings,
        *,
        clock: Clock,
        cache_directory: Path | None = None,
        fallback_reason: str = "",
    ) -> "SyscallCapture":
        """Compiles (or finds in the cache), loads and attaches. Raises sensor.ebpf.loader.LoadError."""
        program = load_tracepoints(settings, cache_directory)
        capture = cls(program=program, ring_bytes=settings.ring_bytes, clock=clock, fallback_reason=fallback_reason)
        try:
            capture.attach()
        except BaseException:
            capture.close()
            raise
        return capture

    way = CaptureWay.SYSCALLS
    limitation = "Captured by system calls: what io_uring moves is not seen."

    def read(self) -> list[Exchange | StreamExchange]:
        found: list[Exchange | StreamExchange] = []
        take_each(self._ring.read(READ_LIMIT), lambda left: self._take_all(left, found), logger)
        found += self._local.drop_left(self._conversations.poll(self._clock.monotonic_ns()))
        self._stream_calls.add(found)
        return found

    def _take_all(self, records: Iterable[memoryview], found: list[Exchange | StreamExchange]) -> None:
        for record in records:
            event, data = unpack_event(record)
            if not self._local.is_left(event):
                self._local.note_ends(event)
                told: list[Exchange | StreamExchange] = []
                self._conversations.take_event(event, data, told)
                found += self._local.drop_left(told)

    def has_events(self) -> bool:
        return self._ring.pending_bytes() > 0

    def is_pressing(self) -> bool:
        """Always: everything goes by events."""
        return True

    def pending_bytes(self) -> int:
        """Bytes in the ring that the next read will find."""
        return self._ring.pending_bytes()

    def syscall_counters(self) -> dict[SyscallCounter, int]:
        """The kernel's totals since the load; after `close` the last ones."""
        if self._is_closed:
            return self._last_counters
        totals = read_divided_counts(self._program.maps["counters"], SYSCALL_COUNTERS_SIZE, SYSCALL_COUNTER_PARTS)
        return {counter: totals[counter] for counter in SyscallCounter}

    def counters(self) -> dict[Counter, int]:
        """As the counters of capture by packets, where there is the like: every call is one that came by its head."""
        told, seen = self.syscall_counters(), self._stage.count().seen
        known = {
            Counter.CALLS: seen + told[SyscallCounter.EVENTS_LOST] + told[SyscallCounter.REFUSED],
            Counter.HEADS: seen,
            Counter.EVENTS_LOST: told[SyscallCounter.EVENTS_LOST],
            Counter.DROPPED_RING: told[SyscallCounter.EVENTS_LOST],
            Counter.PORTS_FULL: told[SyscallCounter.PORTS_FULL],
        }
        return {counter: known.get(counter, 0) for counter in Counter}

    def program_ns(self, *, calls: int) -> int:
        """Time in the kernel's programs so far, by what a call is known to take."""
        return calls * UNKNOWN_NS_PER_CALL

    def counts(self) -> tuple[StageCount, ...]:
        """The accounts of `kernel` and `exchange`. What a full ring lost are events, of which a call has several."""
        told, count = self.syscall_counters(), self._stage.count()
        lost = estimate_lost_calls(told[SyscallCounter.EVENTS_LOST], told[SyscallCounter.EVENTS], count.seen)
        self._lost_calls = max(self._lost_calls, lost)
        dropped = {"over_budget": told[SyscallCounter.REFUSED], "ring_full": self._lost_calls}
        seen = count.seen + sum(dropped.values())
        return (StageCount(stage="kernel", seen=seen, used=count.seen, dropped=tuple(dropped.items())), count)

    def coverage(self) -> list[PortCount]:
        """Connections and bytes by listening port and what was spoken on it; after `close` the last ones."""
        if self._is_closed:
            return self._last_coverage
        return read_port_counts(self._program.maps["ports"], streams=self._stream_calls)

    def unread(self) -> Unread:
        return self._conversations.unread.totals

    def figures(self) -> tuple[Figure, ...]:
        counters = self.syscall_counters()
        totals = (
            ("events", "System calls whose bytes were copied to user space.", counters[SyscallCounter.EVENTS]),
            ("uncopied_bytes", "Bytes that moved and were only counted.", counters[SyscallCounter.UNCOPIED]),
            ("unreadable_events", "System calls whose memory could not be read.", counters[SyscallCounter.UNREADABLE]),
            (
                "local_client_calls",
                "Calls not reported at their client because their server on this node reports them.",
                counters[SyscallCounter.LOCAL_CLIENTS] + self._local.calls,
            ),
        )
        return (*make_totals(totals, "syscall_"), *self._conversations.figures("syscall_", self.way.value))

    def set_listening(self, ports: Iterable[int]) -> None:
        if self._is_closed:
            return
        wanted = set(ports)
        update_batch(
            self._program.maps["listening"],
            {port.to_bytes(4, "little"): bytes([port in wanted]) for port in wanted ^ self._listening},
        )
        self._listening = wanted

    def attach(self) -> None:
        self._program.attach()

    def detach(self) -> None:
        self._program.detach()

    def close(self) -> None:
        """Detaches and frees everything."""
        self._last_counters, self._last_coverage = self.syscall_counters(), self.coverage()
        self._is_closed = True
        self.bell.close()
        self._program.close()
        self._ring.close()

    def _refuse(self, event: SyscallEvent, verdict: Verdict) -> None:
        """Marks in the kernel that this connection is not, or no longer, HTTP/1. Its socket's number may be another's
        by now."""
        if self._is_closed:
            return
        update_map(
            self._program.maps["conns"],
            SYSCALL_KEY.pack(event.socket, event.hash),
            SYSCALL_CONN.pack(*(0, 0, event.cgroup_id, 0, 0, _KINDS[verdict], 0, 0, 0, verdict is Verdict.UPGRADED, 0)),
        )
