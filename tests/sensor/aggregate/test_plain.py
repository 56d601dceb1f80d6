"""The columns against the plain way, on random streams; and that it does not matter how they are cut or merged."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.aggregate import aggregator as aggregate
from sensor.aggregate import dictionary as facts
from sensor.aggregate import dictionary as identities
from sensor.aggregate import window
from sensor.aggregate.aggregator import Aggregator, Triggers
from sensor.aggregate.grouping import NumberMemory, group_calls
from sensor.aggregate.rows import COMMON_SUMS, ESTIMATED_SUMS, RowColumns, RowFlag, Rows, join_rows, merge_rows
from sensor.core.calls import BodyFacts, BodyFlag, CallRecord, Calls
from tests.sensor.aggregate.plain import add_up, sum_records, without_steps
from tests.sensor.records import SECOND_NS, START_NS, make_record, make_route, records
from tests.sensor.rows import Row, read_rows

_ESTIMATED = BodyFacts(2, (), BodyFlag.ESTIMATED)
_READ = BodyFacts(3, (5,), BodyFlag.MEASURED | BodyFlag.RESPONSE_READ)


@st.composite
def close_records(draw: st.DrawFn) -> CallRecord:
    """Few keys and numbers, so that rows have several calls and numbers follow one another."""
    number = draw(st.one_of(st.none(), st.integers(0, 6)))
    return make_record(
        time_unix_ns=START_NS + draw(st.integers(0, 40)) * SECOND_NS // 4,
        principal=draw(st.sampled_from([0, 7, 8])),
        credential=draw(st.sampled_from([0, 9])),
        status_code=draw(st.sampled_from([0, 200, 404])),
        calls=draw(st.sampled_from([1, 1, 1, 0])),
        is_final=draw(st.booleans()),
        is_aborted=draw(st.booleans()),
        is_truncated=draw(st.booleans()),
        request_content_type=draw(st.sampled_from(["", "a/b", "c/d"])),
        object_hash=draw(st.sampled_from([0, 1, 2, 3])),
        object_number=number,
        body=draw(st.sampled_from([None, _ESTIMATED, _ESTIMATED, _READ])),
    )


streams = st.lists(st.one_of(records(), close_records()), max_size=60)
triggers = st.sampled_from([Triggers(), Triggers(distinct_objects_per_second=1, calls_per_second=2)])


def to_calls(stream: list[CallRecord]) -> tuple[Aggregator, Calls]:
    """The stream as columns, and the aggregator in whose facts its numbers are."""
    aggregator = Aggregator()
    for record in stream:
        aggregator.add(record)
    return aggregator, aggregator._waiting.calls.copy()


@pytest.mark.parametrize(
    ("bodies", "height"),
    [([None], COMMON_SUMS), ([_ESTIMATED], ESTIMATED_SUMS), ([None, _ESTIMATED], ESTIMATED_SUMS)],
)
def test_sums_that_are_all_zero_are_left_out(bodies: list[BodyFacts | None], height: int) -> None:
    aggregator = Aggregator()
    stream = [make_record(time_unix_ns=START_NS + place, body=body) for place, body in enumerate(bodies)]
    for record in stream:
        aggregator.add(record)
    columns = aggregator.flush()
    assert len(columns.rows.sums) == height
    assert add_up(read_rows(columns)) == sum_records(stream)


@given(streams)
def test_one_flush_is_the_plain_way(stream: list[CallRecord]) -> None:
    aggregator = Aggregator()
    for record in stream:
        aggregator.add(record)
    assert add_up(read_rows(aggregator.flush())) == sum_records(stream)


@given(streams, triggers)
def test_polls_and_triggers_change_no_sum(stream: list[CallRecord], triggers: Triggers) -> None:
    stream.sort(key=lambda record: record.figures.time_unix_ns)
    aggregator = Aggregator(triggers=triggers)
    rows: list[Row] = []
    for record in stream:
        rows += read_rows(aggregator.poll(record.figures.time_unix_ns))
        aggregator.add(record)
    rows += read_rows(aggregator.flush())
    assert add_up(rows) == sum_records(stream)


@given(streams, st.lists(st.integers(0, 60), max_size=4), triggers)
def test_any_split_gives_the_same(stream: list[CallRecord], cuts: list[int], triggers: Triggers) -> None:
    _, calls = to_calls(stream)
    outcomes = []
    for places in ([], sorted(cuts)):
        aggregator, _ = to_calls(stream)  # The same numbers for the same facts.
        aggregator.flush()
        aggregator.set_triggers(triggers)
        aggregator._numbers = NumberMemory()
        for part in np.split(calls, places):
            aggregator.add_calls(part)
        rows = read_rows(aggregator.poll(START_NS + 30 * SECOND_NS)) + read_rows(aggregator.flush())
        outcomes.append(sorted(rows, key=repr))
    assert outcomes[0] == outcomes[1]


@settings(max_examples=50)
@given(streams, st.lists(st.integers(0, 200), max_size=10))
def test_small_bounds_of_memory_change_no_sum(stream: list[CallRecord], polls: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate, "WAITING_CALLS_LIMIT", 7)
        patch.setattr(window, "PARTS_LIMIT_BYTES", 500)
        patch.setattr(window, "WINDOW_LIMIT_BYTES", 900)
        patch.setattr(window, "_LEFT_LIMIT", 3)
        aggregator, rows = Aggregator(), []
        for place, record in enumerate(stream):
            aggregator.add(record)
            if place % 8 == 0 and polls:
                rows += read_rows(aggregator.poll(START_NS + polls.pop() * SECOND_NS))
        rows += read_rows(aggregator.flush())
    assert without_steps(add_up(rows)) == without_steps(sum_records(stream))


@pytest.mark.parametrize(("calls_per_second", "is_room"), [(1, True), (40, False)])
def test_crowded_facts_mix_nobody_up(calls_per_second: int, is_room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More callers and routes than the tables hold: calls are told of their own caller, or of `other`, and all are."""
    monkeypatch.setattr(identities, "IDENTITIES_LIMIT", 60)
    monkeypatch.setattr(facts, "ROUTES_LIMIT", 30)
    monkeypatch.setattr(identities, "_OTHERS_LIMIT", 10)
    source, aggregator, rows = random.Random(1), Aggregator(), []
    for place in range(600):
        now_ns = START_NS + place * SECOND_NS // calls_per_second
        rows += read_rows(aggregator.poll(now_ns))
        principal, route_id = source.randrange(1, 400), source.randrange(1, 300)
        record = make_record(
            time_unix_ns=now_ns,
            route=make_route(route_id),
            principal=principal,
            client_address=f"a{principal}",
            object_hash=principal << 32 | route_id,
        )
        aggregator.add(record)
    rows += read_rows(aggregator.flush())
    count = aggregator.count()
    assert sum(row.calls for row in rows) == count.used
    for row in rows:
        assert {hash_ & 0xFFFFFFFF for hash_ in row.objects.hashes} == {row.route.route_id}
        if row.actor.principal:
            assert {hash_ >> 32 for hash_ in row.objects.hashes} == {row.actor.principal}
            assert row.actor.client_address == f"a{row.actor.principal}"
        else:
            assert row.flags & RowFlag.OTHER
    assert aggregator.facts.generation > 0
    assert (sum(row.calls for row in rows if row.actor.principal) == 600) == is_room
    assert (count.dropped == ()) == is_room


def merge(*parts: Rows) -> Rows:
    return merge_rows(join_rows(parts))


def tell(aggregator: Aggregator, rows: Rows) -> list[Row]:
    no_time = np.zeros(len(rows), np.int64)
    columns = RowColumns(facts=aggregator.facts, start_unix_seconds=no_time, length_seconds=no_time, rows=rows)
    return sorted(read_rows(columns), key=repr)


@given(st.lists(st.one_of(records(), close_records()), min_size=3, max_size=60), st.data())
def test_rows_are_a_monoid(stream: list[CallRecord], data: st.DataObject) -> None:
    aggregator, calls = to_calls(stream)
    cuts = sorted(data.draw(st.lists(st.integers(1, len(stream) - 1), min_size=2, max_size=2, unique=True)))
    memory = NumberMemory()
    a, b, c = (group_calls(part, np.arange(len(part)), aggregator.facts, memory, 1) for part in np.split(calls, cuts))
    whole = group_calls(calls, np.arange(len(calls)), aggregator.facts, NumberMemory(), 1)
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    assert tell(aggregator, left) == tell(aggregator, right) == tell(aggregator, whole)
    assert tell(aggregator, merge(whole)) == tell(aggregator, whole)
