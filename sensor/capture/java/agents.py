"""Finds the agents that run in Java processes, and reads what they write.

An agent holds a file in memory (tmpfs) that has no name any more. The sensor opens it by its descriptor in /proc, so it
follows no path of the process. It takes only a file of tmpfs: to read one of those never waits for somebody else.

The thread that looks at processes (sensor.capture.tls.attacher) calls `look` once a second. The loop's thread reads.
"""

import ctypes
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from common.figures import Figure, make_gauges, make_totals
from sensor.capture.java.attachments import WITHDRAWN, Attachments
from sensor.capture.java.ring import (
    COMMAND_READ,
    COMMAND_WAIT,
    STATE_FAILED,
    STATE_READING,
    STATE_WAITING,
    AgentRing,
    RingCounts,
    RingError,
)

logger = logging.getLogger(__name__)

# Processes that are read at a time; each agent has 4 MiB of its own.
MAX_RINGS: Final = 64
# Descriptors of a process that are looked at; the agent's has a low number, for it starts early.
MAX_DESCRIPTORS: Final = 4_096
LONGEST_REST_SECONDS: Final = 64.0
TOO_MANY: Final = f"Java processes are read up to {MAX_RINGS} at a time, and there are more."
FAILED: Final = "The Java agent in this process failed: its standard error says why."
_RING_LINK: Final = re.compile(rb".*/apidae-java-[0-9a-f]{1,16} \(deleted\)", re.DOTALL)
_TMPFS_MAGIC: Final = 0x01021994  # statfs(2)
_STATFS_BYTES: Final = 256
_SECOND_NS: Final = 1_000_000_000
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True, kw_only=True)
class _Process:
    """A Java process; `ring` while its agent is read."""

    directory: int  # In /proc: it leads to this process, and to no later one with its number.
    reason: str | None = None  # Why it is not read; None: it has no agent.
    ring: AgentRing | None = None
    state: int = STATE_WAITING  # Of the agent.
    rest_seconds: float = 1.0
    next_look_ns: int = 0


class JavaAgents:
    """The agents of this node. Two threads share it."""

    def __init__(
        self,
        proc: str,
        *,
        find_cgroup_id: Callable[[int], int],
        monotonic_ns: Callable[[], int],
        requests_per_second: int,
        attachments: Attachments | None = None,
    ) -> None:
        """`find_cgroup_id`: of a process; 0 where it is not known. Without `attachments` only agents are read that the
        JVM was started with."""
        self._requests_per_second = requests_per_second
        self._attachments = attachments
        self._proc = proc
        self._find_cgroup_id = find_cgroup_id
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()  # Of all that follows.
        self._processes: dict[int, _Process] = {}
        self._serial = 0
        self._gone = RingCounts()  # Sums of rings that are not read any more.
        self._gone_events = 0
        self.found_total = 0
        self.broken_total = 0  # Rings that were given up for what they held.

    # The thread that looks

    def look(self, pids: Collection[int]) -> Mapping[int, str]:
        """Once a second, with the Java processes there are. Of those with an agent: why it is not read, empty where it
        is."""
        now_ns = self._monotonic_ns()
        if self._attachments is not None:
            self._attachments.reread()
        with self._lock:
            for pid in list(self._processes):
                process = self._processes[pid]
                if pid not in pids or _has_ended(process.directory):
                    self._forget(pid)
                elif process.ring is not None:
                    self._beat(pid, process, now_ns)
            for pid in pids:
                self._look_at(pid, now_ns)
            return {pid: one.reason for pid, one in self._processes.items() if one.reason is not None}

    def stop(self) -> None:
        """Each agent takes its patches out within a second; what it has given stays readable."""
        with self._lock:
            for process in self._processes.values():
                if process.ring is not None:
                    try:
                        process.ring.order(COMMAND_WAIT)
                    except OSError as error:
                        self._give_up(process, error)

    def close(self) -> None:
        """After `stop`: forgets all agents."""
        with self._lock:
            for pid in list(self._processes):
                self._forget(pid)
        if self._attachments is not None:
            self._attachments.close()

    def _look_at(self, pid: int, now_ns: int) -> None:
        process = self._processes.get(pid)
        if process is None:
            try:
                process = self._processes[pid] = _Process(directory=os.open(f"{self._proc}/{pid}", _DIRECTORY))
            except OSError:
                return  # It has ended.
        if process.ring is not None:
            return
        if now_ns >= process.next_look_ns:
            self._search(pid, process, now_ns)
        if process.ring is None and self._attachments is not None:
            reason = self._attachments.step(pid)
            if reason == "":
                self._search(pid, process, now_ns)
            elif reason is not None:
                process.reason = reason

    def _search(self, pid: int, process: _Process, now_ns: int) -> None:
        """Its agent."""
        process.next_look_ns = now_ns + int(process.rest_seconds * _SECOND_NS)
        process.rest_seconds = min(2 * process.rest_seconds, LONGEST_REST_SECONDS)
        if sum(one.ring is not None for one in self._processes.values()) >= MAX_RINGS:
            process.reason = TOO_MANY
            return
        fd = open_ring(process.directory)
        if fd is None:
            return
        try:
            ring = AgentRing(fd, process=pid, cgroup_id=self._find_cgroup_id(pid), serial=self._serial)
        except (OSError, RingError) as error:
            os.close(fd)
            process.reason = f"Its Java agent cannot be read: {error}."
            logger.warning("the Java agent of process %d cannot be read: %s", pid, error)
            return
        self._serial += 1
        self.found_total += 1
        process.ring, process.reason, process.state = ring, "", STATE_WAITING
        logger.info("process %d has the Java agent", pid)
        self._beat(pid, process, now_ns)

    def _beat(self, pid: int, process: _Process, now_ns: int) -> None:
        ring = process.ring
        assert ring is not None
        is_wanted = not ring.is_attached or (self._attachments is not None and self._attachments.has_consent(pid))
        try:
            ring.limit(self._requests_per_second)
            if is_wanted:
                ring.beat(now_ns)
            ring.order(COMMAND_READ if is_wanted else COMMAND_WAIT)  # It may have been stopped.
            state = ring.counts().state
        except (OSError, RingError) as error:
            self._give_up(process, error)
            return
        if is_wanted == (process.reason == WITHDRAWN):
            logger.info("consent to the Java agent in process %d was %s", pid, "given" if is_wanted else "withdrawn")
        if state == STATE_READING != process.state:
            logger.info("reading what the Java agent of process %d gives", pid)
        process.state = state
        process.reason = FAILED if state == STATE_FAILED else "" if is_wanted else WITHDRAWN

    # The thread that reads

    def read(self, limit: int) -> list[memoryview]:
        """Up to `limit` records of each process, as the kernel would give them."""
        now_ns = self._monotonic_ns()
        found: list[memoryview] = []
        with self._lock:
            for process in self._processes.values():
                if process.ring is not None:
                    try:
                        found += process.ring.read(limit, now_ns)
                    except (OSError, RingError) as error:
                        self._give_up(process, error)
        return found

    def pending_bytes(self) -> int:
        """What waits to be read."""
        waiting = 0
        with self._lock:
            for process in self._processes.values():
                if process.ring is not None:
                    try:
                        waiting += process.ring.pending_bytes()
                    except (OSError, RingError) as error:
                        self._give_up(process, error)
        return waiting

    def refuse(self, session: int) -> None:
        """No more of a session is wanted."""
        with self._lock:
            for process in self._processes.values():
                if process.ring is not None and process.ring.owns(session):
                    try:
                        process.ring.refuse(session)
                    except OSError as error:
                        self._give_up(process, error)

    def counts(self) -> RingCounts:
        """What all agents have counted."""
        with self._lock:
            total = self._gone
            for process in self._processes.values():
                if process.ring is not None:
                    total = _add(total, process.ring)
            return total

    @property
    def events(self) -> int:
        """Records so far."""
        with self._lock:
            return self._gone_events + sum(one.ring.events for one in self._processes.values() if one.ring is not None)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        counts = self.counts()
        with self._lock:
            states = [one.state for one in self._processes.values() if one.ring is not None]
            tried = self._attachments
            attached, failed = (tried.attached_total, tried.failed_total) if tried is not None else (0, 0)
        totals = (
            ("agents", "Java processes whose agent was found.", self.found_total),
            ("attached", "Java processes that the agent was attached to.", attached),
            ("attach_failures", "Tries to attach the Java agent that failed.", failed),
            ("broken_agents", "Java agents given up because of what their memory held.", self.broken_total),
            ("records_dropped", "Reads and writes of Java that found the ring full.", counts.dropped_records),
            ("bytes_dropped", "Bytes of these reads and writes.", counts.dropped_bytes),
            (
                "ambiguous",
                "Java connections whose socket seemed to be another one's.",
                counts.ambiguous,
            ),
            ("stalls", "Incomplete records of Java agents that were skipped after 2 s.", counts.stalls),
            ("failures", "Reads and writes that a Java agent failed to copy.", counts.failures),
        )
        gauge = ("reading", "Java processes whose agent gives what they read and write.", states.count(STATE_READING))
        return (*make_totals(totals, "tls_java_"), *make_gauges((gauge,), "tls_java_"))

    def state(self, pid: int) -> int | None:
        """What the agent of a process says of itself now; None where none is read."""
        with self._lock:
            process = self._processes.get(pid)
            return process.ring.counts().state if process is not None and process.ring is not None else None

    # Both, under the lock

    def _give_up(self, process: _Process, error: Exception) -> None:
        assert process.ring is not None
        self.broken_total += 1
        logger.warning("the Java agent of process %d is not read any more: %s", process.ring.process, error)
        self._close(process)
        process.reason = f"Its Java agent is not read any more: {error}."
        process.next_look_ns = self._monotonic_ns() + int(LONGEST_REST_SECONDS * _SECOND_NS)

    def _forget(self, pid: int) -> None:
        process = self._processes.pop(pid)
        self._close(process)
        if self._attachments is not None:
            self._attachments.forget(pid)
        os.close(process.directory)

    def _close(self, process: _Process) -> None:
        if process.ring is not None:
            self._gone = _add(self._gone, process.ring)
            self._gone_events += process.ring.events
            process.ring.close()
            process.ring = None


def _add(total: RingCounts, ring: AgentRing) -> RingCounts:
    try:
        own = ring.counts()
    except (OSError, RingError):
        return total  # It is cut short; whoever reads it gives it up.
    return RingCounts(
        dropped_records=total.dropped_records + own.dropped_records,
        dropped_bytes=total.dropped_bytes + own.dropped_bytes,
        ambiguous=total.ambiguous + own.ambiguous,
        failures=total.failures + own.failures,
        over_budget=total.over_budget + own.over_budget,
        stalls=total.stalls + own.stalls,
    )


def _has_ended(directory: int) -> bool:
    try:
        os.stat("fd", dir_fd=directory)
    except OSError:
        return True
    return False


def open_ring(directory: int) -> int | None:
    """A descriptor of the memory of an agent, given its process's directory in /proc; None where it has none."""
    try:
        descriptors = os.open("fd", _DIRECTORY, dir_fd=directory)
    except OSError:
        return None
    try:
        for number in sorted(map(int, os.listdir(descriptors)))[:MAX_DESCRIPTORS]:  # noqa: PTH208 - by descriptor.
            try:
                link = os.readlink(b"%d" % number, dir_fd=descriptors)
                if not _RING_LINK.fullmatch(link) or not _is_memory(descriptors, number):
                    continue
                return os.open(b"%d" % number, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptors)
            except OSError as error:
                logger.debug("descriptor %d of a Java process is not read: %s", number, error)
    except OSError:
        pass  # It has ended.
    finally:
        os.close(descriptors)
    return None


def _is_memory(descriptors: int, number: int) -> bool:
    """Looked at before it is opened, for to open some files has effects."""
    handle = os.open(b"%d" % number, os.O_PATH | os.O_CLOEXEC, dir_fd=descriptors)
    try:
        buffer = ctypes.create_string_buffer(_STATFS_BYTES)
        if _libc.fstatfs(handle, buffer):
            return False
        kind = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], "little")
        return kind == _TMPFS_MAGIC and stat.S_ISREG(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
