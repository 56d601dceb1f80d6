"""Waits for something that happens elsewhere: asks again until it holds or the deadline has passed."""

import asyncio
import select
import time
from collections.abc import Callable
from typing import Final, TypeVar

# Long enough for a host whose processors all tests share: who waits for a condition never waits longer than it takes.
DEADLINE_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.2

T = TypeVar("T")


def is_readable(fd: int, seconds: float) -> bool:
    """Whether there is something to read, or the end, within so long. `select` takes no file past number 1,023."""
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(max(0.0, seconds) * 1e3))


def wait_until(question: Callable[[], T], what: str = "what was waited for", *, seconds: float = DEADLINE_SECONDS) -> T:
    """The first true answer; fails the test with `what` and the last answer at the deadline."""
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; last answer: {answer!r}")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def wait_for_equal(
    question: Callable[[], T], expected: T, what: str = "what was waited for", *, seconds: float = DEADLINE_SECONDS
) -> None:
    """Returns once the answer is `expected`; fails the test with what was found beside it at the deadline."""
    found: list[T] = []

    def is_equal() -> bool:
        found[:] = [question()]
        return found[0] == expected

    try:
        wait_until(is_equal, what, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"{what}: not within {seconds:.0f} s; found {found[0]!r}, expected {expected!r}") from None


async def wait_in_loop(question: Callable[[], T], what: str = "what was waited for") -> T:
    """The same in an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS:.0f} s; last answer: {answer!r}"
        await asyncio.sleep(_FIRST_PAUSE_SECONDS)
    return answer


def wait_until_still(question: Callable[[], T], still_seconds: float, *, seconds: float = DEADLINE_SECONDS) -> T:
    """The answer once it has not changed for `still_seconds`; fails the test at the deadline."""
    deadline = time.monotonic() + seconds
    answer, since = question(), time.monotonic()
    while time.monotonic() - since < still_seconds:
        if time.monotonic() >= deadline:
            raise AssertionError(f"it still changes after {seconds:.0f} s; last answer: {answer!r}")
        time.sleep(_LONGEST_PAUSE_SECONDS)
        latest = question()
        if latest != answer:
            answer, since = latest, time.monotonic()
    return answer
