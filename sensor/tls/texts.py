"""Finds the code that speaks of a text in a file: where the text is in memory, and each `lea` of its address."""

from typing import Final

import numpy as np

from sensor.tls.elf import PLACE_WORK, Elf

# Further than any code reaches: an offset has 32 bits, and a file fewer bytes than that.
_REACH: Final = 1 << 40
# Of `lea text(%rip), register`.
_BYTES: Final = 7
# Places that are looked at; BoringSSL's source file is named at 73.
MAX_REFERENCES: Final = 16_384


def find_texts(elf: Elf, offset: int) -> list[int]:
    """Addresses of what is at an offset of the file."""
    return [
        section.address + offset - section.offset
        for section in elf.sections.values()
        if section.address and section.offset <= offset < section.offset + section.size
    ]


def find_references(elf: Elf, texts: list[int]) -> list[int]:
    """Addresses of `lea text(%rip), register`, in order; the first MAX_REFERENCES."""
    text = elf.sections[".text"]
    # From where the code is: a hostile file has addresses that no number of the array holds.
    near = np.array([one - text.address for one in texts if abs(one - text.address) <= _REACH], np.int64)
    found: list[int] = []
    if not len(near):
        return found
    for at, window in elf.content.read_windows(text.offset, text.size, _BYTES - 1):
        elf.content.spend(4 * len(window))
        code = np.frombuffer(window, np.uint8)
        # REX.W, lea, and a register with %rip: mod 00, r/m 101.
        is_lea = (code[:-6] & 0xFB == 0x48) & (code[1:-5] == 0x8D) & (code[2:-4] & 0xC7 == 0x05)
        places = np.flatnonzero(is_lea)
        offsets = np.zeros(len(places), np.int64)
        for byte in range(4):
            offsets |= code[places + 3 + byte].astype(np.int64) << 8 * byte
        offsets = np.where(offsets >= 1 << 31, offsets - (1 << 32), offsets)
        places += at - text.offset
        chosen = places[np.isin(places + _BYTES + offsets, near)]
        elf.content.spend(len(chosen) * PLACE_WORK)
        found += [text.address + place for place in chosen.tolist()]
        if len(found) >= MAX_REFERENCES:
            break
    return found[:MAX_REFERENCES]
