"""What a request may take: time, a turn among others, and nothing any more once its client left."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from collector.api.access import RequestLimits
from collector.api.request_queue import QueueLimits
from collector.api.services import ApiSettings, Services
from collector.core.budget import BudgetBook, BudgetError, check_budget
from collector.server.app import build_app
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.http_serving import TOKEN, ask, read_status, serve, write_head
from tests.collector.states import create_state
from tests.waiting import DEADLINE_SECONDS, wait_in_loop


class BusyReader:
    """A store whose questions take as long as their budget lets them."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[str] = []
        self.may_end = threading.Event()

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        self.begun += 1
        try:
            while not self.may_end.is_set():
                check_budget()
                time.sleep(0.001)
        except BudgetError as error:
            self.ended.append(type(error).__name__)
            raise
        return {}


class Fixture:
    """The product's application over such a store."""

    def __init__(self, **limits: Any) -> None:
        self.store = BusyReader()
        self.budgets = BudgetBook()
        services = Services(
            store=self.store,  # type: ignore[arg-type]
            state=create_state(),
            alerts=MemoryAlerts(),  # type: ignore[arg-type]
            settings=ApiSettings(token=TOKEN, version="0"),
            clock=lambda: 1_800_000_000.0,
            readiness=str,
            metrics=lambda _: (b"", "text/plain"),
            budgets=self.budgets,
        )
        self.app = build_app(services, RequestLimits(**limits))


def question(path: str) -> bytes:
    return write_head("GET", f"/api/v1{path}", "Connection: close", token=TOKEN)


def post(path: str, body: bytes) -> bytes:
    length = f"Content-Length: {len(body)}"
    return write_head("POST", f"/api/v1{path}", "Content-Type: application/json", length, token=TOKEN) + body


def read_detail(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["detail"])


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/endpoints?since=90d", "narrow it with since or service or host"),
        ("/coverage", "try again when the collector is less busy"),
        (
            "/calls?endpoint=x&start=2026-11-26T15:00:00Z&end=2026-11-26T16:00:00Z",
            "narrow it with start or endpoint or consumer",
        ),
    ],
)
def test_a_question_that_takes_too_long_is_given_up_and_says_what_to_narrow(path: str, advice: str) -> None:
    fixture = Fixture(work_seconds=0.05)

    async def run() -> bytes:
        async with serve(fixture.app) as (_, port):
            return await ask(port, question(path))

    answer = asyncio.run(run())
    assert read_status(answer) == 503 and b"application/problem+json" in answer
    assert read_detail(answer).startswith("The work took longer than 0.05 s, which is the limit; ")
    assert advice in read_detail(answer)
    assert fixture.store.ended == ["OverTimeError"]
    assert fixture.budgets.counts.requests_over_time == 1 and len(fixture.budgets) == 0


def leave(port: int, request: bytes, is_begun: Callable[[], bool]) -> Any:
    async def run() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(request)
            await wait_in_loop(is_begun, "the store is asked")

    return run()


def test_the_work_of_a_client_that_left_ends() -> None:
    fixture = Fixture()

    async def run() -> None:
        async with serve(fixture.app) as (_, port):
            await leave(port, question("/endpoints"), lambda: fixture.store.begun > 0)
            await wait_in_loop(lambda: not len(fixture.budgets), "the work ends")

    asyncio.run(run())
    assert fixture.store.ended == ["StoppedError"]
    assert fixture.budgets.counts.requests_abandoned == 1


def test_a_change_goes_on_when_its_client_leaves() -> None:
    fixture = Fixture()

    async def run() -> None:
        async with serve(fixture.app) as (_, port):
            posted = post("/consumers/identify", b'{"value": "192.0.2.1"}')
            await leave(port, posted, lambda: fixture.store.begun > 0)
            await asyncio.sleep(0.5)
            assert len(fixture.budgets) == 1
            fixture.store.may_end.set()
            await wait_in_loop(lambda: not len(fixture.budgets), "the work ends")

    asyncio.run(run())
    assert not fixture.store.ended


def test_thirty_costly_lists_leave_turns_for_another_client_and_health_checks() -> None:
    fixture = Fixture(queue=QueueLimits(running=3, running_of_client=2, waiting_seconds=DEADLINE_SECONDS))

    async def run() -> tuple[int, int, list[int]]:
        async with serve(fixture.app) as (_, port):
            lists = [asyncio.create_task(ask(port, question("/endpoints?since=90d"))) for _ in range(30)]
            await wait_in_loop(lambda: fixture.store.begun == 2, "two of a client run")
            health = await ask(port, write_head("GET", "/healthz", "Connection: close"))
            other = asyncio.create_task(ask(port, question("/coverage"), local_addr=("127.0.0.2", 0)))
            await wait_in_loop(lambda: fixture.store.begun == 3, "that of another client runs")
            fixture.store.may_end.set()
            return read_status(health), read_status(await other), [read_status(await one) for one in lists]

    health, other, lists = asyncio.run(run())
    assert (health, other) == (200, 200) and lists == [200] * 30


def test_costly_lists_of_one_client_are_worked_on_one_after_the_other() -> None:
    """Each may take some 100 MB of memory."""
    fixture = Fixture(queue=QueueLimits(waiting_seconds=DEADLINE_SECONDS))

    async def run() -> list[int]:
        async with serve(fixture.app) as (_, port):
            lists = [asyncio.create_task(ask(port, question("/endpoints?since=90d"))) for _ in range(4)]
            others = [
                asyncio.create_task(ask(port, question("/endpoints"), local_addr=(f"127.0.0.{host}", 0)))
                for host in (2, 3)
            ]
            await wait_in_loop(lambda: fixture.store.begun == 2, "one of a client and one of another run")
            await asyncio.sleep(0.2)
            assert fixture.store.begun == 2
            fixture.store.may_end.set()
            return [read_status(await one) for one in (*lists, *others)]

    assert asyncio.run(run()) == [200] * 6


def test_a_stop_ends_questions_and_refuses_later_ones() -> None:
    fixture = Fixture()

    async def run() -> tuple[bytes, bytes]:
        async with serve(fixture.app) as (_, port):
            asked = asyncio.create_task(ask(port, question("/endpoints")))
            await wait_in_loop(lambda: fixture.store.begun > 0, "the store is asked")
            fixture.budgets.stop()
            return await asked, await ask(port, question("/endpoints"))

    for answer in asyncio.run(run()):
        assert read_status(answer) == 503 and b"retry-after: 5" in answer
        assert "the collector is stopping" in read_detail(answer)


def test_too_many_requests_are_refused_with_a_time_to_come_again() -> None:
    fixture = Fixture(queue=QueueLimits(running=1, running_of_client=1, waiting_seconds=0.05))

    async def run() -> bytes:
        async with serve(fixture.app) as (_, port):
            first = asyncio.create_task(ask(port, question("/endpoints")))
            await wait_in_loop(lambda: fixture.store.begun > 0, "the store is asked")
            second = await ask(port, question("/endpoints"))
            fixture.store.may_end.set()
            await first
            return second

    answer = asyncio.run(run())
    assert read_status(answer) == 503 and b"retry-after: 1" in answer
    assert fixture.budgets.counts.requests_busy == 1
