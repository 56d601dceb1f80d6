"""Every check of the converter, one batch each; and that nothing on the wire can make it raise."""

from typing import Any

import numpy as np
import pytest
from apidae.v1 import data_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.receiver import convert
from collector.receiver.convert import (
    SERVICE_LOSS_LIMIT,
    BatchFront,
    CheckedRoutes,
    Refusal,
    RouteCache,
    check_protobuf,
    convert_batch,
    convert_batches,
    convert_bytes,
    convert_payloads,
    count_unknown_fields,
    count_unknown_values,
    measure_batch,
    read_front,
)
from collector.storage.arrow import build_rows
from collector.storage.columns import COLUMNS, RowBatch
from collector.storage.row_group import make_group
from tests.collector.wire_batches import NOW, make_batch


def test_good_batch_keeps_every_figure() -> None:
    rows = convert_bytes(make_batch(rows=7).SerializeToString(), NOW)
    assert isinstance(rows, RowBatch)
    assert len(rows) == 7
    assert rows.calls.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert rows.route_id.tolist() == [11, 12, 11, 12, 11, 12, 11]
    assert rows.window_start.tolist() == [NOW - 60 + 10 * (i % 6) for i in range(7)]
    assert rows.strings[int(rows.client_address[3])] == "10.0.0.9"
    assert rows.routes[1].method == "POST"
    assert [segment.text for segment in rows.routes[0].segments] == ["users", ""]
    assert rows.duration.offsets.tolist() == list(range(0, 15, 2))
    assert rows.duration.counts[2:4].tolist() == [2, 1]
    assert rows.objects.values[-2:].tolist() == [5_006, 6_006]
    assert rows.calls.dtype == np.uint64 and rows.status_code.dtype == np.uint32


def test_batches_together_are_what_they_are_alone() -> None:
    batches = [
        make_batch(rows=1 + place % 4, sequence=place + 1, node=f"n{place % 3}", base=NOW - place)
        for place in range(13)
    ]
    for place in (0, 3, 4):
        batches[place].rows.kind.extend([1] * (1 + place % 4))
        batches[place].strings.append(f"software {place}")
        batches[place].rows.client_software.extend([len(batches[place].strings) - 1] * (1 + place % 4))
    for place in (5, 7):  # Of a sensor of 0.1.
        batches[place].rows.data_len.extend([1] * (1 + place % 4))
        batches[place].rows.data_kind.extend([33] * (1 + place % 4))
        batches[place].rows.data_count.extend([1] * (1 + place % 4))
    batches[6].rows.found_len.extend([1] * 3)
    batches[6].rows.found_code.extend([70] * 3)
    batches[6].rows.found_count.extend([2] * 3)
    batches[8].routes.add(route_id=13, host=1, method=2)
    batches[9].rows.duration_len[0], batches[10].rows.duration_len[0] = 1, 3  # Together they have as many as alone.
    del batches[11].rows.calls[:]
    batches[12].strings[3] = "other"
    alone = [convert_batch(batch, NOW) for batch in batches]
    good = [one for one in alone if isinstance(one, RowBatch)]
    together = convert_batches(batches, [NOW] * len(batches))
    assert together.refusals == {place: one for place, one in enumerate(alone) if isinstance(one, Refusal)}
    assert [*together.refusals] == [9, 10, 11] and together.group is not None
    assert [head.sequence for head in together.group.heads] == [one.sequence for one in good]
    rows = [row for one in good for row in build_rows(make_group(one)).to_pylist()]
    assert build_rows(together.group).to_pylist() == rows
    assert [*map(len, good)] == together.group.lengths.tolist()


def measure(batch: data_pb2.Batch) -> bytes:
    """A batch as it goes into the log."""
    front = read_front(batch, NOW, RouteCache(9))
    assert isinstance(front, BatchFront)
    measure_batch(batch, front)
    return batch.SerializeToString()


def make_log() -> list[data_pb2.Batch]:
    """Batches of several nodes with lists of different lengths; one has no rows, one a route that the others lack."""
    batches = [
        make_batch(rows=place % 4, sequence=place + 1, node=f"n{place % 3}", base=NOW - place) for place in range(1, 8)
    ]
    batches[1].rows.kind.extend([1] * 2)
    batches[2].strings.append("software")
    batches[2].rows.client_software.extend([len(batches[2].strings) - 1] * 3)
    batches[4].routes[1].route_id = 99
    batches[4].strings[3] = "other"
    loss = batches[5].service_losses.add(lost_calls=3, client_address="10.0.0.1")
    loss.service.CopyFrom(batches[5].services[0])
    batches[6].services.add(workload="db")
    return batches


@pytest.mark.parametrize("routes", [RouteCache, CheckedRoutes])
def test_batches_of_the_log_are_parsed_as_one_message_and_are_what_they_are_alone(
    routes: type[RouteCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = make_log()
    times = [NOW + place for place in range(len(batches))]
    alone = convert_payloads([batch.SerializeToString() for batch in batches], times, routes(9)).group
    assert alone is not None and len(alone.heads) == len(batches) and alone.heads[5].service_losses
    measured = [measure(batch) for batch in batches]
    monkeypatch.setattr(convert, "read_front", None)  # It would be called for each.
    known = routes(9)
    for _ in range(2):  # Then with routes that are known.
        converted = convert_payloads(measured, times, known)
        together = converted.group
        assert together is not None and together.heads == alone.heads and converted.read_alone == 0
        assert build_rows(together).equals(build_rows(alone))
        assert (together.rows.routes, together.rows.strings) == (alone.rows.routes, alone.rows.strings)


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda batch: batch.ClearField("measure"), id="of an older version"),
        pytest.param(lambda batch: batch.measure.layout.__setitem__(0, 1), id="of another version"),
        pytest.param(lambda batch: batch.measure.numbers.pop(), id="a number less"),
        pytest.param(lambda batch: batch.measure.numbers.__setitem__(-1, 2**64 - 1), id="a number too large"),
        pytest.param(lambda batch: batch.measure.numbers.__setitem__(9, 1), id="fewer texts"),
        pytest.param(lambda batch: batch.measure.node.append("x"), id="two nodes"),
        pytest.param(lambda batch: batch.rows.calls.append(7), id="refused"),
        pytest.param(lambda batch: batch.strings.append("x" * 2_000), id="refused for a text"),
    ],
)
def test_one_batch_of_the_log_whose_measure_is_wrong_stops_no_other(place: int, change: Any) -> None:
    batches = make_log()
    payloads = [measure(batch) for batch in batches]
    change(batches[place])
    payloads[place] = batches[place].SerializeToString()
    for batch in batches:
        batch.ClearField("measure")
    together, alone = (
        convert_payloads(all_of_them, [NOW] * len(batches))
        for all_of_them in (payloads, [batch.SerializeToString() for batch in batches])
    )
    assert together.refusals == alone.refusals and together.group is not None and alone.group is not None
    assert together.read_alone == len(batches)
    assert build_rows(together.group).equals(build_rows(alone.group))


def test_batch_without_rows_carries_its_loss() -> None:
    batch = data_pb2.Batch(
        node="n", boot_id="b", sequence=1, lost_calls=5, seen_calls=9, tls_lost_calls=2, tls_seen_calls=3
    )
    rows = convert_batch(batch, NOW)
    assert isinstance(rows, RowBatch)
    assert (len(rows), rows.lost_calls, rows.seen_calls) == (0, 5, 9)
    assert (rows.tls_lost_calls, rows.tls_seen_calls) == (2, 3)


def test_what_a_service_lost_is_taken_and_bounded() -> None:
    batch = data_pb2.Batch(node="n", boot_id="b", sequence=1)
    loss = batch.service_losses.add(is_encrypted=True, lost_calls=9)
    loss.service.workload, loss.service.port = "shop", 8443
    rows = convert_batch(batch, NOW)
    assert isinstance(rows, RowBatch)
    (taken,) = rows.service_losses
    assert (taken.service.workload, taken.service.port, taken.is_encrypted, taken.lost_calls) == ("shop", 8443, True, 9)
    loss.lost_calls = 2**40
    assert isinstance(convert_batch(batch, NOW), Refusal)
    del batch.service_losses[:]
    for _ in range(SERVICE_LOSS_LIMIT + 1):
        batch.service_losses.add(lost_calls=1)
    assert isinstance(convert_batch(batch, NOW), Refusal)


def test_a_client_that_made_calls_unread_is_taken_and_has_an_address() -> None:
    batch = data_pb2.Batch(node="n", boot_id="b", sequence=1)
    loss = batch.service_losses.add(lost_calls=9, client_address="2001:DB8::1", unread_reason=2, unread_bytes=700)
    rows = convert_batch(batch, NOW)
    assert isinstance(rows, RowBatch)
    (taken,) = rows.service_losses
    assert (taken.client_address, taken.reason, taken.unread_bytes) == ("2001:db8::1", 2, 700)
    loss.unread_bytes = 2**50
    assert isinstance(convert_batch(batch, NOW), Refusal)
    loss.unread_bytes, loss.client_address = 1, "<b>"
    assert isinstance(convert_batch(batch, NOW), Refusal)


def test_unknown_enum_values_and_fields_are_kept_and_counted() -> None:
    batch = make_batch()
    batch.rows.role[0] = 99
    batch.rows.principal_kind[1] = 55
    # Field 2000, varint 1: what a newer sensor might add.
    newer = data_pb2.Batch.FromString(batch.SerializeToString() + b"\x80\x7d\x01")
    rows = convert_batch(newer, NOW)
    assert isinstance(rows, RowBatch)
    assert rows.role[0] == 99
    assert (count_unknown_fields(newer), count_unknown_values(rows)) == (1, 2)


def test_client_software_of_older_sensors_is_not_known() -> None:
    batch = make_batch()
    rows = convert_batch(batch, NOW)
    assert isinstance(rows, RowBatch)
    assert rows.client_software.tolist() == [0, 0, 0]
    batch.rows.client_software.extend((0, 1, 1))
    rows = convert_batch(batch, NOW)
    assert isinstance(rows, RowBatch)
    assert (rows.client_software.tolist(), rows.client_software.dtype) == ([0, 1, 1], rows.client_address.dtype)
    batch.rows.client_software[1] = 900
    refusal = convert_batch(batch, NOW)
    assert not isinstance(refusal, RowBatch) and "client_software" in str(refusal)


def set_head(name: str, value: object):
    return lambda batch: setattr(batch, name, value)


def set_cell(column: str, value: int, row: int = 1):
    def change(batch: data_pb2.Batch) -> None:
        getattr(batch.rows, column)[row] = value

    return change


def append(column: str, value: int):
    return lambda batch: getattr(batch.rows, column).append(value)


BAD_BATCHES = [
    (set_head("node", ""), "node"),
    (set_head("node", "x" * 254), "node"),
    (set_head("boot_id", ""), "boot_id"),
    (set_head("sequence", 0), "sequence"),
    (set_head("lost_calls", 2**40), "lost_calls"),
    (set_head("tls_lost_calls", 2**40), "tls_lost_calls"),
    (set_head("base_time_unix_seconds", NOW - 8 * 86_400), "oldest window"),
    (set_head("base_time_unix_seconds", NOW + 2 * 86_400), "in the future"),
    (set_head("base_time_unix_seconds", 2**64 - 1), "in the future"),
    (set_head("base_time_unix_seconds", 0), "oldest window"),
    (lambda batch: batch.strings.__setitem__(0, "x"), "strings[0]"),
    (lambda batch: batch.strings.append("x" * 1_025), "1025 bytes"),
    (lambda batch: batch.strings.append("é" * 600), "1200 bytes"),
    (lambda batch: batch.strings.extend(["x"] * 100_000), "strings"),
    (lambda batch: setattr(batch.routes[0], "route_id", 0), "route_id"),
    (lambda batch: setattr(batch.routes[1], "service", 1), "routes[1].service"),
    (lambda batch: setattr(batch.routes[1], "host", 9), "string 9"),
    (lambda batch: setattr(batch.routes[1].segments[0], "text", 900), "string 900"),
    (lambda batch: [batch.routes[0].segments.add(kind=3) for _ in range(63)], "65 segments"),
    (set_cell("route", 2), "rows.route[1]"),
    (set_cell("client_address", 9), "client_address"),
    (set_cell("response_content_type", 4_000_000_000), "response_content_type"),
    (set_cell("status_code", 1_000), "status_code"),
    (set_cell("calls", 2**63), "calls"),
    (set_cell("response_bytes", 2**56), "response_bytes"),
    (set_cell("window_length_seconds", 0), "window_length"),
    (set_cell("window_length_seconds", 3_601), "window_length"),
    (set_cell("window_offset_seconds", 4_294_967_295), "in the future"),
    (append("calls", 1), "rows.calls has 4"),
    (append("route", 0), "rows.window_offset_seconds has 3"),
    (append("attacks", 1), "attacks"),
    (set_cell("duration_len", 3), "duration_len adds up to 7"),
    (set_cell("objects_len", 4_294_967_295), "objects_len"),
    (append("duration_count", 1), "duration_count"),
    (set_cell("duration_bucket", 71, row=1), "does not ascend"),
    (set_cell("response_size_bucket", 1_024), "below 1024"),
    (set_cell("objects_hash", 6_001, row=2), "does not ascend"),
]


@pytest.mark.parametrize(("change", "named"), BAD_BATCHES)
def test_bad_batch_is_refused_by_name(change, named: str) -> None:
    batch = make_batch()
    assert isinstance(convert_batch(batch, NOW), RowBatch)
    change(batch)
    refusal = convert_batch(batch, NOW)
    assert isinstance(refusal, Refusal)
    assert named in refusal.reason


@pytest.mark.parametrize(("name", "bound"), [(name, one.below) for name, one in COLUMNS.items() if one.below])
def test_each_column_stays_below_its_bound(name: str, bound: int) -> None:
    batch = make_batch()
    column = getattr(batch.rows, name)
    column[:] = (bound - 1, 0, bound - 2)
    assert isinstance(convert_batch(batch, NOW), RowBatch)
    column[1] = bound
    refusal = convert_batch(batch, NOW)
    assert isinstance(refusal, Refusal) and f"rows.{name}[1] is {bound}; it must stay below {bound}" in refusal.reason


@pytest.mark.parametrize(("lengths", "values"), [("duration_len", "duration_bucket"), ("objects_len", "objects_hash")])
def test_lengths_of_values_that_are_not_there_are_refused(lengths: str, values: str) -> None:
    batch = make_batch()
    del getattr(batch.rows, values)[:]
    refusal = convert_batch(batch, NOW)
    assert isinstance(refusal, Refusal) and f"rows.{lengths} adds up to" in refusal.reason


def test_too_many_rows_are_refused() -> None:
    assert isinstance(convert_batch(make_batch(rows=10_000), NOW), RowBatch)
    refusal = convert_batch(make_batch(rows=10_001), NOW)
    assert isinstance(refusal, Refusal) and "10001 rows" in refusal.reason


def test_too_many_hashes_a_row_are_refused() -> None:
    batch = make_batch(rows=1)
    batch.rows.objects_len[0] = 257
    batch.rows.objects_hash[:] = range(257)
    refusal = convert_batch(batch, NOW)
    assert isinstance(refusal, Refusal) and "257" in refusal.reason


def test_oversized_message_is_refused_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MESSAGE_LIMIT_BYTES", 100)
    refusal = convert_bytes(make_batch().SerializeToString(), NOW)
    assert isinstance(refusal, Refusal) and "limit is 100" in refusal.reason


def test_protobuf_offers_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    check_protobuf()

    class Old:
        calls: tuple[int, ...] = ()

    monkeypatch.setattr(convert.data_pb2, "Rows", Old)
    with pytest.raises(RuntimeError, match=r"protobuf>=7\.34"):
        check_protobuf()


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(payload: bytes) -> None:
    assert isinstance(convert_bytes(payload, NOW), RowBatch | Refusal)


@settings(max_examples=300)
@given(st.data())
def test_mutated_batches_never_raise(data: st.DataObject) -> None:
    payload = bytearray(make_batch().SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 20))
    result = convert_bytes(bytes(payload[: len(payload) - cut]), NOW)
    assert isinstance(result, RowBatch | Refusal)
    if isinstance(result, RowBatch):
        for index in (result.client_address, result.protocol_version, result.request_content_type):
            assert all(int(i) < len(result.strings) for i in index)
        assert all(int(i) < len(result.routes) for i in result.route)
        assert int(result.objects.offsets[-1]) == len(result.objects.values)


@settings(max_examples=200)
@given(
    st.sampled_from([field.name for field in data_pb2.Rows.DESCRIPTOR.fields]),
    st.lists(st.integers(0, 2**32 - 1), max_size=6),
)
def test_any_column_may_hold_anything(name: str, values: list[int]) -> None:
    batch = make_batch()
    del getattr(batch.rows, name)[:]
    getattr(batch.rows, name).extend(values)
    assert isinstance(convert_batch(batch, NOW), RowBatch | Refusal)


def test_what_bodies_told_is_optional_and_checked() -> None:
    batch = make_batch()
    plain = convert_batch(batch, NOW)
    assert isinstance(plain, RowBatch)
    assert plain.records_returned.tolist() == [0, 0, 0]
    assert (plain.data.offsets.tolist(), plain.data.values.tolist()) == ([0, 0, 0, 0], [])
    batch.rows.records_returned.extend((5, 0, 70))
    batch.rows.records_measured.extend((5, 0, 20))
    batch.rows.response_bodies_read.extend((1, 0, 2))
    batch.rows.request_bodies_read.extend((0, 0, 1))
    batch.rows.found_len.extend((1, 0, 2))
    batch.rows.found_code.extend((129, 76, 129))
    batch.rows.found_count.extend((1, 1, 2))
    told = convert_batch(batch, NOW)
    assert isinstance(told, RowBatch)
    assert told.records_measured.tolist() == [5, 0, 20]
    assert (told.data.offsets.tolist(), told.data.counts.tolist()) == ([0, 1, 1, 3], [1, 1, 2])
    batch.rows.found_code[1] = 1_024
    refused = convert_batch(batch, NOW)
    assert isinstance(refused, Refusal)
    assert "found_code" in refused.reason


def test_data_of_older_sensors_has_its_place() -> None:
    batch = make_batch()
    batch.rows.records_basis.extend((1, 0, 2))
    batch.rows.data_len.extend((1, 0, 2))
    batch.rows.data_kind.extend((33, 12, 33))
    batch.rows.data_count.extend((1, 1, 2))
    told = convert_batch(batch, NOW)
    assert isinstance(told, RowBatch)
    assert (told.data.values.tolist(), told.data.counts.tolist()) == ([129, 76, 129], [1, 1, 2])
    batch.rows.data_kind[1] = 64
    refused = convert_batch(batch, NOW)
    assert isinstance(refused, Refusal)
    assert "does not ascend" in refused.reason or "data_kind" in refused.reason
