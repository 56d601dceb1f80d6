"""Records estimated from sizes, and which bodies are read."""

from sensor.bodies.estimates import RecordEstimates
from sensor.bodies.sampling import BodySampler, SampleRule

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
    assert (found.is_jump(3_600), found.is_jump(3_601)) == (False, True)
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
