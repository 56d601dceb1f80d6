"""Window rows as they travel: read back from the bytes, they are the same rows."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

import msgspec
import pytest
from apidae.v1 import data_pb2
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.aggregate.aggregator import Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.core.calls import (
    AuthenticationKind,
    CallRecord,
    Hop,
    PrincipalKind,
    Role,
    Segment,
    SegmentKind,
    WorkloadKind,
)
from sensor.coverage.unread import ClientLoss, ClientLosses, UnreadCount, UnreadReason
from sensor.export import convert
from sensor.export.convert import BatchConverter, SerialisedBatch, ServiceWay
from tests.sensor.records import START_NS, change_fields, make_record, make_route, make_service, records
from tests.sensor.rows import Row
from tests.sensor.rows import read_rows as read_columns


def make_rows(stream: Sequence[CallRecord]) -> RowColumns:
    aggregator = Aggregator()
    for record in stream:
        aggregator.add(record)
    return aggregator.flush()


def serialise(
    rows: RowColumns,
    converter: BatchConverter | None = None,
    seen: int = 0,
    losses: Mapping[ServiceWay, int] = MappingProxyType({}),
    client_losses: ClientLosses = MappingProxyType({}),
) -> list[SerialisedBatch]:
    converter = converter or BatchConverter(node="node-1", boot_id="boot-1")
    return converter.convert(
        rows,
        key_id=3,
        policy_epoch=4,
        clock_segment=5,
        lost_calls_total=seen // 10,
        seen_calls_total=seen,
        tls_lost_calls_total=seen // 50,
        tls_seen_calls_total=seen // 2,
        service_losses=losses,
        client_losses=client_losses,
    )


def convert_rows(rows: RowColumns, converter: BatchConverter | None = None, seen: int = 0) -> list[data_pb2.Batch]:
    return [data_pb2.Batch.FromString(batch.payload) for batch in serialise(rows, converter, seen)]


def read_rows(batch: data_pb2.Batch) -> list[tuple[object, ...]]:
    """Rows of a batch with every index looked up."""
    columns, strings = batch.rows, batch.strings
    ends = [
        list(accumulate(lengths)) for lengths in (columns.duration_len, columns.response_size_len, columns.objects_len)
    ]
    read = []
    for i, route in enumerate(columns.route):
        starts = [column[i - 1] if i else 0 for column in ends]
        read.append(
            (
                batch.routes[route].route_id,
                batch.base_time_unix_seconds + columns.window_offset_seconds[i],
                columns.window_length_seconds[i],
                (
                    columns.principal[i],
                    columns.credential[i],
                    strings[columns.client_address[i]],
                    strings[columns.client_workload[i]],
                ),
                columns.principal_kind[i],
                columns.authentication[i],
                (columns.status_code[i], columns.role[i], columns.hop[i], columns.flags[i]),
                strings[columns.protocol_version[i]],
                strings[columns.request_content_type[i]],
                strings[columns.response_content_type[i]],
                (columns.calls[i], columns.request_bytes[i], columns.response_bytes[i]),
                (columns.time_to_first_byte_sum_us[i], columns.duration_sum_us[i], columns.duration_max_us[i]),
                list(
                    zip(
                        columns.duration_bucket[starts[0] : ends[0][i]],
                        columns.duration_count[starts[0] : ends[0][i]],
                        strict=True,
                    )
                ),
                list(
                    zip(
                        columns.response_size_bucket[starts[1] : ends[1][i]],
                        columns.response_size_count[starts[1] : ends[1][i]],
                        strict=True,
                    )
                ),
                list(columns.objects_hash[starts[2] : ends[2][i]]),
                columns.objects_count[i],
                (columns.object_numeric_calls[i], columns.object_monotonic_steps[i], columns.object_numeric_span[i]),
            )
        )
    return read


def read_bodies(rows: data_pb2.Rows) -> list[tuple[object, ...]]:
    """What bodies told of each row; columns that were left out hold zeros."""
    n = len(rows.route)
    columns = [
        list(getattr(rows, name)) or [0] * n
        for name in (
            *("records_returned", "records_measured", "request_bodies_read", "response_bodies_read", "found_len"),
        )
    ]
    ends = list(accumulate(columns[-1]))
    pairs = list(zip(rows.found_code, rows.found_count, strict=True))
    return [
        (*values[:-1], pairs[end - values[-1] : end])
        for values, end in zip(zip(*columns, strict=True), ends, strict=True)
    ]


@settings(max_examples=50)
@given(st.lists(records(), max_size=40))
def test_what_bodies_told_survives_the_wire(stream: list[CallRecord]) -> None:
    columns = make_rows(stream)
    read = [row for batch in convert_rows(columns) for row in read_bodies(batch.rows)]
    told = [
        (
            *(row.returned, row.returned_measured, row.requests_read, row.responses_read),
            sorted(row.data.items()),
        )
        for row in read_columns(columns)
    ]
    assert sorted(read, key=repr) == sorted(told, key=repr)


@pytest.mark.parametrize(
    ("column", "texts"),
    [("client_software", ("curl 0a1b2c3d", "", "5c2e91d0")), ("carriers", ("cookie sid", "", "header x-api-key"))],
)
def test_what_a_request_says_of_its_sender_survives_the_wire(column: str, texts: tuple[str, ...]) -> None:
    told = {text: principal for principal, text in enumerate(texts, 1)}
    (batch,) = convert_rows(make_rows([make_record(principal=told[text], **{column: text}) for text in texts]))
    read = zip(batch.rows.principal, getattr(batch.rows, column), strict=True)
    assert {batch.strings[text]: principal for principal, text in read} == told
    (older,) = convert_rows(make_rows([make_record()]))
    assert not getattr(older.rows, column)


def test_rows_without_bodies_have_no_columns_for_them() -> None:
    (batch,) = convert_rows(make_rows([make_record()]))
    assert not batch.rows.records_returned
    assert not batch.rows.response_bodies_read
    assert not batch.rows.found_len


def tell_row(row: Row) -> tuple[object, ...]:
    """The same of a window row."""
    return (
        row.route.route_id,
        row.window_start_unix_seconds,
        row.window_length_seconds,
        tuple(row.actor),
        int(row.principal_kind),
        int(row.authentication),
        (row.status_code, int(row.role), int(row.hop), int(row.flags)),
        row.protocol_version,
        row.request_content_type,
        row.response_content_type,
        (row.calls, row.request_bytes, row.response_bytes),
        (row.time_to_first_byte_sum_us, row.duration_sum_us, row.duration_max_us),
        sorted(row.duration.items()),
        sorted(row.response_size.items()),
        sorted(row.objects.hashes),
        row.objects_count,
        (row.object_numeric_calls, row.object_monotonic_steps, row.object_numeric_span),
    )


@settings(max_examples=50)
@given(st.lists(records(), max_size=40))
def test_rows_survive_the_wire(stream: list[CallRecord]) -> None:
    columns = make_rows(stream)
    rows = read_columns(columns)
    serialised = serialise(columns)
    batches = [data_pb2.Batch.FromString(batch.payload) for batch in serialised]
    read = [row for batch in batches for row in read_rows(batch)]
    assert sorted(read, key=repr) == sorted(map(tell_row, rows), key=repr)
    assert [batch.sequence for batch in batches] == ([1] if rows else [])
    for batch, whole in zip(batches, serialised, strict=True):
        assert (whole.sequence, whole.calls) == (batch.sequence, sum(batch.rows.calls))
        assert len(UnknownFieldSet(batch)) == len(UnknownFieldSet(batch.rows)) == 0


def test_the_envelope_and_the_dictionaries() -> None:
    rows = make_rows([make_record(), make_record(status_code=404, time_unix_ns=START_NS + 10**10)])
    (batch,) = convert_rows(rows)
    assert (batch.node, batch.boot_id, batch.key_id, batch.policy_epoch, batch.clock_segment) == (
        "node-1",
        "boot-1",
        3,
        4,
        5,
    )
    assert batch.strings[0] == ""
    assert len(set(batch.strings)) == len(batch.strings)
    (service,) = batch.services
    assert (service.workload, service.port, service.host_name) == ("nginx.service", 80, "node-1")
    (route,) = batch.routes
    assert (batch.strings[route.host], batch.strings[route.method]) == ("shop.test", "GET")
    assert [(batch.strings[s.text], s.hash, s.length) for s in route.segments] == [
        ("users", 0, 0),
        ("", 77, 5),
        ("", 0, 0),
    ]
    assert batch.base_time_unix_seconds == START_NS // 10**9


@pytest.mark.parametrize(("limit", "sizes"), [(10_000, [7]), (3, [3, 3, 1]), (7, [7])])
def test_batches_are_bounded_in_rows(monkeypatch: pytest.MonkeyPatch, limit: int, sizes: list[int]) -> None:
    monkeypatch.setattr(convert, "BATCH_ROWS_LIMIT", limit)
    rows = make_rows([make_record(principal=number) for number in range(7)])
    assert [len(batch.rows.route) for batch in convert_rows(rows)] == sizes


def test_batches_are_bounded_in_bytes() -> None:
    hashes = [(1 << 50) * number for number in range(1, 257)]
    rows = make_rows([make_record(principal=p, object_hash=h) for p in range(1, 1_000) for h in hashes])
    batches = convert_rows(rows)
    assert len(batches) == 2
    assert sum(len(batch.rows.route) for batch in batches) == 999
    assert max(batch.ByteSize() for batch in batches) < 3 * 1024 * 1024


def test_rows_of_all_services_are_one_batch_with_what_was_lost_since_the_last() -> None:
    converter = BatchConverter(node="n", boot_id="b")
    of_web, of_api = make_record(), make_record(route=make_route(2, workload="api"))
    web, both = make_rows([of_web]), make_rows([of_web, of_api])
    told = [
        [(len(batch.services), batch.lost_calls, batch.seen_calls) for batch in convert_rows(rows, converter, seen)]
        for rows, seen in ((web, 100), (both, 150), (web, 300), (both, 300))
    ]
    assert told == [[(1, 10, 100)], [(2, 5, 50)], [(1, 15, 150)], [(2, 0, 0)]]


def test_what_a_service_lost_is_sent_once_and_with_its_own_rows() -> None:
    converter = BatchConverter(node="n", boot_id="b")
    web, api = make_record(), make_record(route=make_route(2, workload="api"))
    losses: dict[ServiceWay, int] = {(make_service("api"), True): 7, (make_service("api"), False): 2}

    def send(*stream: CallRecord) -> list[tuple[str, bool, int]]:
        payloads = [
            data_pb2.Batch.FromString(one.payload) for one in serialise(make_rows(stream), converter, 0, losses)
        ]
        losses_sent = [loss for batch in payloads for loss in batch.service_losses]
        return [(loss.service.workload, loss.is_encrypted, loss.lost_calls) for loss in losses_sent]

    assert send(web) == []
    assert send(web, api) == [("api", True, 7), ("api", False, 2)]
    assert send(api) == []
    losses[make_service("api"), True] = 10
    assert send(api) == [("api", True, 3)]


def test_clients_of_which_most_is_unread_are_named_with_their_services_rows() -> None:
    converter = BatchConverter(node="n", boot_id="b")
    web, api = make_record(), make_record(route=make_route(2, workload="api"))
    clients = [ClientLoss(make_service("api"), False, f"10.0.0.{n}", UnreadReason.POSITION) for n in range(9)]
    losses = {client: UnreadCount(n + 1, 100 * n) for n, client in enumerate(clients)}

    def send(record: CallRecord) -> list[tuple[str, int, int, int]]:
        batches = serialise(make_rows([record]), converter, client_losses=losses)
        sent = [loss for one in batches for loss in data_pb2.Batch.FromString(one.payload).service_losses]
        return [(one.client_address, one.lost_calls, one.unread_bytes, one.unread_reason) for one in sent]

    position = data_pb2.UNREAD_REASON_POSITION
    assert send(web) == []
    assert send(api) == [(f"10.0.0.{n}", n + 1, 100 * n, position) for n in (8, 7, 6)]
    losses[clients[8]] = UnreadCount(19, 900)
    assert send(api)[0] == ("10.0.0.8", 10, 100, position)
    losses[clients[8]] = UnreadCount(2, 5)  # It was forgotten, and came again.
    assert ("10.0.0.8", 2, 5, position) in send(api) + send(api) + send(api)


def test_what_was_lost_of_tls_is_apart_and_its_rows_say_what_they_are() -> None:
    converter = BatchConverter(node="n", boot_id="b")
    (batch,) = convert_rows(make_rows([make_record(), make_record(is_encrypted=True, status_code=404)]), converter, 100)
    assert (batch.lost_calls, batch.tls_lost_calls, batch.seen_calls, batch.tls_seen_calls) == (10, 2, 100, 50)
    encrypted = 1 << data_pb2.ROW_FLAG_ENCRYPTED
    flags = dict(zip(batch.rows.status_code, batch.rows.flags, strict=True))
    assert {status: bool(bits & encrypted) for status, bits in flags.items()} == {200: False, 404: True}
    (later,) = convert_rows(make_rows([make_record()]), converter, 200)
    assert (later.tls_lost_calls, later.tls_seen_calls) == (2, 50)


@pytest.mark.parametrize(
    ("kind", "wire", "prefix"),
    [
        (Role, data_pb2.Role, "ROLE_"),
        (Hop, data_pb2.Hop, "HOP_"),
        (WorkloadKind, data_pb2.WorkloadKind, "WORKLOAD_KIND_"),
        (SegmentKind, data_pb2.SegmentKind, "SEGMENT_KIND_"),
        (PrincipalKind, data_pb2.PrincipalKind, "PRINCIPAL_KIND_"),
    ],
)
def test_enums_are_those_of_the_wire(kind: type[Role], wire: type[data_pb2.Role], prefix: str) -> None:
    numbers = {name.removeprefix(prefix): number for name, number in wire.items()}
    assert {member.name: member.value for member in kind} == {n: v for n, v in numbers.items() if n in kind.__members__}
    assert set(numbers) - {"UNSPECIFIED"} == set(kind.__members__) - {"UNSPECIFIED"}


def test_authentication_bits_are_those_of_the_wire() -> None:
    for name, number in data_pb2.AuthenticationKind.items():
        if number:
            assert AuthenticationKind[name.removeprefix("AUTHENTICATION_KIND_")] == 1 << number


def test_a_route_is_told_anew_in_each_batch_with_its_words_as_they_are_now() -> None:
    """Routes are packed once; their places in the dictionaries are each batch's own."""
    converter, route = BatchConverter(node="node-1", boot_id="boot-1"), make_route()
    hidden = Segment(kind=SegmentKind.WORD, text="", hash=7, length=300)
    others = [msgspec.structs.replace(route, route_id=n, host=f"host-{n}", segments=(hidden,)) for n in range(1, 200)]
    word = msgspec.structs.replace(route, route_id=900, segments=(hidden,), has_trailing_slash=True)
    told = msgspec.structs.replace(word, segments=(msgspec.structs.replace(hidden, text="shelves"),))
    for routes in ([word], [*others, told], [told]):
        batch = convert_rows(make_rows([make_record(route=one) for one in routes]), converter)[0]
        read = {one.route_id: one for one in batch.routes}
        assert len(read) == len(routes)
        for one in routes:
            found = read[one.route_id]
            assert batch.strings[found.host] == one.host
            assert batch.strings[found.method] == one.method
            assert batch.services[found.service].workload == one.service.workload
            assert found.has_trailing_slash == one.has_trailing_slash
            segments = [(s.kind, batch.strings[s.text], s.hash, s.length) for s in found.segments]
            assert segments == [(s.kind, s.text, s.hash, s.length) for s in one.segments]


BAD_TEXT = "\udcff\udcfe.service"  # Half of a pair: no text that can be sent.


def spoil(record: CallRecord, kind: str) -> CallRecord:
    """The record with one text that cannot be sent."""
    match kind:
        case "workload":
            service = msgspec.structs.replace(record.target.route.service, workload=BAD_TEXT)
            route = msgspec.structs.replace(
                record.target.route, service=service, route_id=record.target.route.route_id + 1_000
            )
        case "host":
            route = msgspec.structs.replace(
                record.target.route, host=BAD_TEXT, route_id=record.target.route.route_id + 2_000
            )
        case _:
            return change_fields(record, **{kind: BAD_TEXT})
    return change_fields(record, route=route)


@settings(max_examples=50)
@given(
    st.lists(records(), max_size=60),
    st.lists(
        st.tuples(
            st.integers(0, 59),
            st.sampled_from(["workload", "host", "client_workload", "client_address", "response_content_type"]),
        ),
        max_size=4,
    ),
)
def test_a_row_that_cannot_be_written_is_dropped_and_counted_and_all_others_leave(
    stream: list[CallRecord], spoiled: list[tuple[int, str]]
) -> None:
    kinds = {place: kind for place, kind in spoiled if place < len(stream)}
    good = [record for place, record in enumerate(stream) if place not in kinds]
    bad = [spoil(stream[place], kind) for place, kind in kinds.items()]
    converter = BatchConverter(node="node-1", boot_id="boot-1")
    columns = make_rows([*good, *bad])
    batches = serialise(columns, converter, seen=100)
    read = [data_pb2.Batch.FromString(batch.payload) for batch in batches]
    assert all(text.isprintable() for batch in read for text in batch.strings)
    bad_calls = sum(
        row.calls
        for row in read_columns(columns)
        if BAD_TEXT in (row.route.service.workload, row.route.host, row.actor.client_workload, row.actor.client_address)
        or row.response_content_type == BAD_TEXT
    )
    sent_calls = sum(sum(batch.rows.calls) for batch in read)
    count = converter.count()
    assert (count.used, count.dropped_total) == (sent_calls, bad_calls)
    assert [batch.sequence for batch in read] == list(range(1, len(read) + 1))


def test_a_flood_of_rows_that_cannot_be_written_costs_a_bounded_number_of_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = 0
    write = convert._serialise

    def count(*arguments: object) -> SerialisedBatch:
        nonlocal tries
        tries += 1
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(convert, "_serialise", count)
    converter = BatchConverter(node="node-1", boot_id="boot-1")
    stream = [make_record(client_workload=f"{BAD_TEXT}{number}") for number in range(2_000)]
    assert serialise(make_rows(stream), converter) == []
    assert converter.count().dropped == (("unwritable", 2_000),)
    assert tries <= 2 * convert.FAILURES_MAX
    assert len(serialise(make_rows([make_record()]), converter)) == 1
