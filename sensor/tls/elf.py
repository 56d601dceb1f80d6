"""What of an ELF file is needed to find functions: sections, symbols, where an address lies in the file, the build id.

64-bit, little-endian, x86-64 only. A file may be cut or hostile: every offset is checked, and a file that does not fit
is an `ElfError`. Source: System V ABI, gABI 4.1 chapters 4 and 5; `.note.gnu.build-id` of binutils.
"""

import bisect
import mmap
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

# Sections and segments that are looked at; binaries have some 40 and 15.
MAX_HEADERS: Final = 1_024
# Symbols of one table; a browser has some 500,000.
MAX_SYMBOLS: Final = 2_000_000
_EM_X86_64: Final = 62
_PT_LOAD: Final = 1
_PF_X: Final = 1
_SHT_NOBITS: Final = 8
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_RELOCATION: Final = struct.Struct("<QIIq")
_IMPORTS: Final = (6, 7)  # R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT
# A stub of the linker: jmp *table(%rip), as the compiler's flags say with a prefix.
_ENDBR64, _BND, _JUMP_BY_TABLE = b"\xf3\x0f\x1e\xfa", b"\xf2", b"\xff\x25"
_STT_FUNC: Final = 2
_STT_GNU_IFUNC: Final = 10


class ElfError(ValueError):
    """The file is no ELF file that can be read; the message says why."""


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
    """A file in memory. `content` is bytes or a map of the file."""

    def __init__(self, content: "bytes | mmap.mmap") -> None:
        self.content = content
        if len(content) < 64 or content[:6] != b"\x7fELF\x02\x01":
            raise ElfError("not a 64-bit ELF file")
        if struct.unpack_from("<H", content, 18)[0] != _EM_X86_64:
            raise ElfError("not for x86-64")
        program_at, section_at = struct.unpack_from("<QQ", content, 32)
        program_size, programs, section_size, sections, names = struct.unpack_from("<HHHHH", content, 54)
        self._segments = [
            segment for segment in self._unpack(_SEGMENT, program_at, program_size, programs) if segment[0] == _PT_LOAD
        ]
        self.sections: dict[str, Section] = {}
        headers = list(self._unpack(_SECTION, section_at, section_size, sections))
        if names < len(headers):
            names_at, names_end = headers[names][4], headers[names][4] + headers[names][5]
            for header in headers:
                end = content.find(b"\0", names_at + header[0], min(names_end, len(content)))
                if end >= 0 and header[1] != _SHT_NOBITS and header[4] + header[5] <= len(content):
                    name = content[names_at + header[0] : end].decode("latin-1")
                    self.sections[name] = Section(address=header[3], offset=header[4], size=header[5])

    def _unpack(self, layout: struct.Struct, at: int, size: int, count: int) -> Iterable[tuple[int, ...]]:
        if not count:
            return []
        if size < layout.size or count > MAX_HEADERS or at + size * count > len(self.content):
            raise ElfError("its headers are cut")
        return [layout.unpack_from(self.content, at + size * number) for number in range(count)]

    def find_functions(self, names: Iterable[str]) -> dict[str, Function]:
        """Those of the names that are defined, from the symbols for linking or, where they remain, all symbols."""
        wanted = {name.encode(): name for name in names}
        found: dict[str, Function] = {}
        for table, strings in ((".dynsym", ".dynstr"), (".symtab", ".strtab")):
            if table in self.sections and strings in self.sections and len(found) < len(wanted):
                for function in self._find_in(self.sections[table], self.sections[strings], wanted):
                    found.setdefault(function.name, function)
        return found

    def find_names(self, pattern: "re.Pattern[bytes]") -> list[str]:
        """Names of all symbols that fit; the pattern ends before the zero byte behind a name."""
        names: list[str] = []
        for strings in (".dynstr", ".strtab"):
            if strings in self.sections:
                names += [match[0].decode("latin-1") for match in pattern.finditer(self.read(self.sections[strings]))]
        return names

    def _find_in(self, table: Section, strings: Section, wanted: dict[bytes, str]) -> Iterable[Function]:
        text = self.read(strings)
        places: dict[int, str] = {}
        for name, told in wanted.items():
            # Names may share their ends: all places where this one is.
            at = text.find(name + b"\0")
            while at >= 0:
                places[at] = told
                at = text.find(name + b"\0", at + 1)
        if not places:
            return
        symbols = self.read(table)
        whole = len(symbols) // _SYMBOL.size * _SYMBOL.size
        for name_at, kind, _, section, address, size in _SYMBOL.iter_unpack(
            symbols[: min(whole, MAX_SYMBOLS * _SYMBOL.size)]
        ):
            if name_at in places and section and size and kind & 15 in (_STT_FUNC, _STT_GNU_IFUNC):
                yield Function(name=places[name_at], address=address, size=size)

    @cached_property
    def imports(self) -> dict[int, str]:
        """Functions of other libraries, by the address at which the linker puts theirs."""
        if ".dynsym" not in self.sections or ".dynstr" not in self.sections:
            return {}
        symbols, names = self.sections[".dynsym"], self.read(self.sections[".dynstr"])
        found: dict[int, str] = {}
        for name in (".rela.plt", ".rela.dyn"):
            table = self.read(self.sections[name]) if name in self.sections else b""
            whole = len(table) // _RELOCATION.size * _RELOCATION.size
            for address, kind, symbol, _ in _RELOCATION.iter_unpack(table[: min(whole, MAX_SYMBOLS * 24)]):
                if kind in _IMPORTS and (symbol + 1) * _SYMBOL.size <= symbols.size:
                    name_at = struct.unpack_from("<I", self.content, symbols.offset + symbol * _SYMBOL.size)[0]
                    found[address] = names[name_at : names.find(b"\0", name_at)].decode("latin-1")
        return found

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
        return self.imports.get(address + start + 6 + struct.unpack_from("<i", code, start + 2)[0], "")

    def read(self, section: Section) -> bytes:
        """Its bytes."""
        return bytes(self.content[section.offset : section.offset + section.size])

    def read_code(self, address: int, size: int) -> bytes:
        """Bytes of code in memory; fewer where the file has no more. Raises ElfError where there is no code."""
        offset = self.locate(address)
        return bytes(self.content[offset : offset + size])

    def locate(self, address: int) -> int:
        """Offset in the file of an address of code. Raises ElfError."""
        for _, flags, offset, start, _, in_file, _, _ in self._segments:
            if flags & _PF_X and start <= address < start + in_file:
                return address - start + offset
        raise ElfError(f"no code is at {address:#x}")

    def find_frame(self, address: int) -> Function | None:
        """The function around an address, by what unwinders are told (LSB 5.0, 10.6); None where there is none, as for
        the stubs of the linker. Works where symbols were stripped."""
        starts, frames = self.frames
        number = bisect.bisect_right(starts, address) - 1
        if number < 0:
            return None
        size = self._read_frame_size(frames[number])
        start = starts[number]
        plt = [self.sections[name] for name in (".plt", ".plt.sec", ".plt.got") if name in self.sections]
        if address >= start + size or any(one.address <= address < one.address + one.size for one in plt):
            return None
        return Function(name="", address=start, size=size)

    @cached_property
    def frames(self) -> tuple[list[int], list[int]]:
        """Starts of all functions, ascending, and where the file describes each (offset of its FDE)."""
        header = self.sections.get(".eh_frame_hdr")
        frame = self.sections.get(".eh_frame")
        if header is None or frame is None or header.size < 12:
            return [], []
        # Version 1; a pointer and a count; a table of two numbers relative to the header, as all linkers write it.
        version, pointer, count_kind, table = struct.unpack_from("<4B", self.content, header.offset)
        count = struct.unpack_from("<I", self.content, header.offset + 8)[0]
        if (version, pointer & 0x0F, count_kind, table) != (1, 0x0B, 0x03, 0x3B) or 12 + 8 * count > header.size:
            return [], []
        rows = struct.unpack_from(f"<{2 * count}i", self.content, header.offset + 12)
        to_offset = frame.offset - frame.address + header.address
        return [header.address + start for start in rows[::2]], [at + to_offset for at in rows[1::2]]

    def _read_frame_size(self, offset: int) -> int:
        """Size of the function that the FDE at an offset describes, in 4 bytes as all of x86-64 write it."""
        if offset < 0 or offset + 16 > len(self.content):
            return 0
        return int(struct.unpack_from("<I", self.content, offset + 12)[0])

    @property
    def build_id(self) -> bytes:
        """What names this very build; empty where there is none."""
        note = self.sections.get(".note.gnu.build-id")
        if note is None or not 16 < note.size <= 128:
            return b""
        return self.read(note)[16:]
