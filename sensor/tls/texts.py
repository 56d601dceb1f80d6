"""Finds the code that speaks of a text in a file: where the text is in memory, and each `lea` of its address."""

from typing import Final

import numpy as np

from sensor.tls.elf import Elf

# Further than any code reaches: an offset has 32 bits, and a file fewer bytes than that.
_REACH: Final = 1 << 40


def find_texts(elf: Elf, offset: int) -> list[int]:
    """Addresses of what is at an offset of the file."""
    return [
        section.address + offset - section.offset
        for section in elf.sections.values()
        if section.address and section.offset <= offset < section.offset + section.size
    ]


def find_references(elf: Elf, texts: list[int]) -> list[int]:
    """Addresses of `lea text(%rip), register`, in order."""
    text = elf.sections[".text"]
    code = np.frombuffer(elf.read(text), np.uint8)
    if len(code) < 8:
        return []
    # REX.W, lea, and a register with %rip: mod 00, r/m 101.
    places = np.flatnonzero((code[:-6] & 0xFB == 0x48) & (code[1:-5] == 0x8D) & (code[2:-4] & 0xC7 == 0x05))
    offsets = np.zeros(len(places), np.int64)
    for byte in range(4):
        offsets |= code[places + 3 + byte].astype(np.int64) << 8 * byte
    offsets = np.where(offsets >= 1 << 31, offsets - (1 << 32), offsets)
    # From where the code is: a hostile file has addresses that no number of the array holds.
    near = [one - text.address for one in texts if abs(one - text.address) <= _REACH]
    found = np.isin(places + 7 + offsets, np.array(near, np.int64))
    return [text.address + int(place) for place in places[found]]
