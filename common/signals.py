"""The signals that end a process with an event loop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def calling_at(*numbers: signal.Signals, call: Callable[[], None]) -> Iterator[None]:
    """Calls in the running loop at each of these signals. From the end on they are ignored: the process ends, and
    whoever asks for that once more must not cut it off."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)  # The end of the loop would, and with that set the default.
            signal.signal(number, signal.SIG_IGN)
