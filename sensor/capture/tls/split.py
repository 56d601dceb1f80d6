"""Splits the kernel's count of an encrypted port into what is read and what is not, so that the sums stay the kernel's.

Both parts may only grow, because the store adds up what each hour brought. The kernel counts a connection before one of
its calls is reported. So a connection belongs to neither part until a call of it is read, or until none was for
`SETTLE_SECONDS`. The unread part is the largest number that was unread for so long, and the end of the capture settles
the rest. So it is with turns of client and server that no call explains, which are the estimated calls of the unread
part. Bytes follow the connections, by what each look added. While a port is read a part of the time, all estimated
calls belong to the part that is read. Pure, and bounded by the kernel's table of ports.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from sensor.coverage.row import CoverageRole, PortCount, PortProtocol

# A little less than the 10 s between two reports, so that the next one has what the last one waited for.
SETTLE_SECONDS: Final = 9.0


# Processes remembered of a port; of those that have gone, the others are met again with their next connections.
MAX_PROCESSES: Final = 1_024


@dataclass(slots=True)
class PortReading:
    """What was read of a listening port of a cgroup: grows while calls are reported."""

    calls: int = 0
    connections: int = 0
    libraries: set[str] = field(default_factory=set)
    # By the number of a process: when it was met last, in seconds since boot. The eldest comes first.
    processes: dict[int, float] = field(default_factory=dict)
    share: float = 1.0  # Of the time in which it is read, now.
    estimated: int = 0  # Calls that were not read while it was read a part of the time.
    lost: int = 0  # Calls whose events found the ring full.
    without_path: int = 0  # Calls of HTTP/2 whose path is not known, as the connection's header table was not seen.

    def meet(self, pid: int, now: float) -> None:
        """A connection of a process, at a time in seconds since boot."""
        self.processes.pop(pid, None)
        if len(self.processes) >= MAX_PROCESSES:
            del self.processes[next(iter(self.processes))]
        self.processes[pid] = now

    def drop_ended(self, find_start: Callable[[int], float]) -> None:
        """Forgets processes whose number stands for another one by now, which began later; `find_start` gives when in
        seconds since boot, 0 where that is not known."""
        for pid in [pid for pid, met_at in self.processes.items() if find_start(pid) > met_at]:
            del self.processes[pid]


@dataclass(slots=True)
class _Parts:
    """Of one port, as of the last time."""

    waiting: tuple[int, int]  # Connections and exchanges that were unread at each look
    since: float  # from then on.
    unread: int = 0  # Connections, at most,
    exchanges: int = 0  # and exchanges.
    late: int = 0  # Joined late, of what is read.
    bytes: int = 0  # Of what is read.
    seen: tuple[int, int] = (0, 0)  # Late and bytes of both.

    def settle(self, unread: tuple[int, int]) -> None:
        """So many connections and exchanges are of what is not read, or more."""
        self.unread, self.exchanges = max(self.unread, unread[0]), max(self.exchanges, unread[1])


class PortSplit:
    """Mutable: what was seen before. `split` is called with the same totals, grown."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], _Parts] = {}

    def split(
        self,
        counts: Iterable[PortCount],
        read_port: Callable[[int, int], PortReading | None],
        now: float,
        *,
        is_last: bool = False,
    ) -> list[PortCount]:
        """The counts, those of encrypted ports of which calls are read in two. `now`: monotonic seconds; `is_last`: no
        more is read."""
        out: list[PortCount] = []
        for count in counts:
            if count.kind is PortProtocol.ENCRYPTED and count.role is CoverageRole.LISTENING:
                reading = read_port(count.cgroup_id, count.port) or PortReading()
                parts = self._settle(count, reading, now, is_last)
                out += _split(count, reading, parts)
            else:
                out.append(count)
        return out

    def _settle(self, count: PortCount, reading: PortReading, now: float, is_last: bool) -> _Parts:
        """The parts of a port of which so much is read now."""
        explained = reading.calls + reading.estimated + reading.lost
        unread = max(0, count.connections - reading.connections), max(0, count.exchanges - explained)
        parts = self._parts.setdefault((count.cgroup_id, count.port), _Parts(waiting=unread, since=now))
        parts.waiting = min(parts.waiting[0], unread[0]), min(parts.waiting[1], unread[1])
        if now - parts.since >= SETTLE_SECONDS:
            parts.settle(parts.waiting)
            parts.waiting, parts.since = unread, now
        if is_last:
            parts.settle(unread)
        return parts


def _split(count: PortCount, reading: PortReading, parts: _Parts) -> list[PortCount]:
    """The part that is read and the rest, those of them that hold anything; neither before anything is settled."""
    read = min(reading.connections, count.connections - parts.unread)
    settled = read + parts.unread
    if count.connections and not settled:
        return []
    share = read / settled if settled else 0.0
    parts.late += round((count.joined_late - parts.seen[0]) * share)
    parts.bytes += round((count.bytes - parts.seen[1]) * share)
    parts.seen = count.joined_late, count.bytes
    https = replace(
        count,
        kind=PortProtocol.HTTPS,
        connections=read,
        bytes=parts.bytes,
        joined_late=parts.late,
        calls=reading.calls,
        exchanges=reading.estimated,
        lost_calls=reading.lost,
        read_by=", ".join(sorted(reading.libraries)),
        read_share=reading.share,
    )
    rest = replace(
        count,
        connections=parts.unread,
        bytes=count.bytes - parts.bytes,
        joined_late=count.joined_late - parts.late,
        exchanges=parts.exchanges,
    )
    encrypted = [https] if https.connections or https.bytes or https.calls else []
    return [*encrypted, rest] if rest.connections or rest.bytes or rest.joined_late else encrypted
