"""Calls as columns: one row of `CALL` for each call, or for the closing part of a call already counted (`calls` = 0).

Recognition fills them from the kernel's records and the slow path from `CallRecord`s; aggregation sums them. `route`,
`actor` and `response_type` are indexes of `sensor.facts.Facts`. 104 bytes a row.
"""

from enum import IntFlag
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.calls import CallRecord

# `object` where the path has no parameter, and `number` where the object is no integer.
NO_OBJECT: Final = 0
NO_NUMBER: Final = -1
# A status code stays below: three digits.
STATUS_CODE_LIMIT: Final = 1_000
# `rpc_status` stays below: google.rpc.Code and one more, 0 where there is none.
RPC_STATUS_LIMIT: Final = 18


class CallFlag(IntFlag):
    """Bits of `flags`."""

    NONE = 0
    LOSSY = 1  # Bytes were lost or the position in the stream was guessed.
    ABORTED = 2  # Ended before its response was complete.
    FINAL = 4  # Sizes and duration are complete.
    AMBIGUOUS = 8  # Programs may disagree where the request ends.
    UNKNOWN_FIELDS = 16  # Parts of a head could not be read, a credential perhaps among them.
    INFERRED = 32  # Path, method or status follow from other evidence than their own bytes.
    STREAM = 64  # Its duration is no latency.
    COUNTED = 128  # The messages are known.
    ESTIMATED = 256  # Nobody saw it: it follows from what else was seen.
    ENCRYPTED = 512  # What TLS carried.


CALL: Final = np.dtype(
    [
        ("time_unix_ns", "<i8"),  # First byte of the request.
        ("request_bytes", "<u8"),  # Heads and bodies as on the wire.
        ("response_bytes", "<u8"),
        ("duration_us", "<u8"),  # First request byte to last response byte; 0 while not FINAL.
        ("object", "<u8"),  # Keyed hash of the path's parameter values.
        ("number", "<i8"),  # The last parameter where it is an integer below 2**63.
        ("route", "<u4"),
        ("actor", "<u4"),
        ("ttfb_us", "<u4"),  # First request byte to first response byte.
        ("status", "<u2"),  # 0 where no response head came; STATUS_NOT_READ.
        ("response_type", "<u2"),
        ("role", "u1"),  # sensor.calls.Role.
        ("hop", "u1"),  # sensor.calls.Hop.
        ("flags", "<u2"),
        ("rpc_status", "u1"),  # google.rpc.Code and one more; 0 where there is none.
        ("body", "u1"),  # sensor.calls.BodyFlag.
        ("calls", "<u4"),
        ("request_messages", "<u4"),  # Of RPCs and WebSockets; 0 unless COUNTED.
        ("response_messages", "<u4"),
        ("records", "<u4"),  # Returned, as far as `body` says that they are known.
        ("data", "<u4"),  # What was found where: a number of `sensor.facts.Facts.data`.
        ("payload", "<u8"),  # Keyed hash of an attack's payload, with what it is; 0: none was seen.
    ],
    align=True,
)

Calls = NDArray[np.void]


def make_calls(count: int) -> Calls:
    """`count` calls whose every column is 0."""
    return np.zeros(count, CALL)


def tell_flags(record: CallRecord) -> int:
    """CallFlags of a call."""
    is_counted = record.is_final and record.request_messages is not None and record.response_messages is not None
    return (
        record.is_lossy * CallFlag.LOSSY.value
        | record.is_aborted * CallFlag.ABORTED.value
        | record.is_final * CallFlag.FINAL.value
        | record.has_unknown_fields * CallFlag.UNKNOWN_FIELDS.value
        | record.is_inferred * CallFlag.INFERRED.value
        | record.is_ambiguous * CallFlag.AMBIGUOUS.value
        | record.is_stream * CallFlag.STREAM.value
        | record.is_encrypted * CallFlag.ENCRYPTED.value
        | is_counted * CallFlag.COUNTED.value
    )
