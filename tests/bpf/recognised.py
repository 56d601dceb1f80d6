"""A taught kernel under test: makes calls over real connections, gives what records and events said of them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.ebpf.abi import RECORD, Counter
from tests.bpf.cgroups import find_own
from tests.bpf.reference import Teacher
from tests.waiting import DEADLINE_SECONDS


def own_cgroup_id() -> int:
    """Of this process's sockets: the inode of its cgroup."""
    return find_own().stat().st_ino


def drain(capture: PacketCapture) -> None:
    """Reads all that waits, of calls that no test looks at. One reading leaves what is beyond its limit; a ring that
    stays half full keeps heads and header blocks down, as it should."""
    capture.read()
    while capture.has_events():
        capture.read()


class Watch:
    """Reads both rings; keeps what is of one port."""

    def __init__(self, capture: PacketCapture, teacher: Teacher) -> None:
        self.capture = capture
        self.teacher = teacher
        self.cgroup_id = own_cgroup_id()
        self._before: dict[Counter, int] = {}
        self.restart()

    def restart(self) -> None:
        """Forgets what has come so far."""
        drain(self.capture)
        self.capture.read_records(is_all=True)
        self.capture.release_records()
        self._before = self.capture.counters()

    def counted(self, counter: Counter) -> int:
        """Since the last restart, of all ports."""
        return self.capture.counters()[counter] - self._before[counter]

    def collect(self, port: int, records: int, exchanges: int = 0) -> tuple[npt.NDArray[Any], list[Exchange]]:
        """Records and exchanges of a port, once so many are there, and a moment longer: no more may come."""
        return self._collect(port, lambda found, told: found >= records and told >= exchanges)

    def collect_all(self, port: int, calls: int) -> tuple[npt.NDArray[Any], list[Exchange]]:
        """The same once there are so many of both together."""
        return self._collect(port, lambda found, told: found + told >= calls)

    def _collect(self, port: int, is_enough: Callable[[int, int], bool]) -> tuple[npt.NDArray[Any], list[Exchange]]:
        found, told = [np.empty(0, RECORD)], list[Exchange]()
        deadline = time.monotonic() + DEADLINE_SECONDS
        is_last = False
        while True:
            view = self.capture.read_records(is_all=True)
            found.append(view[(view["local_port"] == port) | (view["remote_port"] == port)].copy())
            del view
            self.capture.release_records()
            read = [one for one in self.capture.read() if isinstance(one, Exchange)]
            told += [one for one in read if port in (one.ends.local_port, one.ends.remote_port)]
            if is_last:
                return np.concatenate(found), told
            is_last = is_enough(sum(map(len, found)), len(told)) or time.monotonic() > deadline
            time.sleep(0.05 if is_last else 0.01)
