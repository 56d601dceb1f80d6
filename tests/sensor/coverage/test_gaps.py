"""Times without capture."""

from pathlib import Path

from sensor.core.calls import Service, WorkloadKind
from sensor.coverage.gaps import Gaps
from sensor.coverage.row import PortCoverage, PortProtocol

SECOND = 1_000_000_000
NODE = Service(
    cluster="", namespace="", workload="unknown", workload_kind=WorkloadKind.UNSPECIFIED, host_name="n", port=0
)


class Clock:
    """Unix time that tests set; 2026-11-25 18:00:00 UTC."""

    def __init__(self) -> None:
        self.ns = 1_795_629_600 * SECOND

    def __call__(self) -> int:
        return self.ns


def make(path: Path, clock: Clock, boot_ns: int = 0) -> Gaps:
    return Gaps(path / "captured-until", unix_ns=clock, boot_unix_ns=boot_ns)


def rows(gaps: Gaps) -> list[PortCoverage]:
    return list(gaps.cover(NODE))


def test_the_first_sensor_of_a_node_has_no_gap(tmp_path: Path) -> None:
    gaps = make(tmp_path, Clock())
    gaps.begin()
    assert not rows(gaps) and gaps.count == 0


def test_its_row_says_how_long(tmp_path: Path) -> None:
    clock = Clock()
    before = make(tmp_path, clock)
    before.begin()
    before.end()
    clock.ns += 16 * SECOND + 900_000_000
    gaps = make(tmp_path, clock)
    gaps.begin()
    (row,) = rows(gaps)
    assert (row.uncaptured_ms, row.connections) == (16_900, 1)


def test_a_restart_is_a_gap_from_stop_to_start(tmp_path: Path) -> None:
    clock = Clock()
    before = make(tmp_path, clock)
    before.begin()
    clock.ns += 600 * SECOND
    before.end()
    clock.ns += 3_400_000_000
    after = make(tmp_path, clock)
    after.begin()
    (row,) = rows(after)
    assert (row.protocol, row.connections, row.address) == (PortProtocol.MISSED, 1, "time without capture")
    assert "for 3.4 s in all" in row.reason
    assert "from 2026-11-25 18:10:00 to 18:10:03 UTC" in row.reason
    assert after.figures()[0].value == 3.4


def test_a_sensor_that_was_killed_captured_until_its_last_touch(tmp_path: Path) -> None:
    clock = Clock()
    before = make(tmp_path, clock)
    before.begin()
    for _ in range(20):
        clock.ns += SECOND // 4
        before.touch()
    clock.ns += 2 * SECOND
    after = make(tmp_path, clock)
    after.begin()
    assert 2 * SECOND <= after.total_ns <= 3 * SECOND


def test_a_host_that_was_down_was_not_called(tmp_path: Path) -> None:
    clock = Clock()
    before = make(tmp_path, clock)
    before.begin()
    before.end()
    clock.ns += 3_600 * SECOND
    after = make(tmp_path, clock, boot_ns=clock.ns - 20 * SECOND)
    after.begin()
    assert after.total_ns == 20 * SECOND


def test_pauses_are_gaps_and_add_up(tmp_path: Path) -> None:
    clock = Clock()
    gaps = make(tmp_path, clock)
    gaps.begin()
    for _ in range(2):
        gaps.end()
        clock.ns += 5 * SECOND
        gaps.touch()  # While it is paused nothing is captured.
        gaps.begin()
        clock.ns += 60 * SECOND
    (row,) = rows(gaps)
    assert row.connections == 2 and "for 10.0 s in all" in row.reason


def test_a_clock_that_went_back_makes_no_gap(tmp_path: Path) -> None:
    clock = Clock()
    before = make(tmp_path, clock)
    before.begin()
    before.end()
    clock.ns -= 100 * SECOND
    after = make(tmp_path, clock)
    after.begin()
    assert after.count == 0


def test_a_disk_that_refuses_costs_only_the_knowledge(tmp_path: Path) -> None:
    gaps = make(tmp_path / "nowhere", Clock())
    gaps.begin()
    gaps.end()
    assert not rows(gaps)
