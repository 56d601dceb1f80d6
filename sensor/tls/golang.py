"""Finds functions in Go programs, stripped ones too: every Go program has the table of its functions, `.gopclntab`,
for its own stack traces.

Source: runtime/symtab.go (`pcHeader`, `functab`, `_func`) of Go 1.18 and later, alike but for the
magic number; amd64 has the register convention since 1.17. Other layouts give nothing.
"""

import struct
from collections.abc import Collection
from typing import Final

import numpy as np

from sensor.tls.content import WINDOW_BYTES
from sensor.tls.elf import PLACE_WORK, Elf, Function, Section

# Go 1.18 and 1.19; 1.20 and later.
_MAGICS: Final = (0xFFFFFFF0, 0xFFFFFFF1)
_HEADER: Final = struct.Struct("<IHBB8Q")
_ENTRY: Final = np.dtype([("start", "<u4"), ("description", "<u4")])
# Functions of one program; a large one has 200,000.
MAX_FUNCTIONS: Final = 2_000_000
_SECTIONS: Final = (".gopclntab", ".data.rel.ro.gopclntab")


def is_go(elf: Elf) -> bool:
    """Whether a program was made by Go."""
    return any(name in elf.sections for name in (*_SECTIONS, ".go.buildinfo"))


def find_go_functions(elf: Elf, names: Collection[str]) -> dict[str, Function]:
    """Those of the names that the program has; none where its table is of another layout. Raises ElfError where it is
    cut."""
    section = next((elf.sections[name] for name in _SECTIONS if name in elf.sections), None)
    if section is None or section.size < _HEADER.size:
        return {}
    magic, _, _, pointer_size, count, _, text, names_at, _, _, _, table_at = _HEADER.unpack(
        elf.content.read(section.offset, _HEADER.size)
    )
    if magic not in _MAGICS or pointer_size != 8 or count > MAX_FUNCTIONS:
        return {}
    if not names_at <= table_at <= section.size - (count + 1) * _ENTRY.itemsize:
        return {}
    text = text or (elf.sections[".text"].address if ".text" in elf.sections else 0)
    texts = {b"\0" + name.encode() + b"\0": name for name in names}
    found = elf.content.find_all(texts, section.offset + names_at, table_at - names_at)
    wanted = {places[0] + 1 - section.offset - names_at: texts[name] for name, places in found.items() if places}
    return _find_named(elf, section, table_at, count, text, wanted) if wanted else {}


def _find_named(
    elf: Elf, section: Section, table_at: int, count: int, text: int, wanted: dict[int, str]
) -> dict[str, Function]:
    """Functions by the offset of their names, which each has in its description: struct _func, its entry and that."""
    table, end = section.offset + table_at, section.offset + section.size
    numbers = {name_at.to_bytes(4, "little"): name for name_at, name in wanted.items()}
    places = elf.content.find_all(numbers, table, end - table)
    described = {at - 4 - table: numbers[number] for number, each in places.items() for at in each}
    starts = np.array([at for at in described if 0 <= at < 1 << 32], np.uint32)
    found: dict[str, Function] = {}
    step = WINDOW_BYTES // _ENTRY.itemsize
    for first in range(0, count, step):
        size = (min(step, count - first) + 1) * _ENTRY.itemsize
        rows = np.frombuffer(elf.content.read(table + first * _ENTRY.itemsize, size), _ENTRY)
        for place in np.flatnonzero(np.isin(rows["description"][:-1], starts)).tolist():
            elf.content.spend(PLACE_WORK)
            start, following = int(rows["start"][place]), int(rows["start"][place + 1])
            name = described[int(rows["description"][place])]
            found[name] = Function(name=name, address=text + start, size=following - start)
    return found
