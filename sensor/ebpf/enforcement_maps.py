"""Writes the maps of enforcement in the kernel (bpf/enforce.h), and reads their counts and events.

`StopMaps` wraps file descriptors of a loaded program and is valid while they are open. `wait` and `read_events` are for
one thread, the other methods for another.
"""

import os
import select
from collections.abc import Iterable, Mapping
from typing import Final

from sensor.ebpf.abi import (
    COUNTERS_SIZE,
    SLOT,
    SLOTS_MAX,
    STOP_COUNT,
    STOP_EVENT,
    STOPS_BYTES,
    Counter,
    StopCount,
    StopEvent,
)
from sensor.ebpf.bpf_syscall import delete_elements, read_batch, read_counts, update_map
from sensor.ebpf.ring import Ring

# Events of one read: some 10 ms of resets.
EVENTS_LIMIT: Final = 256


class StopMaps:
    """Maps and ring of enforcement."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        self._maps = maps
        self._ring = Ring(maps["stops"], STOPS_BYTES)
        self._poll = select.epoll()
        self._poll.register(maps["stops"], select.EPOLLIN)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._bell, select.EPOLLIN)

    def update(self, name: str, elements: Mapping[bytes, bytes]) -> None:
        """Writes elements one by one: batches of trie maps came only with Linux 5.14. Raises OSError."""
        for key, value in elements.items():
            update_map(self._maps[name], key, value)

    def delete(self, name: str, keys: Iterable[bytes]) -> None:
        """Removes elements; one that is not there is no error."""
        delete_elements(self._maps[name], keys)

    def counts(self) -> dict[int, StopCount]:
        """What was stopped by slot."""
        rows = read_batch(self._maps["stop_counts"], SLOT.size, STOP_COUNT.size, SLOTS_MAX)
        return {SLOT.unpack(key)[0]: StopCount(*STOP_COUNT.unpack(value)) for key, value in rows}

    def count_lost(self) -> int:
        """Resets of all slots whose event found the ring full; those of blocks that have ended too."""
        return read_counts(self._maps["counters"], COUNTERS_SIZE)[Counter.STOPS_LOST]

    def wait(self, seconds: float) -> None:
        """Returns when there is an event, after `wake`, or after this time."""
        if self._ring.pending_bytes():
            return
        if any(descriptor == self._bell for descriptor, _ in self._poll.poll(seconds)):
            os.eventfd_read(self._bell)

    def wake(self) -> None:
        """Whoever waits looks at once. Of any thread."""
        os.eventfd_write(self._bell, 1)

    def read_events(self) -> list[StopEvent]:
        """Connections to be reset."""
        return [StopEvent(*STOP_EVENT.unpack(record)) for record in self._ring.read(EVENTS_LIMIT)]

    def close(self) -> None:
        """Unmaps the ring; the fds are their owner's."""
        self._poll.close()
        os.close(self._bell)
        self._ring.close()
