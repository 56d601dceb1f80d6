"""Capture without a process, for as long as a lease lasts: programs, links, maps and state pinned in a bpf file system.

A sensor that stops and for which nobody waits may leave its capture so (setting `handover_seconds`); the next one finds
it here and goes on. The lease is a time in the map `leases`: past it the programs return at once, and what is here is
worth nothing any more. It is taken away by the next start, by `apidae detach`, and by a reboot, since the file system
is in memory, as the state is: a map of the kernel, readable by root alone, never a file on a disk.

    DIRECTORY/CGROUP-LINEAGE/NAME    one for each descriptor of the estate, and `state`

CGROUP is the id of the cgroup that was watched: sensors of several cgroups of a host leave theirs in one directory.

Who made the directory's entries decided what runs in the kernel, so one that another user owns or may write to is not
looked at. Sources: bpf(2) BPF_OBJ_PIN and BPF_OBJ_GET, Documentation/bpf/ (bpffs), statfs(2).

Whether one sensor can take over what another one holds: the digest of all that both must have in common.

That is the kernel side (sources, build constants, kernel, compiler, whether it can enforce), the cgroup it is attached
to, and the modules whose objects make up the state that passes (sensor.capture.packets.state), together with the Python
and msgspec that write them.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from sensor.ebpf.compile import ImageError, MapImage, build_http1, create_map, make_digest
from sensor.ebpf.handover import STATE_BYTES_MAX, Estate
from sensor.ebpf.loader import RECORDS_BYTES
from sensor.ebpf.syscalls import get_pinned, pin_object, read_batch, update_batch, update_map

logger = logging.getLogger(__name__)

_STATE: Final = "state"
_LEASES: Final = "leases"
_ARRAY: Final = 2  # BPF_MAP_TYPE_ARRAY.
_PART_BYTES: Final = 65_536
_FIRST_KEY: Final = bytes(4)
_LENGTH_BYTES: Final = 8


class Pins:
    """What is left in a directory of a bpf file system, of one cgroup or of all."""

    def __init__(self, directory: Path, monotonic_ns: Callable[[], int], *, cgroup_id: int | None) -> None:
        """`monotonic_ns`: the kernel's clock, CLOCK_MONOTONIC; `cgroup_id`: None to clear those of all cgroups."""
        self._directory = directory
        self._prefix = "" if cgroup_id is None else f"{cgroup_id}-"
        self._monotonic_ns = monotonic_ns

    def put(self, estate: Estate, *, lineage: str, seconds: float) -> bool:
        """Pins everything; False, and nothing is left, where it cannot be."""
        place = self._find_place(lineage)
        state = -1
        try:
            self.clear()
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_own():
                raise PermissionError(f"others may write to {self._directory}")
            place.mkdir(mode=0o700)
            state = _make_state(estate.state)
            pin_object(state, place / _STATE)
            for name, descriptor in estate.descriptors.items():
                pin_object(descriptor, place / name)
            until_ns = self._monotonic_ns() + int(seconds * 1e9)
            update_map(estate.descriptors[_LEASES], _FIRST_KEY, until_ns.to_bytes(8, "little"))
        except (ImageError, OSError, KeyError, ValueError) as error:
            logger.warning("capture cannot be left in %s: %s", self._directory, error)
            self.clear()
            return False
        finally:
            if state >= 0:
                os.close(state)
        return True

    def take(self, lineage: str) -> Estate | None:
        """What was left by a sensor like this one and whose lease lasts; everything is removed from here."""
        place = self._find_place(lineage)
        descriptors: dict[str, int] = {}
        estate: Estate | None = None
        try:
            if self._is_own():
                for path in place.iterdir():
                    descriptors[path.name] = get_pinned(path)
                estate = self._open(descriptors)
        except (OSError, KeyError, ValueError) as error:
            if not isinstance(error, FileNotFoundError):
                logger.warning("what was left in %s is of no use: %s", place, error)
        if estate is None:
            for descriptor in descriptors.values():
                os.close(descriptor)
        self.clear()
        return estate

    def clear(self) -> int:
        """Removes everything that was left of this cgroup, and of others what is over; gives the number of objects.
        Capture that nobody holds ends by that."""
        if not self._is_own():
            return 0
        count = 0
        for place in list(self._directory.iterdir()):
            if not place.name.startswith(self._prefix) and not self._is_over(place):
                continue
            count += sum(1 for path in place.iterdir() if path.is_file())
            with contextlib.suppress(OSError):
                shutil.rmtree(place)
        with contextlib.suppress(OSError):
            self._directory.rmdir()  # Unless another cgroup's are there.
        return count

    def _is_over(self, place: Path) -> bool:
        """Whether the lease has ended; not while another sensor still puts things there."""
        try:
            leases = get_pinned(place / _LEASES)
        except OSError:
            return False
        try:
            until_ns = _read_lease(leases)
        finally:
            os.close(leases)
        return 0 < until_ns <= self._monotonic_ns()

    def _find_place(self, lineage: str) -> Path:
        return self._directory / f"{self._prefix}{lineage}"

    def _is_own(self) -> bool:
        try:
            status = self._directory.lstat()
        except OSError:
            return False
        return status.st_uid == os.geteuid() and not status.st_mode & 0o022 and self._directory.is_dir()

    def _open(self, descriptors: dict[str, int]) -> Estate | None:
        """Ends the lease first: from then on the programs go on for ever, or their packets were missed already."""
        until_ns = _read_lease(descriptors[_LEASES])
        update_map(descriptors[_LEASES], _FIRST_KEY, bytes(8))
        if not until_ns or self._monotonic_ns() >= until_ns:
            logger.info("the sensor before left its capture for too long: capture begins anew")
            return None
        state = _read_state(descriptors[_STATE])
        os.close(descriptors.pop(_STATE))
        return Estate(descriptors=descriptors, state=state)


class PinnedHeir:
    """Takes everything for a sensor that does not run yet."""

    def __init__(self, pins: Pins, *, lineage: str, seconds: float) -> None:
        self._pins = pins
        self._lineage = lineage
        self._seconds = seconds

    def give(self, estate: Estate) -> bool:
        """Whether it is where the next sensor finds it."""
        is_left = self._pins.put(estate, lineage=self._lineage, seconds=self._seconds)
        if is_left:
            logger.info("capture goes on for %g s without a sensor", self._seconds)
        return is_left


def _read_lease(leases: int) -> int:
    """Until when, monotonic ns; 0: for ever."""
    ((_, value),) = read_batch(leases, 4, 8, 1)
    return int.from_bytes(value, "little")


def _make_state(state: bytes) -> int:
    """An array map that holds the bytes, their length first; its fd."""
    if len(state) > STATE_BYTES_MAX:
        raise ValueError(f"the state has {len(state)} bytes")
    data = len(state).to_bytes(_LENGTH_BYTES, "little") + state
    parts = [data[at : at + _PART_BYTES].ljust(_PART_BYTES, b"\0") for at in range(0, len(data), _PART_BYTES)]
    descriptor = create_map(MapImage(_STATE, _ARRAY, 4, _PART_BYTES, len(parts), 0))
    update_batch(descriptor, {number.to_bytes(4, "little"): part for number, part in enumerate(parts)})
    return descriptor


def _read_state(descriptor: int) -> bytes:
    """Raises ValueError where the bytes are none."""
    ((_, first),) = read_batch(descriptor, 4, _PART_BYTES, 1)
    length = int.from_bytes(first[:_LENGTH_BYTES], "little")
    if length > STATE_BYTES_MAX:
        raise ValueError(f"the state has {length} bytes")
    count = -(-(_LENGTH_BYTES + length) // _PART_BYTES)
    parts = read_batch(descriptor, 4, _PART_BYTES, count)
    return b"".join(part for _, part in parts)[_LENGTH_BYTES : _LENGTH_BYTES + length]


_ROOT: Final = Path(__file__).resolve().parent.parent
# Everything whose objects pass, and what reads and writes them.
SOURCES: Final = ("http", "ebpf", "capture/http2", "capture/packets", "core/calls.py", "coverage")


def make_lineage(*, cgroup_path: Path, ring_bytes: int, is_root_cgroup: bool, is_enforcing: bool) -> str:
    """Of this program and these settings. Raises OSError where the cgroup is not there."""
    page = os.sysconf("SC_PAGE_SIZE")
    cgroup = cgroup_path.stat()
    digest = hashlib.blake2b(digest_size=16)
    digest.update(make_digest(build_http1(ring_bytes // page, RECORDS_BYTES // page, is_root_cgroup)).encode())
    digest.update(f" {cgroup.st_dev} {cgroup.st_ino} {is_enforcing} {sys.version} {msgspec.__version__}".encode())
    for path in sorted(path for name in SOURCES for path in _list_sources(_ROOT / name)):
        digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _list_sources(path: Path) -> list[Path]:
    return [path] if path.suffix else list(path.rglob("*.py"))
