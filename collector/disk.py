"""The reserve of the volume that holds data_dir: below it the collector stores no rows, so that it never meets a full
disk.

EDGE: statvfs. Batches are answered with RETRY below the reserve. The other half of the work (alerts, states, merges of
the tables) goes on down to half of it, `floor_bytes`. The engine of the tables does not survive a full disk: what it
merges or defines just then is damaged. So it is given the floor as its own limit (collector/store/embedded.py).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RESERVE_BYTES_MIN: Final = 1_000_000_000  # Unless the settings say otherwise.
RESERVE_SHARE: Final = 0.01  # Of the volume, where that is more.


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReserve:
    """How much of a directory's volume stays free. Thread-safe; a look costs some 2 us."""

    directory: Path
    reserve_bytes: int

    @property
    def floor_bytes(self) -> int:
        """Below it nothing is written into tables."""
        return self.reserve_bytes // 2

    def measure_free(self) -> int:
        """Bytes that are free to this user. Raises OSError."""
        return _measure_volume(self.directory)[1]

    def find_shortage(self) -> str:
        """Why no rows are taken; empty where there is room."""
        try:
            size, free = _measure_volume(self.directory)
        except OSError as error:
            return f"The volume of {self.directory} does not say how much of it is free ({error.strerror})."
        if free >= self.reserve_bytes or not size:
            return ""
        return (
            f"The volume of {self.directory} has {_name_bytes(free)} free, and {_name_bytes(self.reserve_bytes)} are "
            "kept free (disk_reserve_bytes): no rows are taken. Free some, enlarge the volume or lower "
            "disk_limit_bytes."
        )


def keep_reserve(directory: Path, reserve_bytes: int | None) -> DiskReserve:
    """The reserve of a directory that may not be there yet; without a number the larger of 1 GB and 1 % of the volume.
    Raises OSError where there is less than half of it: to open the tables writes, and damages them on a full disk.
    """
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    size, free = _measure_volume(there)
    if reserve_bytes is None:
        reserve_bytes = max(RESERVE_BYTES_MIN, round(size * RESERVE_SHARE))
    reserve = DiskReserve(directory=directory, reserve_bytes=reserve_bytes)
    if size and free < reserve.floor_bytes:
        raise OSError(
            f"The volume of {directory} has {_name_bytes(free)} free, and the collector starts from "
            f"{_name_bytes(reserve.floor_bytes)} on (half of disk_reserve_bytes); free some or enlarge the volume."
        )
    return reserve


def _measure_volume(directory: Path) -> tuple[int, int]:
    """Bytes in all, and those that are free to this user; no size where the file system has no such thing. Raises
    OSError.
    """
    volume = os.statvfs(directory)
    return volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize


def _name_bytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
