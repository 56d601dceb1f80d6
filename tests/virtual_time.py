"""An event loop whose clock jumps to its next timer: what waits takes no time, and how long it waited is exact."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the clock there. Descriptors that are ready go first."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None:
            self.seconds += timeout
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.seconds


def run_in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` with that loop."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        runner.run(main)
