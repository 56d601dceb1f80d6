"""The thread that resets connections goes on, whatever one of them does."""

import threading

from sensor.core.clock import Clock
from sensor.ebpf.abi import StopEvent
from sensor.enforce.reset import ASKED_LIMIT, Connection, StopWatch


class Ring:
    """Nobody is stopped by the kernel."""

    def wait(self, seconds: float) -> None:
        threading.Event().wait(0.001)

    def wake(self) -> None: ...

    def read_events(self) -> list[StopEvent]:
        return []


class Resetter:
    """Fails on port 1."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.is_done = threading.Event()

    def reset(self, connection: Connection) -> bool:
        if connection.local_port == 1:
            raise ValueError("a bug")
        self.ports.append(connection.local_port)
        self.is_done.set()
        return True

    def close(self) -> None: ...


def make_connection(port: int) -> Connection:
    return Connection(
        cookie=1, cgroup_id=1, family=4, local_address=bytes(4), local_port=port, remote_address=bytes(4), remote_port=9
    )


def test_a_connection_whose_reset_fails_keeps_no_other_from_being_reset() -> None:
    resetter = Resetter()
    watch = StopWatch(Ring(), resetter, Clock())  # type: ignore[arg-type]
    for port in (1, 2):
        watch.ask(7, make_connection(port))
    watch.start()
    assert resetter.is_done.wait(60)
    watch.stop()
    assert (resetter.ports, watch.resets[7], watch.failures[7]) == ([2], 1, 1)


def test_a_reset_that_finds_the_queue_full_is_counted() -> None:
    watch = StopWatch(Ring(), Resetter(), Clock())  # type: ignore[arg-type]
    for _ in range(ASKED_LIMIT + 3):
        watch.ask(7, make_connection(1))
    assert watch.unqueued == {7: 3}
