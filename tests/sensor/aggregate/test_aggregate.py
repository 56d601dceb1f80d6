"""Aggregation: rows always add up to the records, whatever the order, the polls, the cap and the connection."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from apidae.v1 import data_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from common.consumer_order import ConsumerColumn
from sensor.aggregate.aggregator import Aggregator, Triggers, WindowLimits
from sensor.aggregate.rows import RowFlag
from sensor.core.calls import STATUS_NOT_READ, AuthenticationKind, CallRecord, PrincipalKind
from tests.sensor.records import ROUTE, SECOND_NS, START_NS, make_record, make_route, records
from tests.sensor.rows import Objects, Row, find_actor, find_bucket, make_objects, read_rows, unite

SUMS = (
    "calls",
    "request_bytes",
    "response_bytes",
    "time_to_first_byte_sum_us",
    "duration_sum_us",
    "object_numeric_calls",
)


def sum_rows(rows: Iterable[Row]) -> Counter[tuple[object, ...]]:
    """Every sum by what no cap may mix up: route, status, role, and whether there were credentials."""
    sums: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        name = (row.route.route_id, row.status_code, row.role, bool(row.authentication))
        for column in SUMS:
            sums[name, column] += getattr(row, column)
        for column in ("duration", "response_size"):
            for bucket, count in getattr(row, column).items():
                sums[name, column, bucket] += count
    return +sums


def sum_records(stream: Iterable[CallRecord]) -> Counter[tuple[object, ...]]:
    """The same sums, made without the aggregator."""
    sums: Counter[tuple[object, ...]] = Counter()
    for record in stream:
        name = (
            record.target.route.route_id,
            record.figures.status_code,
            record.ends.role,
            bool(record.credentials.authentication),
        )
        sums[name, "calls"] += record.figures.calls
        sums[name, "request_bytes"] += record.figures.request_bytes
        sums[name, "response_bytes"] += record.figures.response_bytes
        if record.figures.calls:
            sums[name, "time_to_first_byte_sum_us"] += record.figures.time_to_first_byte_ns // 1000
            sums[name, "object_numeric_calls"] += (
                record.target.object_hash != 0 and record.target.object_number is not None
            )
        if record.figures.is_final and record.figures.status_code:
            sums[name, "response_size", find_bucket(record.figures.response_bytes)] += 1
            if not record.protocol.is_stream:
                sums[name, "duration_sum_us"] += record.figures.duration_ns // 1000
                sums[name, "duration", find_bucket(record.figures.duration_ns // 1000)] += 1
    return +sums


def unite_objects(parts: Iterable[tuple[int, Objects]]) -> dict[int, Objects]:
    """Union of the object sets by route."""
    united: dict[int, Objects] = {}
    for route_id, objects in parts:
        if objects.hashes:
            united[route_id] = unite(united.get(route_id, Objects()), objects)
    return united


def run(aggregator: Aggregator, steps: Iterable[CallRecord | int | bool]) -> list[Row]:
    """Play records, polls (seconds after the start) and changes of the connection; then flush."""
    rows: list[Row] = []
    for step in steps:
        if isinstance(step, bool):
            rows += read_rows(aggregator.set_connected(step))
        elif isinstance(step, int):
            rows += poll(aggregator, START_NS + step * SECOND_NS)
        else:
            aggregator.add(step)
    return rows + read_rows(aggregator.flush())


def poll(aggregator: Aggregator, now_unix_ns: int) -> list[Row]:
    return read_rows(aggregator.poll(now_unix_ns))


steps = st.lists(st.one_of(records(), records(), records(), st.integers(0, 300), st.booleans()), max_size=80)


@settings(max_examples=200)
@given(
    steps, st.integers(1, 4), st.sampled_from([Triggers(), Triggers(distinct_objects_per_second=1, calls_per_second=1)])
)
def test_rows_add_up_to_the_records(stream: list[CallRecord | int | bool], cap: int, triggers: Triggers) -> None:
    aggregator = Aggregator(limits=WindowLimits(rows_per_endpoint=cap), triggers=triggers)
    rows = run(aggregator, stream)
    taken = [step for step in stream if isinstance(step, CallRecord)]
    assert sum_rows(rows) == sum_records(taken)
    assert unite_objects((row.route.route_id, row.objects) for row in rows) == unite_objects(
        (record.target.route.route_id, make_objects([record.target.object_hash]))
        for record in taken
        if record.figures.calls and record.target.object_hash
    )
    count = aggregator.count()
    assert count.seen == count.used + count.dropped_total == len(taken)
    assert not len(aggregator.flush())


@given(steps)
def test_rows_stay_in_their_window(stream: list[CallRecord | int | bool]) -> None:
    aggregator = Aggregator()
    taken = [step for step in stream if isinstance(step, CallRecord)]
    starts = {record.figures.time_unix_ns // (10 * SECOND_NS) * 10 for record in taken}
    for row in run(aggregator, stream):
        assert row.window_start_unix_seconds in starts
        assert row.window_length_seconds % 10 == 0
        assert row.window_start_unix_seconds % 60 + row.window_length_seconds <= 60
        assert (row.window_length_seconds > 10) == bool(row.flags & RowFlag.MERGED)


def test_a_full_window_drops_and_counts() -> None:
    aggregator = Aggregator(limits=WindowLimits(rows_per_endpoint=1, rows_per_window=3))
    taken = [make_record(route=make_route(number)) for number in range(1, 11)]
    rows = run(aggregator, taken)
    count = aggregator.count()
    assert (count.seen, count.used, count.dropped) == (10, 6, (("rows_full", 4),))
    assert sum(row.calls for row in rows) == count.used
    assert sum(bool(row.flags & RowFlag.OTHER) for row in rows) == 3


def test_the_cap_keeps_the_consumers_with_most_distinct_objects() -> None:
    aggregator = Aggregator(limits=WindowLimits(rows_per_endpoint=2))
    busy = [make_record(principal=1, object_hash=500) for _ in range(50)]
    wide = [make_record(principal=2, object_hash=number) for number in range(1, 10)]
    wider = [make_record(principal=3, object_hash=number) for number in range(1, 12)]
    narrow = [make_record(principal=number, object_hash=600 + number) for number in range(4, 8)]
    rows = run(aggregator, busy + wide + narrow + wider)
    kept = {row.actor.principal: row for row in rows if not row.flags & RowFlag.OTHER}
    assert set(kept) == {2, 3}
    (other,) = [row for row in rows if row.flags & RowFlag.OTHER]
    assert other.calls == 54
    assert other.actor == (0, 0, "", "")
    assert other.principal_kind == PrincipalKind.UNSPECIFIED
    assert other.objects == make_objects([500, 604, 605, 606, 607])


def test_other_keeps_statuses_apart_and_bounds_authentications() -> None:
    aggregator = Aggregator(limits=WindowLimits(rows_per_endpoint=1))
    stream = [
        make_record(principal=number, authentication=AuthenticationKind(number % 1000), status_code=200 + number % 2)
        for number in range(3_000)
    ]
    rows = run(aggregator, stream)
    assert len(rows) <= 1 + 64 + 4
    assert sum_rows(rows) == sum_records(stream)


class TestEarly:
    """What leaves before its window ends."""

    def test_a_new_row_leaves_after_a_second_and_the_rest_at_the_end(self) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record())
        assert poll(aggregator, START_NS + SECOND_NS - 1) == []
        (early,) = poll(aggregator, START_NS + SECOND_NS)
        assert (early.calls, early.flags) == (1, RowFlag.EARLY)
        aggregator.add(make_record(time_unix_ns=START_NS + 2 * SECOND_NS))
        aggregator.add(make_record(time_unix_ns=START_NS + 3 * SECOND_NS))
        assert poll(aggregator, START_NS + 10 * SECOND_NS) == []
        (rest,) = poll(aggregator, START_NS + 11 * SECOND_NS)
        assert (rest.calls, rest.flags) == (2, RowFlag.NONE)
        assert rest.window_start_unix_seconds == early.window_start_unix_seconds == START_NS // SECOND_NS

    def test_nothing_more_leaves_when_all_left_early(self) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record())
        assert len(poll(aggregator, START_NS + SECOND_NS)) == 1
        assert poll(aggregator, START_NS + 60 * SECOND_NS) == []

    def test_what_is_known_waits(self) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record())
        aggregator.flush()
        aggregator.add(make_record(time_unix_ns=START_NS + 10 * SECOND_NS))
        assert poll(aggregator, START_NS + 12 * SECOND_NS) == []

    @pytest.mark.parametrize(
        "change", [{"status_code": 404}, {"client_address": "192.0.2.9"}, {"principal": 5}, {"route": make_route(9)}]
    )
    def test_each_kind_of_new_leaves(self, change: dict[str, object]) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record())
        aggregator.flush()
        aggregator.add(make_record(**change))
        assert len(poll(aggregator, START_NS + SECOND_NS)) == 1

    def test_a_status_of_a_known_class_is_not_new(self) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record())
        aggregator.flush()
        aggregator.add(make_record(status_code=204))
        assert poll(aggregator, START_NS + SECOND_NS) == []

    def test_the_consumer_is_the_first_known_column(self) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record())
        aggregator.set_consumer_order((ConsumerColumn.CLIENT_ADDRESS, ConsumerColumn.PRINCIPAL))
        aggregator.flush()
        aggregator.add(make_record(principal=5))
        assert poll(aggregator, START_NS + SECOND_NS) == []

    @pytest.mark.parametrize(("calls", "leaves"), [(19, False), (20, True)])
    def test_the_trigger_of_calls(self, calls: int, leaves: bool) -> None:
        assert self.feed_known([make_record() for _ in range(calls)]) == leaves

    @pytest.mark.parametrize(("objects", "leaves"), [(9, False), (10, True)])
    def test_the_trigger_of_objects(self, objects: int, leaves: bool) -> None:
        assert self.feed_known([make_record(object_hash=1 + number) for number in range(objects)]) == leaves

    def test_the_trigger_counts_within_a_second(self) -> None:
        spread = [make_record(time_unix_ns=START_NS + number * SECOND_NS // 15) for number in range(60)]
        assert not self.feed_known(spread)

    def test_what_crosses_for_long_leaves_with_its_window(self) -> None:
        """Ten seconds of early rows, then one a window; nothing of it is missing."""
        aggregator = Aggregator()
        rows: list[Row] = []
        for second in range(30):
            for _ in range(25):
                aggregator.add(make_record(time_unix_ns=START_NS + second * SECOND_NS))
            rows += poll(aggregator, START_NS + (second + 1) * SECOND_NS)
        rows += read_rows(aggregator.flush())
        assert [row.calls for row in rows if row.flags & RowFlag.EARLY] == [25] * 10
        assert sum(row.calls for row in rows) == 30 * 25
        assert len(rows) == 10 + 2

    def test_policy_changes_the_trigger(self) -> None:
        triggers = Triggers(calls_per_second=3)
        assert self.feed_known([make_record() for _ in range(3)], triggers)

    @staticmethod
    def feed_known(stream: list[CallRecord], triggers: Triggers | None = None) -> bool:
        """Whether a row leaves early of a consumer that is known already."""
        aggregator = Aggregator()
        if triggers:
            aggregator.set_triggers(triggers)
        aggregator.add(make_record())
        aggregator.flush()
        for record in stream:
            aggregator.add(record)
        return bool(poll(aggregator, START_NS + 9 * SECOND_NS))

    def test_a_flood_of_new_consumers_sends_no_more_early_rows_than_the_cap(self) -> None:
        aggregator = Aggregator(limits=WindowLimits(rows_per_endpoint=5))
        for number in range(1, 200):
            aggregator.add(make_record(principal=number))
        assert len(poll(aggregator, START_NS + 9 * SECOND_NS)) <= 5


class TestConnection:
    """While the collector is away."""

    def test_windows_merge_to_a_minute(self) -> None:
        aggregator = Aggregator()
        aggregator.set_connected(False)
        for second in range(60):
            aggregator.add(make_record(time_unix_ns=START_NS + second * SECOND_NS))
            assert poll(aggregator, START_NS + second * SECOND_NS) == []
        (row,) = poll(aggregator, START_NS + 61 * SECOND_NS)
        assert (row.calls, row.window_length_seconds, row.flags) == (60, 60, RowFlag.MERGED)

    def test_coming_back_sends_what_was_merged_so_far(self) -> None:
        aggregator = Aggregator()
        aggregator.set_connected(False)
        for second in (0, 15):
            aggregator.add(make_record(time_unix_ns=START_NS + second * SECOND_NS))
        assert poll(aggregator, START_NS + 22 * SECOND_NS) == []
        (row,) = read_rows(aggregator.set_connected(True))
        assert (row.calls, row.window_start_unix_seconds, row.window_length_seconds) == (2, START_NS // SECOND_NS, 20)


class TestClock:
    """Wrong times."""

    def test_the_first_window_after_a_step_says_so(self) -> None:
        aggregator = Aggregator()
        aggregator.mark_clock_step()
        first = run(aggregator, [make_record()])
        second = run(aggregator, [make_record(time_unix_ns=START_NS + 10 * SECOND_NS)])
        assert [row.flags for row in first + second] == [RowFlag.CLOCK_STEP, RowFlag.NONE]

    def test_a_window_of_the_future_leaves_at_once(self) -> None:
        aggregator = Aggregator()
        aggregator.add(make_record(time_unix_ns=START_NS + 3600 * SECOND_NS))
        assert len(poll(aggregator, START_NS)) == 1

    def test_open_windows_are_bounded(self) -> None:
        aggregator = Aggregator()
        for number in range(100):
            aggregator.add(make_record(time_unix_ns=START_NS + number * 10 * SECOND_NS))
        assert len(poll(aggregator, START_NS)) >= 92

    def test_a_straggler_reopens_its_window(self) -> None:
        aggregator = Aggregator()
        rows = run(aggregator, [make_record(), 20, make_record(time_unix_ns=START_NS + 1), 21])
        assert [(row.calls, row.window_start_unix_seconds) for row in rows] == [(1, START_NS // SECOND_NS)] * 2


class TestNumbers:
    """What is told of integer objects instead of their values."""

    def test_steps_and_span(self) -> None:
        numbers = [10, 11, 12, 11, 40]
        (row,) = run(Aggregator(), [make_record(object_hash=n, object_number=n) for n in numbers])
        assert (row.object_numeric_calls, row.object_monotonic_steps, row.object_numeric_span) == (5, 3, 30)

    def test_steps_go_on_across_windows_and_statuses(self) -> None:
        first = make_record(object_hash=7, object_number=7)
        second = make_record(object_hash=8, object_number=8, time_unix_ns=START_NS + 10 * SECOND_NS, status_code=404)
        rows = run(Aggregator(), [first, second])
        assert [row.object_monotonic_steps for row in rows] == [0, 1]

    def test_zero_is_no_step_from_nothing(self) -> None:
        (row,) = run(Aggregator(), [make_record(object_hash=1, object_number=0)])
        assert row.object_monotonic_steps == 0


def test_a_closing_part_adds_bytes_and_times_only() -> None:
    told = make_record(is_final=False, duration_ns=0, object_hash=5)
    closing = make_record(calls=0, response_bytes=9_000, duration_ns=4_000_000_000, object_hash=5)
    (row,) = run(Aggregator(), [told, closing])
    assert (row.calls, row.response_bytes, row.duration_sum_us) == (1, 10_000, 4_000_000)
    assert row.time_to_first_byte_sum_us == 2_000
    assert sum(row.duration.values()) == 1


def test_flags_of_calls() -> None:
    (aborted,) = run(Aggregator(), [make_record(is_aborted=True, status_code=0, duration_ns=0)])
    assert aborted.flags == RowFlag.ABORTED
    assert not aborted.duration
    (lossy,) = run(Aggregator(), [make_record(is_lossy=True, is_truncated=True, is_aborted=True)])
    assert lossy.flags == RowFlag.LOSSY | RowFlag.CREDENTIAL_TRUNCATED
    (ambiguous,) = run(Aggregator(), [make_record(), make_record(is_ambiguous=True)])
    assert ambiguous.flags == RowFlag.AMBIGUOUS


def test_calls_that_were_not_read_are_a_row_of_their_own() -> None:
    fields = {"is_lossy": True, "duration_ns": 0, "time_to_first_byte_ns": 0}
    records = [make_record(status_code=code, **fields) for code in (0, STATUS_NOT_READ, STATUS_NOT_READ, 200)]
    rows = {row.status_code: row for row in run(Aggregator(), records)}
    assert {code: row.calls for code, row in rows.items()} == {0: 1, STATUS_NOT_READ: 2, 200: 1}
    unread = rows[STATUS_NOT_READ]
    assert unread.flags == RowFlag.LOSSY
    assert not unread.duration and not unread.response_size


def test_a_sketched_set_is_flagged() -> None:
    (row,) = run(Aggregator(), [make_record(object_hash=2**40 * number) for number in range(1, 300)])
    assert row.flags == RowFlag.OBJECTS_SKETCHED
    assert len(row.objects.hashes) == 256


@pytest.mark.parametrize("seed", range(9))
def test_an_estimate_of_objects_is_no_more_than_the_calls(seed: int) -> None:
    """Of 300 different ones it is too high for half of the seeds."""
    hashes = np.random.default_rng(seed).integers(1, 2**63, 300).tolist()
    (row,) = run(Aggregator(), [make_record(object_hash=value) for value in hashes])
    assert 256 < row.objects_count <= row.calls == 300


def test_flags_are_those_of_the_wire() -> None:
    for name, number in data_pb2.RowFlag.items():
        if number and name not in {"ROW_FLAG_ESTIMATED"}:
            assert RowFlag[name.removeprefix("ROW_FLAG_")] == 1 << number


def test_repr_of_rows_tells_no_consumer() -> None:
    aggregator = Aggregator()
    aggregator.add(make_record(client_address="198.51.100.7", principal=123_456_789, route=ROUTE))
    rows = aggregator.flush()
    assert repr(rows) == "RowColumns(1 rows)"
    assert "198.51.100.7" not in repr(find_actor(rows.facts, int(rows.rows.identities[0])))


def test_the_last_content_types_of_a_row_are_told() -> None:
    types = ["a/a", "b/b", ""]
    stream = [
        make_record(request_content_type=one, response_content_type=one, time_unix_ns=START_NS + place)
        for place, one in enumerate(types)
    ]
    (row,) = run(Aggregator(), stream)
    assert (row.request_content_type, row.response_content_type) == ("b/b", "b/b")


def test_steps_are_counted_in_order_of_time_not_of_arrival() -> None:
    numbers = [3, 1, 2, 4]
    stream = [make_record(object_hash=n, object_number=n, time_unix_ns=START_NS + n) for n in numbers]
    (row,) = run(Aggregator(), stream)
    assert (row.object_numeric_calls, row.object_monotonic_steps) == (4, 3)
