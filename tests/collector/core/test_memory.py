"""Pages of libraries that only the start needed are given back, and nothing that was written is lost."""

from pathlib import Path

import numpy as np

from collector.core.memory import find_clean_mappings, release_library_pages

LIBRARY = "/usr/lib/libengine.so.2"


def make_mapping(start: int, rights: str, file: str, anonymous_kb: int, inode: int = 7) -> list[str]:
    """Lines of smaps, as proc_pid_smaps(5) has them."""
    head = f"{start:x}-{start + 0x2000:x} {rights} 00001000 fe:00 {inode}          {file}"
    return [head, "Size:                  8 kB", "Rss:                   8 kB", f"Anonymous:   {anonymous_kb} kB"]


def test_only_mappings_of_libraries_that_nobody_wrote_to_are_found() -> None:
    lines = [
        *make_mapping(0x10000, "r-xp", LIBRARY, 0),
        *make_mapping(0x20000, "r--p", LIBRARY, 0),
        *make_mapping(0x30000, "r--p", LIBRARY, 8),  # Relocations, protected after they were written.
        *make_mapping(0x40000, "rw-p", LIBRARY, 0),
        *make_mapping(0x50000, "r-xs", LIBRARY, 0),
        *make_mapping(0x60000, "r--p", "", 0, inode=0),
        *make_mapping(0x70000, "r--p", "/data/log", 0),
    ]
    assert list(find_clean_mappings(lines)) == [(0x10000, 0x2000), (0x20000, 0x2000)]


def measure_library(name: str) -> int:
    """Kilobytes of the code of a loaded library that are in memory."""
    is_code, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if " r-xp " in line:
            is_code = name in line
        elif is_code and line.startswith("Rss:"):
            total, is_code = total + int(line.split()[1]), False
    return total


def test_what_is_released_can_be_used_again() -> None:
    expected = np.linalg.inv(np.eye(3) * 2)
    before = measure_library("_multiarray_umath")
    release_library_pages()
    assert measure_library("_multiarray_umath") < before
    assert (np.linalg.inv(np.eye(3) * 2) == expected).all()
