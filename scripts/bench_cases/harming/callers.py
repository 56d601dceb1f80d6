"""Clients in threads of this process, each calling one after the other at a pace, and what came of it."""

import threading
import time
from collections.abc import Sequence
from typing import Protocol


class Caller(Protocol):
    """One client."""

    def call(self) -> bool:
        """Whether the right answer came. Raises nothing."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


def run_callers(callers: Sequence[Caller], until: float, pace_seconds: float) -> str:
    """Calls until that time (monotonic); the line RESULT calls errors p99_us p999_us."""
    latencies, errors = list[float](), list[bool]()

    def run(caller: Caller) -> None:
        while (began := time.monotonic()) < until:
            errors.append(not caller.call())
            latencies.append(time.monotonic() - began)
            if pace_seconds:
                time.sleep(pace_seconds)
        caller.close()

    running = [threading.Thread(target=run, args=(caller,)) for caller in callers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    latencies.sort()
    p99, p999 = (round(latencies[int(len(latencies) * share)] * 1e6) for share in (0.99, 0.999))
    return f"RESULT {len(latencies)} {sum(errors)} {p99} {p999}"
