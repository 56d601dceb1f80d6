"""Twins of bpf/syscall_events.h. tests/bpf/test_syscall_abi.py holds the two together."""

import struct
from enum import IntEnum
from typing import NamedTuple

# struct syscall_event, 88 bytes, without its data; see bpf/syscall_events.h for each field.
SYSCALL_EVENT = struct.Struct("<3Q5I2H4BI16s16s")
# struct syscall_conn, 40 bytes.
SYSCALL_CONN = struct.Struct("<3QI2B6B4x")
SYSCALL_COUNTERS_SIZE = 16
SYSCALL_COUNTER_PARTS = 16
# struct account: when it and its reserve are paid for, and calls; 24 bytes.
ACCOUNT = struct.Struct("<3Q")
ACCOUNTS_SIZE = 4_096


class SyscallKind(IntEnum):
    """`enum syscall_event_kind`."""

    READ = 1
    WRITE = 2
    EOF = 3
    SHUT = 4
    CLOSED = 5
    CUT = 6
    OTHER = 7


class SyscallEvent(NamedTuple):
    """One event as unpacked by SYSCALL_EVENT, field for field."""

    time_ns: int
    socket: int
    cgroup_id: int
    sequence: int
    other: int
    size: int
    length: int
    hash: int
    local_port: int
    remote_port: int
    kind: int
    family: int
    bound: int
    library: int
    process: int
    local_address: bytes
    remote_address: bytes


class SyscallCounter(IntEnum):
    """`enum syscall_counter`."""

    EVENTS = 0
    EVENTS_LOST = 1
    UNREADABLE = 2
    REFUSED = 3
    UNCOPIED = 4
    LOCAL_CLIENTS = 5
    PORTS_FULL = 6
