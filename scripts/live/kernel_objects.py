"""BPF objects: which a process holds, and which of some are still in the kernel.

Only ids are asked for, which opens nothing. A program that opens each map and program to show it (bpftool) does so
while the kernel empties a program array of a sensor that dies: that work is then queued twice and taken back once
(kernel/bpf/arraymap.c, prog_array_map_clear), and the map stays until the next boot (seen on 6.18).
"""

import contextlib
import ctypes
import re
import struct
from pathlib import Path
from typing import Final

from sensor.ebpf.bpf_syscall import call_bpf

Objects = frozenset[tuple[str, int]]  # (link, prog or map; id)
# enum bpf_cmd: BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID.
_GET_NEXT_ID: Final = {"prog": 11, "map": 12, "link": 31}
_HELD: Final = re.compile(r"^(link|prog|map)_id:\s*(\d+)$", re.MULTILINE)


def list_held(pid: int) -> Objects:
    """What the process has open, by /proc: nothing is opened for it. Empty where the process is gone."""
    found: set[tuple[str, int]] = set()
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                found |= {(kind, int(number)) for kind, number in _HELD.findall(path.read_text())}
    return frozenset(found)


def list_left(objects: Objects) -> Objects:
    """Those of `objects` that are still there. Needs root."""
    return frozenset((kind, number) for kind, number in objects if _find_next(kind, number - 1) == number)


def _find_next(kind: str, number: int) -> int:
    """The lowest id above `number` that an object of this kind has; 0 where none has."""
    attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12)
    if call_bpf(_GET_NEXT_ID[kind], attributes):
        return 0
    return int(struct.unpack_from("<I", attributes.raw, 4)[0])
