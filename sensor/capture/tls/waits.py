"""Reads how long servers take to answer on encrypted connections, as the kernel counts it without any probe
(bpf/waits.h).

The sensor makes the elements of the kernel's map: one for each listening port that is followed. So a container that
opens many ports evicts nobody.
"""

import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sensor.ebpf.abi import PORT_KEY, ConnectionKind
from sensor.ebpf.bpf_syscall import delete_elements, read_element, update_map

Port = tuple[int, int]  # Cgroup and port of a server.

# Of bpf/waits.h.
UNIT_NS: Final = 1 << 10
STEPS: Final = 32  # Buckets of a doubling.
BUCKETS: Final = 640
PORTS_MAX: Final = 512
_COUNTS: Final = struct.Struct(f"<{BUCKETS}I")
_PORTS_OF_A_WORD: Final = 64


def find_bucket(wait_ns: int) -> int:
    """Where the kernel counts a wait."""
    units = wait_ns // UNIT_NS
    if units < STEPS:
        return units
    above = units.bit_length() - STEPS.bit_length()
    return min((above + 1) * STEPS + ((units >> above) & (STEPS - 1)), BUCKETS - 1)


def find_start_ns(bucket: int) -> int:
    """The shortest wait of a bucket. Of the one past the last: where the last one ends."""
    above, rest = divmod(bucket, STEPS)
    return (rest if not above else (STEPS + rest) << (above - 1)) * UNIT_NS


class Waits:
    """The kernel's maps. For one thread; valid while the descriptors are open."""

    def __init__(self, waits_fd: int, timed_fd: int) -> None:
        self._waits = waits_fd
        self._timed = timed_fd
        self._followed: set[Port] = set()

    def read(self, wanted: Collection[Port]) -> Mapping[Port, Sequence[int]]:
        """Answers of these ports (`PORTS_MAX` at most) so far, by their wait, a count a bucket; follows them from now
        on, and no others. A port that is new has none yet. Raises OSError."""
        self._follow(set(wanted))
        found = {}
        for port in self._followed:
            counts = read_element(self._waits, _make_key(port), _COUNTS.size)
            if counts is not None:
                found[port] = _COUNTS.unpack(counts)
        return found

    def _follow(self, wanted: set[Port]) -> None:
        gone = self._followed - wanted
        delete_elements(self._waits, map(_make_key, gone))
        self._followed -= gone
        new = wanted - self._followed
        for port in new:
            update_map(self._waits, _make_key(port), bytes(_COUNTS.size))
            self._followed.add(port)
        for word in {port // _PORTS_OF_A_WORD for _, port in {*gone, *new}}:
            bits = {1 << port % _PORTS_OF_A_WORD for _, port in self._followed if port // _PORTS_OF_A_WORD == word}
            update_map(self._timed, word.to_bytes(4, "little"), sum(bits).to_bytes(8, "little"))


def _make_key(port: Port) -> bytes:
    return PORT_KEY.pack(*port, ConnectionKind.ENCRYPTED)
