"""The thread that resets connections: waits on the kernel's ring of stops, so that a client waits milliseconds.

Connections that only user space knows to be a blocked client's (a head in pieces, a new token of a known principal)
come by `ask`.
"""

import logging
import queue
import threading
from collections import Counter
from typing import Final, Protocol

from sensor.clock import Clock
from sensor.enforce.reset import Connection, Resetter
from sensor.kernel.stop_abi import StopEvent, StopKind

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.05
ASKED_LIMIT: Final = 1_024


class StopRing(Protocol):
    """`sensor.kernel.stops.StopMaps`, as far as the thread needs it."""

    def wait(self, seconds: float) -> None: ...

    def wake(self) -> None: ...

    def read_events(self) -> list[StopEvent]: ...


def make_connection(event: StopEvent) -> Connection:
    """The socket that an event names."""
    size = 4 if event.family == 4 else 16
    return Connection(
        cookie=event.connection,
        cgroup_id=event.cgroup_id,
        family=event.family,
        local_address=event.local_address[:size],
        local_port=event.local_port,
        remote_address=event.remote_address[:size],
        remote_port=event.remote_port,
    )


class StopWatch:
    """One thread; its figures are read from another, numbers that only grow."""

    def __init__(self, ring: StopRing, resetter: Resetter, clock: Clock) -> None:
        self._ring = ring
        self._resetter = resetter
        self._clock = clock
        self._asked: queue.Queue[tuple[int, Connection]] = queue.Queue(ASKED_LIMIT)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="apidae-stops", daemon=True)
        self.resets: Counter[int] = Counter()  # By slot.
        self.failures: Counter[int] = Counter()
        self.unqueued: Counter[int] = Counter()  # Those that `ask` had no room for.
        self.first_unix_ns: dict[int, int] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits is left."""
        self._is_ending.set()
        self._thread.join()
        self._resetter.close()

    def ask(self, slot: int, connection: Connection) -> None:
        """Reset this one soon. Where too many wait, it is counted and left: its next call asks again."""
        try:
            self._asked.put_nowait((slot, connection))
        except queue.Full:
            self.unqueued[slot] += 1
        else:
            self._ring.wake()

    def _run(self) -> None:
        while not self._is_ending.is_set():
            try:
                self._ring.wait(WAIT_SECONDS)
                self._take()
            except Exception:
                # A loop boundary: the packets are dropped by the kernel all the same.
                logger.exception("resetting connections failed")
                self._is_ending.wait(1.0)

    def _take(self) -> None:
        for event in self._ring.read_events():
            self.first_unix_ns.setdefault(event.slot, self._clock.to_unix_ns(event.time_ns))
            if event.kind != StopKind.SPARED:
                self._reset(event.slot, make_connection(event))
        while not self._asked.empty():
            slot, connection = self._asked.get_nowait()
            self.first_unix_ns.setdefault(slot, self._clock.unix_ns())
            self._reset(slot, connection)

    def _reset(self, slot: int, connection: Connection) -> None:
        is_reset = False
        try:
            is_reset = self._resetter.reset(connection)
        except Exception:
            # One connection keeps no other from being reset.
            logger.exception("resetting a connection failed")
        (self.resets if is_reset else self.failures)[slot] += 1
