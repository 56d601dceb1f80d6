"""The poll schedule of the sensor's loop: waits for kernel events, or for the end of the second of unix time.

Calls that are copied whole must be read soon where they are many, because they extend the kernel route cache. Then a
turn comes a moment after the first event that follows an idle time, when the call is probably over. Otherwise it comes
`interval_seconds` after the last turn. Where the last turn installed nothing, new events are samples of known calls.
Then those of a quarter of a second are read together, because a wake-up costs more than most of them.

A few events wait until their second ends. Their rows leave no sooner, and the kernel copies few calls meanwhile that it
could have matched. At ten calls a second a turn for each would be most of what the sensor costs.

Records wait for their second to end. Meanwhile the fill of the rings is checked without a turn. Without HTTP traffic
the sensor sleeps from second to second.
"""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Final, Self

from sensor.capture.source import Capture

# From the first event to the turn: calls that take no longer are read whole.
SETTLE_SECONDS: Final = 0.005
# While there are records in their ring, it is looked at so often: 4 MB of them take a node longer that makes 150,000
# calls a second.
CHECK_SECONDS: Final = 0.2
# The same where they had to be read before their second ended.
BUSY_CHECK_SECONDS: Final = 0.1
# Between two turns, where the last one installed nothing; what is new then is installed so much later.
QUIET_SECONDS: Final = 0.25
# With fewer bytes of events and records than this, some ten calls, the turn at the end of the second is soon enough.
FEW_BYTES: Final = 16_384
# Meanwhile it is looked so often whether too much has come: a burst of what is new fills a ring in half a second.
QUIET_CHECK_SECONDS: Final = 0.125


class PollScheduler:
    """Waits for one loop, as a context manager. Without a bell it looks every `interval_seconds`."""

    def __init__(self, rings: Capture, *, interval_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._rings = rings
        self._interval_seconds = interval_seconds
        self._now = self._loop.time
        self._rung: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_ended = False
        self._is_busy = False
        self._last_turn = self._now()
        if rings.bell is not None:
            self._loop.add_reader(rings.bell.fd, self._ring)

    def end(self) -> None:
        """The wait in hand, and each that follows, is over at once."""
        self._is_ended = True
        if self._rung is not None:
            _finish(self._rung)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Before capture is closed."""
        if self._rings.bell is not None:
            self._loop.remove_reader(self._rings.bell.fd)

    async def wait(self, seconds: float, *, is_quiet: bool = False, is_urgent: bool = False) -> None:
        """Till a turn is worth its while, `seconds` at most. `is_quiet`: what comes extends no cache. `is_urgent`: each
        call is to be read soon."""
        start = self._now()
        end = start + seconds
        await self._wait_for_news(end)
        if not is_urgent and self._rings.bell is not None:
            since_turn = QUIET_SECONDS if is_quiet else self._interval_seconds - SETTLE_SECONDS
            await self._gather(end, self._last_turn + since_turn)
        # Never sooner after the last turn than the interval, nor before a short call can be over.
        turn = max(self._last_turn + self._interval_seconds, min(self._now() + SETTLE_SECONDS, end))
        if (left := turn - self._now()) > 0 and not self._is_ended:
            await asyncio.sleep(left)
        self._last_turn = self._now()

    async def _wait_for_news(self, end: float) -> None:
        rings = self._rings
        while not self._is_ended and (left := end - self._now()) > 0:
            if rings.has_events():
                return
            if rings.is_due(self._check_seconds):
                self._is_busy = True
                return
            if rings.bell is None:
                await asyncio.sleep(min(left, self._interval_seconds))
            else:
                await self._wait_for_bell(end)
        self._is_busy = False

    async def _gather(self, end: float, many_from: float) -> None:
        """Till `end`, till there are more than a few events after `many_from`, or till a ring has much."""
        while not self._is_ended and not self._is_gathered(end, many_from):
            rung = self._loop.create_future()
            await self._wait_on(rung, partial(self._find_gathering_pause, end, many_from))

    def _find_gathering_pause(self, end: float, many_from: float) -> float:
        if self._is_gathered(end, many_from):
            return 0.0
        now = self._now()
        return min(end - now, QUIET_CHECK_SECONDS, many_from - now if many_from > now else math.inf)

    def _is_gathered(self, end: float, many_from: float) -> bool:
        rings, now = self._rings, self._now()
        if end <= now or rings.is_pressing() or rings.is_due(self._check_seconds):
            return True
        return many_from <= now and rings.pending_bytes() >= FEW_BYTES

    @property
    def _check_seconds(self) -> float:
        return BUSY_CHECK_SECONDS if self._is_busy else CHECK_SECONDS

    async def _wait_for_bell(self, end: float) -> None:
        """Till it rings, or records that are there already have become a batch."""
        assert self._rings.bell is not None
        rung = self._loop.create_future()
        has_records = self._rings.has_records()
        self._rings.bell.arm(is_for_records=not has_records)
        await self._wait_on(rung, partial(self._find_bell_pause, end, self._check_seconds if has_records else math.inf))

    def _find_bell_pause(self, end: float, check_seconds: float) -> float:
        left = end - self._now()
        return 0.0 if left <= 0 or self._rings.is_due(self._check_seconds) else min(left, check_seconds)

    async def _wait_on(self, rung: "asyncio.Future[None]", find_pause: Callable[[], float]) -> None:
        """Till it is rung, or `find_pause` gives no seconds until the next look. A future and a timer: a wait with a
        timeout makes a task each time."""
        self._rung = rung
        self._look(rung, find_pause)
        try:
            await rung
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._rung = None

    def _look(self, rung: "asyncio.Future[None]", find_pause: Callable[[], float]) -> None:
        """Looks again in a while, without a step of the task that waits, which costs more than the look."""
        try:
            pause = find_pause()
        except Exception as error:
            # In a timer's call nobody else would end the wait.
            if not rung.done():
                rung.set_exception(error)
            return
        if pause > 0:
            self._timer = self._loop.call_later(pause, self._look, rung, find_pause)
        else:
            _finish(rung)

    def _ring(self) -> None:
        assert self._rings.bell is not None
        self._rings.bell.hush()
        if self._rung is not None:
            _finish(self._rung)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
