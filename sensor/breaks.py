"""Breaks for others: reading what came takes milliseconds of Python at a time, and on a kernel that looks at who waits
only at its ticks (4 ms at 250 Hz), whoever shares the processor waits for them, an application's slowest calls among
them. So the reader sleeps for a moment every half millisecond, whoever waits; `sched_yield` would let in only tasks of
the same cgroup. Who is behind takes none: a full ring would lose what waits.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

WORK_NS: Final = 500_000
# With the timer's slack and the switches some 0.1 ms.
BREAK_SECONDS: Final = 50e-6
_T = TypeVar("_T")


def with_breaks(items: Iterable[_T], *, is_behind: bool = False) -> Iterable[_T]:
    """The same, in order; what is done with each counts as work. Cost: 0.1 us each."""
    return items if is_behind else _take_breaks(items)


def _take_breaks(items: Iterable[_T]) -> Iterator[_T]:
    began = time.perf_counter_ns()
    for item in items:
        yield item
        if time.perf_counter_ns() - began >= WORK_NS:
            time.sleep(BREAK_SECONDS)
            began = time.perf_counter_ns()
