"""Reads BPF ring buffers through their memory maps, in batches, without a system call or a callback per record.

`Ring` gives records of any size one by one. `RecordRing` gives records of one size as a numpy array that lies in the
ring. bcc's callback reads 0.6–0.8 million records/s, this module 3 million.

Layout (Documentation/bpf/ringbuf.rst): a writable page with the consumer's position, a read-only page with the
producer's, then the data twice in a row, so that a record that wraps is contiguous. A record is an 8-byte header
(length with two flag bits, page offset) and its data, aligned to 8.

Plain loads and stores are enough on x86-64 (total store order). Other processors may read a record before its length,
or free it before it was read, so `order_memory` stands between there.

`Bell` is an epoll of the rings' maps. The kernel notifies (bpf_ringbuf_commit without flags) only when a record enters
a ring that was read to its end, so records cost nothing more while a reader is behind. `arm` also reports what came
before it, so nothing is missed between the last read and the wait.

`Filling` decides when a ring must be read: before it is half full, where the kernel begins to ration. Reading once a
second costs a third less than reading twice, because most of a batch's cost is the wake-up and its cold caches.
"""

import mmap
import platform
import select
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_BUSY = 1 << 31
_DISCARD = 1 << 30
_HEADER_BYTES = 8
_IS_WEAKLY_ORDERED: Final = platform.machine() != "x86_64"
_fence = threading.Lock()
_fence.acquire()


def order_memory() -> None:
    """Everything that this thread loaded or stored before is done before what follows. Cost: 0.1 us.

    Python has no barrier of its own. Giving up a lock is a release and taking it an acquire, and these two are in order
    on arm64 too (Arm Architecture Reference Manual, B2.3, "Load-Acquire, Store-Release": RCsc).
    """
    _fence.release()
    _fence.acquire()


class _MappedRing:
    """The three parts of a ring in memory."""

    def __init__(self, map_fd: int, size_bytes: int) -> None:
        page = mmap.PAGESIZE
        self._mask = size_bytes - 1
        self.size_bytes = size_bytes
        self._consumer_map = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer_map = mmap.mmap(map_fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._producer = memoryview(self._producer_map)[:8].cast("Q")
        self._data = memoryview(self._producer_map)[page:]

    def pending_bytes(self) -> int:
        """Bytes written and not yet read."""
        return self._producer[0] - self._consumer[0]

    def _free(self, position: int) -> None:
        """Gives everything before `position` back to the kernel, after all was read."""
        if _IS_WEAKLY_ORDERED:
            order_memory()
        self._consumer[0] = position

    def close(self) -> None:
        """Unmaps; views handed out before become invalid."""
        for view in (self._data, self._producer, self._consumer):
            view.release()
        self._producer_map.close()
        self._consumer_map.close()


class Ring(_MappedRing):
    """Consumer of one ring. Not thread-safe: one reader."""

    def __init__(self, map_fd: int, size_bytes: int) -> None:
        super().__init__(map_fd, size_bytes)
        self._words = self._data.cast("I")

    def read(self, limit: int) -> Iterator[memoryview]:
        """Up to `limit` records, each a view that is valid until the next one is asked for.

        The position is stored when the iterator ends or is closed, so a full ring frees at once and not record by
        record.
        """
        position, end = self._consumer[0], self._producer[0]
        data, words, mask = self._data, self._words, self._mask
        try:
            while position < end and limit:
                offset = position & mask
                length = words[offset >> 2]
                if length & _BUSY:
                    return
                if _IS_WEAKLY_ORDERED:
                    order_memory()
                size = length & ~(_BUSY | _DISCARD)
                start = offset + _HEADER_BYTES
                position += (size + _HEADER_BYTES + 7) & ~7
                if not length & _DISCARD:
                    limit -= 1
                    yield data[start : start + size]
        finally:
            self._free(position)

    def close(self) -> None:
        """Unmaps; views handed out before become invalid."""
        self._words.release()
        super().close()


class RecordRing(_MappedRing):
    """Consumer of a ring whose records all have one type. Not thread-safe: one reader."""

    def __init__(self, map_fd: int, size_bytes: int, record: npt.DTypeLike) -> None:
        """`record` is a multiple of 8 bytes."""
        super().__init__(map_fd, size_bytes)
        self._record: np.dtype[Any] = np.dtype(record)
        self._stride = self._record.itemsize + _HEADER_BYTES
        self._read_bytes = 0

    def read(self, limit: int) -> npt.NDArray[Any]:
        """Up to `limit` records that are complete, in order, as a strided view of the ring without a copy.

        The view is valid until `release`, which frees its records; without that the next read gives them again. No
        view or slice of it may be kept over `close`.
        """
        position, end = self._consumer[0], self._producer[0]
        count = min((end - position) // self._stride, limit)
        offset = position & self._mask
        lengths = np.ndarray((count,), "<u4", self._data, offset, (self._stride,))
        # The kernel clears the bit when the record is complete; what lies behind one that is not has to wait.
        is_busy = lengths & _BUSY != 0
        if is_busy.any():
            count = int(is_busy.argmax())
        if _IS_WEAKLY_ORDERED:
            order_memory()
        self._read_bytes = count * self._stride
        return np.ndarray((count,), self._record, self._data, offset + _HEADER_BYTES, (self._stride,))

    def release(self) -> None:
        """Frees the records of the last read for the kernel."""
        self._free(self._consumer[0] + self._read_bytes)
        self._read_bytes = 0


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


# With less than this part it is not worth a reading, whatever comes.
_LEAST_PART: Final = 8
# Looks that are closer together than that say little of the rate.
_APART_NS: Final = 50_000_000
_PAUSE_NS: Final = 200_000_000


class Filling:
    """How one ring of `size_bytes` fills. Not thread-safe."""

    __slots__ = ("_before_bytes", "_before_ns", "_least_bytes", "_limit_bytes", "_rate")

    def __init__(self, size_bytes: int) -> None:
        self._limit_bytes = size_bytes // 2
        self._least_bytes = size_bytes // _LEAST_PART
        self._rate = 0.0  # Bytes a nanosecond.
        self._before_bytes = 0  # At the last look that counted.
        self._before_ns = 0

    def is_due(self, pending_bytes: int, now_ns: int, ahead_ns: int) -> bool:
        """Whether it would be half full before somebody looks again, in `ahead_ns`."""
        passed_ns = now_ns - self._before_ns
        if passed_ns >= _APART_NS:
            # Of a longer pause nobody knows in which part of it they came.
            self._rate = max(0, pending_bytes - self._before_bytes) / min(passed_ns, _PAUSE_NS)
            self._before_bytes, self._before_ns = pending_bytes, now_ns
        return pending_bytes >= self._least_bytes and pending_bytes + self._rate * ahead_ns >= self._limit_bytes

    def note_read(self, pending_bytes: int) -> None:
        """So much is left after it was read."""
        self._before_bytes = pending_bytes
