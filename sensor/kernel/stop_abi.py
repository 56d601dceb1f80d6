"""Twins of bpf/verdicts.h: what the kernel is told of blocked clients, and what it tells of those it stopped.
tests/bpf/test_abi.py holds the two together."""

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

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
