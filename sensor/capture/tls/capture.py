"""Adds TLS to another capture: it gives everything that the capture below sees, and what processes encrypt.

It is itself a `sensor.capture.source.Capture`, so the sensor knows one capture. Where TLS cannot be read, the capture
below goes on alone and the coverage shows why.

`PortEstimates` estimates the unread calls of a port while one of its processes is read in turns (`duty`). The kernel
counts exchanges between client and server (bpf/encrypted.h). Each counts as a call, less the calls that were read. The
turns of an upgraded connection are not calls, so the kernel is notified of it.

The kernel reports exchanges in batches, and calls a moment after they are made, so the difference swings. The estimate
is the largest difference so far. It is pure, and bounded by the table of what was read.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from common.figures import Figure, make_gauges, make_labelled, make_totals
from sensor.capture.java.agents import JavaAgents
from sensor.capture.java.attachments import Attachments
from sensor.capture.source import Capture, estimate_lost_calls
from sensor.capture.syscalls.streams import Verdict
from sensor.capture.tls.attacher import Attacher
from sensor.capture.tls.bodies import BodyMeter
from sensor.capture.tls.choice import TlsChoices
from sensor.capture.tls.duty import NODE_FACTOR, DutyCycle
from sensor.capture.tls.finder import JAVA, search_file
from sensor.capture.tls.latency import AnswerTrials
from sensor.capture.tls.processes import ProcessFiles
from sensor.capture.tls.reader import TlsReader
from sensor.capture.tls.split import PortReading, PortSplit
from sensor.capture.tls.turns import TurnTaker
from sensor.capture.tls.unread import UnreadProcesses
from sensor.capture.tls.waits import Port
from sensor.core.calls import Exchange, Handshake, Role
from sensor.core.clock import Clock
from sensor.core.health import TLS_STAGE, StageCount
from sensor.core.process import with_breaks
from sensor.core.read_tls import ReadTls
from sensor.core.sandbox import Sandbox
from sensor.coverage.row import CoverageRole, PortCount, PortProtocol
from sensor.coverage.unread import Unread
from sensor.ebpf.abi import (
    ESTIMATED_CLASS,
    OVERFLOW_KEY,
    PEER_KEY,
    SYSCALL_COUNTER_PARTS,
    SYSCALL_COUNTERS_SIZE,
    SYSCALL_EVENT,
    Binding,
    ConnectionKind,
    Counter,
    Library,
    OverflowTotals,
    Records,
    SyscallCounter,
    SyscallEvent,
    TlsCounter,
)
from sensor.ebpf.bpf_syscall import read_divided_counts
from sensor.ebpf.ring import Ring
from sensor.ebpf.run_time import BREAKPOINT_NS, RunTimeMeter
from sensor.ebpf.uprobes import UPROBES, TlsProgram, close_probes
from sensor.http.http2.exchange import OpenCall, StreamExchange
from sensor.offload.kernel_cache import MapName

# So long after the last turn what was counted before it may still be reported.
LINGER_SECONDS: Final = 3.0
# A process is over its budget for two seconds before it is known to be (duty.py), and its calls are refused meanwhile.
# They are estimated from so long before.
EARLIER_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Estimate:
    """Of one port since one of its processes made more calls than are read."""

    from_calls: int  # Read until then.
    last: int  # The kernel's turns, as of the last time.
    ends_at: float
    turns: int = 0
    reported: int = 0


class PortEstimates:
    """Mutable: what was reported before. The results are in the readings."""

    def __init__(self) -> None:
        self._open: dict[Port, _Estimate] = {}
        # Time, turns and calls of the last seconds in which it was not estimated.
        self._before: dict[Port, deque[tuple[float, int, int]]] = {}
        self._updated_at = 0.0  # The last time; 0: never.
        self._lost = 0  # Calls of all ports, as of then,
        self._lost_by_cgroup: dict[int, int] = {}  # and of one cgroup's.
        self._gaps: dict[Port, int] = {}  # Turns that are no calls, as of the last time,
        self._looks: dict[Port, tuple[PortReading, int]] = {}  # and as of now.

    def update(
        self,
        now: float,
        counts: Iterable[PortCount],
        readings: Mapping[Port, PortReading],
        shares: Mapping[int, float],
        lost_calls: int = 0,
        lost_by_cgroup: Mapping[int, int] = MappingProxyType({}),
        waiting_calls: int = 0,
    ) -> None:
        """The kernel's counts and what was read, both since the start, as are `lost_calls`: those of all ports, and
        `lost_by_cgroup`: those of one cgroup's; `shares`: of the processes that make more calls than are read
        (`DutyCycle.over`); `waiting_calls`: so many that were read may be in the rings still, of any port: what is
        estimated is never taken back. Once a second."""
        for count in counts:
            if count.kind is not PortProtocol.ENCRYPTED or count.role is not CoverageRole.LISTENING:
                continue
            port = (count.cgroup_id, count.port)
            reading, one = readings.get(port), self._open.get(port)
            before = self._before.get(port)
            if before is None:
                before = self._before[port] = deque()
                if self._updated_at:  # Nobody had called it then.
                    before.append((self._updated_at, 0, 0))
            # What waits would be counted after a time that it came before.
            is_known = not waiting_calls or not before or before[-1][0] <= now - EARLIER_SECONDS
            if one is None and is_known:
                before.append((now, count.exchanges, 0 if reading is None else reading.calls))
                while len(before) > 2 and before[0][0] < now - EARLIER_SECONDS:
                    before.popleft()
            if reading is None:
                continue
            over = reading.processes.keys() & shares.keys()
            reading.share = min((shares[pid] for pid in over), default=1.0)
            self._looks[port] = reading, count.exchanges - reading.calls - reading.estimated
            if over:
                if one is None:
                    _, turns, calls = before[0]
                    before.clear()
                    one = self._open[port] = _Estimate(calls, turns, now)
                one.ends_at = now + LINGER_SECONDS
            if one is None:
                continue
            more = count.exchanges - one.last
            one.last += more
            one.turns += more
            missing = one.turns - (reading.calls - one.from_calls) - one.reported
            missing -= waiting_calls
            if missing > 0:
                one.reported += missing
                reading.estimated += missing
            if now >= one.ends_at and not waiting_calls:
                del self._open[port]
        self._share_loss(lost_calls, lost_by_cgroup)
        self._updated_at = now

    def _share_loss(self, lost_calls: int, lost_by_cgroup: Mapping[int, int]) -> None:
        """Lost calls belong to the ports where the kernel counted more turns than calls were read since the last time.
        What a process says that it lost belongs to ports of its cgroup."""
        missing = {port: max(0, gap - self._gaps.get(port, 0)) for port, (_, gap) in self._looks.items()}
        self._gaps = {port: gap for port, (_, gap) in self._looks.items()}
        for cgroup_id, lost in lost_by_cgroup.items():
            own = {port: gap for port, gap in missing.items() if port[0] == cgroup_id}
            missing.update(self._share(lost - self._lost_by_cgroup.get(cgroup_id, 0), own))
        self._share(lost_calls - self._lost, missing)
        self._lost, self._lost_by_cgroup = lost_calls, dict(lost_by_cgroup)
        self._looks.clear()

    def _share(self, new: int, missing: Mapping[Port, int]) -> dict[Port, int]:
        """So many lost calls among ports by what they miss; what they miss then."""
        total = sum(missing.values())
        left = dict(missing)
        if new > 0 and total:
            for port, gap in missing.items():
                share = round(min(new, total) * gap / total)
                self._looks[port][0].lost += share
                left[port] = gap - share
        return left


# Events taken from the ring at once: 8 to 40 ms of work.
READ_LIMIT: Final = 1_024
RING_BYTES: Final = 8 << 20
BEHIND_BYTES: Final = RING_BYTES // 4
PRESSING_BYTES: Final = RING_BYTES // 16
# Of one end of a call, until it was counted: six breakpoints, as many as any library has, and half of what the programs
# of both ends take.
UNKNOWN_NS_PER_CALL: Final = 5_300
# Processes of one port that are read in different ways: so many of their notes are in the coverage.
NOTES_MAX: Final = 2
HELD_BACK: Final = "Less is read than usual, for the sensor's processor time is at its budget."
# HTTP/2 sends a path once and then refers to it (RFC 7541), so who looks away loses it.
WITHOUT_PATH: Final = (
    "{count:,} calls of HTTP/2 have no path: their connections were not read all the time since they were opened."
)
# What a session is to the kernel that the reader refuses.
_KINDS: Final = {
    Verdict.OTHER: ConnectionKind.OTHER,
    Verdict.UPGRADED: ConnectionKind.UPGRADED,
    Verdict.LEFT: ConnectionKind.LOCAL_CLIENT,
}
_MAPPED: Final = bytes(10) + b"\xff\xff"  # IPv4 within IPv6 (RFC 4291, section 2.5.5.2).
_WAYS: Final = {Binding.LAST: "last", Binding.NEXT: "next", Binding.DATA: "data", Binding.NESTED: "nested"}


def refuse_session(program: TlsProgram, event: SyscallEvent, verdict: Verdict) -> None:
    """Tells the kernel that no more of an event's session is wanted."""
    program.refuse(event.socket, _KINDS[verdict])


def _read_uptime() -> float:
    """Seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def find_client_key(event: SyscallEvent) -> bytes:
    """The client's end of a server's connection, as packets name it: a mapped address is IPv4."""
    family, address = event.family, event.remote_address
    if address.startswith(_MAPPED):
        family, address = 4, address[len(_MAPPED) :] + bytes(len(_MAPPED))
    return PEER_KEY.pack(event.cgroup_id, address, event.remote_port, family, ConnectionKind.UPGRADED)


class TlsCapture(Capture):
    """`below` and TLS. Not thread-safe."""

    def __init__(
        self,
        *,
        below: Capture,
        program: TlsProgram,
        clock: Clock,
        proc: str,
        min_age_seconds: float,
        read_scope: Callable[[], Collection[int] | None] = lambda: None,
        find_cgroup_id: Callable[[int], int] = lambda _: 0,
        attachments: Attachments | None = None,
        unread: UnreadProcesses | None = None,
        bodies: BodyMeter | None = None,
        choices: TlsChoices,
        read_cpu_ns: Callable[[int], int] = lambda _: 0,
        trials: AnswerTrials | None = None,
        read_waits: Callable[[Collection[Port]], Mapping[Port, Sequence[int]]] = lambda _: {},
        calls_per_second: int,
    ) -> None:
        """`read_scope` gives the processes that are read, None for all; `find_cgroup_id` is of a process; `attachments`
        attaches the Java agent, without it nobody does; `bodies` says how much of them is kept for reading, `choices`
        who is read, `read_cpu_ns` the processor time of a process so far, `trials` whether answers take longer while it
        is read, by what `read_waits` gives of some ports; `calls_per_second` of a process are read, if the governor
        does not say less."""
        self._most_calls_per_second = self._calls_per_second = calls_per_second
        self._choices = choices
        # Without turns of client and server in the capture below, calls that are not read could not be estimated.
        self._duty = None
        if choices.has_turns:
            self._duty = DutyCycle(
                node_calls_per_second=NODE_FACTOR * calls_per_second,
                find_budget=choices.find_budget,
                read_cpu_ns=read_cpu_ns,
            )
        self._agents = JavaAgents(
            proc,
            find_cgroup_id=find_cgroup_id,
            monotonic_ns=clock.monotonic_ns,
            requests_per_second=calls_per_second,
            attachments=attachments,
            may_read=lambda pid: choices.find_wish(pid).mode is not ReadTls.OFF,
        )
        self._bodies = bodies
        self._below = below
        self._program = program
        self._clock = clock
        self._ring = Ring(program.maps["events"], RING_BYTES)
        self._reader = TlsReader(
            to_unix_ns=clock.to_unix_ns,
            refuse=self._refuse,
            bodies=bodies,
            may_read=choices.may_read,
            was_closing=lambda pid, time_ns: self._turns.was_closing(pid, time_ns),
            uptime=_read_uptime,
        )
        self._meter = RunTimeMeter(
            tuple(program.programs.values()),
            breakpoint_fds={program.programs[name] for name in UPROBES},
            unknown_ns_per_call=UNKNOWN_NS_PER_CALL,
        )
        self._trials = trials if choices.has_turns else None
        self._turns = TurnTaker(
            prober=program,
            close_probes=close_probes,
            choices=choices,
            duty=self._duty,
            trials=self._trials,
            read_waits=read_waits,
            monotonic=time.monotonic,
            find_price_ns=lambda: self._meter.ns_per_breakpoint,
        )
        self._attacher = Attacher(
            turns=self._turns,
            processes=ProcessFiles(
                proc,
                min_age_seconds=min_age_seconds,
                uptime=_read_uptime,
                read_scope=read_scope,
            ),
            searcher=Sandbox(search_file),
            monotonic=time.monotonic,
            unread=unread,
            agents=self._agents,
        )
        self._split = PortSplit()
        self._lost_calls = 0
        self._estimates = PortEstimates()
        self.way, self.fallback_reason, self.limitation = below.way, below.fallback_reason, below.limitation
        self.maps, self.bell = below.maps, below.bell
        if self.bell is not None:
            self.bell.watch(program.maps["events"])
        self._last_counters: Sequence[int] = ()
        self._is_closed = False
        self._is_attached = False

    def read(self) -> list[Exchange | StreamExchange]:
        exchanges = self._below.read()
        is_behind = self._ring.pending_bytes() > BEHIND_BYTES
        exchanges += self._reader.take(with_breaks(self._ring.read(READ_LIMIT), is_behind=is_behind))
        exchanges += self._reader.take(with_breaks(self._agents.read(READ_LIMIT), is_behind=is_behind))
        exchanges += self._reader.poll(self._clock.monotonic_ns())
        return exchanges

    def find_client_socket(self, local_address: str, local_port: int, remote_address: str, remote_port: int) -> int:
        return self._below.find_client_socket(local_address, local_port, remote_address, remote_port)

    def list_open_calls(self, connection: int | None = None) -> list[OpenCall]:
        return self._below.list_open_calls(connection)

    def pop_handshakes(self) -> list[Handshake]:
        return self._below.pop_handshakes()

    def has_events(self) -> bool:
        return self._below.has_events() or self._count_pending() > 0

    def is_pressing(self) -> bool:
        """Whether those below are, or there is much of TLS. Nothing of it extends a cache of the kernel, so a few calls
        wait to be read together, which costs a third less."""
        return self._count_pending() > PRESSING_BYTES or self._below.is_pressing()

    def has_records(self) -> bool:
        return self._below.has_records() or self._agents.is_reading

    def is_due(self, ahead_seconds: float) -> bool:
        """Nobody rings for what Java wrote, so it is looked for as records are."""
        return self._below.is_due(ahead_seconds) or self._agents.pending_bytes() > 0

    def read_records(self, *, is_all: bool = False) -> Records:
        return self._below.read_records(is_all=is_all)

    def release_records(self) -> None:
        self._below.release_records()

    def overflow(self) -> Mapping[bytes, OverflowTotals]:
        """Of the capture below, and the calls that nobody read, estimated as of now."""
        if self._reader.ports and not self._is_closed:
            self._estimate(self._below.coverage())
        estimated = {
            OVERFLOW_KEY.pack(cgroup_id, port, Role.SERVER, ESTIMATED_CLASS): (reading.estimated, 0, 0, 0)
            for (cgroup_id, port), reading in self._reader.ports.items()
            if reading.estimated
        }
        return {**self._below.overflow(), **estimated}

    def pending_bytes(self) -> int:
        """In all rings."""
        return self._below.pending_bytes() + self._count_pending()

    def _count_pending(self) -> int:
        return self._ring.pending_bytes() + self._agents.pending_bytes()

    def counters(self) -> Mapping[Counter, int]:
        """Of the capture below: what the sensor's own process spends on TLS shows in its processor time."""
        return self._below.counters()

    def program_ns(self, *, calls: int) -> int:
        """Of the capture below, and of the programs on libraries of TLS with their breakpoints."""
        own = self._meter.observe(now_ns=self._clock.monotonic_ns(), calls=self.tls_calls())
        return self._below.program_ns(calls=calls) + own

    def tls_calls(self) -> int:
        """Told, and refused beyond the budget."""
        return self._reader.stage.count().used + self._read_counters()[SyscallCounter.REFUSED]

    def limit_tls(self, calls_per_second: int) -> None:
        """In the kernel, and where processes are read in turns by their length."""
        if calls_per_second == self._calls_per_second or self._is_closed:
            return
        self._calls_per_second = calls_per_second
        self._program.limit(calls_per_second)
        self._agents.limit(calls_per_second)
        self._choices.limit(calls_per_second)
        if self._duty is not None:
            self._duty.limit(NODE_FACTOR * calls_per_second)

    def counts(self) -> Sequence[StageCount]:
        """The accounts below, and that of TLS: calls reported, and what the ring or the budget refused. Where each
        process is read in turns, what is over the budget is estimated and not lost."""
        count, totals = self._reader.stage.count(), self._read_counters()
        dropped = {**dict(count.dropped), "ring_full": self._count_lost(totals), "java": self._agents.lost_calls}
        if self._duty is None or not self._program.is_choosing:
            dropped["over_budget"] = totals[SyscallCounter.REFUSED]
        seen = count.used + sum(dropped.values())
        tls = StageCount(stage=TLS_STAGE, seen=seen, used=count.used, dropped=tuple(sorted(dropped.items())))
        return (*self._below.counts(), tls)

    def _count_lost(self, totals: Sequence[int]) -> int:
        """Calls whose events found the ring full; it never falls."""
        events, calls = totals[SyscallCounter.EVENTS], self._reader.stage.count().used
        lost = estimate_lost_calls(totals[SyscallCounter.EVENTS_LOST], events + self._agents.events, calls)
        self._lost_calls = max(self._lost_calls, lost)
        return self._lost_calls

    def coverage(self) -> Sequence[PortCount]:
        """Ports, with what is read of the encrypted ones."""
        counts = self._below.coverage()
        self._estimate(counts)
        covered = self._split.split(counts, self._reader.read_port, time.monotonic(), is_last=self._is_closed)
        return [self._note_reading(one) if one.read_by else one for one in covered]

    def _note_reading(self, count: PortCount) -> PortCount:
        """Mode and budget of the processes of a port that is read, or why they are not read any more."""
        reading = self._reader.read_port(count.cgroup_id, count.port)
        if reading is None:
            return count
        pids, is_by_agent = reading.processes.keys() & self._choices.known, reading.libraries == {JAVA}
        notes = {self._choices.describe_agent(pid) if is_by_agent else self._turns.describe(pid) for pid in pids}
        kept = sorted(notes)[:NOTES_MAX]
        is_less = is_by_agent or count.read_share < 1 or any(self._choices.is_lowered(pid) for pid in pids)
        if self._calls_per_second < self._most_calls_per_second and is_less and count.read_share:
            kept.append(HELD_BACK)
        if reading.without_path:
            kept.append(WITHOUT_PATH.format(count=reading.without_path))
        return replace(count, read_note=" ".join(kept))

    def unread(self) -> Unread:
        return {**self._below.unread(), **self._reader.unread}

    def _estimate(self, counts: Sequence[PortCount]) -> None:
        """Calls of ports whose processes are read in turns."""
        lost = self._count_lost(self._read_counters())
        lost_by_cgroup = self._agents.lost_by_cgroup
        ports = self._reader.ports
        for reading in ports.values():
            reading.drop_ended(self._choices.find_start)
        self._turns.members = {port: frozenset(reading.processes) for port, reading in ports.items()}
        # Of a call there are two events at least.
        waiting = 0 if self._is_closed else self._count_pending() // (2 * SYSCALL_EVENT.size)
        self._estimates.update(time.monotonic(), counts, ports, self._turns.over, lost, lost_by_cgroup, waiting)

    def figures(self) -> tuple[Figure, ...]:
        counters, reader, attacher = self._read_counters(), self._reader, self._attacher
        files, parts, bodies = attacher.files, self._turns.parts, self._bodies
        trials = self._trials
        modes = self._choices.count_modes()
        estimated = sum(reading.estimated for reading in reader.ports.values())
        totals = (
            ("sessions", "Sessions of TLS libraries that made a call.", counters[TlsCounter.SESSIONS]),
            ("events", "Reads and writes of TLS that were copied to user space.", counters[SyscallCounter.EVENTS]),
            (
                "events_unbound",
                "Reads and writes of TLS whose socket was not known yet.",
                counters[TlsCounter.UNBOUND],
            ),
            ("sessions_ambiguous", "Sessions for which two ways found two sockets.", counters[TlsCounter.MANY]),
            (
                "unwanted_events",
                "Reads and writes of TLS that were dropped unparsed: nothing of their process may be read.",
                reader.unwanted_events,
            ),
            ("unbound_calls", "Calls reported without addresses.", reader.unbound_calls),
            (
                "calls_without_path",
                "Calls of HTTP/2 whose path is not known, for their connection was not read all the time.",
                reader.calls_without_path,
            ),
            (
                "local_client_calls",
                "Calls not reported at their client because their server on this node reports them.",
                self._count_left(counters),
            ),
            ("body_bytes", "Bytes of bodies that were kept for reading.", bodies.kept_bytes if bodies else 0),
            ("bodies_refused", "Bodies that were not kept: the budget was spent.", bodies.refused if bodies else 0),
            (
                "failed_files",
                "Files whose search for a TLS library failed, or whose probes the kernel refused.",
                attacher.failed_total,
            ),
            (
                "refused_probes",
                "Times that the kernel refused probes of one process in a file.",
                self._turns.refused_total,
            ),
            (
                "changed_files",
                "Files that changed while they were probed, and were searched anew.",
                attacher.changed_total,
            ),
            (
                "turns",
                "Times that probes went into a process that is read by turns.",
                self._duty.turns if self._duty else 0,
            ),
            (
                "over_budget_calls",
                "Calls beyond the budget: estimated where processes are read by turns, else lost.",
                counters[SyscallCounter.REFUSED],
            ),
            ("trials", "Comparisons of answer times with and without reading.", trials.trials_total if trials else 0),
            (
                "trial_stops",
                "Times that a server was left alone because its answers took longer while it was read.",
                trials.stops_total if trials else 0,
            ),
            (
                "evicted_accounts",
                "Accounts of processes that were evicted from the kernel's table while their process lived.",
                self._duty.evictions if self._duty else 0,
            ),
            (
                "doubted_trials",
                "Comparisons of answer times whose difference was more than reading can make.",
                trials.doubted_total if trials else 0,
            ),
            ("estimated_calls", "Calls of processes read by turns, estimated for the time between.", estimated),
        )
        gauges = (
            ("files", "Files with a TLS library that is probed.", sum(bool(file.probes) for file in files)),
            ("files_unread", "Files with a TLS library that is not probed.", sum(not file.sites for file in files)),
            (
                "waiting_files",
                "Files that wait to be searched for a TLS library, or for a place among those that are probed.",
                attacher.left_out,
            ),
            (
                "unread_processes",
                "Processes whose mapped files the sensor may not list, or that are beyond the most it looks at.",
                attacher.unread_processes,
            ),
            (
                "untried_ports",
                "Ports of servers whose answer times are not compared: they are beyond the most that are.",
                trials.left_out if trials else 0,
            ),
            ("processes_in_turns", "Processes that are read in turns: they take more than their budget.", len(parts)),
            (
                "read_ratio",
                "Share of the time in which the process in turns that is read least is read.",
                min(parts.values(), default=1.0),
            ),
            (
                "crowded_processes",
                "Processes that are read by turns because more run their library than may have probes of their own.",
                len(self._turns.crowded),
            ),
            ("stopped_processes", "Processes left alone after a comparison of answer times.", len(self._turns.stopped)),
            ("compared_processes", "Processes whose answer times are being compared.", len(self._turns.slots)),
            (
                "hindered_processes",
                "Processes that may be read, and of which the kernel refused the probes or cannot choose them.",
                len(self._turns.hindered),
            ),
            ("probes", "Probes that are in place.", sum(file.probes for file in files)),
        )
        own = (
            *make_totals(totals, "tls_"),
            *make_labelled(
                "tls_bound_sessions",
                "TLS sessions, by how their socket was found first.",
                "by",
                ((name, reader.bound[way]) for way, name in _WAYS.items()),
            ),
            *make_gauges(gauges, "tls_"),
            *make_labelled(
                "tls_processes",
                "Processes with a library that is known, by how much of them may be read.",
                "mode",
                ((mode.value, modes.get(mode, 0)) for mode in ReadTls),
                is_total=False,
            ),
            *reader.figures(),
            *self._agents.figures(),
        )
        return (*self._below.figures(), *own)

    def update(self, name: MapName, elements: Mapping[bytes, bytes]) -> None:
        self._below.update(name, elements)

    def delete(self, name: MapName, keys: Iterable[bytes]) -> None:
        self._below.delete(name, keys)

    def set_listening(self, ports: Iterable[int]) -> None:
        self._below.set_listening(ports)

    def detach(self) -> None:
        """Takes every program off; returns when no probe is in any process."""
        if self._is_attached:
            self._is_attached = False
            self._attacher.stop()
            self._program.detach()
        self._below.detach()

    def attach(self) -> None:
        self._below.attach()
        self.start()

    def start(self) -> None:
        """TLS, where the capture below is attached."""
        if not self._is_attached:
            self._is_attached = True
            self._meter.breakpoint_ns = self._program.measure_breakpoint() or BREAKPOINT_NS
            self._attacher.start()

    def close(self) -> None:
        self.detach()
        self._last_counters = self._read_counters()
        self._is_closed = True
        self._meter.stop()
        self._agents.close()
        self._program.close()
        self._ring.close()
        self._below.close()

    def _read_counters(self) -> Sequence[int]:
        if self._is_closed:
            return self._last_counters
        return read_divided_counts(self._program.maps["counters"], SYSCALL_COUNTERS_SIZE, SYSCALL_COUNTER_PARTS)

    def _count_left(self, totals: Sequence[int]) -> int:
        """Those that came here, and writes of connections that are left since, each taken for one."""
        return self._reader.local_clients + totals[SyscallCounter.LOCAL_CLIENTS]

    def _refuse(self, event: SyscallEvent, verdict: Verdict) -> None:
        """Tells the kernel that this session is not, or no longer, HTTP; and the capture below where its turns are
        messages of a WebSocket, which are no calls."""
        if self._is_closed:
            return
        if verdict is Verdict.FOLLOWED:
            pass  # Only its turns are no calls any more.
        elif event.library == Library.JAVA:
            self._agents.refuse(event.socket)
        else:
            refuse_session(self._program, event, verdict)
        if verdict in (Verdict.UPGRADED, Verdict.FOLLOWED) and event.family:
            self._below.update(MapName.WEBSOCKETS, {find_client_key(event): b"\1"})
