"""Reads what is needed of an ELF file to find functions: sections, symbols, unwind tables and places in the file.

64-bit, little-endian, x86-64 only. A file may be cut or hostile, so every offset is checked and all reads are bounded.
A file that does not fit raises `ElfError`.

`Content` reads in pieces of bounded size. Nothing is mapped, because whoever truncates a mapped file ends the process
that reads it (SIGBUS). Work is counted: bytes read, bytes searched, and what readers `spend`. More work than any TLS
library takes is an `ElfError`. So a file costs memory and time by what is looked at, never by the numbers that it
claims.

Sources: System V ABI, gABI 4.1 chapters 4 and 5; LSB 5.0 for `.eh_frame_hdr`.
"""

import errno
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import capstone
import numpy as np
from numpy.typing import NDArray

from sensor.capture.tls.code import MAX_FUNCTION_BYTES, disassemble

# What is held at once of a search.
WINDOW_BYTES: Final = 1 << 20
# What is read at once into memory: a table. That of the symbols of a browser has some 30 MB.
READ_BYTES_MAX: Final = 64 << 20
# Places of a text that are looked at.
PLACES_MAX: Final = 1_024
# Units of work that a file may take: one a byte that is read, and one a byte and text that is searched for.
WORK_MAX: Final = 8 << 30
# A text that begins or ends with zero bytes may do so in a hole.
_AROUND_DATA: Final = 64


class ElfError(ValueError):
    """The file is no ELF file that can be read; the message says why."""


class FileSource:
    """An open file; `fd` stays its owner's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        """By pread(2)."""
        parts: list[bytes] = []
        while size and (part := os.pread(self._fd, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def find_data(self, offset: int) -> tuple[int, int]:
        """By lseek(2); a file system that does not know holes has none."""
        try:
            start = os.lseek(self._fd, offset, os.SEEK_DATA)
            return start, os.lseek(self._fd, start, os.SEEK_HOLE)
        except OSError as error:
            return (self.size, self.size) if error.errno == errno.ENXIO else (offset, self.size)


class Content:
    """A file as it is looked at once. Not thread-safe."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.size = source.size
        self.work = 0  # Units so far.

    def spend(self, units: int) -> None:
        """Raises ElfError where the file takes too much work."""
        self.work += units
        if self.work > WORK_MAX:
            raise ElfError("it takes more work than any file with a library of TLS")

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises ElfError."""
        self._check(offset, size)
        if size > READ_BYTES_MAX:
            raise ElfError(f"it has a table of {size} bytes; at most {READ_BYTES_MAX} are read")
        self.spend(size)
        data = self._source.read(offset, size)
        if len(data) != size:
            raise ElfError("it was cut while it was read")
        return data

    def read_up_to(self, offset: int, size: int) -> bytes:
        """These bytes, fewer at the file's end. Raises ElfError where it ends before."""
        return self.read(offset, min(size, max(self.size - offset, 0)))

    def read_text(self, offset: int, size: int) -> bytes:
        """The bytes from there up to a zero byte; empty where none is within `size` bytes. Raises ElfError."""
        text, end, _ = self.read_up_to(offset, size).partition(b"\0")
        return text if end else b""

    def read_windows(self, offset: int, size: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of pieces of WINDOW_BYTES, each with `overlap` bytes of the next one behind it. Raises
        ElfError."""
        self._check(offset, size)
        end = offset + size
        for start in range(offset, end, WINDOW_BYTES):
            yield start, self.read(start, min(WINDOW_BYTES + overlap, end - start))

    def find_all(self, texts: Collection[bytes], offset: int = 0, size: int | None = None) -> dict[bytes, list[int]]:
        """Where each text is, its first PLACES_MAX places, in one pass over what is no hole. Raises ElfError."""
        found: dict[bytes, list[int]] = {text: [] for text in texts}
        size = self.size - offset if size is None else size
        self._check(offset, size)
        overlap = max(map(len, found), default=1) - 1
        for start, length in self._list_data(offset, offset + size):
            for at, window in self.read_windows(start, length, overlap):
                self.spend(len(window) * len(found))
                for text, places in found.items():
                    _find_in(window, text, at, places)
        return found

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ElfError("it has an offset or a size beyond its end")

    def _list_data(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """(offset, size) of what is no hole."""
        while offset < end:
            start, stop = self._source.find_data(offset)
            stop = min(stop, end)
            if start >= stop:
                return
            start = max(offset, start - _AROUND_DATA)
            yield start, min(stop + _AROUND_DATA, end) - start
            offset = stop


def _find_in(window: bytes, text: bytes, at: int, places: list[int]) -> None:
    """Adds the places of a text that begin in the window's own bytes; `at`: where it begins in the file."""
    place = window.find(text, 0, WINDOW_BYTES + len(text) - 1)
    while place >= 0 and len(places) < PLACES_MAX:
        places.append(at + place)
        place = window.find(text, place + 1, WINDOW_BYTES + len(text) - 1)


# Sections and segments that are looked at; binaries have some 40 and 15.
MAX_HEADERS: Final = 1_024
# `.note.gnu.build-id` has 18 characters.
MAX_SECTION_NAME_BYTES: Final = 64
# Names of Rust's symbols have some hundred characters, those of deep generics some thousand.
MAX_SYMBOL_NAME_BYTES: Final = 4_096
# What it costs to look at one place that was found, in units of work.
PLACE_WORK: Final = 4_096
# And to disassemble a byte.
CODE_WORK: Final = 2_048
_EM_X86_64: Final = 62
_PT_LOAD: Final = 1
_PF_X: Final = 1
_SHT_NOBITS: Final = 8
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_SYMBOL: Final = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("address", "<u8"), ("size", "<u8")]
)
_RELOCATION: Final = np.dtype([("address", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_IMPORTS: Final = (6, 7)  # R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT
# A stub of the linker: jmp *table(%rip), as the compiler's flags say with a prefix.
_ENDBR64, _BND, _JUMP_BY_TABLE = b"\xf3\x0f\x1e\xfa", b"\xf2", b"\xff\x25"
_FUNCTIONS: Final = (2, 10)  # STT_FUNC, STT_GNU_IFUNC


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function: its address and size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Where a section is, in memory and in the file."""

    address: int
    offset: int
    size: int


class Elf:
    """A file as it is looked at once. All that reads it raises ElfError."""

    def __init__(self, content: Content) -> None:
        self.content = content
        if content.size < 64 or (head := content.read(0, 64))[:6] != b"\x7fELF\x02\x01":
            raise ElfError("not a 64-bit ELF file")
        if struct.unpack_from("<H", head, 18)[0] != _EM_X86_64:
            raise ElfError("not for x86-64")
        program_at, section_at = struct.unpack_from("<QQ", head, 32)
        program_size, programs, section_size, sections, names = struct.unpack_from("<HHHHH", head, 54)
        self._segments = [
            segment for segment in self._unpack(_SEGMENT, program_at, program_size, programs) if segment[0] == _PT_LOAD
        ]
        self.sections: dict[str, Section] = {}
        headers = self._unpack(_SECTION, section_at, section_size, sections)
        if names < len(headers):
            names_at, names_end = headers[names][4], min(headers[names][4] + headers[names][5], content.size)
            for header in headers:
                at = names_at + header[0]
                if at >= names_end or header[1] == _SHT_NOBITS or header[4] + header[5] > content.size:
                    continue
                name = content.read_text(at, min(MAX_SECTION_NAME_BYTES, names_end - at)).decode("latin-1")
                self.sections[name] = Section(address=header[3], offset=header[4], size=header[5])

    def _unpack(self, layout: struct.Struct, at: int, size: int, count: int) -> list[tuple[int, ...]]:
        if not count:
            return []
        if size < layout.size or count > MAX_HEADERS:
            raise ElfError("its headers are of another form")
        data = self.content.read(at, size * count)
        return [layout.unpack_from(data, size * number) for number in range(count)]

    def find_functions(self, names: Collection[str]) -> dict[str, Function]:
        """Those of the names that are defined, from the symbols for linking or, where they remain, all symbols."""
        found: dict[str, Function] = {}
        for table, strings in ((".dynsym", ".dynstr"), (".symtab", ".strtab")):
            if table in self.sections and strings in self.sections and len(found) < len(names):
                for function in self._find_in(table, strings, names):
                    found.setdefault(function.name, function)
        return found

    def find_names(self, mark: bytes) -> list[str]:
        """Names of symbols that hold the mark."""
        names: set[bytes] = set()
        for strings in (".dynstr", ".strtab"):
            if strings in self.sections:
                names.update(self._list_names(self._find_table(strings), mark))
        return [name.decode("latin-1") for name in sorted(names)]

    def _list_names(self, strings: Section, mark: bytes) -> Iterator[bytes]:
        """Texts of a table that hold the mark; what is longer than a name is passed over."""
        longest = MAX_SYMBOL_NAME_BYTES
        for _, window in self.content.read_windows(strings.offset, strings.size, longest):
            self.content.spend(len(window))
            at = window.find(mark, 0, WINDOW_BYTES)
            while at >= 0:
                self.content.spend(PLACE_WORK)
                # One that begins before this window is in the one before, as far as it is no longer than a name.
                start = window.rfind(b"\0", max(at - longest, 0), at)
                end = window.find(b"\0", at, at + longest)
                if 0 <= start < WINDOW_BYTES and 0 <= end <= start + 1 + longest:
                    yield window[start + 1 : end]
                at = window.find(mark, max(end, at) + 1)

    def _find_in(self, table: str, strings: str, names: Collection[str]) -> Iterator[Function]:
        texts = self._find_table(strings)
        wanted = {name.encode() + b"\0": name for name in names}
        # Names may share their ends: all places where one is.
        found = self.content.find_all(wanted, texts.offset, texts.size)
        places = {at - texts.offset: wanted[text] for text, each in found.items() for at in each}
        if not places:
            return
        numbers = np.array(list(places), np.uint32)
        for symbols in self._read_rows(self._find_table(table), _SYMBOL):
            is_function = np.isin(symbols["info"] & 15, _FUNCTIONS) & (symbols["section"] != 0) & (symbols["size"] != 0)
            rows = symbols[is_function & np.isin(symbols["name"], numbers)]
            self.content.spend(len(rows) * PLACE_WORK)
            for name_at, _, _, _, address, size in rows.tolist():
                yield Function(name=places[name_at], address=address, size=size)

    def _find_table(self, name: str) -> Section:
        section = self.sections[name]
        if section.size > READ_BYTES_MAX:
            raise ElfError(f"its {name} has {section.size} bytes; at most {READ_BYTES_MAX} are read")
        return section

    def _read_rows(self, table: Section, layout: "np.dtype[Any]") -> Iterator[NDArray[Any]]:
        """The rows of a table, in parts."""
        step = WINDOW_BYTES // layout.itemsize * layout.itemsize
        whole = table.size // layout.itemsize * layout.itemsize
        for start in range(0, whole, step):
            yield np.frombuffer(self.content.read(table.offset + start, min(step, whole - start)), layout)

    @cached_property
    def _imports(self) -> dict[int, int]:
        """Symbols of functions of other libraries, by the address at which the linker puts theirs."""
        found: dict[int, int] = {}
        for name in (".rela.plt", ".rela.dyn"):
            if name not in self.sections:
                continue
            for rows in self._read_rows(self._find_table(name), _RELOCATION):
                chosen = rows[np.isin(rows["kind"], _IMPORTS)]
                self.content.spend(len(chosen) * PLACE_WORK)
                found.update(zip(chosen["address"].tolist(), chosen["symbol"].tolist(), strict=True))
        return found

    def name_import(self, address: int) -> str:
        """The function of another library whose address the linker puts at this one; empty where there is none."""
        symbols, names = self.sections.get(".dynsym"), self.sections.get(".dynstr")
        number = self._imports.get(address)
        if number is None or symbols is None or names is None or (number + 1) * _SYMBOL.itemsize > symbols.size:
            return ""
        name_at = int.from_bytes(self.content.read(symbols.offset + number * _SYMBOL.itemsize, 4), "little")
        return self.content.read_text(names.offset + name_at, MAX_SYMBOL_NAME_BYTES).decode("latin-1")

    def find_import(self, address: int) -> str:
        """The function of another library to which the stub at an address leads; empty where there is none."""
        try:
            code = self.read_code(address, 16)
        except ElfError:
            return ""
        start = len(_ENDBR64) if code.startswith(_ENDBR64) else 0
        start += code[start : start + 1] == _BND
        if code[start : start + 2] != _JUMP_BY_TABLE or len(code) < start + 6:
            return ""
        return self.name_import(address + start + 6 + struct.unpack_from("<i", code, start + 2)[0])

    def disassemble(self, function: Function) -> "list[capstone.CsInsn] | None":
        """All instructions of a function; None where its bytes are not all code, where it has more than are looked at,
        or where it begins within an instruction of the function that unwinders know there."""
        frame = self.find_frame(function.address)
        if frame is not None and frame.address != function.address:
            around = self._disassemble(frame.address, frame.size)
            if not any(instruction.address == function.address for instruction in around or ()):
                return None
        return self._disassemble(function.address, function.size)

    def _disassemble(self, address: int, size: int) -> "list[capstone.CsInsn] | None":
        code = self.read_code(address, size)
        self.content.spend(len(code) * CODE_WORK)
        return disassemble(code, address)

    def read_code(self, address: int, size: int) -> bytes:
        """Bytes of code in memory: fewer where the file has no more, and of more than a function may have just one more
        than that."""
        return self.content.read_up_to(self.locate(address), min(size, MAX_FUNCTION_BYTES + 1))

    def locate(self, address: int) -> int:
        """Offset in the file of an address of code."""
        for _, flags, offset, start, _, in_file, _, _ in self._segments:
            if flags & _PF_X and start <= address < start + in_file and address - start + offset < self.content.size:
                return address - start + offset
        raise ElfError(f"no code is at {address:#x}")

    def find_frame(self, address: int) -> Function | None:
        """The function around an address, by what unwinders get (LSB 5.0, 10.6); None where there is none, as for
        the stubs of the linker. Works where symbols were stripped."""
        header = self.sections.get(".eh_frame_hdr")
        starts, frames = self._frames
        relative = address - header.address if header is not None else 0
        if header is None or not -(1 << 31) <= relative < 1 << 31:
            return None
        number = int(starts.searchsorted(np.int32(relative), side="right")) - 1
        if number < 0:
            return None
        start = header.address + int(starts[number])
        size = self._read_frame_size(int(frames[number]))
        plt = [self.sections[name] for name in (".plt", ".plt.sec", ".plt.got") if name in self.sections]
        if address >= start + size or any(one.address <= address < one.address + one.size for one in plt):
            return None
        return Function(name="", address=start, size=size)

    @cached_property
    def _frames(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Starts of all functions, ascending, and where each is described, both relative to `.eh_frame_hdr`."""
        none = np.empty(0, np.int32)
        header = self.sections.get(".eh_frame_hdr")
        if header is None or ".eh_frame" not in self.sections or header.size < 12:
            return none, none
        # Version 1; a pointer and a count; a table of two numbers relative to the header, as all linkers write it.
        version, pointer, count_kind, table, _, count = struct.unpack("<4BII", self.content.read(header.offset, 12))
        if (version, pointer & 0x0F, count_kind, table) != (1, 0x0B, 0x03, 0x3B) or 12 + 8 * count > header.size:
            return none, none
        rows = np.frombuffer(self.content.read(header.offset + 12, 8 * count), "<i4")
        return rows[::2].copy(), rows[1::2].copy()

    def _read_frame_size(self, relative: int) -> int:
        """Size of the function that an FDE describes, in 4 bytes as all of x86-64 write it; 0 where there is none."""
        header, frame = self.sections[".eh_frame_hdr"], self.sections[".eh_frame"]
        offset = relative + frame.offset - frame.address + header.address
        if offset < 0 or offset + 16 > self.content.size:
            return 0
        return int.from_bytes(self.content.read(offset + 12, 4), "little")
