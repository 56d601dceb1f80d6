"""What clients do in a round: wrk with requests of which no two are equal, or what a load of its own makes.

A load says how many calls it made and got answers to.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

CONNECTIONS = 32
CREDENTIALS = 500
# Requests of 32 connections, one each 3.2 ms: 10,000 a second, as far as the machine keeps up.
FIXED_RATE = 10_000
FIXED_PACE = 1_000 * CONNECTIONS / FIXED_RATE
NO_PAUSE = 0.0
_SCRIPT = Path(__file__).parent.parent / "capture.lua"
_WORDS = Path(__file__).parents[3] / "sensor/routes/words/api.txt"
_WORDS_COUNT = 100
GRPC_MODULE = "scripts.bench_cases.capturing.grpc_echo"


class UnavailableError(Exception):
    """A scenario cannot run here; one sentence why."""


class Load(Protocol):
    """Both return the calls made."""

    def warm(self, port: int) -> int: ...

    def run(self, port: int, seconds: int) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrk:
    """wrk; `pace` is the pause between a connection's calls in milliseconds. See capture.lua for the kinds of
    credentials; `path` leaves the script out and asks for one file."""

    pace: float = FIXED_PACE
    kind: str = "bearer"
    credentials: int = CREDENTIALS
    routes: int = 1
    path: str = ""
    connections: int = CONNECTIONS
    warm_seconds: int = 2
    warm_credentials: int = 0  # 0: as many as later.
    warm_pace: float | None = None  # None: as later.

    def warm(self, port: int) -> int:
        """The same before anything is measured; returns the calls it made."""
        if not self.warm_seconds:
            return 0
        pace = self.pace if self.warm_pace is None else self.warm_pace
        credentials = self.warm_credentials or self.credentials
        return replace(self, credentials=credentials, pace=pace).run(port, self.warm_seconds)

    def run(self, port: int, seconds: int) -> int:
        """One run; returns the calls it made."""
        url = f"http://127.0.0.1:{port}{self.path}"
        command = [find_wrk(), "-t1", f"-c{self.connections}", f"-d{seconds}s"]
        if self.path:
            command.append(url)
        else:
            words = ",".join(_read_words())
            arguments = [self.kind, str(self.credentials), str(self.routes), str(self.pace), words]
            command += ["-s", str(_SCRIPT), url, "--", *arguments]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        match = re.search(r"(\d+) requests in", output)
        if match is None:
            sys.exit(f"bench: wrk did not say how many requests it made: {output[-300:]}")
        return int(match[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class H2load:
    """h2load: HTTP/2 in the clear, each connection at a fixed rate."""

    connections: int = 8
    streams: int = 4  # Of a connection at once.
    calls_per_second: int = FIXED_RATE
    path: str = "/orders/1"
    warm_seconds: int = 2

    def warm(self, port: int) -> int:
        """The same before anything is measured; returns the calls it made."""
        return self.run(port, self.warm_seconds)

    def run(self, port: int, seconds: int) -> int:
        """One run; returns the calls that were answered."""
        program = shutil.which("h2load")
        if program is None:
            raise UnavailableError("h2load is not installed: apt-get install nghttp2-client")
        options = [f"-D{seconds}", f"-c{self.connections}", f"-m{self.streams}"]
        options.append(f"--rps={self.calls_per_second / self.connections}")
        command = [program, *options, f"http://127.0.0.1:{port}{self.path}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        match = re.search(r"(\d+) succeeded", output)
        if match is None:
            sys.exit(f"bench: h2load did not say how many requests were answered: {output[-300:]}")
        return int(match[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCalls:
    """Unary calls of grpcio, as many as its client makes; see grpc_echo.py."""

    tokens: int = 1
    warm_seconds: int = 2

    def warm(self, port: int) -> int:
        """The same before anything is measured; returns the calls it made."""
        return self.run(port, self.warm_seconds)

    def run(self, port: int, seconds: int) -> int:
        """One run; returns the calls that were answered."""
        command = [sys.executable, "-m", GRPC_MODULE, "call", str(port), str(seconds), str(self.tokens)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def find_wrk() -> str:
    """Path of wrk; ends the program where there is none."""
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("bench: wrk is not installed: apt-get install wrk")
    return wrk


def _read_words() -> list[str]:
    """Words that an API's author could have named its paths by, spread over the vocabulary."""
    words = [word for word in _WORDS.read_text().splitlines() if word.isalpha() and len(word) > 4]
    return words[:: len(words) // _WORDS_COUNT][:_WORDS_COUNT]
