"""The clock: one offset, followed while it slews, a new segment when it jumps."""

import pytest

from sensor.core.clock import Clock
from tests.sensor.clocks import START_UNIX_NS, FakeClock


def test_monotonic_times_become_unix_times() -> None:
    clock = FakeClock()
    kernel_ns = clock.monotonic_ns()
    clock.advance(5)
    assert clock.to_unix_ns(kernel_ns) == START_UNIX_NS
    assert clock.unix_ns() == START_UNIX_NS + 5_000_000_000


@pytest.mark.parametrize("seconds", [-3600, -1.5, 1.5, 3600])
def test_a_step_begins_a_segment(seconds: float) -> None:
    clock = FakeClock()
    clock.step(seconds)
    assert clock.unix_ns() == START_UNIX_NS
    assert clock.check() == int(seconds * 1e9)
    assert clock.segment == 1
    assert clock.unix_ns() == START_UNIX_NS + int(seconds * 1e9)
    assert clock.check() == 0
    assert clock.segment == 1


@pytest.mark.parametrize("seconds", [-1.0, -0.2, 0.0, 0.2, 1.0])
def test_slewing_is_followed_silently(seconds: float) -> None:
    clock = FakeClock()
    clock.step(seconds)
    assert clock.check() == 0
    assert clock.segment == 0
    assert clock.unix_ns() == START_UNIX_NS + int(seconds * 1e9)


def test_a_preempted_reading_is_not_believed() -> None:
    # The second of the three readings takes 2 s between its two monotonic times.
    monotonic = iter([0, 2, 10, 2_000_000_010, 2_000_000_020, 2_000_000_022])
    unix = iter([1_001, 900_000_000, 2_000_001_021])
    clock = Clock(monotonic_source=lambda: next(monotonic, 0), unix_source=lambda: next(unix))
    assert clock.to_unix_ns(0) == 1_000
