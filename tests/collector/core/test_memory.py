"""Pages of libraries that only the start needed are given back, and nothing that was written is lost."""

from pathlib import Path

import numpy as np
import pytest

from collector.core import memory
from collector.core.memory import APART_SECONDS, GROWN_BYTES, LibraryPages, find_clean_mappings, release_library_pages

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


def test_pages_are_given_back_when_enough_came_since_the_last_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = tmp_path / "statm"
    mapped, now = [100_000_000], [1_000.0]
    released: list[int] = []

    def write(bytes_of_files: int) -> None:
        mapped[0] = bytes_of_files
        sizes.write_text(f"900000 80000 {bytes_of_files // memory._PAGE_BYTES} 700 0 60000 0\n")

    def release(_: object) -> None:
        released.append(mapped[0])
        write(20_000_000)

    monkeypatch.setattr(memory, "_SIZES", sizes)
    monkeypatch.setattr(memory, "_give_back", release)
    pages = LibraryPages(lambda: now[0])
    write(100_000_000)
    pages.look()
    now[0] += APART_SECONDS
    pages.look()  # What is left stays.
    write(20_000_000 + GROWN_BYTES - 1_000_000)
    pages.look()
    assert released == [100_000_000]
    write(20_000_000 + GROWN_BYTES + 1_000_000)
    pages.look()
    write(20_000_000 + GROWN_BYTES + 1_000_000)
    pages.look()  # The engine is at work.
    assert released == [100_000_000, 21_000_000 + GROWN_BYTES]
    now[0] += APART_SECONDS
    sizes.unlink()  # As where there is no such file.
    pages.look()
    assert len(released) == 2
