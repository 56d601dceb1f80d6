"""Twins of bpf/tls_events.h. tests/bpf/test_tls_abi.py holds the two together."""

from enum import IntEnum, IntFlag
from typing import Final

LOOKS_SIZE: Final = 4_096  # Of the map `looks`.


class Binding(IntFlag):
    """`enum tls_binding`: how a session was found to be of its socket."""

    LAST = 1
    NEXT = 2
    DATA = 4
    NESTED = 8
    MANY = 16


class Library(IntEnum):
    """`enum tls_library`."""

    OPENSSL = 1
    GNUTLS = 2
    GO = 3
    BORING = 4
    RUSTLS = 5


class TlsCounter(IntEnum):
    """`enum tls_counter`, behind `SyscallCounter` in one array."""

    SESSIONS = 7
    UNBOUND = 8
    MANY = 9
