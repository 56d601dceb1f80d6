"""A ring is read before it is half full, and no sooner than that asks for."""

import pytest

from sensor.ebpf.ring import Filling

SIZE = 4 << 20
MS = 1_000_000
RECORD_BYTES = 136


def fill(*, records_per_second: int, look_ms: int) -> tuple[float, int]:
    """The part of the ring that is full, and milliseconds since it was empty, at the first look at which it is due."""
    filling = Filling(SIZE)
    assert not filling.is_due(0, 1_000 * MS, look_ms * MS)
    for passed in range(look_ms, 10_000, look_ms):
        pending = records_per_second * RECORD_BYTES * passed // 1_000
        if filling.is_due(pending, (1_000 + passed) * MS, look_ms * MS):
            return pending / SIZE, passed
    raise AssertionError("it is never due")


@pytest.mark.parametrize("records_per_second", [3_000, 11_000, 30_000, 50_000, 77_000, 140_000])
@pytest.mark.parametrize("look_ms", [100, 200])
def test_it_is_due_before_half_of_it_is_full(records_per_second: int, look_ms: int) -> None:
    full, passed = fill(records_per_second=records_per_second, look_ms=look_ms)
    assert full <= 0.5 or passed == look_ms


@pytest.mark.parametrize(("records_per_second", "seconds"), [(9_000, 1), (12_000, 1), (3_000, 4)])
def test_a_slow_one_waits_for_its_second(records_per_second: int, seconds: int) -> None:
    assert fill(records_per_second=records_per_second, look_ms=200)[1] >= seconds * 1_000


def test_a_burst_after_silence_is_not_taken_for_slow() -> None:
    filling = Filling(SIZE)
    assert not filling.is_due(0, 1_000 * MS, 200 * MS)
    assert filling.is_due(SIZE // 4 + 1, 9_000 * MS, 200 * MS)


def test_a_fast_one_that_was_just_read_is_worth_no_reading() -> None:
    filling = Filling(SIZE)
    assert filling.is_due(SIZE // 2, 1_000 * MS, 100 * MS)
    filling.note_read(0)
    assert not filling.is_due(SIZE // 10, 1_020 * MS, 100 * MS)
    assert filling.is_due(SIZE // 2, 1_100 * MS, 100 * MS)
