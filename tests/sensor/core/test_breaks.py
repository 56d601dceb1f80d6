"""Breaks: nothing is lost or moved, and they come with work, not with items."""

import time

import pytest

from sensor.core import process as breaks
from sensor.core.process import WORK_NS, with_breaks


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each break is that was taken, where the kernel takes no slice."""
    told: list[float] = []
    monkeypatch.setattr(breaks, "lets_others_first", lambda: False)
    monkeypatch.setattr(breaks.time, "sleep", told.append)
    return told


@pytest.mark.parametrize(("work_ns", "expected"), [(0, 0), (WORK_NS // 10, 10), (WORK_NS, 100)])
def test_breaks_come_with_work(
    monkeypatch: pytest.MonkeyPatch, slept: list[float], work_ns: int, expected: int
) -> None:
    now = [0]
    monkeypatch.setattr(breaks.time, "perf_counter_ns", lambda: now[0])
    told = []
    for item in with_breaks(range(100)):
        told.append(item)
        now[0] += work_ns
    assert told == list(range(100))
    assert len(slept) == expected


@pytest.mark.parametrize(("is_behind", "is_preempted"), [(True, False), (False, True)])
def test_who_is_behind_or_is_preempted_takes_none(
    monkeypatch: pytest.MonkeyPatch, slept: list[float], is_behind: bool, is_preempted: bool
) -> None:
    monkeypatch.setattr(breaks, "lets_others_first", lambda: is_preempted)
    for _ in with_breaks(range(3), is_behind=is_behind):
        end = time.perf_counter_ns() + WORK_NS
        while time.perf_counter_ns() < end:
            pass
    assert slept == []
