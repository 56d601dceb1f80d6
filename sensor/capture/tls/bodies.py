"""Limits how many bytes of TLS bodies are kept for reading: per second and cgroup, twice that for the node, and in
total.

The bytes are already here, because calls are found in them. What is kept costs memory and the classifier's time. A body
that has begun may go on after its second is used up, to 64 KiB at most. The next second gets that much less.
"""

from collections import OrderedDict
from typing import Final

from sensor.http.http1.events import BodyRoom

SECOND_NS: Final = 1_000_000_000
# Of all calls that go on, both sides; as much as of calls in the clear (sensor.ebpf.pieces).
HELD_BYTES_MAX: Final = 8 << 20
# The one that was used longest ago is forgotten, and begins anew.
CGROUPS_MAX: Final = 1_024


class Bucket:
    """Bytes that may still be taken; filled once a second, never above one second's."""

    __slots__ = ("_filled_ns", "_left")

    def __init__(self) -> None:
        self._filled_ns = -SECOND_NS
        self._left = 0

    def has_some(self, per_second: int, now_ns: int) -> bool:
        """Whether another body may begin."""
        seconds = (now_ns - self._filled_ns) // SECOND_NS
        if seconds > 0:
            self._filled_ns = now_ns
            self._left = min(per_second, self._left + seconds * per_second)
        return self._left > 0

    def spend(self, size: int) -> None:
        """So many were taken."""
        self._left -= size


class MeteredRoom(BodyRoom):
    """Of one cgroup."""

    __slots__ = ("_bucket", "_meter")

    def __init__(self, meter: "BodyMeter") -> None:
        self._meter = meter
        self._bucket = Bucket()

    def may_begin(self) -> bool:
        """Whether another body is kept."""
        meter = self._meter
        rate, now_ns = meter.bytes_per_second, meter.now_ns
        if self._bucket.has_some(rate, now_ns) and meter.node.has_some(2 * rate, now_ns):
            return True
        meter.refused += 1
        return False

    def spend(self, size: int) -> None:
        """So many bytes of bodies were kept."""
        self._bucket.spend(size)
        self._meter.node.spend(size)
        self._meter.kept_bytes += size

    def add(self, body: bytearray, data: bytes) -> bool:
        """As of any room."""
        if not body and not self.may_begin():
            return False
        before = len(body)
        is_whole = self._meter.held.add(body, data)
        self.spend(len(body) - before)
        return is_whole

    def release(self, body: bytearray) -> None:
        """As of any room."""
        self._meter.held.release(body)


class BodyMeter:
    """Mutable: what was kept in this second. `now_ns` is the time of what is read now, by the kernel's clock."""

    def __init__(self, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self.now_ns = 0
        self.node = Bucket()
        self.held = BodyRoom(HELD_BYTES_MAX)
        self.kept_bytes = 0
        self.refused = 0  # Bodies that were not kept.
        self._rooms: OrderedDict[int, MeteredRoom] = OrderedDict()  # By cgroup, the least recent first.

    def limit(self, bytes_per_second: int) -> None:
        """As governed."""
        self.bytes_per_second = bytes_per_second

    def find_room(self, cgroup_id: int) -> MeteredRoom:
        """For the connections of a cgroup."""
        room = self._rooms.get(cgroup_id)
        if room is None:
            if len(self._rooms) >= CGROUPS_MAX:
                self._rooms.popitem(last=False)
            room = self._rooms[cgroup_id] = MeteredRoom(self)
        self._rooms.move_to_end(cgroup_id)
        return room
