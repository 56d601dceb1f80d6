"""Finds functions in Go programs, stripped ones too: every Go program has the table of its functions, `.gopclntab`,
for its own stack traces.

Source: runtime/symtab.go (`pcHeader`, `functab`, `_func`) of Go 1.18 and later, alike but for the
magic number; amd64 has the register convention since 1.17. Other layouts give nothing.
"""

import struct
from collections.abc import Iterable
from typing import Final

from sensor.tls.elf import Elf, Function

# Go 1.18 and 1.19; 1.20 and later.
_MAGICS: Final = (0xFFFFFFF0, 0xFFFFFFF1)
_HEADER: Final = struct.Struct("<IHBB8Q")
_ENTRY: Final = struct.Struct("<II")
# Functions of one program; a large one has 200,000.
MAX_FUNCTIONS: Final = 2_000_000
_SECTIONS: Final = (".gopclntab", ".data.rel.ro.gopclntab")


def is_go(elf: Elf) -> bool:
    """Whether a program was made by Go."""
    return any(name in elf.sections for name in (*_SECTIONS, ".go.buildinfo"))


def find_go_functions(elf: Elf, names: Iterable[str]) -> dict[str, Function]:
    """Those of the names that the program has; none where its table is of another layout or cut."""
    section = next((elf.sections[name] for name in _SECTIONS if name in elf.sections), None)
    if section is None or section.size < _HEADER.size:
        return {}
    content, start, end = elf.content, section.offset, section.offset + section.size
    magic, _, _, pointer_size, count, _, text, names_at, _, _, _, table_at = _HEADER.unpack_from(content, start)
    if magic not in _MAGICS or pointer_size != 8 or count > MAX_FUNCTIONS:
        return {}
    text = text or (elf.sections[".text"].address if ".text" in elf.sections else 0)
    table = start + table_at
    if table + count * _ENTRY.size + 4 > end or start + names_at > end:
        return {}
    wanted: dict[int, str] = {}
    for name in names:
        at = content.find(b"\0" + name.encode() + b"\0", start + names_at, table)
        if at >= 0:
            wanted[at + 1 - start - names_at] = name
    if not wanted:
        return {}
    found: dict[str, Function] = {}
    rows = content[table : table + count * _ENTRY.size + 4]
    for number, (entry, function_at) in enumerate(_ENTRY.iter_unpack(rows[:-4])):
        # struct _func: its entry, the offset of its name.
        at = table + function_at + 4
        if at + 4 > end:
            return {}
        name_at = struct.unpack_from("<i", content, at)[0]
        if name_at in wanted:
            following = struct.unpack_from("<I", rows, (number + 1) * _ENTRY.size)[0]
            found[wanted[name_at]] = Function(name=wanted[name_at], address=text + entry, size=following - entry)
    return found
