"""The stream of changes: what it says and when, and that it ends with its client, its session and the collector."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from collector.api.access import RequestLimits
from collector.api.events import (
    HEARTBEAT_SECONDS,
    INTERVAL_SECONDS,
    STREAMS_MAX,
    STREAMS_OF_CLIENT_MAX,
    EventHub,
    EventStream,
    Topic,
    write_event,
)
from collector.api.problem import Problem
from collector.api.request_queue import QueueLimits
from tests.collector.http_serving import TOKEN, EmptyReader, ask, make_app, read_status, serve, write_head
from tests.virtual_time import run_in_virtual_time
from tests.waiting import wait_in_loop


class Counts:
    """What was written, by topic."""

    def __init__(self) -> None:
        self.written = dict.fromkeys((Topic.ALERTS, Topic.CALLS), 0)
        self.looks = 0

    def open_hub(self) -> EventHub:
        return EventHub({Topic.ALERTS: lambda: self.look(Topic.ALERTS), Topic.CALLS: lambda: self.look(Topic.CALLS)})

    def look(self, topic: Topic) -> int:
        self.looks += 1
        return self.written[topic]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    async def call(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", call)  # Virtual time knows no threads.
    return Counts()


def read(stream: EventStream) -> AsyncIterator[bytes]:
    return stream.body_iterator.__aiter__()  # type: ignore[return-value]


def admit() -> bool:
    return True


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_in_virtual_time(main())


def test_a_change_is_one_event_however_often_something_changed(counts: Counts) -> None:
    async def main() -> None:
        hub, loop = counts.open_hub(), asyncio.get_running_loop()
        events = read(hub.open("a", admit))
        assert await anext(events) == write_event("hello", ["alerts", "calls"])
        await asyncio.sleep(0)
        started = loop.time()
        counts.written[Topic.ALERTS] += 3
        assert await anext(events) == b'event: change\ndata: {"topics": ["alerts"]}\n\n'
        counts.written[Topic.ALERTS] += 1
        counts.written[Topic.CALLS] += 1
        assert await anext(events) == write_event("change", ["alerts", "calls"])
        assert loop.time() - started == pytest.approx(2 * INTERVAL_SECONDS)
        assert await anext(events) == b": heartbeat\n\n"
        assert loop.time() - started == pytest.approx(2 * INTERVAL_SECONDS + HEARTBEAT_SECONDS)

    run(main)


def test_all_streams_share_one_look_and_without_a_stream_nobody_looks(counts: Counts) -> None:
    async def main() -> None:
        hub = counts.open_hub()
        listening = [asyncio.create_task(listen(hub, f"client {number}")) for number in range(20)]
        await asyncio.sleep(10.5 * INTERVAL_SECONDS)
        assert counts.looks == 2 * 11
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        await asyncio.sleep(5 * INTERVAL_SECONDS)
        assert counts.looks <= 2 * 12

    run(main)


async def listen(hub: EventHub, client: str) -> list[bytes]:
    """What a client that stays until the end gets."""
    got: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        got.append(message.get("body", b""))

    await hub.open(client, admit)({"type": "http", "asgi": {}}, receive, send)
    return got


def test_streams_are_bounded_and_one_that_ends_makes_room(counts: Counts) -> None:
    async def main() -> None:
        hub = counts.open_hub()
        listening = [asyncio.create_task(listen(hub, "greedy")) for _ in range(STREAMS_OF_CLIENT_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Problem, match=f"{STREAMS_OF_CLIENT_MAX} streams of events of this client are open"):
            hub.open("greedy", admit)
        listening += [asyncio.create_task(listen(hub, f"{number}")) for number in range(STREAMS_MAX - len(listening))]
        await asyncio.sleep(0)
        with pytest.raises(Problem, match=f"{STREAMS_MAX} streams of events are open"):
            hub.open("another", admit)
        listening[0].cancel()
        await asyncio.gather(listening[0], return_exceptions=True)
        listening.append(asyncio.create_task(listen(hub, "greedy")))
        await asyncio.sleep(0)
        hub.close()
        await asyncio.gather(*listening[1:])
        with pytest.raises(Problem, match="stopping"):
            hub.open("another", admit)

    run(main)


def test_a_stream_ends_with_its_session(counts: Counts) -> None:
    async def main() -> None:
        sessions = {"mine"}
        events = read(counts.open_hub().open("a", lambda: "mine" in sessions))
        await anext(events)
        sessions.clear()
        with pytest.raises(StopAsyncIteration):
            await anext(events)

    run(main)


class CountingReader(EmptyReader):
    """A store without a row."""

    def count_writes(self, _: object) -> int:
        return 0


def test_a_stream_is_behind_the_token_takes_no_turn_and_ends_with_the_server() -> None:
    async def main() -> None:
        limits = RequestLimits(queue=QueueLimits(running=1, running_of_client=1, waiting_seconds=0.1))
        app: Any = make_app(limits=limits, store=CountingReader())
        async with serve(app) as (server, port):
            assert read_status(await ask(port, write_head("GET", "/api/v1/events", "Connection: close"))) == 401
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(write_head("GET", "/api/v1/events", "Accept-Encoding: gzip", token=TOKEN))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 ok" in head and b"text/event-stream" in head and b"gzip" not in head
            assert b"no-store" in head and b"content-security-policy" in head
            assert b"event: hello" in await reader.readuntil(b"\n\n")
            listed = await ask(port, write_head("GET", "/api/v1/sensors", "Connection: close", token=TOKEN))
            assert read_status(listed) == 200
            writer.close()
            await writer.wait_closed()
            await wait_in_loop(lambda: not server.server_state.tasks)

    asyncio.run(main())
