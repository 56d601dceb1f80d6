"""The outbox: never blocks its caller, keeps order, replaces by key, counts what it drops."""

import threading

from collector.detection.messages import Outbox


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
    outbox.put("first", b"first")
    started.wait()  # The writer is blocked in the pipe; everything below only queues.
    for n in range(100):
        outbox.put("mapped", b"%d" % n)
    outbox.put("last", b"last")
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
    outbox.put("first", b"")
    started.wait()
    for n in range(1_030):
        outbox.put(f"expect {n}", b"")
    assert len(dropped) == 6
    outbox.close()
    go.set()


def test_closed_pipe_ends_the_writer_quietly() -> None:
    def write(message: bytes) -> None:
        raise BrokenPipeError

    outbox = Outbox(write)
    outbox.put("a", b"a")
    outbox._thread.join(60)
    assert not outbox._thread.is_alive()
