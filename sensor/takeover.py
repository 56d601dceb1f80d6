"""Takes the place of the sensor that runs on this node: is ready before it has gone, so that little is missed between.

A rolling upgrade starts the next sensor beside the one that runs. The next one cannot capture yet (sensor/lock.py), but
its image is here, its modules are loaded, and its kernel side is compiled and through the verifier; it says that it is
ready, which has the kubelet end the other, and waits for the node's lock.
"""

import logging
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, TypeVar

from sensor.health import HealthReport, SensorState
from sensor.lock import LockError, NodeLock

T = TypeVar("T")

POLL_SECONDS: Final = 0.05
WAITING_REASON: Final = "waits for the sensor before it to end"

logger = logging.getLogger(__name__)


def take_node(
    lock: NodeLock,
    *,
    wait_seconds: float,
    prepare: Callable[[], T],
    tell_ready: Callable[[], AbstractContextManager[object]] = nullcontext,
    poll: Callable[[T], None] = lambda prepared: None,
    begin: Callable[[T], None] = lambda prepared: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T | None:
    """Acquires the node's lock, if need be when the one who holds it has gone. `prepare` makes ready what a start
    needs, which is returned, and `tell_ready` is held open from then on until the lock is had; `poll` gets it often
    meanwhile, and `begin` when the lock is had. None where the node was free.

    Raises LockError where it is not free within `wait_seconds`, SystemExit at SIGTERM."""
    try:
        lock.acquire()
        return None
    except LockError as error:
        if wait_seconds <= 0:
            raise
        logger.info("%s Waiting for %g s at most to take its place.", error, wait_seconds)
    with _ending_at_sigterm():
        prepared = prepare()
        with tell_ready():
            _wait(lock, clock() + wait_seconds, lambda: poll(prepared), sleep, clock)
            begin(prepared)
    return prepared


def describe_waiting(unix_ns: Callable[[], int]) -> HealthReport:
    """What a sensor that waits tells of itself."""
    return HealthReport(
        time_unix_ns=unix_ns(),
        state=SensorState.PAUSED,
        stages=(),
        lag_ms=0,
        spool_bytes=0,
        memory_bytes=0,
        cpu_ns=time.process_time_ns(),
        reason=WAITING_REASON,
    )


def _wait(
    lock: NodeLock,
    deadline: float,
    poll: Callable[[], None],
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    while True:
        poll()
        try:
            lock.acquire()
            return
        except LockError:
            if clock() >= deadline:
                raise
        sleep(POLL_SECONDS)


@contextmanager
def _ending_at_sigterm() -> Any:
    """The first process of a container gets no signal for which it has no handler."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
