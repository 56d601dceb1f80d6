"""A load at a pace by h2load, which notes when each call began and how long it took."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench_cases.harming.load import find_h2load, write_order

UNARY: Final = "/shop.v1.Orders/Get"
_OK: Final = "200"
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """One, in unix seconds."""

    began: float
    ended: float
    is_right: bool


class PacedLoad:
    """Runs from its making for so many seconds: HTTP/1.1 with keep-alive, or unary calls of gRPC where that is the
    runtime."""

    def __init__(self, runtime: str, server: str, connections: int, pace: int, seconds: int, directory: Path) -> None:
        """`pace`: calls a second of each connection."""
        self._log = directory / "paced.log"
        self._log.unlink(missing_ok=True)
        command = [find_h2load(), f"-c{connections}", "-m1", f"-D{seconds}", f"--rps={pace}", f"--log-file={self._log}"]
        if runtime == "grpc":
            command += write_order(directory)
            command.append(f"https://{server}{UNARY}")
        else:
            command += ["--h1", f"https://{server}/orders/1001"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def read_calls(self) -> list[Call]:
        """After its end: all calls that ended."""
        _, complaint = self._process.communicate()
        rows = [line.split() for line in self._log.read_text().splitlines()] if self._log.exists() else []
        if not rows:
            sys.exit(f"bench: h2load made no calls: {complaint.decode(errors='replace')[-300:]}")
        return [
            Call(int(began) / _MILLION, (int(began) + int(took)) / _MILLION, status == _OK)
            for began, status, took in rows
        ]
