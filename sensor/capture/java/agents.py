"""Finds the agents that run in Java processes, and reads what they write.

Two threads share it. The one that looks at processes (sensor.capture.tls.attacher) calls `look` once a second: it
searches, attaches, and hands over what it opened. It may wait for /proc. The loop's thread reads, and shows the agents
that it does. It owns what it reads and closes it. So neither waits for the other: the lock is held to change a list.
"""

import contextlib
import heapq
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Final, TypeVar

from common.bounded import BoundedDict
from common.figures import Figure, make_gauges, make_totals
from common.token_bucket import TokenBucket
from sensor.capture.java.attachments import WITHDRAWN, Attachments
from sensor.capture.java.connections import ProcessConnections
from sensor.capture.java.ring import (
    COMMAND_READ,
    COMMAND_WAIT,
    RECORDS_PER_REQUEST,
    SPENT_NS,
    STATE_FAILED,
    STATE_READING,
    UNKNOWN_ENDS,
    AgentRing,
    Ends,
    RingCounts,
    RingError,
)
from sensor.capture.java.search import FileKey, Found, find_ring, open_directory, read_cgroup, read_start
from sensor.capture.tls.processes import CgroupShares
from sensor.core.attachments import Grant
from sensor.ebpf.abi import SYSCALL_EVENT, Moved, SyscallKind

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Processes that are read at a time; each agent has 4 MiB of its own. The places are shared along the cgroup tree.
MAX_RINGS: Final = 64
# Processes in whose descriptors an agent is searched in one look: some 5 ms each, where they have many.
SEARCHES_MAX: Final = 16
SEARCH_AMOUNT: Final = 1 << 10  # It is forgotten by halves.
# Records that are read at a time are at most so many bytes, of all agents.
TURN_BYTES_MAX: Final = 1 << 23
# Of the node, in requests of one process.
NODE_SHARE: Final = 2
# The kernel is asked for connections so often in a second, some 100 us each; of the others no address is known.
PROOFS_PER_SECOND: Final = 200
NODE_PROOFS_PER_SECOND: Final = 1_000
# An agent that was opened so long ago and does not give what it reads gives its place first.
IDLE_SECONDS: Final = 10
LONGEST_REST_SECONDS: Final = 64.0
# Consent that nobody asked for in this time counts as none: a look may wait for one process.
CONSENT_SECONDS: Final = 120
# A process may be moved to another cgroup.
LOOKS_PER_CGROUP: Final = 10
# Cgroups of which the loss is known.
LOST_CGROUPS_MAX: Final = 4_096
# Of lost records: a request, its answer, and half of the answers have a second one.
RECORDS_OF_A_CALL: Final = 3
# Far below what a collector takes; no node loses as many.
LOST_CALLS_MAX: Final = 1 << 39
TOO_MANY: Final = f"Java processes are read up to {MAX_RINGS} at a time, and there are more."
NOT_SEARCHED: Final = "It is searched for the Java agent soon."
SEARCHING: Final = "The Java agent is searched among its many descriptors."
FAILED: Final = "The Java agent in this process failed: its standard error says why."
_BROKEN: Final = "Its Java agent is not read any more: {}."
_SECOND_NS: Final = 1_000_000_000
# How connections end: of a process that has ended, and of one that is no longer looked at.
_ENDED: Final = (SyscallKind.CLOSED,)
_LEFT: Final = (SyscallKind.CUT, SyscallKind.CLOSED)


@dataclass(slots=True, kw_only=True, eq=False)
class _Reading:
    """An agent that is read."""

    ring: AgentRing
    connections: ProcessConnections | None  # None: nobody may ask for them.
    key: FileKey
    cgroup: str  # Whose place it takes.
    proofs: TokenBucket
    opened_ns: int
    # By the thread that looks:
    is_wanted: bool = False
    ending: tuple[SyscallKind, ...] = ()  # Not empty: it is closed when all is read.
    # By the thread that reads:
    error: str = ""  # Why it was given up.
    is_leaving: bool = False  # The agent reads no more: its connections end when all is read.
    is_closed: bool = False

    def is_idle(self, now_ns: int) -> bool:
        """Whether nothing is read of it."""
        has_begun = self.ring.state == STATE_READING
        return not self.is_wanted or (not has_begun and now_ns - self.opened_ns > IDLE_SECONDS * _SECOND_NS)

    def prove(self, ends: Ends, node_proofs: TokenBucket) -> Ends:
        """What the kernel confirms of a connection; nothing where it was asked too often."""
        if self.connections is None or not (self.proofs.take() and node_proofs.take()):
            return UNKNOWN_ENDS
        return self.connections.prove(ends, self.ring.cgroup_id)


@dataclass(slots=True, kw_only=True)
class _Process:
    """A Java process; of the thread that looks."""

    cgroup: str = "/"
    start: int = 0  # In ticks: another process with its number has another one. 0: not known yet.
    reason: str | None = NOT_SEARCHED  # Why it is not read; None: it has no agent.
    reading: _Reading | None = None
    rest_seconds: float = 1.0
    next_search_ns: int = 0
    next_number: int = 0  # Of the descriptor with which its search goes on.


class JavaAgents:
    """The agents of this node."""

    def __init__(
        self,
        proc: str,
        *,
        find_cgroup_id: Callable[[int], int],
        monotonic_ns: Callable[[], int],
        requests_per_second: int,
        attachments: Attachments | None = None,
        may_read: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """`find_cgroup_id`: of a process; 0 where it is not known. Of each process so many requests are read. Without
        `attachments` only agents are read that the JVM was started with. `may_read`: whether a process may be."""
        self._may_read = may_read
        self._attachments = attachments
        self._proc = proc
        self._find_cgroup_id = find_cgroup_id
        self._monotonic_ns = monotonic_ns
        # Of the thread that looks.
        self._processes: dict[int, _Process] = {}
        self._places = CgroupShares()
        self._searched = CgroupShares()  # Of late.
        self._serial = 0
        self._looks = 0
        self.found_total = 0
        # Of both.
        self._lock = threading.Lock()
        self._readings: tuple[_Reading, ...] = ()
        self._looked_at_ns = monotonic_ns()  # When a look was finished.
        # Of the thread that reads.
        self._requests_per_second = requests_per_second
        records = NODE_SHARE * RECORDS_PER_REQUEST * requests_per_second
        self._budget = TokenBucket(records, records, self._monotonic)
        self._quiet_until_ns = 0  # Nobody reads before.
        self._proofs = TokenBucket(NODE_PROOFS_PER_SECOND, NODE_PROOFS_PER_SECOND, self._monotonic)
        self._is_stopped = False
        self._beat_at_ns = 0
        self._turn = 0
        self._ends: deque[Iterator[Moved]] = deque()  # Of connections.
        self._ends_left = 0
        self._total = RingCounts()
        self._lost: BoundedDict[int, int] = BoundedDict(LOST_CGROUPS_MAX)
        self._lost_calls = 0
        self.events = 0  # Records so far.
        self.broken_total = 0  # Agents that were given up for what they held.

    # The thread that looks

    def look(self, pids: Collection[int]) -> Mapping[int, str]:
        """Once a second, with the Java processes there are. Of those with an agent: why it is not read, empty where it
        is."""
        now_ns = self._monotonic_ns()
        self._looks += 1
        has_changed = self._attachments is not None and self._attachments.reread()
        for pid in self._processes.keys() - set(pids):
            self._forget(pid)
        due: dict[str, list[tuple[int, int]]] = {}
        for pid in pids:
            process = self._processes.get(pid)
            if process is None:
                process = self._processes[pid] = _Process(cgroup=self._read_cgroup(pid))
            if process.reading is not None:
                self._use(pid, process, now_ns)
                continue
            if has_changed or (self._attachments is not None and self._attachments.is_busy(pid)):
                process.rest_seconds, process.next_search_ns = 1.0, min(process.next_search_ns, now_ns)
            if now_ns >= process.next_search_ns:
                due.setdefault(process.cgroup, []).append((process.next_search_ns, pid))
        self._searched.halve()
        for pid in self._choose(due):
            self._use(pid, self._processes[pid], now_ns)
        self._looked_at_ns = self._monotonic_ns()
        return {pid: one.reason for pid, one in self._processes.items() if one.reason is not None}

    def _choose(self, due: Mapping[str, list[tuple[int, int]]]) -> Iterator[int]:
        """Processes to be searched now: of those cgroups first that had least searched of late, then the first due."""
        for times in due.values():
            heapq.heapify(times)
        waiting = [(self._searched.rank(cgroup), times[0], cgroup) for cgroup, times in due.items()]
        heapq.heapify(waiting)
        left = SEARCHES_MAX
        while waiting and left:
            rank, _, cgroup = heapq.heappop(waiting)
            times = due[cgroup]
            if rank == self._searched.rank(cgroup):
                left -= 1
                self._searched.add(cgroup, SEARCH_AMOUNT)
                yield heapq.heappop(times)[1]
            if times:
                heapq.heappush(waiting, (self._searched.rank(cgroup), times[0], cgroup))

    def _use(self, pid: int, process: _Process, now_ns: int) -> None:
        """By one descriptor of its directory: so all is of the same process."""
        try:
            directory = open_directory(self._proc, pid)
        except OSError:
            self._forget(pid)
            return
        try:
            start = read_start(directory)
            if process.start not in (0, start):
                self._forget(pid)
                process = self._processes[pid] = _Process()
            process.start = start
            if process.reading is not None:
                self._watch(directory, pid, process, process.reading, now_ns)
            else:
                self._search(directory, pid, process, now_ns)
        except OSError as error:
            logger.debug("process %d is not looked at: %s", pid, error)  # It has ended.
            if process.reading is not None:
                self._forget(pid)
        finally:
            os.close(directory)

    def _read_cgroup(self, pid: int) -> str:
        with contextlib.suppress(OSError):  # It has ended.
            directory = open_directory(self._proc, pid)
            try:
                return read_cgroup(directory)
            finally:
                os.close(directory)
        return "/"

    def _watch(self, directory: int, pid: int, process: _Process, reading: _Reading, now_ns: int) -> None:
        """One that is read. Raises OSError where it has ended."""
        ring = reading.ring
        if self._attachments is not None and self._attachments.is_busy(pid):
            self._attachments.step(pid, directory)  # The agent is there before its program knows.
        if reading.is_closed:
            self._leave(process, now_ns)
            if reading.error:
                process.reason = _BROKEN.format(reading.error)
            else:  # Since `stop`.
                self._search(directory, pid, process, now_ns)
            return
        is_wanted, grant = self._find_wish(pid, ring, directory)
        if is_wanted != reading.is_wanted:
            logger.info("consent to the Java agent in process %d was %s", pid, "given" if is_wanted else "withdrawn")
            if self._attachments is not None:
                self._attachments.note_consent(pid, directory, grant)
        reading.is_wanted = is_wanted
        process.reason = FAILED if ring.state == STATE_FAILED else "" if is_wanted else WITHDRAWN
        if not self._looks % LOOKS_PER_CGROUP:
            ring.cgroup_id = self._find_cgroup_id(pid)

    def _find_wish(self, pid: int, ring: AgentRing, directory: int) -> tuple[bool, Grant | None]:
        """Whether it is to be read: an agent that came with the JVM is its owner's wish; another one needs consent at
        each look, which is given too."""
        if not self._may_read(pid):
            return False, None
        if not ring.is_attached:
            return True, None
        grant = self._attachments.find_grant(pid, directory) if self._attachments is not None else None
        return grant is not None, grant

    def _search(self, directory: int, pid: int, process: _Process, now_ns: int) -> None:
        """An agent in a process; where there is none, it is attached if consent covers it. Raises OSError where it has
        ended."""
        process.cgroup = read_cgroup(directory)
        process.next_search_ns = now_ns + int(process.rest_seconds * _SECOND_NS)
        process.rest_seconds = min(2 * process.rest_seconds, LONGEST_REST_SECONDS)
        attachments = self._attachments
        is_busy = attachments is not None and attachments.is_busy(pid)
        if attachments is not None and is_busy:
            # Whatever is found, the program has its end.
            process.reason = attachments.step(pid, directory) or process.reason
        found = find_ring(directory, {one.key for one in self._readings}, process.next_number)
        process.next_number = found.next_number
        if process.reason in (NOT_SEARCHED, SEARCHING):
            process.reason = SEARCHING if found.next_number else None
        if found.next_number:  # Until all are looked at, it may have one.
            process.next_search_ns = now_ns
            return
        is_none = found.fd < 0 and not found.reason
        if is_none and attachments is not None and not is_busy and self._may_read(pid):
            has_place = self._find_place(process.cgroup, now_ns)[0]
            reason = TOO_MANY if not has_place and attachments.find_grant(pid, directory) is not None else None
            process.reason = reason or attachments.step(pid, directory) or process.reason
        if is_none:
            return
        if found.reason:
            process.reason = found.reason
            return
        reading = None
        try:
            has_place, leaving = self._find_place(process.cgroup, now_ns)
            if not has_place:
                process.reason = TOO_MANY
                return
            reading = self._open(found, directory, pid, process.cgroup, now_ns)
            if leaving is not None:
                self._end_reading(leaving, now_ns)
        except RingError as error:
            process.reason = f"Its Java agent cannot be read: {error}."
            logger.warning("the Java agent of process %d cannot be read: %s", pid, error)
            return
        finally:
            if reading is None:
                os.close(found.fd)
        self._places.add(process.cgroup, 1)
        self.found_total += 1
        process.reading, process.reason = reading, "" if reading.is_wanted else WITHDRAWN
        with self._lock:
            self._readings = (*self._readings, reading)
        logger.info("process %d has the Java agent", pid)

    def _open(self, found: Found, directory: int, pid: int, cgroup: str, now_ns: int) -> _Reading:
        """Raises RingError, OSError."""
        self._serial += 1
        reading: _Reading
        ring = AgentRing(
            found.fd,
            process=pid,
            cgroup_id=self._find_cgroup_id(pid),
            serial=self._serial,
            now_ns=now_ns,
            prove=lambda ends: reading.prove(ends, self._proofs),
            requests_per_second=self._requests_per_second,
        )
        read_start(directory)  # It lives, so the cgroup is its.
        is_wanted, grant = self._find_wish(pid, ring, directory)
        if grant is not None and self._attachments is not None:
            self._attachments.note_attached(pid, directory, grant)
        connections = None
        try:
            connections = ProcessConnections(directory, self._monotonic)
        except OSError as error:
            logger.warning("calls of the Java process %d are reported without addresses: %s", pid, error)
        reading = _Reading(
            ring=ring,
            connections=connections,
            key=found.key,
            cgroup=cgroup,
            opened_ns=now_ns,
            proofs=TokenBucket(PROOFS_PER_SECOND, PROOFS_PER_SECOND, self._monotonic),
            is_wanted=is_wanted,
        )
        return reading

    def _find_place(self, cgroup: str, now_ns: int) -> tuple[bool, _Process | None]:
        """Whether one more of a cgroup may be read, and who leaves for it. Where all places are taken, one gives its
        that is read no more, or has not begun; else the heaviest cgroup."""
        taken = [(one, one.reading) for one in self._processes.values() if one.reading is not None]
        if len(taken) < MAX_RINGS:
            return True, None
        (is_idle, _), process, reading = max(
            (((one.is_idle(now_ns), self._places.rank(one.cgroup)), process, one) for process, one in taken),
            key=lambda each: each[0],
        )
        if not is_idle and not self._places.is_heavier(reading.cgroup, cgroup):
            return False, None
        return True, process

    def _end_reading(self, process: _Process, now_ns: int) -> None:
        """It gives its place to another one."""
        assert process.reading is not None
        process.reason = TOO_MANY if process.reading.is_wanted else process.reason
        process.reading.ending = _LEFT
        self._leave(process, now_ns)

    def _leave(self, process: _Process, now_ns: int) -> None:
        """It is read no more, for a while."""
        assert process.reading is not None
        self._places.add(process.reading.cgroup, -1)
        process.reading = None
        process.next_search_ns = now_ns + int(LONGEST_REST_SECONDS * _SECOND_NS)

    def _forget(self, pid: int) -> None:
        """A process has ended, or is no Java process any more."""
        process = self._processes.pop(pid)
        if process.reading is not None:
            self._places.add(process.reading.cgroup, -1)
            process.reading.ending = _ENDED
        if self._attachments is not None:
            self._attachments.forget(pid)

    # The thread that reads

    def start(self) -> None:
        """Before the first look, or after `stop`: what was written meanwhile is of nobody."""
        self._is_stopped = False
        self._looked_at_ns = self._monotonic_ns()
        for one in self._readings:
            self._try(one, AgentRing.resume)

    def stop(self) -> None:
        """When nobody looks any more: each agent takes its patches out within a second. What it has given until now
        stays readable, and then the ends of its connections; then nothing of it is held any more."""
        self._is_stopped = True
        for one in self._readings:
            self._try(one, AgentRing.stop)
        self._beat(self._monotonic_ns())

    def close(self) -> None:
        """After `stop`: forgets all agents."""
        for one in self._readings:
            self._end(one, _LEFT)
        self._processes.clear()
        if self._attachments is not None:
            self._attachments.close()

    def limit(self, requests_per_second: int) -> None:
        """Of each process, from the next heartbeat on."""
        self._requests_per_second = requests_per_second
        records = NODE_SHARE * RECORDS_PER_REQUEST * requests_per_second
        self._budget.limit(records, records)

    def read(self, limit: int) -> list[Moved]:
        """The events of up to `limit` records, as the kernel would give them; of all agents by turns."""
        now_ns = self._monotonic_ns()
        if now_ns - self._beat_at_ns >= _SECOND_NS:
            self._beat(now_ns)
        for one in self._readings:
            if one.ending:
                self._try(one, AgentRing.stop)
        found = self._take_ends(limit)
        waiting = [one for one in self._readings if self._count_waiting(one)]
        self._turn += 1
        bytes_left, records_left = TURN_BYTES_MAX, max(0, min(limit - len(found), int(self._budget.tokens)))
        for place in range(len(waiting)):
            one = waiting[(self._turn + place) % len(waiting)]
            rest = len(waiting) - place
            events, records = self._read(one, ceil(records_left / rest), bytes_left // rest, now_ns)
            bytes_left -= records * SYSCALL_EVENT.size + sum(len(data) for _, data in events)
            records_left -= records
            self._budget.spend(records)
            found += events
        if self._budget.tokens < 1:
            self._quiet_until_ns = now_ns + SPENT_NS
        for one in self._readings:
            if (self._is_stopped or one.is_leaving or one.ending) and not self._count_left(one, now_ns):
                one.is_leaving = False
                if one.ending or self._is_stopped:
                    self._end(one, one.ending or _LEFT)
                else:
                    self._end_sessions(one.ring, _LEFT)
        return found

    def pending_bytes(self) -> int:
        """What waits to be read, of complete records; ends of connections too."""
        now_ns = self._monotonic_ns()
        waiting = self._ends_left * SYSCALL_EVENT.size
        for one in self._readings:
            waiting += self._count_pending(one, now_ns) + self._is_stopped * one.ring.open_sessions
        return waiting

    def refuse(self, session: int) -> None:
        """No more of a session is wanted."""
        for one in self._readings:
            if one.ring.owns(session):
                self._try(one, lambda ring: ring.refuse(session))

    @property
    def is_reading(self) -> bool:
        """Whether there is an agent, so that its memory has to be looked at."""
        return bool(self._readings)

    @property
    def counts(self) -> RingCounts:
        """What all agents have counted, as of a second ago."""
        return self._total

    @property
    def lost_calls(self) -> int:
        """Calls whose records were lost, and those beyond the budget; it never falls."""
        return min(self._lost_calls, LOST_CALLS_MAX)

    @property
    def lost_by_cgroup(self) -> Mapping[int, int]:
        """The same by cgroup, of the latest ones."""
        return self._lost

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        counts = self._total
        tried = self._attachments
        attached, failed = (tried.attached_total, tried.failed_total) if tried is not None else (0, 0)
        totals = (
            ("agents", "Java processes whose agent was found.", self.found_total),
            ("attached", "Java processes that the agent was attached to.", attached),
            ("attach_failures", "Tries to attach the Java agent that failed.", failed),
            ("broken_agents", "Java agents given up because of what their memory held.", self.broken_total),
            (
                "records_dropped",
                "Reads and writes of Java that found the ring full or were skipped.",
                counts.lost_records,
            ),
            ("bytes_dropped", "Bytes of these reads and writes.", counts.lost_bytes),
            ("over_budget", "Requests of Java beyond the budget: their calls were not copied.", counts.over_budget),
            ("ambiguous", "Java connections whose socket seemed to be another one's.", counts.ambiguous),
            ("unproven", "Java connections whose client's address the kernel did not confirm.", counts.unproven),
            ("stalls", "Incomplete records of Java agents that were skipped after 2 s.", counts.stalls),
            ("failures", "Reads and writes that a Java agent failed to copy.", counts.failures),
        )
        reading = sum(one.ring.state == STATE_READING for one in self._readings)
        gauge = ("reading", "Java processes whose agent gives what they read and write.", reading)
        return (*make_totals(totals, "tls_java_"), *make_gauges((gauge,), "tls_java_"))

    def state(self, pid: int) -> int | None:
        """What the agent of a process says of itself, as of a second ago; None where none is read."""
        return next((one.ring.state for one in self._readings if one.ring.process == pid), None)

    def _monotonic(self) -> float:
        return self._monotonic_ns() / _SECOND_NS

    def _beat(self, now_ns: int) -> None:
        """Shows all agents that they are read, or that they are not, and adds up what they counted."""
        self._beat_at_ns = now_ns
        for one in self._readings:
            self._beat_one(one, now_ns)

    def _beat_one(self, one: _Reading, now_ns: int) -> None:
        ring, before = one.ring, one.ring.state
        has_lapsed = ring.is_attached and now_ns - self._looked_at_ns > CONSENT_SECONDS * _SECOND_NS
        is_read = one.is_wanted and not has_lapsed and not self._is_stopped and not one.ending
        command = COMMAND_READ if is_read else COMMAND_WAIT
        self._try(one, lambda ring: ring.beat(now_ns, command, self._requests_per_second))
        counts = self._try(one, lambda ring: ring.take_counts(now_ns)) if not one.is_closed else None
        if counts is None:
            return
        self._count(ring, counts)
        if ring.state == STATE_READING != before:
            logger.info("reading what the Java agent of process %d gives", ring.process)
        if before == STATE_READING != ring.state:
            one.is_leaving = True  # What it reads again has other numbers.

    def _count(self, ring: AgentRing, counts: RingCounts) -> None:
        self._total += counts
        calls = ceil(counts.lost_records / RECORDS_OF_A_CALL) + counts.over_budget
        if calls:
            self._lost_calls += calls
            self._lost.renew(ring.cgroup_id, self._lost.get(ring.cgroup_id, 0) + calls)

    def _count_waiting(self, one: _Reading) -> int:
        return self._try(one, lambda ring: ring.waiting_bytes) or 0

    def _count_left(self, one: _Reading, now_ns: int) -> int:
        """What is read of it yet; at the end of the sensor, what can be read at once."""
        return self._count_pending(one, now_ns) if self._is_stopped else self._count_waiting(one)

    def _count_pending(self, one: _Reading, now_ns: int) -> int:
        return 0 if now_ns < self._quiet_until_ns else self._try(one, lambda ring: ring.pending_bytes(now_ns)) or 0

    def _read(self, one: _Reading, limit: int, bytes_max: int, now_ns: int) -> tuple[list[Moved], int]:
        """Its events, and of how many records they are: thousands of small ones may be joined to one."""
        before = one.ring.events
        found = self._try(one, lambda ring: ring.read(limit, bytes_max, now_ns)) or []
        records = one.ring.events - before
        self.events += records
        return found, records

    def _try(self, one: _Reading, act: Callable[[AgentRing], _T]) -> _T | None:
        """What it gives; None where the agent is given up."""
        try:
            return act(one.ring)
        except (OSError, RingError) as error:
            self.broken_total += 1
            logger.warning("the Java agent of process %d is not read any more: %s", one.ring.process, error)
            one.error = str(error)
            self._end(one, _LEFT)
            return None

    def _end(self, one: _Reading, kinds: tuple[SyscallKind, ...]) -> None:
        """Its connections end, and it is closed."""
        if one.is_closed:
            return
        with self._lock:
            self._readings = tuple(other for other in self._readings if other is not one)
        one.is_closed = True  # From now on its memory may be found again.
        self._end_sessions(one.ring, kinds)
        self._count(one.ring, one.ring.close())
        if one.connections is not None:
            one.connections.close()

    def _end_sessions(self, ring: AgentRing, kinds: tuple[SyscallKind, ...]) -> None:
        self._ends_left += ring.open_sessions * len(kinds)
        self._ends.append(ring.end_sessions(kinds))

    def _take_ends(self, limit: int) -> list[Moved]:
        found: list[Moved] = []
        while self._ends and len(found) < limit:
            found += islice(self._ends[0], limit - len(found))
            if len(found) < limit:
                self._ends.popleft()
        self._ends_left -= len(found)
        return found
