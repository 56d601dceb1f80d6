"""Waits for something that happens in another process: asks again until it holds or the time is over."""

import time
from collections.abc import Callable
from typing import TypeVar

INTERVAL_SECONDS = 0.2

T = TypeVar("T")


def wait_until(question: Callable[[], T], timeout_seconds: float, what: str) -> T:
    """The first true answer; fails the test with `what` and the last answer when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout_seconds:.0f} s; last answer: {answer!r}")
        time.sleep(INTERVAL_SECONDS)


def wait_until_still(question: Callable[[], T], still_seconds: float, timeout_seconds: float) -> T:
    """The answer once it has not changed for `still_seconds`; fails the test when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    answer, since = question(), time.monotonic()
    while time.monotonic() - since < still_seconds:
        if time.monotonic() >= deadline:
            raise AssertionError(f"it still changes after {timeout_seconds:.0f} s; last answer: {answer!r}")
        time.sleep(INTERVAL_SECONDS)
        latest = question()
        if latest != answer:
            answer, since = latest, time.monotonic()
    return answer
