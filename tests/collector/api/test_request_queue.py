"""Turns of requests: a few run at once, fewer of one client, and nobody waits behind all requests of another."""

import asyncio

import pytest

from collector.api.request_queue import BodyBudget, BusyError, QueueLimits, RequestQueue
from tests.virtual_time import run_in_virtual_time


class Entered:
    """Requests that hold their turn until it is ended."""

    def __init__(self, limits: QueueLimits) -> None:
        self.queue = RequestQueue(limits)
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def ask(self, name: str, client: str) -> asyncio.Task[None]:
        self._ends[name] = asyncio.Event()
        return asyncio.create_task(self._hold(name, client))

    async def _hold(self, name: str, client: str) -> None:
        async with self.queue.enter(client):
            self.order.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_one_client_leaves_room_for_another() -> None:
    async def main() -> None:
        entered = Entered(QueueLimits(running=3, running_of_client=2))
        tasks = [entered.ask(f"a{number}", "a") for number in range(30)]
        await settle()
        assert entered.order == ["a0", "a1"]
        tasks.append(entered.ask("b0", "b"))
        await settle()
        assert entered.order == ["a0", "a1", "b0"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        last = entered.ask("a30", "a")
        await settle()
        assert entered.order[-1] == "a30"
        await entered.end("a30")
        await last

    run_in_virtual_time(main())


def test_clients_get_turns_one_after_the_other() -> None:
    async def main() -> None:
        entered = Entered(QueueLimits(running=1, running_of_client=1))
        tasks = [entered.ask(name, name[0]) for name in ("a0", "a1", "a2", "b0", "b1", "c0")]
        await settle()
        for name in ("a0", "b0", "c0", "a1", "b1", "a2"):
            assert entered.order[-1] == name
            await entered.end(name)
        await asyncio.gather(*tasks)

    run_in_virtual_time(main())


def test_too_many_are_refused_at_once() -> None:
    async def main() -> None:
        entered = Entered(QueueLimits(running=1, entered=3, entered_of_client=2))
        tasks = [entered.ask("a0", "a"), entered.ask("a1", "a")]
        await settle()
        with pytest.raises(BusyError, match="2 requests of this client"):
            await entered.ask("a2", "a")
        tasks.append(entered.ask("b0", "b"))
        await settle()
        with pytest.raises(BusyError, match="3 requests are being"):
            await entered.ask("c0", "c")
        for name in ("a0", "a1", "b0"):
            await entered.end(name)
        await asyncio.gather(*tasks)
        again = entered.ask("c1", "c")
        await settle()
        assert entered.order[-1] == "c1"
        await entered.end("c1")
        await again

    run_in_virtual_time(main())


def test_no_turn_in_time_is_a_refusal_and_takes_no_room() -> None:
    async def main() -> None:
        entered = Entered(QueueLimits(running=1, waiting_seconds=10.0))
        first, second = entered.ask("a0", "a"), entered.ask("b0", "b")
        with pytest.raises(BusyError, match="No turn came within 10 s"):
            await second
        third = entered.ask("c0", "c")
        await settle()
        await entered.end("a0")
        assert entered.order == ["a0", "c0"]
        await entered.end("c0")
        await asyncio.gather(first, third)

    run_in_virtual_time(main())


def test_long_bodies_share_a_budget_and_give_it_back() -> None:
    budget = BodyBudget(QueueLimits(body_bytes=100, body_bytes_of_client=60))
    with budget.open("a") as take, budget.open("a") as take_again:
        take(30)
        take(20)
        with pytest.raises(BusyError, match="Bodies of 50 bytes of this client"):
            take_again(11)
        take_again(10)
        with budget.open("b") as take_other:
            with pytest.raises(BusyError, match="Bodies of 60 bytes are"):
                take_other(41)
            take_other(40)
    with budget.open("a") as take:
        take(60)
