"""A server that wants a configuration file and cannot be told port 0: a port is taken, given back and used; where
another process was faster, the next one is tried.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.ports import take_port
from tests.waiting import DEADLINE_SECONDS

ATTEMPTS = 5
STOP_SECONDS = 5.0


def find_program(name: str) -> str | None:
    """Its path, in the places of daemons too; None where it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class DaemonError(Exception):
    """It did not start; the text holds the end of its log."""


class Daemon:
    """One that runs in the foreground by `command`, configured by `template` with {port} and `fields` filled in."""

    def __init__(self, command: Sequence[str], path: Path, template: str, *, address: str, **fields: str) -> None:
        self._log_path = path.with_suffix(".log")
        for _ in range(ATTEMPTS):
            self.port = take_port()
            path.write_text(template.format(port=self.port, address=address, **fields))
            with self._log_path.open("wb") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            if self._wait_until_ready(address):
                return
            self.stop()
        raise DaemonError(f"{command[0]} did not start: {self._log_path.read_text(errors='replace')[-500:]}")

    def _wait_until_ready(self, address: str) -> bool:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((address, self.port), timeout=1):
                return True
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Ends it and waits. Safe to call again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
