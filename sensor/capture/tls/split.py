"""Splits the kernel's count of an encrypted port into what is read and what is not, so that the sums stay the kernel's.

Both parts may only grow, because the store adds up what each hour brought. The kernel counts a connection before one of
its calls is reported. So a connection belongs to neither part until a call of it is read, or until none was for
`SETTLE_SECONDS`. The unread part is the largest number that was unread for so long, and the end of the capture settles
the rest. Bytes and estimated calls follow the connections, by what each look added. While a port is read a part of the
time, all estimated calls belong to the part that is read. Pure, and bounded by the kernel's table of ports.
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
    turns: int = 0  # Of client and server while it was read a part of the time,
    estimated: int = 0  # and calls of that time that were not read.
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

    waiting: int  # Connections that were unread at each look
    since: float  # from then on.
    unread: int = 0  # Connections, at most.
    late: int = 0  # Joined late, of what is read.
    bytes: int = 0  # Of what is read.
    exchanges: int = 0  # Of what is not.
    seen: tuple[int, int, int] = (0, 0, 0)  # Late, bytes and exchanges of both.


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
                parts = self._settle(count, max(0, count.connections - reading.connections), now, is_last)
                out += _split(count, reading, parts)
            else:
                out.append(count)
        return out

    def _settle(self, count: PortCount, unread: int, now: float, is_last: bool) -> _Parts:
        """The parts of a port of which so many connections are unread now."""
        parts = self._parts.setdefault((count.cgroup_id, count.port), _Parts(waiting=unread, since=now))
        parts.waiting = min(parts.waiting, unread)
        if now - parts.since >= SETTLE_SECONDS:
            parts.unread = max(parts.unread, parts.waiting)
            parts.waiting, parts.since = unread, now
        if is_last:
            parts.unread = max(parts.unread, unread)
        return parts


def _split(count: PortCount, reading: PortReading, parts: _Parts) -> list[PortCount]:
    """The part that is read and the rest, those of them that hold anything; neither before anything is settled."""
    read = min(reading.connections, count.connections - parts.unread)
    settled = read + parts.unread
    if count.connections and not settled:
        return []
    share = read / settled if settled else 0.0
    now = (count.joined_late, count.bytes, max(count.exchanges - reading.turns, parts.seen[2]))
    late, size, exchanges = (after - before for after, before in zip(now, parts.seen, strict=True))
    parts.late += round(late * share)
    parts.bytes += round(size * share)
    parts.exchanges += round(exchanges * (1 - share))
    parts.seen = now
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
