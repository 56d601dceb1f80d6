"""Limits how many bytes of TLS bodies are kept for reading: per second and cgroup, twice that for the node, and in
total.

The bytes are already here, because calls are found in them. What is kept costs memory and the classifier's time. A body
that has begun may go on when the budget is spent, to 64 KiB at most. The next body waits until that is earned back.
"""

from typing import Final

from common.bounded import BoundedDict
from common.token_bucket import TokenBucket
from sensor.http.bodies import BODY_BYTES_MAX, BodyRoom

SECOND_NS: Final = 1_000_000_000
# Of all calls that go on, both sides; as much as of calls in the clear (sensor.ebpf.pieces).
HELD_BYTES_MAX: Final = 8 << 20
# The one that was used longest ago is forgotten, and begins anew.
CGROUPS_MAX: Final = 1_024


class MeteredRoom(BodyRoom):
    """Of one cgroup."""

    __slots__ = ("_meter", "bucket")

    def __init__(self, meter: "BodyMeter") -> None:
        self._meter = meter
        self.bucket = meter.make_bucket(1)

    def may_begin(self) -> bool:
        """Whether another body is kept."""
        meter = self._meter
        if self.bucket.tokens > 0 and meter.node.tokens > 0:
            return True
        meter.refused += 1
        return False

    def spend(self, size: int) -> None:
        """So many bytes of bodies were kept."""
        self.bucket.spend(size)
        self._meter.node.spend(size)
        self._meter.kept_bytes += size

    def add_data(self, body: bytearray, data: bytes, most: int = BODY_BYTES_MAX) -> bool:
        """As of any room."""
        if not body and not self.may_begin():
            return False
        before = len(body)
        is_whole = self._meter.held.add_data(body, data, most)
        self.spend(len(body) - before)
        return is_whole

    def release(self, body: bytearray) -> None:
        """As of any room."""
        self._meter.held.release(body)


class BodyMeter:
    """Mutable: what may be kept. `now_ns` is the time of what is read now, by the kernel's clock."""

    def __init__(self, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self.now_ns = 0
        self.node = self.make_bucket(2)
        self.held = BodyRoom(HELD_BYTES_MAX)
        self.kept_bytes = 0
        self.refused = 0  # Bodies that were not kept.
        self._rooms: BoundedDict[int, MeteredRoom] = BoundedDict(CGROUPS_MAX)  # By cgroup, the least recent first.

    def limit(self, bytes_per_second: int) -> None:
        """As governed."""
        self.bytes_per_second = bytes_per_second
        self.node.limit(2 * bytes_per_second, 2 * bytes_per_second)
        for room in self._rooms.values():
            room.bucket.limit(bytes_per_second, bytes_per_second)

    def make_bucket(self, times: int) -> TokenBucket:
        """Bytes of so many cgroups; it holds one second's."""
        rate = times * self.bytes_per_second
        return TokenBucket(rate, rate, lambda: self.now_ns / SECOND_NS)

    def find_room(self, cgroup_id: int) -> MeteredRoom:
        """For the connections of a cgroup."""
        room = self._rooms.use(cgroup_id)
        if room is None:
            room = self._rooms[cgroup_id] = MeteredRoom(self)
        return room
