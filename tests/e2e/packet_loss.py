"""Drops a share of one port's TCP packets on this host, as a lossy link would, by a small BPF program on the root
cgroup.

The program is written in BPF instructions (include/uapi/linux/bpf.h), so that the test needs neither compiler nor
netem. Its links live as long as their descriptors: nothing stays when the test process ends. x86-64 and arm64.
"""

import ctypes
import os
import platform
import struct
from types import TracebackType
from typing import Self

SYSCALL_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, LINK_CREATE = 5, 28
TYPE_CGROUP_SKB = 8
INGRESS, EGRESS = 0, 1
LOAD_BYTES, RANDOM = 26, 7  # Helper numbers.
# Up to 60, a SYN, it is a handshake or an acknowledgement. After a lost SYN Linux waits 3 s for each lost packet.
SMALLEST_BYTES = 61
IPV4_HEADER_BYTES = 20

_libc = ctypes.CDLL(None, use_errno=True)


class PacketLoss:
    """A context manager: inside it, `percent` of the IPv4 packets from and to `port` that carry bytes are lost, each
    way.
    """

    def __init__(self, cgroup_root: str, port: int, percent: int) -> None:
        self._program = _load(_assemble(port, percent))
        root = os.open(cgroup_root, os.O_RDONLY)
        try:
            self._links = [_attach(self._program, root, way) for way in (INGRESS, EGRESS)]
        finally:
            os.close(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (*self._links, self._program):
            os.close(descriptor)


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, target | source << 4, offset, immediate)


def _assemble(port: int, percent: int) -> bytes:
    """Returns 0 (drop) for a share of what is long enough and from or to `port`, else 1."""
    on_wire = int.from_bytes(port.to_bytes(2, "big"), "little")  # As a little-endian load reads it.
    code = [
        _instruction(0x61, 6, 1),  # r6 = skb->len
        _instruction(0xA5, 6, 0, 14, SMALLEST_BYTES),  # if r6 < SMALLEST_BYTES goto accept
        _instruction(0xB7, 2, 0, 0, IPV4_HEADER_BYTES),  # r2 = offset of the ports
        _instruction(0xBF, 3, 10),  # r3 = stack
        _instruction(0x07, 3, 0, 0, -8),
        _instruction(0xB7, 4, 0, 0, 4),  # r4 = both ports
        _instruction(0x85, 0, 0, 0, LOAD_BYTES),
        _instruction(0x55, 0, 0, 8, 0),  # if failed goto accept
        _instruction(0x69, 7, 10, -8),  # r7 = source port
        _instruction(0x15, 7, 0, 2, on_wire),  # if r7 == port goto draw
        _instruction(0x69, 7, 10, -6),  # r7 = destination port
        _instruction(0x55, 7, 0, 4, on_wire),  # if r7 != port goto accept
        _instruction(0x85, 0, 0, 0, RANDOM),  # draw:
        _instruction(0x94, 0, 0, 0, 100),  # w0 %= 100
        _instruction(0xA5, 0, 0, 1, 100 - percent),  # if r0 < 100 - percent goto accept
        _instruction(0x05, 0, 0, 2),  # goto drop
        _instruction(0xB7, 0, 0, 0, 1),  # accept: r0 = 1
        _instruction(0x95),
        _instruction(0xB7, 0, 0, 0, 0),  # drop: r0 = 0
        _instruction(0x95),
    ]
    return b"".join(code)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 128)
    result: int = _libc.syscall(SYSCALL_BPF, command, buffer, 128)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf command {command}: {os.strerror(number)}")
    return result


def _load(instructions: bytes) -> int:
    """Loads it; returns its descriptor."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQIIQ", TYPE_CGROUP_SKB, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0
    )
    # expected_attach_type stays 0: since both ways run one program, the kernel takes it from the link.
    return _bpf(PROG_LOAD, attributes)


def _attach(program: int, cgroup: int, way: int) -> int:
    return _bpf(LINK_CREATE, struct.pack("<IIII", program, cgroup, way, 0))
