"""What the kernel side missed, as rows."""

from sensor.coverage.limits import list_limits
from sensor.coverage.row import CoverageRole, PortProtocol
from sensor.ebpf.abi import Counter
from tests.sensor.coverage.test_report import UNKNOWN


def test_only_what_was_missed_is_told_with_advice() -> None:
    counters = dict.fromkeys(Counter, 0) | {Counter.ORPHANS: 3, Counter.CALLS: 99, Counter.EVENTS_LOST: 2}
    rows = {row.address: row for row in list_limits(counters, UNKNOWN)}
    assert {name: row.connections for name, row in rows.items()} == {
        "responses without a request": 3,
        "heads lost at the ring": 2,
    }
    assert "ring_bytes" in rows["heads lost at the ring"].reason
    for row in rows.values():
        assert (row.protocol, row.role, row.is_http_like) == (PortProtocol.MISSED, CoverageRole.NODE, False)


def test_nothing_missed_is_no_row() -> None:
    assert list(list_limits({}, UNKNOWN)) == []


def test_what_is_counted_in_bytes_is_told_so() -> None:
    (row,) = list_limits({Counter.RAW_REFUSED: 9_000}, UNKNOWN)
    assert (row.connections, row.bytes) == (0, 9_000)


def test_calls_that_came_without_their_heads_are_told() -> None:
    counters = {Counter.UNLEARNED: 5, Counter.OVERFLOW: 4, Counter.BLOCKS_REFUSED: 3, Counter.BODIES_REFUSED: 2}
    counters |= {Counter.SHARES_SPENT: 1}
    rows = {row.address: row for row in list_limits(counters, UNKNOWN)}
    assert {name: row.connections for name, row in rows.items()} == {
        "calls added up at the ring": 4,
        "heads past the budget": 5,
        "heads past a caller's share": 1,
        "bodies past the budget": 2,
        "HTTP/2 heads past a cgroup's share": 3,
    }
    assert "heads_per_second" in rows["heads past the budget"].reason
