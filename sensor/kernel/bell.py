"""Tells a reader who has read all that the kernel put something into a ring: an epoll of the rings' maps.

The kernel notifies those who wait when a record goes into a ring that was read to its end (bpf_ringbuf_commit without
flags), so while a reader is behind, records cost nothing more. Each ring is told once after `arm`, which finds what
came before it too: nothing slips between the last reading and the waiting.
"""

import select
from collections.abc import Sequence

_ONCE = select.EPOLLIN | select.EPOLLONESHOT


class Bell:
    """Of rings of events and one of records. `fd` is readable while something was told that `hush` has not taken. Not
    thread-safe."""

    def __init__(self, events_fds: Sequence[int], records_fd: int | None = None) -> None:
        self._events_fds = list(events_fds)
        self._records_fds = [] if records_fd is None else [records_fd]
        self._epoll = select.epoll()
        for map_fd in (*self._events_fds, *self._records_fds):
            self._epoll.register(map_fd, 0)

    def watch(self, map_fd: int) -> None:
        """One more ring of events."""
        self._epoll.register(map_fd, 0)
        self._events_fds.append(map_fd)

    @property
    def fd(self) -> int:
        """For another poll or epoll."""
        return self._epoll.fileno()

    def arm(self, *, is_for_records: bool) -> None:
        """Ring once for each ring as soon as there is something in it. Cost: 1 us each."""
        for map_fd in (*self._events_fds, *self._records_fds) if is_for_records else self._events_fds:
            self._epoll.modify(map_fd, _ONCE)

    def hush(self) -> None:
        """What rang is known."""
        self._epoll.poll(0)

    def close(self) -> None:
        """The rings may be closed now."""
        self._epoll.close()
