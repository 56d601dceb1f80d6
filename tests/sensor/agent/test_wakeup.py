"""When a turn comes: soon after the first event, never too often, and once a second where nothing happens."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from sensor.agent.wakeup import (
    CHECK_SECONDS,
    FEW_BYTES,
    QUIET_CHECK_SECONDS,
    QUIET_SECONDS,
    SETTLE_SECONDS,
    PollScheduler,
)
from tests.virtual_time import run_in_virtual_time

INTERVAL = 0.05


class Bell:
    """A pipe: `ring` writes to it."""

    def __init__(self) -> None:
        self.fd, self._end = os.pipe()
        self.armed: list[bool] = []

    def watch(self, map_fd: int) -> None:
        raise NotImplementedError

    def arm(self, *, is_for_records: bool) -> None:
        self.armed.append(is_for_records)

    def ring(self) -> None:
        os.write(self._end, b"!")

    def hush(self) -> None:
        os.read(self.fd, 1)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._end)


class Rings:
    """Events and records as a test says."""

    def __init__(self, bell: Bell | None) -> None:
        self.bell = bell
        self.events = self.records = self.due = self.pressing = False
        self.bytes = 0

    def has_events(self) -> bool:
        return self.events

    def is_pressing(self) -> bool:
        return self.pressing

    def pending_bytes(self) -> int:
        return self.bytes

    def has_records(self) -> bool:
        return self.records

    def is_due(self, ahead_seconds: float) -> bool:
        return self.due


def play(act: Callable[[PollScheduler, Rings, Bell], Awaitable[None]]) -> None:
    async def main() -> None:
        bell = Bell()
        rings = Rings(bell)
        with PollScheduler(rings, interval_seconds=INTERVAL) as scheduler:
            await act(scheduler, rings, bell)
        bell.close()

    run_in_virtual_time(main())


async def measure(scheduler: PollScheduler, seconds: float, *, is_quiet: bool = False) -> float:
    """Seconds of the loop's clock; a test compares them with `close_to`."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await scheduler.wait(seconds, is_quiet=is_quiet)
    return loop.time() - start


def close_to(seconds: float) -> object:
    return pytest.approx(seconds, abs=1e-6)


def test_nothing_happens_for_as_long_as_was_asked() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        assert await measure(scheduler, 0.3) == close_to(0.3)
        assert bell.armed == [True]

    play(act)


def test_many_events_after_a_rest_end_it_a_moment_later() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        def happen() -> None:
            rings.events, rings.bytes = True, FEW_BYTES
            bell.ring()

        asyncio.get_running_loop().call_later(0.2, happen)
        assert await measure(scheduler, 5) == close_to(0.2 + SETTLE_SECONDS)

    play(act)


def test_a_few_events_wait_for_the_end_of_the_second_unless_each_is_urgent() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        def happen() -> None:
            rings.events, rings.bytes = True, FEW_BYTES - 1
            bell.ring()

        loop = asyncio.get_running_loop()
        loop.call_later(0.2, happen)
        assert await measure(scheduler, 0.9) == close_to(0.9)
        rings.events = False
        loop.call_later(0.2, happen)
        start = loop.time()
        await scheduler.wait(0.9, is_urgent=True)
        assert loop.time() - start == close_to(0.2 + SETTLE_SECONDS)

    play(act)


def test_a_second_ring_that_rings_does_not_end_the_wait_of_a_few_events() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events = True
        asyncio.get_running_loop().call_later(0.3, bell.ring)
        assert await measure(scheduler, 0.9) == close_to(0.9)

    play(act)


def test_events_that_come_at_any_time_make_no_turn_before_the_interval() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events, rings.bytes = True, FEW_BYTES
        await scheduler.wait(1)
        assert await measure(scheduler, 1) == close_to(INTERVAL)
        assert not bell.armed

    play(act)


def test_where_nothing_was_learned_many_events_of_a_quarter_of_a_second_are_read_together() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events, rings.bytes = True, FEW_BYTES
        await scheduler.wait(1)
        assert await measure(scheduler, 5, is_quiet=True) == close_to(QUIET_SECONDS + SETTLE_SECONDS)

    play(act)


def test_where_nothing_was_learned_a_few_events_wait_for_the_end_of_the_second() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events, rings.bytes = True, FEW_BYTES - 1
        await scheduler.wait(1)
        assert await measure(scheduler, 0.9, is_quiet=True) == close_to(0.9)

    play(act)


def test_events_that_become_many_later_in_the_second_are_read_soon() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events = True
        await scheduler.wait(1)
        asyncio.get_running_loop().call_later(QUIET_SECONDS + 0.1, setattr, rings, "bytes", FEW_BYTES)
        took = await measure(scheduler, 5, is_quiet=True)
        assert QUIET_SECONDS + 0.1 < took <= QUIET_SECONDS + 0.1 + QUIET_CHECK_SECONDS + SETTLE_SECONDS

    play(act)


def test_a_look_at_a_few_events_that_fails_ends_the_wait() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        def fail() -> bool:
            raise RuntimeError("a bug")

        def begin_to_fail() -> None:
            rings.is_pressing = fail  # type: ignore[method-assign]

        rings.events = True
        await scheduler.wait(1)
        asyncio.get_running_loop().call_later(QUIET_SECONDS, begin_to_fail)
        with pytest.raises(RuntimeError):
            async with asyncio.timeout(60):
                await scheduler.wait(3_600, is_quiet=True)

    play(act)


def test_what_was_learned_or_a_second_that_ends_cuts_that_short() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events, rings.bytes = True, FEW_BYTES
        await scheduler.wait(1)
        assert await measure(scheduler, 5) == close_to(INTERVAL)
        assert await measure(scheduler, 0.08, is_quiet=True) == close_to(0.08)

    play(act)


def test_after_a_rest_without_events_many_at_once_are_read_at_once_all_the_same() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        def happen() -> None:
            rings.events, rings.bytes = True, FEW_BYTES
            bell.ring()

        asyncio.get_running_loop().call_later(QUIET_SECONDS + 0.1, happen)
        assert await measure(scheduler, 5, is_quiet=True) == close_to(QUIET_SECONDS + 0.1 + SETTLE_SECONDS)

    play(act)


def test_many_events_and_records_that_are_due_end_a_quiet_rest() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        loop = asyncio.get_running_loop()
        for name in ("pressing", "due"):
            rings.events = True
            await scheduler.wait(1)
            loop.call_later(QUIET_CHECK_SECONDS / 2, setattr, rings, name, True)
            assert await measure(scheduler, 5, is_quiet=True) == close_to(QUIET_CHECK_SECONDS + SETTLE_SECONDS)
            setattr(rings, name, False)

    play(act)


def test_an_end_ends_a_quiet_rest() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        rings.events = True
        await scheduler.wait(1)
        asyncio.get_running_loop().call_later(0.05, scheduler.end)
        assert await measure(scheduler, 5, is_quiet=True) == close_to(0.05)

    play(act)


def test_records_alone_are_looked_at_and_end_the_rest_when_they_are_a_batch() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        def happen(is_due: bool) -> None:
            rings.records, rings.due = True, is_due

        loop = asyncio.get_running_loop()
        loop.call_later(0.01, happen, False)
        loop.call_later(0.02, bell.ring)
        loop.call_later(CHECK_SECONDS / 2, happen, True)
        assert await measure(scheduler, 5) == close_to(0.02 + CHECK_SECONDS + SETTLE_SECONDS)
        assert bell.armed == [True, False]

    play(act)


def test_an_end_ends_the_wait_in_hand_and_all_that_follow() -> None:
    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        asyncio.get_running_loop().call_later(0.05, scheduler.end)
        assert await measure(scheduler, 5) == close_to(0.05)
        assert await measure(scheduler, 5) == 0

    play(act)


def test_a_look_that_fails_ends_the_wait() -> None:
    """In the timer's own call, where nobody else would: the loop of the sensor would wait for ever."""

    async def act(scheduler: PollScheduler, rings: Rings, bell: Bell) -> None:
        looks = 0

        def is_due(ahead_seconds: float) -> bool:
            nonlocal looks
            looks += 1
            if looks > 2:
                raise RuntimeError("a bug")
            return False

        rings.records, rings.is_due = True, is_due  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            async with asyncio.timeout(60):
                await scheduler.wait(3_600)

    play(act)


def test_without_a_bell_it_looks_at_each_interval() -> None:
    async def main() -> None:
        rings = Rings(None)
        with PollScheduler(rings, interval_seconds=INTERVAL) as scheduler:
            asyncio.get_running_loop().call_later(0.1, setattr, rings, "events", True)
            assert await measure(scheduler, 5) == close_to(0.1 + SETTLE_SECONDS)

    run_in_virtual_time(main())
