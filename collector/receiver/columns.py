"""Converts and checks the columns of a batch's rows: every length, index and bound. It also has the bounds of all
messages.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, Final

import numpy as np
from apidae.v1 import data_pb2
from numpy.typing import NDArray

from collector.core.rows import U32, U64, Ragged, RowBatch

MESSAGE_LIMIT_BYTES: Final = 16 * 1024 * 1024
TEXT_LIMIT_BYTES: Final = 1_024  # One entry: hosts, media types, segments and addresses are far shorter.
NAME_LIMIT_BYTES: Final = 253  # Node, cluster, workload: a DNS name's limit.
# Of one row: sums over a year of rows then stay far below 2**64.
CALLS_LIMIT: Final = 2**40


ROW_LIMIT: Final = 10_000
OBJECT_LIMIT: Final = 256  # Hashes a row, exact set or KMV.
BUCKET_LIMIT: Final = 512  # 8 * 64: scale 3 over 64 bits.
AGE_LIMIT_SECONDS: Final = 7 * 86_400
FUTURE_LIMIT_SECONDS: Final = 86_400
WINDOW_LIMIT_SECONDS: Final = 3_600
STATUS_CODE_LIMIT: Final = 1_000
RPC_STATUS_LIMIT: Final = 256  # Codes past those of google.rpc are kept, as other unknown values are.
SUM_LIMIT: Final = 2**56
# Kinds of data in one place of a call (proto DataPlace), and where responses began among the older codes.
PLACE_SIZE: Final = 64
OLD_RESPONSE_SHIFT: Final = 32

_PER_ROW = (
    "route",
    "window_offset_seconds",
    "window_length_seconds",
    "principal",
    "principal_kind",
    "credential",
    "client_address",
    "client_workload",
    "authentication",
    "status_code",
    "role",
    "hop",
    "protocol_version",
    "request_content_type",
    "response_content_type",
    "flags",
    "calls",
    "request_bytes",
    "response_bytes",
    "time_to_first_byte_sum_us",
    "duration_sum_us",
    "duration_max_us",
    "duration_len",
    "response_size_len",
    "objects_len",
    "objects_count",
    "object_numeric_calls",
    "object_monotonic_steps",
    "object_numeric_span",
)
# Left out where they would hold nothing but zeros.
_RARE_PER_ROW = (
    *("kind", "rpc_status", "ended_later", "streams", "stream_duration_sum_us", "counted_messages_calls"),
    *("request_messages", "response_messages", "records_returned", "records_measured"),
    *("request_bodies_read", "response_bodies_read", "data_len", "found_len"),
    *("attacks", "attacks_confirmed", "payloads_len", "client_software"),
)
_OPTIONAL_PER_ROW = ("records_basis", "sampled_of", *_RARE_PER_ROW)
_STRING_INDEXES = (
    "client_address",
    "client_workload",
    "protocol_version",
    "request_content_type",
    "response_content_type",
)
# Column and the bound its values stay below. A span is of two integers below 2**63.
_BOUNDS = (
    ("status_code", STATUS_CODE_LIMIT),
    ("calls", CALLS_LIMIT),
    ("objects_count", CALLS_LIMIT),
    ("object_numeric_calls", CALLS_LIMIT),
    ("object_monotonic_steps", CALLS_LIMIT),
    ("request_bytes", SUM_LIMIT),
    ("response_bytes", SUM_LIMIT),
    ("time_to_first_byte_sum_us", SUM_LIMIT),
    ("duration_sum_us", SUM_LIMIT),
    ("duration_max_us", SUM_LIMIT),
    ("object_numeric_span", 2**63),
    ("rpc_status", RPC_STATUS_LIMIT),
    ("ended_later", CALLS_LIMIT),
    ("streams", CALLS_LIMIT),
    ("stream_duration_sum_us", SUM_LIMIT),
    ("counted_messages_calls", CALLS_LIMIT),
    ("request_messages", SUM_LIMIT),
    ("response_messages", SUM_LIMIT),
    ("records_returned", SUM_LIMIT),
    ("records_measured", SUM_LIMIT),
    ("request_bodies_read", CALLS_LIMIT),
    ("response_bodies_read", CALLS_LIMIT),
    ("attacks", CALLS_LIMIT),
    ("attacks_confirmed", CALLS_LIMIT),
)
_NAMES_BY_BOUND = {bound: tuple(name for name, own in _BOUNDS if own == bound) for _, bound in _BOUNDS}
_WIDE = frozenset(
    (
        "principal",
        "credential",
        "calls",
        "request_bytes",
        "response_bytes",
        "time_to_first_byte_sum_us",
        "duration_sum_us",
        "duration_max_us",
        "objects_count",
        "object_numeric_calls",
        "object_monotonic_steps",
        "object_numeric_span",
        *(
            name
            for name in _RARE_PER_ROW
            if name not in ("kind", "rpc_status", "data_len", "found_len", "payloads_len", "client_software")
        ),
    )
)
_RARE_TYPES = {name: np.uint64 if name in _WIDE else np.uint32 for name in _RARE_PER_ROW}
_COPIED = frozenset((*_PER_ROW, *_RARE_PER_ROW)) & frozenset(RowBatch.__dataclass_fields__)


class RefusalError(Exception):
    """Carries a reason from a check to `convert_batch`; never leaves this folder."""


def convert_columns(
    rows: data_pb2.Rows, *, base_unix_seconds: int, routes: int, strings: int, now: int
) -> dict[str, Any]:
    """The fields of a RowBatch that have an entry a row, and `route`; raises RefusalError. `routes` and `strings`: how
    many entries the dictionaries have.
    """
    n = len(rows.route)
    _check_lengths(rows, n)
    columns = {name: copy_column(rows, name) for name in _PER_ROW}
    rare = {name: copy_column(rows, name) for name in _RARE_PER_ROW if getattr(rows, name)}
    _check_below("route", columns["route"], routes)
    _check_all_below(_STRING_INDEXES, columns, strings)
    _check_all_below(("client_software",), rare, strings)
    for bound, names in _NAMES_BY_BOUND.items():
        _check_all_below(names, columns, bound)
        _check_all_below(names, rare, bound)
    columns |= {name: np.zeros(n, dtype) for name, dtype in _RARE_TYPES.items()} | rare
    start = _convert_windows(base_unix_seconds, columns, now)
    return {
        **{name: columns[name] for name in _COPIED},
        **_convert_lists(rows, columns, n),
        "window_start": start,
        "window_length": columns["window_length_seconds"],
    }


def _convert_lists(rows: data_pb2.Rows, columns: dict[str, NDArray[Any]], n: int) -> dict[str, Ragged]:
    duration = _convert_ragged(rows, "duration", columns["duration_len"], "duration_bucket", "duration_count")
    response_size = _convert_ragged(
        rows, "response_size", columns["response_size_len"], "response_size_bucket", "response_size_count"
    )
    data = _convert_ragged(rows, "found", columns["found_len"], "found_code", "found_count")
    if not len(data.values):
        data = _move_codes(_convert_ragged(rows, "data", columns["data_len"], "data_kind", "data_count"))
    objects = _convert_ragged(rows, "objects", columns["objects_len"], "objects_hash", "")
    payloads = _convert_ragged(rows, "payloads", columns["payloads_len"], "payloads_hash", "")
    for name in ("objects_len", "payloads_len"):
        if n and int(columns[name].max()) > OBJECT_LIMIT:
            raise RefusalError(f"{name} has {int(columns[name].max())}; the limit is {OBJECT_LIMIT} hashes a row.")
    return {
        "duration": duration,
        "response_size": response_size,
        "data": data,
        "objects": objects,
        "payloads": payloads,
    }


def _check_lengths(rows: data_pb2.Rows, n: int) -> None:
    if n > ROW_LIMIT:
        raise RefusalError(f"The batch has {n} rows; the limit is {ROW_LIMIT}.")
    for name in _PER_ROW:
        length = len(getattr(rows, name))
        if length != n:
            raise RefusalError(f"rows.{name} has {length} elements; rows.route has {n}.")
    for name in _OPTIONAL_PER_ROW:
        length = len(getattr(rows, name))
        if length not in (0, n):
            raise RefusalError(f"rows.{name} has {length} elements; it needs {n} or none.")


def copy_column(rows: data_pb2.Rows, name: str) -> NDArray[Any]:
    """A column as its own array; an empty field gives an empty array of the right type."""
    return np.array(getattr(rows, name), dtype=np.uint64 if name in _WIDE else np.uint32)


def _check_all_below(names: Sequence[str], columns: Mapping[str, NDArray[Any]], bound: int) -> None:
    """Those of `names` that there are; looks at each only where their union, which is no less than any, is too high."""
    present = [columns[name] for name in names if name in columns]
    if not present or not len(present[0]) or int(reduce(np.bitwise_or, present).max()) < bound:
        return
    for name in names:
        if name in columns:
            _check_below(name, columns[name], bound)


def _check_below(name: str, column: NDArray[Any], bound: int) -> None:
    if len(column) and int(column.max()) >= bound:
        row = int(column.argmax(axis=0))
        raise RefusalError(f"rows.{name}[{row}] is {int(column[row])}; it must stay below {bound}.")


def _convert_windows(base: int, columns: dict[str, NDArray[Any]], now: int) -> U32:
    """Starts in unix seconds. A sensor's clock may be wrong, so what lies too far from ours is refused rather than
    stored.
    """
    offset, length = columns["window_offset_seconds"], columns["window_length_seconds"]
    if not len(offset):
        return np.zeros(0, dtype=np.uint32)
    if not 0 < int(length.min()) <= int(length.max()) <= WINDOW_LIMIT_SECONDS:
        raise RefusalError(
            f"rows.window_length_seconds has {int(length.min())} to {int(length.max())}; "
            f"it needs 1 to {WINDOW_LIMIT_SECONDS}."
        )
    first = base + int(offset.min())
    last = base + int((offset.astype(np.int64) + length).max())
    if first < now - AGE_LIMIT_SECONDS:
        raise RefusalError(f"The oldest window begins {now - first} s ago; the limit is {AGE_LIMIT_SECONDS}.")
    if last > now + FUTURE_LIMIT_SECONDS:
        raise RefusalError(f"The newest window ends {last - now} s in the future; the limit is {FUTURE_LIMIT_SECONDS}.")
    return (offset.astype(np.int64) + base).astype(np.uint32)


def _move_codes(data: Ragged) -> Ragged:
    """What a sensor before 0.2 found in bodies, as codes of today: place * 64 + kind. The order stays."""
    is_response = data.values >= OLD_RESPONSE_SHIFT
    places = np.where(is_response, np.uint64(2 * PLACE_SIZE - OLD_RESPONSE_SHIFT), np.uint64(PLACE_SIZE))
    values = data.values + places
    _check_below("data_kind", data.values, 2 * OLD_RESPONSE_SHIFT)
    return Ragged(offsets=data.offsets, values=values, counts=data.counts)


def _convert_ragged(rows: data_pb2.Rows, name: str, lengths: U32, value_field: str, count_field: str) -> Ragged:
    """One CSR triple. Values ascend strictly within a row; a histogram's buckets exist and its counts are bounded."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    if not (getattr(rows, value_field) or (count_field and getattr(rows, count_field)) or lengths.any()):
        return Ragged(offsets=offsets, values=np.zeros(0, np.uint64), counts=np.zeros(0, np.uint64))
    values: U64 = np.array(getattr(rows, value_field), dtype=np.uint64)
    counts: U64 = np.array(getattr(rows, count_field) if count_field else (), dtype=np.uint64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    if int(offsets[-1]) != len(values):
        raise RefusalError(
            f"rows.{name}_len adds up to {int(offsets[-1])}; rows.{value_field} has {len(values)} elements."
        )
    if count_field and len(counts) != len(values):
        raise RefusalError(f"rows.{count_field} has {len(counts)} elements; rows.{value_field} has {len(values)}.")
    if len(values) > 1:
        is_ascending = values[1:] > values[:-1]
        starts = offsets[1:-1]
        # A row's first value follows another row's last, and need not be greater.
        is_ascending[starts[(starts > 0) & (starts < len(values))] - 1] = True
        if not is_ascending.all():
            raise RefusalError(
                f"rows.{value_field} does not ascend within a row, at element {int(is_ascending.argmin(axis=0)) + 1}."
            )
    if count_field:
        _check_below(value_field, values, BUCKET_LIMIT)
        _check_below(count_field, counts, CALLS_LIMIT)
    return Ragged(offsets=offsets, values=values, counts=counts)
