"""Wire to domain: a Batch becomes a RowBatch, every index, length and bound checked, or a Refusal that says why not.

Nothing here raises on wire bytes. Columns are copied by `np.array(field)`, which protobuf >= 7.34 answers through
`__array__` at 0.13 ns an element; older versions take 52 ns, as slow as messages by row, so `check_protobuf` refuses
them at start. Unknown enum values, bits and fields pass through (a newer sensor) and are counted by `count_unknown`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from apidae.v1 import data_pb2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from collector.rows import U32, U64, Ragged, Route, RowBatch, Segment, Service

ROW_LIMIT: Final = 10_000
MESSAGE_LIMIT_BYTES: Final = 16 * 1024 * 1024
PARTITION_COUNT: Final = 64
ROUTE_LIMIT: Final = 10_000
SEGMENT_LIMIT: Final = 64  # A path of 8 KiB could have more; the sensor folds the rest.
STRING_LIMIT: Final = 100_000  # Entries of the dictionary.
TEXT_LIMIT_BYTES: Final = 1_024  # One entry: hosts, media types, segments and addresses are far shorter.
NAME_LIMIT_BYTES: Final = 253  # Node, cluster, workload: a DNS name's limit.
OBJECT_LIMIT: Final = 256  # Hashes a row, exact set or KMV.
BUCKET_LIMIT: Final = 512  # 8 * 64: scale 3 over 64 bits.
AGE_LIMIT_SECONDS: Final = 7 * 86_400
FUTURE_LIMIT_SECONDS: Final = 86_400
WINDOW_LIMIT_SECONDS: Final = 3_600
STATUS_CODE_LIMIT: Final = 1_000
RPC_STATUS_LIMIT: Final = 256  # Codes past those of google.rpc are kept, as other unknown values are.
# Of one row: sums over a year of rows then stay far below 2**64.
CALLS_LIMIT: Final = 2**40
# Kinds of data in one place of a call (proto DataPlace), and where responses began among the older codes.
PLACE_SIZE: Final = 64
OLD_RESPONSE_SHIFT: Final = 32
SUM_LIMIT: Final = 2**56

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
    *("attacks", "attacks_confirmed", "payloads_len"),
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
            if name not in ("kind", "rpc_status", "data_len", "found_len", "payloads_len")
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a batch can never be accepted: one sentence that names the field, the value and the bound."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnknownCounts:
    """What a newer sensor sent that this collector has no name for."""

    fields: int
    values: int


class _RefusalError(Exception):
    """Carries a reason from a check to `convert_batch`; never leaves this module."""


def check_protobuf() -> None:
    """Raise RuntimeError when the protobuf runtime cannot hand out columns as arrays."""
    if not hasattr(data_pb2.Rows().calls, "__array__"):
        from google.protobuf import __version__ as version

        raise RuntimeError(f"protobuf {version} cannot give arrays; install protobuf>=7.34 for the collector.")


def convert_bytes(payload: bytes, now_unix_seconds: float) -> RowBatch | Refusal:
    """A serialised Batch, as it is kept in the write-ahead log; see `convert_batch`."""
    if len(payload) > MESSAGE_LIMIT_BYTES:
        return Refusal(f"The batch has {len(payload)} bytes; the limit is {MESSAGE_LIMIT_BYTES}.")
    try:
        batch = data_pb2.Batch.FromString(payload)
    except DecodeError:
        return Refusal("The batch is not a serialised apidae.v1.Batch.")
    return convert_batch(batch, now_unix_seconds)


def convert_batch(batch: data_pb2.Batch, now_unix_seconds: float) -> RowBatch | Refusal:
    """Check everything, then convert. About 0.3 us a row; never raises on any Batch."""
    try:
        return _convert(batch, int(now_unix_seconds))
    except _RefusalError as refusal:
        return Refusal(str(refusal))


def count_unknown(batch: data_pb2.Batch) -> UnknownCounts:
    """Unknown fields of the batch and its rows, and enum values of its rows that have no name here."""
    fields = len(UnknownFieldSet(batch)) + len(UnknownFieldSet(batch.rows))
    values = 0
    for column, enum in (
        ("role", data_pb2.Role),
        ("hop", data_pb2.Hop),
        ("principal_kind", data_pb2.PrincipalKind),
        ("kind", data_pb2.CallKind),
    ):
        values += int(np.count_nonzero(_copy_column(batch.rows, column) > max(enum.values())))
    return UnknownCounts(fields=fields, values=values)


def _convert(batch: data_pb2.Batch, now: int) -> RowBatch:
    _check_head(batch)
    strings = _convert_strings(batch.strings)
    services = _convert_services(batch.services)
    routes = _convert_routes(batch.routes, services, strings)
    rows = batch.rows
    n = len(rows.route)
    _check_lengths(rows, n)
    columns = {name: _copy_column(rows, name) for name in _PER_ROW}
    columns |= {name: _copy_rare(rows, name, n) for name in _RARE_PER_ROW}
    _check_below("route", columns["route"], len(routes))
    for name in _STRING_INDEXES:
        _check_below(name, columns[name], len(strings))
    for name, bound in _BOUNDS:
        _check_below(name, columns[name], bound)
    start = _convert_windows(batch.base_time_unix_seconds, columns, now)
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
            raise _RefusalError(f"{name} has {int(columns[name].max())}; the limit is {OBJECT_LIMIT} hashes a row.")
    route_ids = np.array([route.route_id for route in routes], dtype=np.uint64)
    return RowBatch(
        node=batch.node,
        boot_id=batch.boot_id,
        sequence=batch.sequence,
        partition=batch.partition,
        key_id=batch.key_id,
        policy_epoch=batch.policy_epoch,
        clock_segment=batch.clock_segment,
        lost_calls=batch.lost_calls,
        seen_calls=batch.seen_calls,
        strings=strings,
        routes=routes,
        route_id=route_ids[columns["route"]],
        window_start=start,
        window_length=columns["window_length_seconds"],
        duration=duration,
        response_size=response_size,
        objects=objects,
        data=data,
        payloads=payloads,
        **{name: columns[name] for name in (*_PER_ROW, *_RARE_PER_ROW) if name in _COPIED},
    )


_COPIED = frozenset((*_PER_ROW, *_RARE_PER_ROW)) & frozenset(RowBatch.__dataclass_fields__)


def _check_head(batch: data_pb2.Batch) -> None:
    for name in ("node", "boot_id"):
        text = getattr(batch, name)
        if not text or len(text) > NAME_LIMIT_BYTES:
            raise _RefusalError(f"{name} has {len(text)} characters; it needs 1 to {NAME_LIMIT_BYTES}.")
    if batch.sequence < 1:
        raise _RefusalError("sequence is 0; sequences start at 1.")
    if batch.partition >= PARTITION_COUNT:
        raise _RefusalError(f"partition is {batch.partition}; there are {PARTITION_COUNT}.")
    for name in ("lost_calls", "seen_calls"):
        if getattr(batch, name) >= CALLS_LIMIT:
            raise _RefusalError(f"{name} is {getattr(batch, name)}; the limit is {CALLS_LIMIT}.")


def _convert_strings(strings: Sequence[str]) -> tuple[str, ...]:
    if len(strings) > STRING_LIMIT:
        raise _RefusalError(f"strings has {len(strings)} entries; the limit is {STRING_LIMIT}.")
    converted = tuple(strings)
    if converted and converted[0]:
        raise _RefusalError("strings[0] is not empty; index 0 is always the empty string.")
    for index, text in enumerate(converted):
        # Characters first: encoding every entry would cost more than the rest of the conversion.
        if len(text) * 4 > TEXT_LIMIT_BYTES and len(text.encode()) > TEXT_LIMIT_BYTES:
            raise _RefusalError(f"strings[{index}] has {len(text.encode())} bytes; the limit is {TEXT_LIMIT_BYTES}.")
    return converted


def _convert_services(services: Sequence[data_pb2.Service]) -> list[Service]:
    if len(services) > ROUTE_LIMIT:
        raise _RefusalError(f"services has {len(services)} entries; the limit is {ROUTE_LIMIT}.")
    return [convert_service(service) for service in services]


def convert_service(service: data_pb2.Service) -> Service:
    """One service; names are cut at NAME_LIMIT_BYTES characters and the port at 65,535, for coverage takes them as
    they come.
    """
    return Service(
        cluster=service.cluster[:NAME_LIMIT_BYTES],
        namespace=service.namespace[:NAME_LIMIT_BYTES],
        workload=service.workload[:NAME_LIMIT_BYTES],
        workload_kind=service.workload_kind,
        host_name=service.host_name[:NAME_LIMIT_BYTES],
        port=min(service.port, 65_535),
    )


def _convert_routes(
    routes: Sequence[data_pb2.Route], services: list[Service], strings: tuple[str, ...]
) -> tuple[Route, ...]:
    if len(routes) > ROUTE_LIMIT:
        raise _RefusalError(f"routes has {len(routes)} entries; the limit is {ROUTE_LIMIT}.")
    converted = []
    for index, route in enumerate(routes):
        if route.route_id == 0:
            raise _RefusalError(f"routes[{index}].route_id is 0.")
        if route.service >= len(services):
            raise _RefusalError(f"routes[{index}].service is {route.service}; there are {len(services)} services.")
        if len(route.segments) > SEGMENT_LIMIT:
            raise _RefusalError(f"routes[{index}] has {len(route.segments)} segments; the limit is {SEGMENT_LIMIT}.")
        texts = max(route.host, route.method, max((segment.text for segment in route.segments), default=0))
        if texts >= len(strings):
            raise _RefusalError(f"routes[{index}] points at string {texts}; there are {len(strings)} strings.")
        converted.append(
            Route(
                route_id=route.route_id,
                service=services[route.service],
                host=strings[route.host],
                method=strings[route.method],
                segments=tuple(
                    Segment(segment.kind, strings[segment.text], segment.hash, segment.length)
                    for segment in route.segments
                ),
                has_trailing_slash=route.has_trailing_slash,
            )
        )
    return tuple(converted)


def _check_lengths(rows: data_pb2.Rows, n: int) -> None:
    if n > ROW_LIMIT:
        raise _RefusalError(f"The batch has {n} rows; the limit is {ROW_LIMIT}.")
    for name in _PER_ROW:
        length = len(getattr(rows, name))
        if length != n:
            raise _RefusalError(f"rows.{name} has {length} elements; rows.route has {n}.")
    for name in _OPTIONAL_PER_ROW:
        length = len(getattr(rows, name))
        if length not in (0, n):
            raise _RefusalError(f"rows.{name} has {length} elements; it needs {n} or none.")


def _copy_column(rows: data_pb2.Rows, name: str) -> NDArray[Any]:
    """A column as its own array; an empty field gives an empty array of the right type."""
    return np.array(getattr(rows, name), dtype=np.uint64 if name in _WIDE else np.uint32)


def _copy_rare(rows: data_pb2.Rows, name: str, n: int) -> NDArray[Any]:
    """A column that may have been left out."""
    column = _copy_column(rows, name)
    return column if len(column) else np.zeros(n, column.dtype)


def _check_below(name: str, column: NDArray[Any], bound: int) -> None:
    if len(column) and int(column.max()) >= bound:
        row = int(column.argmax(axis=0))
        raise _RefusalError(f"rows.{name}[{row}] is {int(column[row])}; it must stay below {bound}.")


def _convert_windows(base: int, columns: dict[str, NDArray[Any]], now: int) -> U32:
    """Starts in unix seconds. A sensor's clock may be wrong, so what lies too far from ours is refused rather than
    stored.
    """
    offset, length = columns["window_offset_seconds"], columns["window_length_seconds"]
    if not len(offset):
        return np.zeros(0, dtype=np.uint32)
    if not 0 < int(length.min()) <= int(length.max()) <= WINDOW_LIMIT_SECONDS:
        raise _RefusalError(
            f"rows.window_length_seconds has {int(length.min())} to {int(length.max())}; "
            f"it needs 1 to {WINDOW_LIMIT_SECONDS}."
        )
    first = base + int(offset.min())
    last = base + int((offset.astype(np.int64) + length).max())
    if first < now - AGE_LIMIT_SECONDS:
        raise _RefusalError(f"The oldest window begins {now - first} s ago; the limit is {AGE_LIMIT_SECONDS}.")
    if last > now + FUTURE_LIMIT_SECONDS:
        raise _RefusalError(
            f"The newest window ends {last - now} s in the future; the limit is {FUTURE_LIMIT_SECONDS}."
        )
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
    values: U64 = np.array(getattr(rows, value_field), dtype=np.uint64)
    counts: U64 = np.array(getattr(rows, count_field) if count_field else (), dtype=np.uint64)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    if int(offsets[-1]) != len(values):
        raise _RefusalError(
            f"rows.{name}_len adds up to {int(offsets[-1])}; rows.{value_field} has {len(values)} elements."
        )
    if count_field and len(counts) != len(values):
        raise _RefusalError(f"rows.{count_field} has {len(counts)} elements; rows.{value_field} has {len(values)}.")
    if len(values) > 1:
        is_ascending = values[1:] > values[:-1]
        starts = offsets[1:-1]
        # A row's first value follows another row's last, and need not be greater.
        is_ascending[starts[(starts > 0) & (starts < len(values))] - 1] = True
        if not is_ascending.all():
            raise _RefusalError(
                f"rows.{value_field} does not ascend within a row, at element {int(is_ascending.argmin(axis=0)) + 1}."
            )
    if count_field:
        _check_below(value_field, values, BUCKET_LIMIT)
        _check_below(count_field, counts, CALLS_LIMIT)
    return Ragged(offsets=offsets, values=values, counts=counts)
