"""Every struct, enum and number that crosses between the kernel side and Python, as twins of the headers in bpf/.

- bpf/events.h and bpf/http2_events.h: events, records and counters of calls. tests/bpf/test_abi.py compares both.
- bpf/verdicts.h: blocks that the kernel applies, and events of what it stopped. tests/bpf/test_abi.py compares both.
- bpf/syscall_events.h: bytes of system calls. tests/bpf/test_syscall_abi.py compares both.
- bpf/tls_events.h: sessions of TLS libraries. tests/bpf/test_tls_abi.py compares both.
"""

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# struct http_event, 152 bytes, without its data; see bpf/events.h for each field.
EVENT = struct.Struct("<9Q3I3H5Bx3Q16s16s")
# struct frames_event, 88 bytes, without its data; and what of it is read of every event.
FRAMES_EVENT = struct.Struct("<2Q2I2HI4B2H2Q16s16s")
FRAMES_HEAD = struct.Struct("<2Q2I2HI4B")

# Of bpf/http2_events.h: struct waiting_stream, struct stream_record; key and value of the map that is taught.
WAITING_STREAM: Final = np.dtype(
    [
        ("started_ns", "<u8"),
        ("last_ns", "<u8"),
        ("answered_ns", "<u8"),
        ("stream", "<u4"),
        ("request", "<u4"),
        ("answer", "<u4"),
        ("trailers", "<u4"),
        ("request_bytes", "<u4"),
        ("response_bytes", "<u4"),
        ("request_messages", "<u2"),
        ("response_messages", "<u2"),
        ("is_request_ended", "u1"),
        ("_pad", "u1", (3,)),
    ]
)
STREAM_RECORD: Final = np.dtype(
    [
        ("connection", "<u8"),
        ("started_ns", "<u8"),
        ("ended_ns", "<u8"),
        ("request", "<u4"),
        ("answer", "<u4"),
        ("trailers", "<u4"),
        ("stream", "<u4"),
        ("request_bytes", "<u4"),
        ("response_bytes", "<u4"),
        ("request_messages", "<u2"),
        ("response_messages", "<u2"),
        ("_pad", "u1", (4,)),
    ]
)
# Their ring: 32,768 calls. Past half of it nothing is matched.
STREAM_RECORDS_BYTES: Final = 2 << 20
MATCHED_STREAMS: Final = 32  # Of a connection that wait at once, each at the place of its number.
MESSAGES_UNCOUNTED: Final = 0xFFFF
BLOCK_BYTES: Final = 64
BLOCK_KEY = struct.Struct(f"<Q2I{BLOCK_BYTES}s")  # connection, direction, length, bytes.
BLOCK_ENTRY = struct.Struct("<3I4x")  # number, at, uses.


# struct client_end, the value of the map `clients`, which is by sensor.ebpf.hashes.hash_connection.
CLIENT_END = struct.Struct("<2Q")  # cgroup_id, connection.


class EventKind(IntEnum):
    """`enum event_kind`."""

    REQUEST_HEAD = 1
    RESPONSE_HEAD = 2
    CALL_END = 3
    FORGET = 4
    FRAMES = 16
    BYTES = 17
    END = 18
    LEAVE = 19
    CLIENT_HELLO = 24
    SERVER_HELLO = 25
    REQUEST_BODY = 20
    RESPONSE_BODY = 21
    UPGRADE_END = 28
    WAITING = 30


class BlockUse(IntFlag):
    """`enum block_use`."""

    REQUEST = 1
    ANSWER = 2


class EventFlag(IntFlag):
    """`enum event_flag`."""

    FIRST = 1
    LAST = 2
    ENDED = 4
    ABORTED = 8
    LOSSY = 16
    TRUNCATED = 32
    UPGRADED = 64
    SUSPICIOUS = 128


class EventMark(IntFlag):
    """`enum event_mark`: more flags."""

    AMBIGUOUS = 1


class StreamFlag(IntFlag):
    """`enum stream_flag`."""

    JOINED = 1
    UPGRADED = 2
    CLIENT_INGRESS = 4
    CLIENT_EGRESS = 8
    RESET = 16


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
    marks: int
    profile: int
    host: int
    credential: int
    local_address: bytes
    remote_address: bytes


class RecordFlag(IntFlag):
    """`enum record_flag`."""

    LOSSY = 1
    ABORTED = 2
    FINAL = 4
    UNLEARNED = 8
    SUSPICIOUS = 16
    UPGRADED = 32
    AMBIGUOUS = 64
    BODY = 128


# struct call_record, 128 bytes. Of RecordFlag.UNLEARNED `object` and `number` are the 16 bytes of the server's address.
RECORD: Final = np.dtype(
    [
        ("time_ns", "<u8"),
        ("connection", "<u8"),
        ("cgroup_id", "<u8"),
        ("peer_cgroup_id", "<u8"),
        ("actor", "<u8"),
        ("object", "<u8"),
        ("number", "<u8"),
        ("route", "<u4"),
        ("profile", "<u4"),
        ("request_bytes", "<u8"),
        ("response_bytes", "<u8"),
        ("ttfb_us", "<u4"),
        ("duration_us", "<u4"),
        ("status", "<u2"),
        ("local_port", "<u2"),
        ("remote_port", "<u2"),
        ("role", "u1"),
        ("flags", "u1"),
        ("family", "u1"),
        ("calls", "u1"),
        ("_pad", "u1", (2,)),
        ("call", "<u4"),
        ("client_address", "u1", (16,)),
        ("credential", "<u8"),
    ]
)
Records = NDArray[np.void]  # Of RECORD.
NUMBER_NONE: Final = (1 << 64) - 1

# What user space teaches: keys and values of the maps `roots`, `edges`, `leaves`, `profiles`, `names`, `settings`.
# Fields in order, padding apart; `Settings` names those of the last.
METHOD_BYTES: Final = 8
ROOT_KEY = struct.Struct("<4QH2B4x")  # cgroup_id, host, method, address, port, role, family.
NODE_NUMBER = struct.Struct("<I")
EDGE_KEY = struct.Struct("<2IQ")  # node, shape, hash.
EDGE = struct.Struct("<2I")  # node, flags.
LEAF_KEY = struct.Struct("<2I")  # node, has_slash.
LEAF = struct.Struct("<QI2HQ")  # next_head_ns, route, first, quiet, classes.
PROFILE_KEY = struct.Struct("<Q")
PROFILE = struct.Struct("<I")
EDGE_SIGNS: Final = 16_384  # Words of 64 bits.
NAME_BUCKETS: Final = 2_048
NAME_WAYS: Final = 4
NAME_BUCKET = struct.Struct(f"<{NAME_WAYS}Q")
SETTINGS = struct.Struct("<16s10Q")


class Settings(NamedTuple):
    """Fields of SETTINGS."""

    sip_key: bytes
    seed: int
    is_recognising: int
    head_sample_ns: int
    heads_per_second: int
    heads_burst: int
    node_heads_per_second: int
    node_heads_burst: int
    body_bytes_per_second: int
    node_body_bytes_per_second: int
    samples_per_second: int

    def __repr__(self) -> str:
        return "Settings(redacted)"


class EdgeFlag(IntFlag):
    """`enum edge_flag`."""

    PARAMETER = 1


class SegmentClass(IntEnum):
    """`enum segment_class`."""

    EXACT = 0
    DIGITS = 1
    UUID_LOWER = 2
    UUID_UPPER = 3
    HEX_LOWER = 4
    HEX_UPPER = 5
    ULID = 6
    TOKEN = 7


class TokenKind(IntFlag):
    """`enum token_kind`."""

    DIGIT = 1
    LOWER = 2
    UPPER = 4
    DASH = 8
    UNDERSCORE = 16


class NameKind(IntEnum):
    """`enum name_kind`."""

    HEADER_IGNORED = 1
    HEADER_HOST = 2
    QUERY_IGNORED = 3
    QUERY_CREDENTIAL = 4
    QUERY_OBJECT = 5
    HEADER_AUTHORIZATION = 6
    HEADER_KEY = 7
    HEADER_PRESENT = 8
    HEADER_QUOTED = 9
    HEADER_SHAPE = 10
    HEADER_AGENT = 11
    HEADER_COOKIE = 12
    COOKIE_IGNORED = 13
    COOKIE_TOLD = 14


# Keys and values of `overflow`: cgroup_id, port, role, status_class; calls, request_bytes, response_bytes, duration_us.
# Of a class that no response has: calls that nobody saw, estimated.
ESTIMATED_CLASS: Final = 255
OVERFLOW_KEY = struct.Struct("<QH2B4x")
OVERFLOW_COUNT = struct.Struct("<4Q")
OverflowTotals = tuple[int, int, int, int]
OVERFLOW_SIZE: Final = 8_192


class Counter(IntEnum):
    """`enum counter`: index into the `counters` map."""

    CALLS = 0
    DROPPED_RING = 1
    DROPPED_DEPTH = 2
    EVENTS_LOST = 3
    RESYNC = 4
    ORPHANS = 5
    CONTENDED = 6
    TAIL_FAILED = 7
    STORAGE_FAILED = 8
    PORTS_FULL = 9
    RECORDS = 10
    OVERFLOW = 11
    HEADS = 12
    UNLEARNED = 13
    SCRATCH_BUSY = 14
    AMBIGUOUS = 15
    FRAMES = 16
    FRAMES_LOST = 17
    STREAMS_LOST = 18
    RAW_BYTES = 19
    RAW_REFUSED = 20
    PEERS_FULL = 21
    HELLOS = 22
    HELLOS_REFUSED = 23
    BODIES = 24
    BODY_BYTES = 25
    BODIES_REFUSED = 26
    BODIES_LOST = 27
    UPGRADES_UNTOLD = 28
    BLOCKS_REFUSED = 29
    STOPS_LOST = 30
    MATCHED = 31
    SHARES_SPENT = 32
    UNREAD = 33


COUNTERS_SIZE = 64


class ConnectionKind(IntEnum):
    """`enum conn_kind`."""

    NEW = 0
    HTTP = 1
    ENCRYPTED = 2
    HTTP2 = 3
    OTHER = 4
    UPGRADED = 5
    LOCAL_CLIENT = 6
    QUIC = 7


# struct port_key, struct peer_key and struct port_count: keys and values of `ports` and `peers`.
PORT_KEY = struct.Struct("<QHB5x")  # cgroup_id, port, kind.
PEER_KEY = struct.Struct("<Q16sH2B4x")  # cgroup_id, address, port, family, kind.
PORT_COUNT = struct.Struct("<6Q")  # connections, bytes, late, calls, lost, exchanges.
PORTS_SIZE: Final = 8_192
PEERS_SIZE: Final = 8_192

# struct unread_key and struct unread_count.
UNREAD_KEY = struct.Struct("<Q16sH2B4x")  # cgroup_id, address, port, family, reason.
UNREAD_COUNT = struct.Struct("<2Q")  # calls, bytes.
UNREAD_SIZE: Final = 4_096


ENFORCEMENT: Final = struct.Struct("<3Q16s")  # generation, alive_until_ns, marks, sip_key.
NETWORK_KEY: Final = struct.Struct("<I16s")  # prefix, address.
ADDRESS_KEY: Final = struct.Struct("<16s")
CREDENTIAL_KEY: Final = struct.Struct("<Q")
SLOT: Final = struct.Struct("<I")
VERDICT: Final = struct.Struct("<Q2I")  # expires_ns, is_scoped, is_streamed.
VERDICT_SCOPE: Final = struct.Struct("<QIH2x")  # cgroup_id, slot, port.
STOP_COUNT: Final = struct.Struct("<4Q")
STOP_EVENT: Final = struct.Struct("<3QI2H2B6x16s16s")
STOPS_BYTES: Final = 65_536
SLOTS_MAX: Final = 16_384
SCOPES_MAX: Final = 65_536


class EnforcementMark(IntFlag):
    """`enum enforcement_mark`."""

    NETWORKS = 1
    CREDENTIALS = 2
    STREAMED = 4


class StopKind(IntEnum):
    """`enum stop_kind`."""

    ADDRESS = 1
    CREDENTIAL = 2
    SPARED = 3


class StopCount(NamedTuple):
    """What was stopped in one slot, field for field as in STOP_COUNT."""

    connections: int
    bytes: int
    spared: int  # Requests of a client that is never blocked.
    lost: int  # Resets whose event found the ring full.


class StopEvent(NamedTuple):
    """One event as unpacked by STOP_EVENT, field for field."""

    time_ns: int
    connection: int
    cgroup_id: int
    slot: int
    local_port: int
    remote_port: int
    family: int
    kind: int
    local_address: bytes
    remote_address: bytes


# struct syscall_event, 88 bytes, without its data; see bpf/syscall_events.h for each field.
SYSCALL_EVENT = struct.Struct("<3Q5I2H4BI16s16s")
# struct syscall_key, 16 bytes, and struct syscall_conn, 32 bytes.
SYSCALL_KEY = struct.Struct("<QI4x")
SYSCALL_CONN = struct.Struct("<3Q2B6B")
SYSCALL_COUNTERS_SIZE = 16
SYSCALL_COUNTER_PARTS = 16
# struct account: when it and its reserve are paid for, calls, breakpoints of TLS, and calls refused; 40 bytes.
ACCOUNT = struct.Struct("<5Q")
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


Moved = tuple[SyscallEvent, bytes]  # An event and its data.


class SyscallCounter(IntEnum):
    """`enum syscall_counter`."""

    EVENTS = 0
    EVENTS_LOST = 1
    UNREADABLE = 2
    REFUSED = 3
    UNCOPIED = 4
    LOCAL_CLIENTS = 5
    PORTS_FULL = 6


LOOKS_SIZE: Final = 4_096  # Of the map `looks`.


class Binding(IntFlag):
    """`enum tls_binding`: how a session was found to be of its socket."""

    LAST = 1
    NEXT = 2
    DATA = 4
    NESTED = 8
    MANY = 16
    CLIENT = 32


class Library(IntEnum):
    """`enum tls_library`."""

    OPENSSL = 1
    GNUTLS = 2
    GO = 3
    BORING = 4
    RUSTLS = 5
    JAVA = 6


class TlsCounter(IntEnum):
    """`enum tls_counter`, behind `SyscallCounter` in one array."""

    SESSIONS = 7
    UNBOUND = 8
    MANY = 9
