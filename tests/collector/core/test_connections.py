"""The table of open connections: who gives way to whom."""

import asyncio
import contextlib
import socket

import pytest

from collector.core.connections import Connection, ConnectionTable, accept_connections, find_network
from tests.waiting import wait_in_loop


class Ended(list[str]):
    """The connections that were closed for others, by name."""

    def connect(self, name: str, host: str = "10.0.0.1") -> Connection:
        return Connection(host=host, port=1, end=lambda: self.append(name))


def test_who_waits_longest_gives_way_to_who_comes() -> None:
    ended, table = Ended(), ConnectionTable(limit=2, waiting_limit=9)
    for name in "abcd":
        assert table.open(ended.connect(name))
    assert ended == ["a", "b"]
    assert (len(table), table.counts.seen, table.counts.displaced, table.counts.refused) == (2, 4, 2, 0)


def test_who_is_served_is_closed_for_nobody_and_then_there_is_no_room() -> None:
    ended, table = Ended(), ConnectionTable(limit=2, waiting_limit=9)
    first, second = ended.connect("first"), ended.connect("second")
    for one in (first, second):
        assert table.open(one)
        table.serve(one)
    assert not table.open(ended.connect("third"))
    assert (ended, table.counts.refused, len(table)) == ([], 1, 2)
    table.wait(second)  # Its response is written.
    assert table.open(ended.connect("fourth"))
    assert ended == ["second"]


def test_one_network_displaces_its_own_only() -> None:
    ended, table = Ended(), ConnectionTable(limit=100, waiting_limit=3)
    assert table.open(ended.connect("somebody", "10.0.0.2"))
    for number in range(50):
        assert table.open(ended.connect(f"flood {number}"))
    assert ended == [f"flood {number}" for number in range(47)]
    assert len(table) == 4


def test_waiting_on_does_not_make_it_younger() -> None:
    ended, table = Ended(), ConnectionTable(limit=2, waiting_limit=9)
    old = ended.connect("old")
    assert table.open(old) and table.open(ended.connect("young"))
    table.wait(old)  # One more byte of its head came.
    assert table.open(ended.connect("new"))
    assert ended == ["old"]


def test_what_is_closed_twice_or_displaced_leaves_nothing() -> None:
    ended, table = Ended(), ConnectionTable(limit=1, waiting_limit=9)
    first, second = ended.connect("first"), ended.connect("second")
    assert table.open(first) and table.open(second)
    table.wait(first)  # What it was doing goes on for a moment.
    table.close(first)
    assert len(table) == 1
    table.close(second)
    table.close(second)
    assert len(table) == 0
    assert not table.displace_longest()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_an_ipv6_client_is_its_subnet(host: str, network: str) -> None:
    assert find_network(host) == network


def test_where_the_system_gives_no_socket_who_waits_longest_gives_its_own() -> None:
    """A listener that fails, as it does without descriptors, until one that waits was closed."""
    ended, table = Ended(), ConnectionTable(limit=9, waiting_limit=9)
    for name in "ab":
        assert table.open(ended.connect(name))
    told: list[tuple[Connection | None, str]] = []

    async def take(accepted: socket.socket, connection: Connection) -> None:
        raise AssertionError

    async def main() -> None:
        with socket.socket() as closed:  # Not listening: the system gives nothing.
            accepting = asyncio.create_task(
                accept_connections(closed, table, take, lambda connection, reason: told.append((connection, reason)))
            )
            await wait_in_loop(lambda: len(ended) == 2)
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)

    asyncio.run(main())
    assert ended == ["a", "b"]
    assert told[0] == (None, "Invalid argument")


def test_many_that_wait_are_taken_in_few_turns_and_who_is_displaced_before_it_began_is_closed() -> None:
    """Turns of the loop, for each takes milliseconds where threads compete for the interpreter."""
    count, limit = 300, 3

    async def run() -> tuple[int, int]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(count)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
        table = ConnectionTable(limit=limit, waiting_limit=limit)

        async def take(accepted: socket.socket, connection: Connection) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                accepted.close()
                table.close(connection)

        accepting = asyncio.create_task(accept_connections(listener, table, take, lambda *_: None))
        turns = 0
        while table.counts.seen < count:
            await asyncio.sleep(0)
            turns += 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closed = 0
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                closed += client.recv(1) == b""
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        for client in (*clients, listener):
            client.close()
        return turns, closed

    turns, closed = asyncio.run(run())
    assert turns < count // 10
    assert closed == count - limit
