"""A file costs what is looked at of it, never what it claims to have."""

import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.tls import elf as module
from sensor.capture.tls.elf import PLACES_MAX, Content, Elf, ElfError, FileSource
from sensor.capture.tls.finder import search_content, search_file
from sensor.capture.tls.openssl import NO_TLS
from tests.sensor.capture.tls.contents import make_source

GIB = 1 << 30
# Searches a file as the sensor does, with no more memory than it has and this; says what was found and read.
SEARCH = """
import os, resource, sys
from sensor.capture.tls.elf import FileSource
from sensor.capture.tls.finder import search_content

class Counting(FileSource):
    read_bytes = 0
    def read(self, offset, size):
        Counting.read_bytes += size
        return super().read(offset, size)

used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
found = search_content(Counting(os.open(sys.argv[1], os.O_RDONLY)), "program")
print(found.sites.library or "none", Counting.read_bytes)
"""


@given(st.binary(max_size=400), st.lists(st.binary(min_size=1, max_size=5), max_size=4), st.integers(1, 50))
def test_texts_are_found_whatever_pieces_they_lie_in(data: bytes, texts: list[bytes], window: int) -> None:
    expected = {text: [at for at in range(len(data)) if data.startswith(text, at)][:PLACES_MAX] for text in texts}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW_BYTES", window)
        assert Content(make_source(data)).find_all(texts) == expected


@pytest.mark.parametrize(
    ("offset", "size"), [(-1, 2), (0, -1), (0, 101), (101, 0), (1 << 63, 1), (1, 1 << 64), ((1 << 64) - 1, 1)]
)
def test_no_number_leads_beyond_the_file(offset: int, size: int) -> None:
    content = Content(make_source(bytes(100)))
    with pytest.raises(ElfError):
        content.read(offset, size)
    with pytest.raises(ElfError):
        list(content.read_windows(offset, size))
    with pytest.raises(ElfError):
        content.find_all([b"x"], offset, size)


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """It would end a process that has it mapped."""
    path = tmp_path / "program"
    path.write_bytes(bytes(10_000))
    with path.open("rb") as file:
        content = Content(FileSource(file.fileno()))
        os.truncate(path, 5_000)
        with pytest.raises(ElfError, match="was cut"):
            content.read(4_000, 2_000)
        with pytest.raises(ElfError, match="was cut"):
            content.find_all([b"x"])


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORK_MAX", 1_000)
    content = Content(make_source(bytes(600)))
    content.read(0, 600)
    with pytest.raises(ElfError, match="more work"):
        content.read(0, 600)


def make_elf(sections: dict[str, tuple[int, int]], *, size: int, names: tuple[int, int] | None = None) -> bytes:
    """Head and table of a file of so many bytes, with sections at offsets and of sizes; `names`: where theirs are."""
    table = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    rows = {"": (0, 0), **sections, ".shstrtab": names or (64, len(table))}
    headers = b""
    for name, (offset, length) in rows.items():
        at = table.find(b"\0" + name.encode() + b"\0") + 1 if name else 0
        headers += struct.pack("<IIQQQQIIQQ", at, 1, 0, 0x1000, offset, length, 0, 0, 0, 0)
    start = 64 + len(table)
    head = b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 62) + bytes(12) + struct.pack("<QQ", 0, start)
    head = head.ljust(52, b"\0") + struct.pack("<6H", 64, 56, 0, 64, len(rows), len(rows) - 1)
    data = head + table + headers
    assert len(data) <= size
    return data


def write_sparse(path: Path, data: bytes, size: int) -> None:
    path.write_bytes(data)
    os.truncate(path, size)
    assert path.stat().st_blocks * 512 < 1 << 20, "this file system has no holes"


def search_within(path: Path, memory_bytes: int) -> tuple[str, int]:
    """What a process finds that has so much memory, and how many bytes it read."""
    command = [sys.executable, "-c", SEARCH, str(path), str(memory_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    library, read = done.stdout.split()
    return library, int(read)


@pytest.mark.parametrize(
    "section", [".dynstr", ".symtab", ".strtab", ".rela.dyn", ".eh_frame_hdr", ".gopclntab", ".text"]
)
def test_a_sparse_file_of_two_gib_costs_nothing(tmp_path: Path, section: str) -> None:
    """Each section in turn has all of it; 8 KB on the disk."""
    sections = dict.fromkeys((".dynsym", ".dynstr", ".symtab", ".strtab", ".text", ".eh_frame"), (4096, 256))
    sections[section] = (0x1000, 2 * GIB - 0x1000)
    path = tmp_path / "program"
    write_sparse(path, make_elf(sections, size=2 * GIB), 2 * GIB)
    library, read = search_within(path, 64 << 20)
    assert library == "none"
    assert read < 1 << 20


def test_a_sparse_file_whose_tables_fit_is_read_and_no_more(tmp_path: Path) -> None:
    """60 MiB of zeros as names, and as symbols: within what is read."""
    sections = dict.fromkeys((".dynsym", ".dynstr", ".symtab", ".strtab"), (4096, 60 << 20))
    path = tmp_path / "program"
    write_sparse(path, make_elf(sections, size=2 * GIB), 2 * GIB)
    library, read = search_within(path, 64 << 20)
    assert library == "none"
    assert read < 300 << 20


def test_what_is_in_a_hole_is_passed_over_and_what_is_behind_it_found(tmp_path: Path) -> None:
    mark = b"/cargo/registry/rustls-0.23.12/src/conn.rs"
    path = tmp_path / "program"
    write_sparse(path, make_elf({}, size=GIB), GIB)
    with path.open("r+b") as file:
        file.seek(GIB - 5_000)
        file.write(mark)
    library, read = search_within(path, 64 << 20)
    assert library == "rustls"
    assert read < 1 << 20


@pytest.mark.parametrize(
    "names",
    [((1 << 64) - 1, 1), (1 << 63, 1 << 63), (0, (1 << 64) - 1), (1 << 62, 10)],
    ids=["end", "half", "all", "far"],
)
def test_names_of_sections_may_lie_anywhere(names: tuple[int, int]) -> None:
    data = make_elf({".text": (64, 10)}, size=GIB, names=names)
    assert search_content(make_source(data), "program").sites == NO_TLS


@given(st.data())
def test_no_number_of_a_head_raises_anything_else(draw: st.DataObject) -> None:
    """Any field of head and tables has any value."""
    data = bytearray(make_elf({".dynsym": (64, 48), ".dynstr": (64, 40), ".text": (64, 100)}, size=GIB))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(16, len(data) - 8))
        number = draw.draw(st.sampled_from([0, 1, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]))
        data[at : at + 8] = number.to_bytes(8, "little")
    search_content(make_source(bytes(data)), "program")


def test_a_text_that_is_everywhere_is_found_a_bounded_number_of_times() -> None:
    content = Content(make_source(b"SSL_read\0" * 100_000))
    assert len(content.find_all([b"SSL_read\0"])[b"SSL_read\0"]) == PLACES_MAX


def test_what_is_read_of_this_machines_programs_is_their_size(tmp_path: Path) -> None:
    """Nothing is read ten times over."""
    path = Path(sys.executable).resolve()
    with path.open("rb") as file:
        elf = Elf(Content(FileSource(file.fileno())))
        found = search_file(file.fileno(), path.name)
    assert elf.sections and found.work < 40 * path.stat().st_size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
