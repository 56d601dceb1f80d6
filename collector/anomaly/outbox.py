"""What the parent has to tell the detectors' process, written by a thread of its own so that the parent goes on
reading.

EDGE: a pipe and a thread. Both ends of a pipe that write more than it holds wait for each other for ever when neither
reads: the inventory's mapping can be megabytes, and so can a burst of signals the other way. The writer may block;
the reader never does.
"""

import threading
from collections.abc import Callable

_KEYED_MAX = 1_024  # Messages waiting; a person's decisions are few, the rest replace their older selves.


class Outbox:
    """Messages by key, in order; a newer message of the same key takes the place of one that was not written yet."""

    def __init__(self, write: Callable[[bytes], None], on_dropped: Callable[[], None] = lambda: None) -> None:
        """`write` may block; OSError or ValueError from it (the pipe is closed) ends the thread. `on_dropped` is called
        for each message that goes for room."""
        self._write = write
        self._waiting: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._is_ended = False
        self._on_dropped = on_dropped
        self._thread = threading.Thread(target=self._run, name="detectors-outbox", daemon=True)
        self._thread.start()

    def put(self, key: str, message: bytes) -> None:
        """Queue a message; never blocks. When too many wait, the oldest goes."""
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = message
            if len(self._waiting) > _KEYED_MAX:
                del self._waiting[next(iter(self._waiting))]
                self._on_dropped()
            self._changed.notify()

    def close(self) -> None:
        """Write nothing more, except what is being written; does not wait."""
        with self._changed:
            self._is_ended = True
            self._waiting.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_ended:
                    self._changed.wait()
                if self._is_ended:
                    return
                message = self._waiting.pop(next(iter(self._waiting)))
            try:
                self._write(message)
            except (OSError, ValueError):
                return
