"""The outbox: never blocks its caller, keeps order, replaces by key, counts what it drops."""

import threading
from functools import partial

from collector.detection.messages import TO_CHILD, Mapped, Outbox, UnsentRoutes


def test_newer_message_of_a_key_replaces_the_waiting_one_and_order_holds() -> None:
    written: list[bytes] = []
    go, started, done = threading.Event(), threading.Event(), threading.Event()

    def write(message: bytes) -> None:
        started.set()
        go.wait()
        written.append(message)
        if message == b"last":
            done.set()

    outbox = Outbox(write)
    outbox.put("first", lambda: b"first")
    started.wait()  # The writer is blocked in the pipe; everything below only queues.
    for n in range(100):
        outbox.put("mapped", partial(b"%d".__mod__, n))
    outbox.put("last", lambda: b"last")
    go.set()
    assert done.wait(60)
    outbox.close()
    assert written == [b"first", b"99", b"last"]


def test_flood_of_messages_drops_the_oldest_and_counts_them() -> None:
    go, started = threading.Event(), threading.Event()

    def write(message: bytes) -> None:
        started.set()
        go.wait()

    dropped: list[None] = []
    outbox = Outbox(write, lambda: dropped.append(None))
    outbox.put("first", bytes)
    started.wait()
    for n in range(1_030):
        outbox.put(f"expect {n}", bytes)
    assert len(dropped) == 6
    outbox.close()
    go.set()


def test_closed_pipe_ends_the_writer_quietly() -> None:
    def write(message: bytes) -> None:
        raise BrokenPipeError

    outbox = Outbox(write)
    outbox.put("a", bytes)
    outbox._thread.join(60)
    assert not outbox._thread.is_alive()


def test_only_what_changed_of_the_mapping_is_sent_and_nothing_of_it_is_lost() -> None:
    unsent = UnsentRoutes()
    unsent.add(dict.fromkeys(range(100_000), "endpoint"))
    assert len(TO_CHILD.decode(unsent.encode()).endpoint_of_route) == 100_000  # type: ignore[union-attr]
    unsent.add({1: "one"})
    unsent.add({2: "two"})  # Before the pipe took the first.
    assert TO_CHILD.decode(message := unsent.encode()) == Mapped({1: "one", 2: "two"}) and len(message) < 50
    assert TO_CHILD.decode(unsent.encode()) == Mapped({})
