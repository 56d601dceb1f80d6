"""One child program that tells on its standard output, in JSON lines, when it is ready: the collector, the sensor, a
demo service.

Used by `scripts/run`, the benchmarks and the end-to-end tests, so that all start and stop the product the same way.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

EVENTS_MAX = 1_000  # JSON lines kept unread; a program that says more loses the oldest.
LOG_TAIL_LINES = 15
STOP_SECONDS = 60.0  # On a host whose processors many share.


class ProgramError(Exception):
    """A program ended, or did not say what was expected, in time; the text holds the end of its log."""


class Program:
    """A running child in its own session: Ctrl-C in the terminal reaches only the parent, which stops children in
    order, and the scheduler gives it a share of its own (autogroup), as it does a service: within one session what a
    sensor takes would be taken from the server beside it.

    Standard output is read for JSON lines with an `event`; both it and standard error go to `log_path` as they are.
    """

    def __init__(
        self, name: str, command: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._log: IO[bytes] = log_path.open("wb")
        self._events: queue.Queue[dict[str, Any]] = queue.Queue(EVENTS_MAX)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_output, name=f"read-{name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the child itself (of sudo, where it runs under sudo)."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child has not ended."""
        return self.process.poll() is None

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # The log was closed by stop().
                self._log.write(line)
                self._log.flush()
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                if self._events.full():
                    with contextlib.suppress(queue.Empty):
                        self._events.get_nowait()
                self._events.put_nowait(event)

    def wait_for(self, event_name: str, timeout_seconds: float) -> dict[str, Any]:
        """The next event of that name, others skipped; raises ProgramError when the program ends or the time is
        over.
        """
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=min(left, 0.1))
            except queue.Empty:
                if not self.is_running and self._events.empty():
                    raise ProgramError(
                        f"{self.name} ended with exit code {self.process.returncode}:\n{self.log_tail()}"
                    ) from None
                continue
            if event["event"] == event_name:
                return event
        raise ProgramError(f"{self.name} did not say '{event_name}' within {timeout_seconds:.0f} s:\n{self.log_tail()}")

    def wait_until_logged(self, text: str, timeout_seconds: float) -> None:
        """Returns once its log has it; raises ProgramError when the program ends or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while text not in self.log_path.read_text(errors="replace"):
            if not self.is_running or time.monotonic() > deadline:
                raise ProgramError(f"{self.name} did not log '{text}':\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self) -> str:
        """The last lines it wrote to its standard output and error."""
        if not self._log.closed:
            self._log.flush()
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def send_signal(self, number: int) -> None:
        """Signals the child alone; no error when it has ended."""
        if self.is_running:
            self.process.send_signal(number)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, then SIGKILL to its whole group after `timeout_seconds`; returns the exit code.

        Safe to call again.
        """
        self.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to its whole group, and waits for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join(1)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()
