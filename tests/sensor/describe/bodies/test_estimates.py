"""Records estimated from sizes, and which bodies are read."""

import numpy as np

from sensor.describe.bodies.sampling import ROUTES_MAX, BodySampler, Estimate, RecordEstimates, SampleRule

SECOND_NS = 1_000_000_000


def _learn(estimates: RecordEstimates, *samples: tuple[int, int], is_list: bool = True) -> None:
    for records, size in samples:
        estimates.learn(1, records=records, response_bytes=size, head_bytes=200, is_list=is_list)


def test_by_the_slope_of_different_lengths() -> None:
    estimates = RecordEstimates()
    _learn(estimates, *((n, 260 + 130 * n) for n in (3, 10, 25, 7)))
    found = estimates.find(1)
    assert found is not None
    assert [found.count(260 + 130 * n) for n in (0, 1, 50, 1_000)] == [0, 1, 50, 1_000]


def test_by_the_size_without_head_where_all_are_alike() -> None:
    estimates = RecordEstimates()
    _learn(estimates, *((20, 200 + 20 * 100),) * 5)
    found = estimates.find(1)
    assert found is not None
    assert (found.count(200 + 20 * 100), found.count(200 + 40 * 100), found.count(200)) == (20, 40, 0)


def test_an_odd_sample_changes_nothing() -> None:
    estimates = RecordEstimates()
    _learn(estimates, *((n, 260 + 130 * n) for n in (3, 10, 25, 7, 12, 18)), (2, 900_000))
    found = estimates.find(1)
    assert found is not None
    assert abs(found.count(260 + 130 * 30) - 30) <= 3


def test_single_objects_and_empty_lists() -> None:
    estimates = RecordEstimates()
    _learn(estimates, (1, 300), (1, 900), is_list=False)
    found = estimates.find(1)
    assert found is not None
    assert found.count(5_000) == 1
    empty = RecordEstimates()
    _learn(empty, (0, 210), (0, 210))
    found = empty.find(1)
    assert found is not None
    assert found.count(210) == 0
    assert RecordEstimates().find(1) is None


def test_the_first_ones_then_one_a_second_and_what_is_new() -> None:
    sampler = BodySampler(SampleRule(first_count=3, interval_ns=SECOND_NS))

    def is_due(time_ns: int, status: int = 200, size: int = 500, route: int = 1) -> bool:
        return sampler.is_due(route, status, "application/json", size, time_ns)

    assert [is_due(i) for i in range(5)] == [True, True, True, False, False]
    assert [is_due(SECOND_NS + 5), is_due(SECOND_NS + 6), is_due(2 * SECOND_NS + 6)] == [True, False, True]
    later = 2 * SECOND_NS + 10
    assert [is_due(later, status=500), is_due(later, status=500), is_due(later, size=9_000)] == [True, False, True]
    assert is_due(later, route=2)


def test_all_at_once_as_one_by_one() -> None:
    estimates = RecordEstimates()
    routes = list(range(1, ROUTES_MAX + 2))
    for route in routes:
        estimates.learn(route, records=1, response_bytes=100 + route, head_bytes=10, is_list=False)
    table, is_known = estimates.find_all(np.array(routes, np.uint64))
    for route, row, known in zip(routes, table.tolist(), is_known.tolist(), strict=True):
        found = estimates.find(route)
        assert (found is not None) == known
        assert found is None or [found.fixed_bytes, found.record_bytes, found.largest_bytes] == row == [
            0,
            0,
            100 + route,
        ]
    # One too many: the oldest went, many at once.
    assert not is_known[0]
    assert is_known[-1]
    assert 0 < np.count_nonzero(~is_known) < len(routes) // 4
    estimates.learn(1, records=1, response_bytes=7, head_bytes=1, is_list=False)
    assert estimates.find(1) == Estimate(0.0, 0.0, 7)
    assert estimates.find(routes[-1]) == Estimate(0.0, 0.0, 100 + routes[-1])
