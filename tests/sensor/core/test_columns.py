"""Calls as columns, and how the aggregator takes them."""

import numpy as np
import pytest

from sensor.aggregate.aggregator import WAITING_CALLS_LIMIT, Aggregator
from sensor.core.calls import CALL, make_calls
from tests.sensor.records import ROUTE, START_NS, make_record
from tests.sensor.rows import read_rows


def test_no_column_overlaps_another_and_each_is_aligned() -> None:
    end = 0
    assert CALL.names is not None
    for name in CALL.names:
        field, offset = CALL.fields[name][:2]  # type: ignore[index]
        assert offset >= end
        assert offset % field.itemsize == 0
        end = offset + field.itemsize
    assert end <= CALL.itemsize == 104


def test_new_calls_are_empty() -> None:
    calls = make_calls(3)
    assert not np.any(calls.view(np.uint8))


@pytest.mark.parametrize(("column", "value"), [("route", 1 << 16), ("status", 1_000), ("role", 4), ("hop", 4)])
def test_a_value_out_of_bounds_is_refused_by_name(column: str, value: int) -> None:
    aggregator = Aggregator()
    calls = make_calls(3)
    calls[column][1] = value
    with pytest.raises(ValueError, match=f"column {column} of the calls has {value}"):
        aggregator.add_calls(calls)
    assert not len(aggregator.flush())


def test_a_record_out_of_bounds_is_refused() -> None:
    aggregator = Aggregator()
    with pytest.raises(ValueError, match="status code is 1000"):
        aggregator.add(make_record(status_code=1000))
    assert not len(aggregator.flush())


def test_calls_without_a_route_are_counted_as_lost() -> None:
    aggregator = Aggregator()
    calls = make_calls(5)
    calls["route"][:2] = aggregator.facts.route(ROUTE)
    calls["role"], calls["calls"] = 1, 1
    aggregator.add_calls(calls)
    (row,) = read_rows(aggregator.flush())
    assert row.calls == 2
    assert aggregator.count().dropped == (("routes_full", 3),)


def test_many_calls_at_once_are_made_rows_at_once() -> None:
    aggregator = Aggregator()
    calls = make_calls(3 * WAITING_CALLS_LIMIT + 5)
    calls["time_unix_ns"] = START_NS
    calls["route"] = aggregator.facts.route(ROUTE)
    calls["role"], calls["calls"], calls["request_bytes"] = 1, 1, 2**40
    aggregator.add_calls(calls)
    assert len(aggregator._waiting) <= WAITING_CALLS_LIMIT
    rows = read_rows(aggregator.flush())
    assert sum(row.calls for row in rows) == len(calls)
    assert sum(row.request_bytes for row in rows) == len(calls) << 40


def test_a_call_may_stand_for_several() -> None:
    aggregator = Aggregator()
    calls = make_calls(1)
    calls["route"], calls["role"], calls["calls"] = aggregator.facts.route(ROUTE), 1, 1_000_000
    aggregator.add_calls(calls)
    (row,) = read_rows(aggregator.flush())
    assert (row.calls, row.records) == (1_000_000, 1)
