"""Twins of bpf/events.h: every struct and number that crosses from the kernel. tests/bpf/test_abi.py holds the two
together."""

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

# struct http_event, 128 bytes, without its data; see bpf/events.h for each field.
EVENT = struct.Struct("<9Q3I3H4B2x16s16s")


class EventKind(IntEnum):
    """`enum event_kind`."""

    REQUEST_HEAD = 1
    RESPONSE_HEAD = 2
    CALL_END = 3
    FORGET = 4


class EventFlag(IntFlag):
    """`enum event_flag`."""

    FIRST = 1
    LAST = 2
    ENDED = 4
    ABORTED = 8
    LOSSY = 16
    TRUNCATED = 32
    UPGRADED = 64


class KernelEvent(NamedTuple):
    """One event as unpacked by EVENT, field for field."""

    time_ns: int
    connection: int
    cgroup_id: int
    peer_cgroup_id: int
    request_time_ns: int
    response_time_ns: int
    end_time_ns: int
    request_bytes: int
    response_bytes: int
    call: int
    position: int
    length: int
    status: int
    local_port: int
    remote_port: int
    kind: int
    role: int
    flags: int
    family: int
    local_address: bytes
    remote_address: bytes


class Counter(IntEnum):
    """`enum counter`: index into the `counters` map."""

    CALLS = 0
    DROPPED_RING = 1
    DROPPED_DEPTH = 2
    EVENTS = 3
    EVENTS_LOST = 4
    DUPLICATES = 5
    GAPS = 6
    RESYNC = 7
    ORPHANS = 8
    REJECTED = 9
    LOCAL_CLIENTS = 10
    CONTENDED = 11
    TAIL_FAILED = 12
    STORAGE_FAILED = 13
    PORTS_FULL = 14


COUNTERS_SIZE = 32


class ConnectionKind(IntEnum):
    """`enum conn_kind`."""

    NEW = 0
    HTTP = 1
    ENCRYPTED = 2
    HTTP2 = 3
    OTHER = 4
    UPGRADED = 5
    LOCAL_CLIENT = 6


# struct port_key and struct port_count.
PORT_KEY = struct.Struct("<HBx")
PORT_COUNT = struct.Struct("<QQ")
PORTS_SIZE = 8192
