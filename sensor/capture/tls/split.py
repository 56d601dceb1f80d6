"""Splits the kernel's count of an encrypted port into what is read and what is not, so that the sums stay the kernel's.

Both parts may only grow, because the store adds up what each hour brought. A connection counts as encrypted until one
of its calls is reported. So the unread part is the largest number that was unread at once, and the rest is read. Bytes
and estimated calls follow the connections, by what each reading added. While a port is read a part of the time, all
estimated calls belong to the part that is read. Pure, and bounded by the kernel's table of ports.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from sensor.coverage.row import CoverageRole, PortCount, PortProtocol


@dataclass(slots=True)
class PortReading:
    """What was read of a listening port of a cgroup: grows while calls are reported."""

    calls: int = 0
    connections: int = 0
    libraries: set[str] = field(default_factory=set)
    processes: set[int] = field(default_factory=set)
    share: float = 1.0  # Of the time in which it is read, now.
    turns: int = 0  # Of client and server while it was read a part of the time,
    estimated: int = 0  # and calls of that time that were not read.
    lost: int = 0  # Calls whose events found the ring full.


@dataclass(slots=True)
class _Parts:
    """Of one port, as of the last time."""

    unread: int = 0  # Connections, at most.
    late: int = 0  # Joined late, of what is read.
    bytes: int = 0  # Of what is read.
    exchanges: int = 0  # Of what is not.
    seen: tuple[int, int, int] = (0, 0, 0)  # Late, bytes and exchanges of both.


class PortSplit:
    """Mutable: what was reported before. `split` is called with the same totals, grown."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], _Parts] = {}

    def split(
        self, counts: Iterable[PortCount], read_port: Callable[[int, int], PortReading | None]
    ) -> list[PortCount]:
        """The counts, those of encrypted ports of which calls are read in two."""
        out: list[PortCount] = []
        for count in counts:
            if count.kind is PortProtocol.ENCRYPTED and count.role is CoverageRole.LISTENING:
                out += self._split(count, read_port(count.cgroup_id, count.port) or PortReading())
            else:
                out.append(count)
        return out

    def _split(self, count: PortCount, reading: PortReading) -> list[PortCount]:
        parts = self._parts.setdefault((count.cgroup_id, count.port), _Parts())
        parts.unread = max(parts.unread, count.connections - reading.connections)
        read = count.connections - parts.unread
        share = read / count.connections if count.connections else 0.0
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
        encrypted = [https] if https.connections or https.bytes else []
        return [*encrypted, rest] if rest.connections or rest.bytes or rest.joined_late else encrypted
