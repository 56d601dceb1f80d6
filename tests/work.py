"""How much a function does, in calls of functions or in lines: the same on any machine, however busy."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def count_calls(work: Callable[[], object]) -> int:
    """Calls of functions, those of C included, while `work` runs in this thread."""
    count = 0

    def note(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def count_lines(work: Callable[[], object]) -> int:
    """Lines of Python that are run while `work` runs in this thread; each turn of a loop counts, what C does is one."""
    count = 0

    def note(_: FrameType, event: str, __: Any) -> Any:
        nonlocal count
        count += event == "line"
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
