"""The commands of bpf(2) that the sensor uses once its programs are loaded: links, pins, maps, and a count of sockmap
programs.

`count_sockmap_programs` counts loaded programs of the types sk_msg and sk_skb. They move bytes between sockets without
the network stack, so no hook of the sensor sees these bytes. It needs CAP_SYS_ADMIN and gives 0 without it.

Source: include/uapi/linux/bpf.h, union bpf_attr.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280}

_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_MAP_LOOKUP_BATCH = 24
_MAP_UPDATE_BATCH = 26
_OBJ_GET_INFO_BY_FD = 15
_RAW_TRACEPOINT_OPEN = 17
_LINK_CREATE = 28

CGROUP_INET_INGRESS = 0
CGROUP_INET_EGRESS = 1
TRACE_UPROBE_MULTI = 48


def create_object(command: int, attributes: bytes) -> int:
    """Runs a command, most of which make a map, program, link or BTF object; gives its fd. Raises OSError."""
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) has no number here for machine {platform.machine()!r}")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(_libc.syscall(number, command, buffer, len(attributes)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def call_bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """The call with attributes that the kernel also writes to; gives the error number, 0 for none."""
    result = int(_libc.syscall(_SYSCALL_NUMBERS[platform.machine()], command, attributes, len(attributes)))
    return ctypes.get_errno() if result < 0 else 0


def read_info(fd: int, size: int) -> bytes:
    """The first `size` bytes of what the kernel knows of a map or program. Raises OSError."""
    info = ctypes.create_string_buffer(size)
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", fd, size, ctypes.addressof(info)), 16)
    code = call_bpf(_OBJ_GET_INFO_BY_FD, attributes)
    if code:
        raise OSError(code, os.strerror(code))
    return info.raw


def create_link(program_fd: int, cgroup_fd: int, attach_type: int) -> int:
    """Attaches a program to a cgroup; gives the link's fd. The kernel detaches when the last copy of it is closed,
    kill -9 included."""
    return create_object(_LINK_CREATE, struct.pack("<IIII", program_fd, cgroup_fd, attach_type, 0) + bytes(48))


def link_uprobes(path: str, cookies: Mapping[int, int], program_fd: int, pid: int = 0) -> int:
    """Attaches a program to places in a file, for every process or one; gives the link's fd (Linux 6.6). `cookies`: by
    offset, what bpf_get_attach_cookie() gives there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    places = struct.pack(f"<{2 * len(cookies)}Q", *cookies, *cookies.values())
    buffer = ctypes.create_string_buffer(places, len(places))
    # prog_fd, nothing, attach_type, flags; path, offsets, no counters, cookies, how many, flags, process.
    head = struct.pack("<IIII", program_fd, 0, TRACE_UPROBE_MULTI, 0)
    at = ctypes.addressof(buffer)
    rest = (ctypes.addressof(name), at, 0, at + 8 * len(cookies), len(cookies), 0, pid, 0)
    return create_object(_LINK_CREATE, head + struct.pack("<QQQQIIII", *rest))


def open_raw_tracepoint(name: str, program_fd: int) -> int:
    """Attaches a program to a tracepoint; gives the fd that holds it there (Linux 4.17)."""
    text = ctypes.create_string_buffer(name.encode())
    return create_object(_RAW_TRACEPOINT_OPEN, struct.pack("<QII", ctypes.addressof(text), program_fd, 0))


def update_map(map_fd: int, key: bytes, value: bytes) -> None:
    """Writes one element."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(value, len(value))
    create_object(
        _MAP_UPDATE_ELEM,
        struct.pack("<IIQQQ", map_fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), 0),
    )


def read_element(map_fd: int, key: bytes, value_size: int) -> bytes | None:
    """The value of a key; None where the map does not have it. Raises OSError."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_size)
    try:
        create_object(
            _MAP_LOOKUP_ELEM,
            struct.pack("<IIQQQ", map_fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value), 0),
        )
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def update_batch(map_fd: int, elements: Mapping[bytes, bytes]) -> None:
    """Writes elements, whose keys and values are all of one size, in one system call (Linux 5.6)."""
    if not elements:
        return
    keys = ctypes.create_string_buffer(b"".join(elements))
    values = ctypes.create_string_buffer(b"".join(elements.values()))
    create_object(
        _MAP_UPDATE_BATCH,
        struct.pack("<QQQQIIQQ", 0, 0, ctypes.addressof(keys), ctypes.addressof(values), len(elements), map_fd, 0, 0),
    )


def delete_elements(map_fd: int, keys: Iterable[bytes]) -> None:
    """Removes elements; one that is not there is no error."""
    for key in keys:
        buffer = ctypes.create_string_buffer(key, len(key))
        try:
            create_object(_MAP_DELETE_ELEM, struct.pack("<IIQQQ", map_fd, 0, ctypes.addressof(buffer), 0, 0))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def read_batch(map_fd: int, key_size: int, value_size: int, limit: int) -> list[tuple[bytes, bytes]]:
    """All (key, value) of an array or hash map of at most `limit` elements, in one system call."""
    keys, values, count = _look_up_batch(map_fd, key_size, value_size, limit)
    return [
        (keys[i * key_size : (i + 1) * key_size], values[i * value_size : (i + 1) * value_size]) for i in range(count)
    ]


def read_counts(map_fd: int, size: int) -> tuple[int, ...]:
    """All elements of an array of `size` 64-bit numbers, in one system call."""
    return struct.unpack(f"={size}Q", _look_up_batch(map_fd, 4, 8, size)[1])


def read_divided_counts(map_fd: int, size: int, parts: int) -> tuple[int, ...]:
    """The same of `size` numbers of which each is the sum of `parts`, an array after the other."""
    totals = read_counts(map_fd, size * parts)
    return tuple(sum(totals[number::size]) for number in range(size))


def _look_up_batch(map_fd: int, key_size: int, value_size: int, limit: int) -> tuple[bytes, bytes, int]:
    """Keys, values and how many there are. Raises OSError."""
    keys = ctypes.create_string_buffer(key_size * limit)
    values = ctypes.create_string_buffer(value_size * limit)
    token = ctypes.create_string_buffer(8)
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "<QQQQIIQQ",
            0,
            ctypes.addressof(token),
            ctypes.addressof(keys),
            ctypes.addressof(values),
            limit,
            map_fd,
            0,
            0,
        ),
        56,
    )
    code = call_bpf(_MAP_LOOKUP_BATCH, attributes)
    if code not in (0, errno.ENOENT):  # ENOENT: the end of the map was reached.
        raise OSError(code, os.strerror(code))
    return keys.raw, values.raw, struct.unpack_from("<I", attributes.raw, 32)[0]


_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID = 11, 13
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
        return int.from_bytes(read_info(fd, 8)[:4], "little")
    except OSError:
        return 0
    finally:
        os.close(fd)
