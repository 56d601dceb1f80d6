"""Calls of a port that nobody read, estimated: while one of its processes is read in turns (`duty`), each turn of its
client and server that the kernel counts (bpf/encrypted.h) is taken for a call, and those that were read are taken off.
Connections that were upgraded have no turns: the kernel is told of them (`capture`).

The kernel tells turns some at a time, and calls are told a moment after they are made, so the difference swings; what
is told is the most that it ever was. Pure, and bounded by the table of what was read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sensor.coverage.row import CoverageRole, PortCount, PortProtocol
from sensor.tls.split import PortReading

# So long after the last turn what was counted before it may still be told.
LINGER_SECONDS: Final = 3.0

Port = tuple[int, int]  # Cgroup and port.


@dataclass(slots=True)
class _Estimate:
    """Of one port since one of its processes made more calls than are read."""

    from_calls: int  # Read until then.
    last: int  # The kernel's turns, as of the last time.
    ends_at: float
    turns: int = 0
    told: int = 0


class PortEstimates:
    """Mutable: what was told before. The results are in the readings."""

    def __init__(self) -> None:
        self._open: dict[Port, _Estimate] = {}
        self._before: dict[Port, tuple[int, int]] = {}  # Turns and calls, as of the last time.

    def update(
        self,
        now: float,
        counts: Iterable[PortCount],
        readings: Mapping[Port, PortReading],
        shares: Mapping[int, float],
    ) -> None:
        """The kernel's counts and what was read, both since the start; `shares`: of the processes that make more calls
        than are read (`DutyCycle.over`). Once a second: what is over is noticed a second late, and then estimated from
        the second before."""
        for count in counts:
            port = (count.cgroup_id, count.port)
            reading = readings.get(port)
            if count.kind is not PortProtocol.ENCRYPTED or count.role is not CoverageRole.LISTENING or reading is None:
                continue
            one = self._open.get(port)
            turns, calls = self._before.get(port, (count.exchanges, reading.calls))
            self._before[port] = count.exchanges, reading.calls
            over = reading.processes & shares.keys()
            reading.share = min((shares[pid] for pid in over), default=1.0)
            if over:
                if one is None:
                    one = self._open[port] = _Estimate(calls, turns, now)
                one.ends_at = now + LINGER_SECONDS
            if one is None:
                continue
            more = count.exchanges - one.last
            one.last += more
            one.turns += more
            reading.turns += more
            missing = one.turns - (reading.calls - one.from_calls) - one.told
            if missing > 0:
                one.told += missing
                reading.estimated += missing
            if now >= one.ends_at:
                del self._open[port]
