"""Aggregation the plain way, one call after the other, to hold the columns to."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sensor.aggregate.rows import RowFlag
from sensor.core.calls import BodyFacts, BodyFlag, CallRecord
from tests.sensor.rows import Objects, Row, find_bucket, make_objects, unite

Key = tuple[object, ...]
WINDOW_NS = 10 * 1_000_000_000


@dataclass
class Figures:
    """What a row says besides its key; comparable."""

    calls: int = 0
    records: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    time_to_first_byte_sum_us: int = 0
    duration_sum_us: int = 0
    duration_max_us: int = 0
    duration: Counter[int] = field(default_factory=Counter)
    response_size: Counter[int] = field(default_factory=Counter)
    objects: Objects = field(default_factory=Objects)
    object_numeric_calls: int = 0
    object_monotonic_steps: int = 0
    ended_later: int = 0
    streams: int = 0
    stream_duration_sum_us: int = 0
    counted: int = 0
    request_messages: int = 0
    response_messages: int = 0
    returned: int = 0
    returned_measured: int = 0
    requests_read: int = 0
    responses_read: int = 0
    data: Counter[int] = field(default_factory=Counter)
    flags: RowFlag = RowFlag.NONE


def tell_key(row: Row) -> Key:
    """Window and key of a row."""
    return (
        row.window_start_unix_seconds,
        row.route.route_id,
        *row.actor,
        row.principal_kind,
        row.authentication,
        row.status_code,
        row.role,
        row.hop,
        row.protocol_version,
        row.kind,
        row.rpc_status,
    )


def add_up(rows: Iterable[Row]) -> dict[Key, Figures]:
    """Rows of one key added up; the flags that say how a row left do not count."""
    added: defaultdict[Key, Figures] = defaultdict(Figures)
    for row in rows:
        key = tell_key(row)
        one = added[key]
        added[key] = Figures(
            calls=one.calls + row.calls,
            records=one.records + row.records,
            request_bytes=one.request_bytes + row.request_bytes,
            response_bytes=one.response_bytes + row.response_bytes,
            time_to_first_byte_sum_us=one.time_to_first_byte_sum_us + row.time_to_first_byte_sum_us,
            duration_sum_us=one.duration_sum_us + row.duration_sum_us,
            duration_max_us=max(one.duration_max_us, row.duration_max_us),
            duration=one.duration + row.duration,
            response_size=one.response_size + row.response_size,
            objects=unite(one.objects, row.objects),
            object_numeric_calls=one.object_numeric_calls + row.object_numeric_calls,
            object_monotonic_steps=one.object_monotonic_steps + row.object_monotonic_steps,
            ended_later=one.ended_later + row.ended_later,
            streams=one.streams + row.streams,
            stream_duration_sum_us=one.stream_duration_sum_us + row.stream_duration_sum_us,
            counted=one.counted + row.counted,
            request_messages=one.request_messages + row.request_messages,
            response_messages=one.response_messages + row.response_messages,
            returned=one.returned + row.returned,
            returned_measured=one.returned_measured + row.returned_measured,
            requests_read=one.requests_read + row.requests_read,
            responses_read=one.responses_read + row.responses_read,
            data=one.data + row.data,
            flags=one.flags | row.flags & ~(RowFlag.EARLY | RowFlag.OBJECTS_SKETCHED),
        )
    return dict(added)


def sum_records(records: Iterable[CallRecord]) -> dict[Key, Figures]:
    """The figures of every window and key."""
    added: defaultdict[Key, Figures] = defaultdict(Figures)
    last: dict[tuple[int, object], int] = {}
    for record in sorted(records, key=lambda record: record.figures.time_unix_ns):
        key = _name(record)
        one = added[key]
        one.records += 1
        one.calls += record.figures.calls
        one.request_bytes += record.figures.request_bytes
        one.response_bytes += record.figures.response_bytes
        if record.figures.calls:
            one.time_to_first_byte_sum_us += record.figures.time_to_first_byte_ns // 1000
            if record.target.object_hash:
                one.objects = unite(one.objects, make_objects([record.target.object_hash]))
                _count_number(one, record, last)
        if record.figures.is_final and record.figures.status_code:
            _count_end(one, record)
        if (
            record.figures.is_final
            and record.protocol.request_messages is not None
            and record.protocol.response_messages is not None
        ):
            one.counted += 1
            one.request_messages += record.protocol.request_messages
            one.response_messages += record.protocol.response_messages
        if record.contents.body is not None:
            _count_body(one, record.contents.body)
        one.flags |= _tell_flags(record)
    return dict(added)


def _count_body(one: Figures, body: BodyFacts) -> None:
    one.returned += body.records
    one.returned_measured += body.records * (BodyFlag.MEASURED in body.flags)
    one.requests_read += BodyFlag.REQUEST_READ in body.flags
    one.responses_read += BodyFlag.RESPONSE_READ in body.flags
    one.data.update(body.data)


def _count_end(one: Figures, record: CallRecord) -> None:
    duration_us = record.figures.duration_ns // 1000
    one.response_size[find_bucket(record.figures.response_bytes)] += 1
    one.ended_later += not record.figures.calls
    if record.protocol.is_stream:
        one.streams += 1
        one.stream_duration_sum_us += duration_us
    else:
        one.duration_sum_us += duration_us
        one.duration_max_us = max(one.duration_max_us, duration_us)
        one.duration[find_bucket(duration_us)] += 1


def without_steps(figures: dict[Key, Figures]) -> dict[Key, Figures]:
    """The same, but for what depends on the order in which calls came."""
    return {key: replace(one, object_monotonic_steps=0) for key, one in figures.items()}


def _count_number(one: Figures, record: CallRecord, last: dict[tuple[int, object], int]) -> None:
    number = record.target.object_number
    if number is None:
        return
    one.object_numeric_calls += record.figures.calls
    pair = (record.target.route.route_id, _find_consumer(record))
    if pair in last and abs(last[pair] - number) == 1:
        one.object_monotonic_steps += record.figures.calls
    last[pair] = number


def _find_consumer(record: CallRecord) -> object:
    credentials, ends = record.credentials, record.ends
    known = {
        "principal": credentials.principal,
        "credential": credentials.credential,
        "client_address": ends.client_address,
        "client_workload": ends.client_workload,
    }
    return next(((name, value) for name, value in known.items() if value), None)


def _name(record: CallRecord) -> Key:
    return (
        record.figures.time_unix_ns // WINDOW_NS * 10,
        record.target.route.route_id,
        record.credentials.principal,
        record.credentials.credential,
        record.ends.client_address,
        record.ends.client_workload,
        record.credentials.principal_kind,
        record.credentials.authentication,
        record.figures.status_code,
        record.ends.role,
        record.ends.hop,
        record.ends.protocol_version,
        record.protocol.kind,
        record.protocol.rpc_status,
    )


def _tell_flags(record: CallRecord) -> RowFlag:
    flags = RowFlag.LOSSY if record.figures.is_lossy else RowFlag.NONE
    if record.credentials.is_truncated:
        flags |= RowFlag.CREDENTIAL_TRUNCATED
    if record.figures.is_ambiguous:
        flags |= RowFlag.AMBIGUOUS
    if record.figures.is_aborted and not record.figures.status_code:
        flags |= RowFlag.ABORTED
    if record.protocol.has_unknown_fields:
        flags |= RowFlag.UNKNOWN_FIELDS
    if record.protocol.is_inferred:
        flags |= RowFlag.INFERRED
    if (
        record.figures.is_final
        and record.protocol.request_messages is not None
        and record.protocol.response_messages is not None
    ):
        flags |= RowFlag.CLIENT_STREAMING if record.protocol.request_messages > 1 else RowFlag.NONE
        flags |= RowFlag.SERVER_STREAMING if record.protocol.response_messages > 1 else RowFlag.NONE
    return flags
