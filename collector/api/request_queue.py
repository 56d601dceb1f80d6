"""Lets requests in by turns: a few run at once, and of one client fewer, so that nobody keeps others out.

Clients get their turns one after the other, whatever each has waiting. So thirty costly lists of one client delay the
request of another by one list at most. A request that finds no room, or waits too long, is refused.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """Bounds of requests; the defaults are the product's."""

    # At once. Each may keep one statement of the store busy, beside those of the writer and of housekeeping, and takes
    # up to some 100 MB of memory where there are 200,000 endpoints. The engine uses two processors for each.
    running: int = 2
    running_of_client: int = 1
    # Running or waiting.
    entered: int = 128
    entered_of_client: int = 64
    waiting_seconds: float = 10.0
    # Of long bodies that are read or worked on: some six of the longest, of one client three.
    body_bytes: int = 32 * 2**20
    body_bytes_of_client: int = 16 * 2**20


class BusyError(Exception):
    """There is no room, or no turn came in time; one sentence."""


class BodyBudget:
    """The memory of long bodies, over all clients. Used in one event loop."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def open(self, client: str) -> Iterator[Callable[[int], None]]:
        """A function that takes so many more bytes for a request of a client. It raises BusyError where there is no
        room. At the end they are given back."""
        held = 0

        def take(count: int) -> None:
            nonlocal held
            limits = self._limits
            if self._held.total() + count > limits.body_bytes:
                raise BusyError(f"Bodies of {self._held.total()} bytes are being worked on, which is nearly the limit")
            if self._held[client] + count > limits.body_bytes_of_client:
                raise BusyError(f"Bodies of {self._held[client]} bytes of this client are being worked on")
            held += count
            self._held[client] += count

        try:
            yield take
        finally:
            self._held[client] -= held
            if not self._held[client]:
                del self._held[client]


class RequestQueue:
    """Used in one event loop."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._running: Counter[str] = Counter()
        self._entered: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._turn = 0
        self._last_turns: dict[str, int] = {}  # Of clients that have entered.

    @contextlib.asynccontextmanager
    async def enter(self, client: str) -> AsyncIterator[None]:
        """A turn for a request of a client. Raises BusyError."""
        limits = self._limits
        entered = self._entered.total()
        if entered >= limits.entered:
            raise BusyError(f"{entered} requests are being worked on, which is the limit")
        if self._entered[client] >= limits.entered_of_client:
            raise BusyError(f"{self._entered[client]} requests of this client are being worked on, which is the limit")
        self._entered[client] += 1
        try:
            await self._wait_for_turn(client)
            try:
                yield
            finally:
                self._take(self._running, client)
                self._start_next()
        finally:
            self._take(self._entered, client)
            if client not in self._entered:
                self._last_turns.pop(client, None)

    async def _wait_for_turn(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._start_next()
        try:
            async with asyncio.timeout(self._limits.waiting_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._take(self._running, client)  # Its turn came in the moment in which it gave up.
            else:
                self._leave(client, turn)
            self._start_next()
            if isinstance(error, TimeoutError):
                sentence = f"No turn came within {self._limits.waiting_seconds:g} s among the requests that wait"
                raise BusyError(sentence) from None
            raise

    def _start_next(self) -> None:
        """Gives a turn to the client whose last one was longest ago, as long as there is one."""
        while self._running.total() < self._limits.running:
            waiting = [one for one in self._waiting if self._running[one] < self._limits.running_of_client]
            if not waiting:
                return
            client = min(waiting, key=lambda one: self._last_turns.get(one, 0))
            turn = self._waiting[client].popleft()
            if not self._waiting[client]:
                del self._waiting[client]
            if not turn.cancelled():
                self._turn += 1
                self._last_turns[client] = self._turn
                self._running[client] += 1
                turn.set_result(None)

    def _leave(self, client: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[client]

    @staticmethod
    def _take(counter: Counter[str], client: str) -> None:
        counter[client] -= 1
        if not counter[client]:
            del counter[client]
