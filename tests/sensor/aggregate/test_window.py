"""The bounds of a window's rows."""

import numpy as np

from sensor.aggregate.aggregator import Aggregator, Triggers, WindowLimits
from sensor.aggregate.rows import RowFlag
from sensor.core.calls import AuthenticationKind, make_calls
from tests.sensor.records import SECOND_NS, START_NS, make_record, make_route
from tests.sensor.rows import read_rows

NEVER = Triggers(distinct_objects_per_second=10**6, calls_per_second=10**6)


def make_known(limits: WindowLimits, principals: int, triggers: Triggers = NEVER) -> Aggregator:
    """An aggregator to which these principals are no news."""
    aggregator = Aggregator(limits=limits, triggers=triggers)
    for principal in range(1, principals + 1):
        aggregator.add(make_record(principal=principal, time_unix_ns=START_NS - 100 * SECOND_NS))
    aggregator.flush()
    return aggregator


def test_what_left_early_counts_for_a_consumers_place() -> None:
    """The widest consumer left in the first second; its later call is still told under its own name."""
    aggregator = make_known(WindowLimits(rows_per_endpoint=2), 6, Triggers())
    for number in range(30):
        aggregator.add(make_record(principal=1, object_hash=100 + number))
    (early,) = read_rows(aggregator.poll(START_NS + SECOND_NS))
    assert early.actor.principal == 1
    late_ns = START_NS + 2 * SECOND_NS
    aggregator.add(make_record(principal=1, object_hash=1, time_unix_ns=late_ns))
    for principal in range(2, 7):
        for number in range(principal):
            aggregator.add(make_record(principal=principal, object_hash=10 + number, time_unix_ns=late_ns))
    rows = read_rows(aggregator.flush())
    assert {row.actor.principal for row in rows} == {0, 1, 6}


def test_rows_that_left_whole_take_a_place_each() -> None:
    aggregator = make_known(WindowLimits(rows_per_endpoint=2), 4, Triggers())
    for principal in (1, 2):
        for number in range(30):
            aggregator.add(make_record(principal=principal, object_hash=100 + number))
    assert len(aggregator.poll(START_NS + SECOND_NS)) == 2
    for principal in (3, 4):
        aggregator.add(make_record(principal=principal, object_hash=5, time_unix_ns=START_NS + 2 * SECOND_NS))
    (other,) = read_rows(aggregator.flush())
    assert (other.flags, other.calls, other.actor.principal) == (RowFlag.OTHER, 2, 0)


def test_the_widest_rows_of_all_endpoints_stay_in_a_full_window() -> None:
    aggregator = Aggregator(limits=WindowLimits(rows_per_window=3), triggers=NEVER)
    for route_id in range(1, 6):
        for number in range(route_id):
            aggregator.add(make_record(route=make_route(route_id), object_hash=1 + number))
    rows = read_rows(aggregator.flush())
    assert {row.route.route_id for row in rows if not row.flags & RowFlag.OTHER} == {3, 4, 5}
    assert {(row.route.route_id, row.calls) for row in rows if row.flags & RowFlag.OTHER} == {(1, 1), (2, 2)}
    assert aggregator.count().dropped_total == 0


def test_others_of_one_endpoint_are_bounded_whatever_the_credentials() -> None:
    aggregator = Aggregator(limits=WindowLimits(rows_per_endpoint=1), triggers=NEVER)
    kinds = np.random.default_rng(1).integers(0, 1 << 17, 1_000).tolist()
    for principal, kind in enumerate(kinds, 1):
        aggregator.add(make_record(principal=principal, authentication=AuthenticationKind(kind & ~1)))
    rows = read_rows(aggregator.flush())
    assert len(rows) <= 1 + 64 + 2
    assert sum(row.calls for row in rows) == 1_000
    assert sum(row.calls for row in rows if not row.authentication) == sum(not kind & ~1 for kind in kinds)


def test_a_window_that_takes_much_memory_leaves_in_parts() -> None:
    source = np.random.default_rng(1)
    aggregator = Aggregator(triggers=NEVER)
    facts, calls_count = aggregator.facts, 30_000
    routes = np.array([facts.route(make_route(number)) for number in range(1, 3_001)])
    calls = make_calls(calls_count)
    calls["role"], calls["calls"], calls["status"], calls["flags"] = 1, 1, 200, 4
    rows = []
    for second in range(9):
        calls["time_unix_ns"] = START_NS + second * SECOND_NS
        calls["route"] = source.choice(routes, calls_count)
        calls["object"] = source.integers(1, 2**64, calls_count, np.uint64)
        calls["duration_us"] = source.integers(0, 10**6, calls_count)
        aggregator.add_calls(calls)
        rows += read_rows(aggregator.poll(START_NS + (second + 1) * SECOND_NS))
    # The first second's are new; later ones can only have left for their memory.
    assert max(row.calls for row in rows if row.flags & RowFlag.EARLY) > 20
    rows += read_rows(aggregator.flush())
    assert sum(row.calls for row in rows) == 9 * calls_count
    assert sum(len(row.objects.hashes) for row in rows) == 9 * calls_count
